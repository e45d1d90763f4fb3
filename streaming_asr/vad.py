"""Owns the cheap evidence of speech: webrtcvad's decision and the energy over the noise floor, for each 10 ms frame.

It answers two questions, from samples and log-mel frames alone: *is this frame voiced* (precise, smoothed: used for
endpointing) and *could this frame be speech* (generous: any sign wakes a sleeping stream). Neither decides alone
whether speech is there: `recognizer` fuses them with the model's own output.
"""

from __future__ import annotations

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
FLOOR_RISE = 0.005  # nepers a frame: the floor follows louder noise in seconds, softer noise at once


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
        self._floor: float | None = None

    def accept(self, samples: Samples, features: Features) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Decisions for the frames in ``features`` (float32 [T, 80]), which ``samples`` (float32 [N]) completed.

        Returns (voiced, maybe_speech), bool [T] each.
        """
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
        loud = np.fromiter((self._over_floor(float(level)) for level in features.mean(1)), np.bool_, len(flags))
        wake = np.fromiter((vote for _, vote in flags), np.bool_, len(flags))
        return voiced, wake | loud

    def _smooth(self, vote: bool) -> bool:
        self._votes[self._num_frames % SMOOTHING_FRAMES] = vote
        self._num_frames += 1
        votes = sum(self._votes)
        self._is_voiced = votes > OFFSET_VOTES if self._is_voiced else votes >= ONSET_VOTES
        return self._is_voiced

    def _over_floor(self, level: float) -> bool:
        self._floor = level if self._floor is None else min(level, self._floor + FLOOR_RISE)
        return level > self._floor + WAKE_OVER_FLOOR
