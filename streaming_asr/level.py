"""Owns how loud a stream's speech is, and lifts the frames of speech that is softer than what networks are trained on.

A network minds the level: what reaches it 20 dB too soft, as from a microphone far away, costs it a third more errors.
The peaks of voiced sound say how loud the speaker is. They are followed at once when they rise, slowly when they fall,
and what is missing to the softest usual level is added to the logarithms. Words begin softer than they get, so that at
first peaks may be softer, too. Speech that is loud enough stays as it is, to the bit. What is added to a frame depends
on it and those before, however the audio is cut.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import njit_brief
from .features import Features
from .vad import VOICED, Signs

# Of log-mel energies, in nepers: 1 is 4.3 dB.
LEAST_PEAK = 16.5  # mean energy at peaks from which nothing is added: the least of 99 % of dev-clean, 93 % of training
FIRST_PEAK = 11.5  # the same at the first voiced frame of a stream: the least of 98 % of either
MOST_ADDED = 6.9  # 30 dB
FALL = 0.002  # of the peak, a voiced frame: 0.9 dB a second
KNOWN_AFTER = 40  # voiced frames; up to there the least peak rises from one to the other
RISE = 0.2  # of what is added, a frame; it falls at once
MEAN_FRAMES = 5  # over which a peak lasts


class _Memory(NamedTuple):
    levels: NDArray[np.float64]  # [5] mean energies of the last frames
    peak: NDArray[np.float64]  # [1]
    added: NDArray[np.float64]  # [1]
    num_voiced: NDArray[np.int64]  # [1]


class SpeechLevel:
    """Of one stream, from its first frame on."""

    def __init__(self) -> None:
        self._memory = _Memory(np.zeros(MEAN_FRAMES), np.zeros(1), np.zeros(1), np.zeros(1, np.int64))

    def lift(self, features: Features, signs: Signs) -> None:
        """Adds to each of the next frames, float32 [T, 80], in place, what its speaker is too soft by."""
        _lift(features, signs, self._memory)


@njit_brief()
def _lift(features: Any, signs: Any, memory: Any) -> None:
    """See `SpeechLevel.lift`; ``signs`` bool [T, 3] are of `vad`."""
    levels, peak, added, num_voiced = memory
    for t in range(len(features)):
        level = 0.0
        for energy in features[t]:
            level += energy
        mean = 0.0
        for at in range(MEAN_FRAMES):
            levels[at] = levels[at + 1] if at + 1 < MEAN_FRAMES else level / features.shape[1]
            mean += levels[at] / MEAN_FRAMES
        if signs[t, VOICED]:
            num_voiced[0] += 1
            peak[0] = max(mean, peak[0] - FALL)
        least = FIRST_PEAK + (LEAST_PEAK - FIRST_PEAK) * min(num_voiced[0] - 1, KNOWN_AFTER - 1) / (KNOWN_AFTER - 1)
        missing = max(0.0, min(least - peak[0], MOST_ADDED)) if num_voiced[0] else 0.0
        added[0] = min(missing, added[0] + RISE)
        if added[0] > 0:
            for bin_ in range(features.shape[1]):
                features[t, bin_] += np.float32(added[0])
