"""Owns forced alignment: where each word of a transcript lies in a model's outputs, which pronunciation was said, and
in which pauses between words a recording can be cut.

Pure: log-probabilities and pronunciations in, frames out. The best path through the graph of all pronunciations of the
words, with optional blanks between phones (Graves et al., ICML 2006, for the topology); with one pronunciation a word
it is what `torchaudio.functional.forced_align` gives, which the tests compare it with.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..tokens import BLANK

Pronunciations = Sequence[Sequence[int]]


SOFT_SHARE = 25  # percent of a recording's frames, of which a pause is one
EARLY_FRAMES = 3  # of 10 ms, by which a sound may begin before the output frame that names it


class Pause(NamedTuple):
    """A frame of 10 ms between two words, and how many words were said before it."""

    frame: int
    num_words: int


class Span(NamedTuple):
    """One word: its first and last output frame (inclusive), and which of its pronunciations fits."""

    first: int
    last: int
    pronunciation: int


def viterbi(log_probs: NDArray[np.float32], words: Sequence[Pronunciations]) -> list[Span] | None:
    """The span of each word on the best path; None when the frames do not suffice.

    log_probs: float32 [T, V], natural log. words: for each word its pronunciations, token ids without blank.
    """
    tokens, owners, before = _graph(words)
    num_frames, num_states = len(log_probs), len(tokens)
    width = max(len(states) for states in before)
    sources = np.full((num_states, width), num_states, np.int64)  # padded with a state that is never alive
    for state, states in enumerate(before):
        sources[state, : len(states)] = states
    emissions = log_probs[:, tokens]  # [T, S]
    score = np.full(num_states + 1, -np.inf)
    starts = [0, *(s for s, states in enumerate(before) if 0 in states and s != 0)]
    score[starts] = emissions[0, starts]
    back = np.zeros((num_frames, num_states), np.int64)
    rows = np.arange(num_states)
    for frame in range(1, num_frames):
        candidates = score[sources]  # [S, width]
        choice = candidates.argmax(axis=1)
        back[frame] = sources[rows, choice]
        score[:-1] = candidates[rows, choice] + emissions[frame]
    finals = [num_states - 1, *before[-1]]
    state = max(finals, key=lambda s: score[s])
    if not np.isfinite(score[state]):
        return None
    first, last, chosen = [num_frames] * len(words), [-1] * len(words), [0] * len(words)
    for frame in range(num_frames - 1, -1, -1):
        if tokens[state] != BLANK:
            word, chosen[word] = owners[state]
            first[word], last[word] = min(first[word], frame), max(last[word], frame)
        state = int(back[frame, state])
    return [Span(*span) for span in zip(first, last, chosen, strict=True)]


def find_pauses(features: NDArray[np.floating[Any]], spans: Sequence[Span], frames_per_output: int) -> list[Pause]:
    """Where a recording can be cut: the softest frame between two words, if it is soft for the recording.

    features: [T, 80], log-mel; spans: of its words, in output frames of ``frames_per_output`` frames.
    """
    levels = np.convolve(features.mean(1, dtype=np.float32), np.full(3, 1 / 3, np.float32), "same")
    soft = np.percentile(levels, SOFT_SHARE)
    pauses = []
    for index, (before, after) in enumerate(itertools.pairwise(spans), 1):
        first = before.last * frames_per_output + 1
        end = after.first * frames_per_output - EARLY_FRAMES
        if first < end:
            frame = first + int(levels[first:end].argmin())
            if levels[frame] < soft:
                pauses.append(Pause(frame, index))
    return pauses


def _graph(words: Sequence[Pronunciations]) -> tuple[list[int], list[tuple[int, int]], list[list[int]]]:
    """Token, word with pronunciation, and possible predecessors (itself first) of each state.

    States 0 and S - 1 are the outer blanks.
    """
    nobody = (-1, -1)
    tokens, owners, before = [BLANK], [nobody], [[0]]

    def add(token: int, owner: tuple[int, int], states: list[int]) -> int:
        tokens.append(token)
        owners.append(owner)
        before.append([len(tokens) - 1, *states])
        return len(tokens) - 1

    gap, ends = 0, list[int]()  # the blank before the word, and the last phones of the word before it
    for word, pronunciations in enumerate(words):
        new_ends = []
        for number, pronunciation in enumerate(pronunciations):
            owner = (word, number)
            first, *rest = pronunciation
            last = add(first, owner, [gap, *(end for end in ends if tokens[end] != first)])
            for phone in rest:
                blank = add(BLANK, owner, [last])
                last = add(phone, owner, [blank] if phone == tokens[last] else [blank, last])
            new_ends.append(last)
        ends = new_ends
        gap = add(BLANK, nobody, ends)
    return tokens, owners, before
