"""Owns the cheap evidence of speech: webrtcvad's decision and the energy over the noise floor, for each 10 ms frame.

It answers three questions, from samples and log-mel frames alone: *is this frame voiced* (precise, smoothed: used for
endpointing), *could this frame be speech* (generous: any sign wakes a sleeping stream), and *has the sound changed* as
no steady noise does (words that a model hears in one are not words). None decides alone whether speech is there:
`recognizer` fuses them with the model's own output.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from .features import FRAME_SHIFT_SAMPLES, SAMPLE_RATE, Features, Samples

VOICED_AGGRESSIVENESS = 2  # of webrtcvad, 0 (takes most for speech) to 3
WAKE_AGGRESSIVENESS = 0
SMOOTHING_FRAMES = 12  # 120 ms window over which votes are counted
ONSET_VOTES = 8  # so many voiced frames in the window start a voiced stretch …
OFFSET_VOTES = 3  # … and so few end it
WAKE_OVER_FLOOR = 1.5  # nepers of energy (6.5 dB) over the noise floor that count as a sign of speech
CHANGE_FRAMES = 5  # over so many frames' mean, steady noise stays within 0.43 nepers of its floor in ten minutes, …
CHANGE_OVER_FLOOR = 0.5  # … while speech goes 0.9 over that of pink noise at an SNR of 5 dB (docs/experiments.md)
FLOOR_RISE = 0.005  # nepers a frame: a floor follows louder noise in seconds, softer noise at once


class Signs(NamedTuple):
    """Decisions for frames, bool [T] each."""

    voiced: NDArray[np.bool_]
    maybe_speech: NDArray[np.bool_]
    changing: NDArray[np.bool_]  # further above its floor than steady noise gets; webrtcvad takes that for voice


class _Floor:
    """The level of the noise below the sound."""

    def __init__(self) -> None:
        self._level: float | None = None

    def height(self, level: float) -> float:
        """Nepers of the next frame's ``level`` over the floor."""
        self._level = level if self._level is None else min(level, self._level + FLOOR_RISE)
        return level - self._level


class VoiceActivityDetector:
    """Frame decisions for one stream; frame ``t`` starts at sample ``160 t``, as in `features`."""

    def __init__(self) -> None:
        self._voiced = webrtcvad.Vad(VOICED_AGGRESSIVENESS)
        self._wake = webrtcvad.Vad(WAKE_AGGRESSIVENESS)
        self._rest = np.zeros(0, np.int16)
        self._flags: list[tuple[bool, bool]] = []  # (voiced vote, wake vote) of frames whose features are to come
        self._votes = [False] * SMOOTHING_FRAMES
        self._num_frames = 0
        self._is_voiced = False
        self._floor, self._smooth_floor = _Floor(), _Floor()
        self._levels: deque[float] = deque(maxlen=CHANGE_FRAMES)

    def accept(self, samples: Samples, features: Features) -> Signs:
        """Decisions for the frames in ``features`` (float32 [T, 80]), which ``samples`` (float32 [N]) completed."""
        pcm = np.clip(samples * 32768.0, -32768, 32767).astype(np.int16)
        self._rest = np.concatenate((self._rest, pcm))
        whole = len(self._rest) // FRAME_SHIFT_SAMPLES * FRAME_SHIFT_SAMPLES
        for first in range(0, whole, FRAME_SHIFT_SAMPLES):
            frame = self._rest[first : first + FRAME_SHIFT_SAMPLES].tobytes()
            self._flags.append((self._voiced.is_speech(frame, SAMPLE_RATE), self._wake.is_speech(frame, SAMPLE_RATE)))
        self._rest = self._rest[whole:]
        # A feature frame needs 400 samples and its VAD frame only the first 160, so flags are never behind features.
        flags, self._flags = self._flags[: len(features)], self._flags[len(features) :]
        voiced = np.fromiter((self._smooth(vote) for vote, _ in flags), np.bool_, len(flags))
        wake = np.fromiter((vote for _, vote in flags), np.bool_, len(flags))
        levels = [float(level) for level in features.mean(1)]
        loud = np.fromiter((self._floor.height(level) > WAKE_OVER_FLOOR for level in levels), np.bool_, len(flags))
        changing = np.fromiter(map(self._changes, levels), np.bool_, len(flags))
        return Signs(voiced, wake | loud, changing)

    def _smooth(self, vote: bool) -> bool:
        self._votes[self._num_frames % SMOOTHING_FRAMES] = vote
        self._num_frames += 1
        votes = sum(self._votes)
        self._is_voiced = votes > OFFSET_VOTES if self._is_voiced else votes >= ONSET_VOTES
        return self._is_voiced

    def _changes(self, level: float) -> bool:
        self._levels.append(level)
        if len(self._levels) < CHANGE_FRAMES:
            return False
        return self._smooth_floor.height(sum(self._levels) / CHANGE_FRAMES) > CHANGE_OVER_FLOOR
