"""Owns which changes of the sound may be speech: those that are no tone, have none near, and are not music's.

Beeps, dialling and sirens change as speech does and steady noise does not, and the model hears words in them. Unlike
speech, a tone holds its energy in few bins, or stands still; but for 80 ms at its edges. What was there before it
began, per bin, is no part of a sound: speech over a steady whistle is no tone. Music is told from speech by a small
network, where that is sure. Limits: docs/experiments.md, "Noise without speech". Must not know the model or its words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import njit_brief
from .features import NUM_MEL_BINS, Features
from .speech_network import DEAF, Carried, SpeechNetwork, score

PART_OVER_FLOOR = 1.0  # nepers of a bin over its floor from which it is part of the sound
FLOOR_RISE = 0.005  # nepers a frame by which floors follow louder sound; softer sound at once
NARROW_DEPTH, NARROW_BINS = 7.0, 12  # nepers (30 dB) below the loudest that fewer bins of a tone reach
STILL_DEPTH = 5.0  # nepers below the loudest, of the bins that …
STILL_FRAMES, STILL_CHANGE = 3, 0.1  # … change by less, nepers in so many frames, where the sound stands still
EDGE_FRAMES = 8  # before and after a tone, where its spectrum is wide
SCORE_FRAMES = 15  # whose mean score is to be over 0 for the change before an edge to be speech's
LAST, LAST_TONE = 0, 1  # frames


class _Memory(NamedTuple):
    floors: NDArray[np.float32]  # [80]
    before: NDArray[np.float32]  # [3, 80] frames, the newest last
    undecided: NDArray[np.bool_]  # [9] whether each of the last frames is a change that no tone is near so far
    scores: NDArray[np.float32]  # [15] of the network, the newest last
    frames: NDArray[np.int64]  # [2] `LAST` and `LAST_TONE`


class SpeechChanges:
    """Of one stream, from frames in the order of time."""

    def __init__(self, network: SpeechNetwork = DEAF) -> None:
        self._network = network
        self._carried = Carried.start(network)
        self._memory = _Memory(
            np.full(NUM_MEL_BINS, np.inf, np.float32),
            np.full((STILL_FRAMES, NUM_MEL_BINS), np.nan, np.float32),
            np.zeros(EDGE_FRAMES + 1, np.bool_),
            np.full(SCORE_FRAMES, np.nan, np.float32),
            np.array([-1, -EDGE_FRAMES - 1]),
        )

    @property
    def last(self) -> int:
        """The last change that may be speech's, a frame; known `EDGE_FRAMES` later; -1: none."""
        return int(self._memory.frames[LAST])

    def accept(self, frames: Features, changing: NDArray[np.bool_], first: int) -> None:
        """float32 [T, 80], whether the sound changes in each, bool [T], and the number of the first."""
        _accept(frames, changing, first, self._memory, self._network, self._carried)


@njit_brief()
def _accept(features: Any, changing: Any, first: Any, memory: Any, network: Any, carried: Any) -> None:
    floors, before, undecided, scores, frames = memory
    for t in range(len(features)):
        frame = first + t
        is_tonal = changing[t] and _is_tonal(features[t], floors, before)
        heard = score(features[t], features[t] if np.isnan(before[0, 0]) else before[0], network, carried)
        mean = np.float32(0)
        for at in range(SCORE_FRAMES):
            is_old = at + 1 < SCORE_FRAMES and not np.isnan(scores[at + 1])  # at first all are the first one
            scores[at] = scores[at + 1] if is_old else np.float32(heard)
            mean += scores[at] / np.float32(SCORE_FRAMES)
        for bin_ in range(NUM_MEL_BINS):
            floors[bin_] = min(features[t, bin_], floors[bin_] + np.float32(FLOOR_RISE))
            for at in range(STILL_FRAMES):
                before[at, bin_] = before[at + 1, bin_] if at + 1 < STILL_FRAMES else features[t, bin_]
        if is_tonal:
            frames[LAST_TONE] = frame
        for at in range(EDGE_FRAMES):
            undecided[at] = undecided[at + 1] and not is_tonal
        undecided[EDGE_FRAMES] = changing[t] and frame - frames[LAST_TONE] > EDGE_FRAMES
        if undecided[0] and mean > 0:
            frames[LAST] = frame - EDGE_FRAMES


@njit_brief()
def _is_tonal(energies: Any, floors: Any, before: Any) -> Any:
    """Whether float32 [80] has a narrow spectrum, or that of `STILL_FRAMES` before; ``floors`` as they were then."""
    loudest = np.float32(-np.inf)
    for bin_ in range(NUM_MEL_BINS):
        if _is_part(energies[bin_], floors[bin_]):
            loudest = max(loudest, energies[bin_])
    if loudest == -np.inf:
        return False
    num_high = num_loud = 0
    change = 0.0
    for bin_ in range(NUM_MEL_BINS):
        num_high += energies[bin_] > loudest - NARROW_DEPTH
        if energies[bin_] >= loudest - STILL_DEPTH and _is_part(energies[bin_], floors[bin_]):
            num_loud += 1
            change += abs(energies[bin_] - before[0, bin_])
    return num_high < NARROW_BINS or change < STILL_CHANGE * num_loud  # no number is less


@njit_brief()
def _is_part(energy: Any, floor: Any) -> Any:
    return energy > min(energy, floor + np.float32(FLOOR_RISE)) + PART_OVER_FLOOR
