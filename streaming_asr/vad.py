"""Owns the cheap evidence of speech: webrtcvad's decision and the energy over the noise floor, for each 10 ms frame.

It answers three questions, from samples and log-mel frames alone: *is this frame voiced* (precise, smoothed: used for
endpointing), *could this frame be speech* (generous: any sign wakes a sleeping stream), and *has the sound changed* as
no steady noise does (words that a model hears in one are not words). None decides alone whether speech is there:
`recognizer` fuses them with the model's own output.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import webrtcvad
from numpy.typing import NDArray

from .compiled import njit_brief
from .features import FRAME_SHIFT_SAMPLES, FULL_SCALE, SAMPLE_RATE, Features, Samples

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
INT16_MAX = np.float32(32767)

Signs = NDArray[np.bool_]  # [T, 3]: decisions for frames
VOICED, MAYBE_SPEECH = 0, 1
CHANGING = 2  # further above its floor than steady noise gets; webrtcvad takes that for voice


class _Memory(NamedTuple):
    """What decisions go by beside their own frame; the newest frame stands last."""

    votes: NDArray[np.bool_]  # [12] webrtcvad's, for voice
    is_voiced: NDArray[np.bool_]  # [1]
    levels: NDArray[np.float64]  # [5] mean log-mel energies; NaN where no frame was yet
    floors: NDArray[np.float64]  # [2] levels of the noise below the sound: of single frames, of the mean of five


class VoiceActivityDetector:
    """Frame decisions for one stream; frame ``t`` starts at sample ``160 t``, as in `features`."""

    def __init__(self) -> None:
        self._voiced = webrtcvad.Vad(VOICED_AGGRESSIVENESS)
        self._wake = webrtcvad.Vad(WAKE_AGGRESSIVENESS)
        self._rest = b""
        self._flags: list[tuple[bool, bool]] = []  # (voiced vote, wake vote) of frames whose features are to come
        self._memory = _Memory(
            np.zeros(SMOOTHING_FRAMES, np.bool_),
            np.zeros(1, np.bool_),
            np.full(CHANGE_FRAMES, np.nan),
            np.full(2, np.inf),
        )

    def accept(self, samples: Samples, features: Features) -> Signs:
        """Decisions for the frames in ``features`` (float32 [T, 80]), which ``samples`` (float32 [N]) completed."""
        new = np.empty(len(samples), np.int16)
        _to_int16(samples, new)
        pcm = self._rest + new.tobytes()
        whole = len(pcm) // FRAME_BYTES * FRAME_BYTES
        for first in range(0, whole, FRAME_BYTES):
            frame = pcm[first : first + FRAME_BYTES]
            self._flags.append((self._voiced.is_speech(frame, SAMPLE_RATE), self._wake.is_speech(frame, SAMPLE_RATE)))
        self._rest = pcm[whole:]
        # A feature frame needs 400 samples and its VAD frame only the first 160, so flags are never behind features.
        signs = np.zeros((len(features), 3), np.bool_)
        if len(features):
            signs[:, :2] = self._flags[: len(features)]
            del self._flags[: len(features)]
            _decide(features, self._memory, signs)
        return signs


@njit_brief()
def _to_int16(samples: Any, pcm: Any) -> None:
    """Writes float32 [N], cut off at -1..1, into int16 [N]; what is behind the point is dropped."""
    for n in range(len(samples)):
        pcm[n] = np.int16(min(max(samples[n] * FULL_SCALE, -FULL_SCALE), INT16_MAX))


@njit_brief()
def _decide(features: Any, memory: Any, signs: Any) -> None:
    """Turns webrtcvad's votes in ``signs`` bool [T, 3] (`Signs`) into decisions on ``features`` float32 [T, 80]."""
    votes, levels, floors = memory.votes, memory.levels, memory.floors
    for t in range(len(features)):
        level = 0.0
        for energy in features[t]:
            level += energy
        level /= features.shape[1]
        mean, num_votes = 0.0, 0
        for at in range(CHANGE_FRAMES):
            levels[at] = levels[at + 1] if at + 1 < CHANGE_FRAMES else level
            mean += levels[at] / CHANGE_FRAMES
        for at in range(SMOOTHING_FRAMES):
            votes[at] = votes[at + 1] if at + 1 < SMOOTHING_FRAMES else signs[t, VOICED]
            num_votes += votes[at]
        memory.is_voiced[0] = num_votes > OFFSET_VOTES if memory.is_voiced[0] else num_votes >= ONSET_VOTES
        signs[t, VOICED] = memory.is_voiced[0]
        floors[0] = min(level, floors[0] + FLOOR_RISE)
        signs[t, MAYBE_SPEECH] |= level - floors[0] > WAKE_OVER_FLOOR
        if not np.isnan(mean):  # as it is before five frames
            floors[1] = min(mean, floors[1] + FLOOR_RISE)
            signs[t, CHANGING] = mean - floors[1] > CHANGE_OVER_FLOOR
