"""Owns the cheap evidence of speech: webrtcvad's decision and the energy over the noise floor, for each 10 ms frame.

It answers three questions, from samples and log-mel frames alone: *is this frame voiced* (precise, smoothed: used for
endpointing), *could this frame be speech* (generous: any sign wakes a sleeping stream), and *has the sound changed* as
no steady noise does (words that a model hears in one are not words). None decides alone whether speech is there:
`recognizer` fuses them with the model's own output.
"""

from __future__ import annotations

from collections import deque

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
FRAME_BYTES = 2 * FRAME_SHIFT_SAMPLES
FLOOR_RISE = 0.005  # nepers a frame: a floor follows louder noise in seconds, softer noise at once


Signs = NDArray[np.bool_]  # [T, 3]: decisions for frames
VOICED, MAYBE_SPEECH = 0, 1
CHANGING = 2  # further above its floor than steady noise gets; webrtcvad takes that for voice


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
        self._rest = b""
        self._flags: list[tuple[bool, bool]] = []  # (voiced vote, wake vote) of frames whose features are to come
        self._votes = deque([False] * SMOOTHING_FRAMES, maxlen=SMOOTHING_FRAMES)
        self._num_votes = 0
        self._is_voiced = False
        self._floor, self._smooth_floor = _Floor(), _Floor()
        self._levels: deque[float] = deque(maxlen=CHANGE_FRAMES)

    def accept(self, samples: Samples, features: Features) -> Signs:
        """Decisions for the frames in ``features`` (float32 [T, 80]), which ``samples`` (float32 [N]) completed."""
        pcm = self._rest + np.clip(samples * 32768.0, -32768, 32767).astype(np.int16).tobytes()
        whole = len(pcm) // FRAME_BYTES * FRAME_BYTES
        for first in range(0, whole, FRAME_BYTES):
            frame = pcm[first : first + FRAME_BYTES]
            self._flags.append((self._voiced.is_speech(frame, SAMPLE_RATE), self._wake.is_speech(frame, SAMPLE_RATE)))
        self._rest = pcm[whole:]
        # A feature frame needs 400 samples and its VAD frame only the first 160, so flags are never behind features.
        flags, self._flags = self._flags[: len(features)], self._flags[len(features) :]
        signs = []
        for (voiced, wake), level in zip(flags, features.mean(1).tolist(), strict=True):
            loud = self._floor.height(level) > WAKE_OVER_FLOOR
            signs.append((self._smooth(voiced), wake or loud, self._changes(level)))
        return np.array(signs, np.bool_).reshape(-1, 3)

    def _smooth(self, vote: bool) -> bool:
        votes = self._votes
        self._num_votes += vote - votes[0]
        votes.append(vote)
        self._is_voiced = self._num_votes > OFFSET_VOTES if self._is_voiced else self._num_votes >= ONSET_VOTES
        return self._is_voiced

    def _changes(self, level: float) -> bool:
        self._levels.append(level)
        if len(self._levels) < CHANGE_FRAMES:
            return False
        return self._smooth_floor.height(sum(self._levels) / CHANGE_FRAMES) > CHANGE_OVER_FLOOR
