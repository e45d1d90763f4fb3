"""Owns when each word of a transcript was said: a CTC forced alignment with the project's own acoustic model.

`viterbi` is pure: log-probabilities and pronunciations in, frames out. It is the best path through the graph of all
pronunciations of the words, with optional blanks between phones (Graves et al., ICML 2006, for the topology); with one
pronunciation a word it is what `torchaudio.functional.forced_align` gives, which the tests compare it with.

A unidirectional model names a sound only once it has heard it, so its word ends lie *late*, and latencies measured
from them come out short. `speech_end` reads the end of speech from the energy alone; how far the last word's aligned
end lies after it is the bias, reported beside every figure that rests on an alignment. Alignments from elsewhere can
be read from a CTM file instead (`read_ctm`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from streaming_asr.features import FRAME_SHIFT_SECONDS, SAMPLE_RATE, Samples, extract
from streaming_asr.recognizer import FLUSH_SAMPLES
from streaming_asr.tokens import BLANK

from .timeline import TimedWord

if TYPE_CHECKING:
    from streaming_asr.lexicon import Lexicon
    from streaming_asr.model import AcousticModel

Pronunciations = Sequence[Sequence[int]]
SPEECH_BELOW_PEAK_DB = 30.0  # a 10 ms frame within this of the loudest counts as speech


def viterbi(log_probs: NDArray[np.float32], words: Sequence[Pronunciations]) -> list[tuple[int, int]] | None:
    """The frames of each word, first and last (inclusive), on the best path; None when the frames do not suffice.

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
    spans: list[list[int]] = [[num_frames, -1] for _ in words]
    for frame in range(num_frames - 1, -1, -1):
        if tokens[state] != BLANK:
            span = spans[owners[state]]
            span[0], span[1] = min(span[0], frame), max(span[1], frame)
        state = int(back[frame, state])
    return [(first, last) for first, last in spans]


def _graph(words: Sequence[Pronunciations]) -> tuple[list[int], list[int], list[list[int]]]:
    """Token, word and possible predecessors (itself first) of each state; states 0 and S - 1 are the outer blanks."""
    tokens, owners, before = [BLANK], [-1], [[0]]

    def add(token: int, owner: int, states: list[int]) -> int:
        tokens.append(token)
        owners.append(owner)
        before.append([len(tokens) - 1, *states])
        return len(tokens) - 1

    gap, ends = 0, list[int]()  # the blank before the word, and the last phones of the word before it
    for owner, pronunciations in enumerate(words):
        new_ends = []
        for pronunciation in pronunciations:
            first, *rest = pronunciation
            last = add(first, owner, [gap, *(end for end in ends if tokens[end] != first)])
            for phone in rest:
                blank = add(BLANK, owner, [last])
                last = add(phone, owner, [blank] if phone == tokens[last] else [blank, last])
            new_ends.append(last)
        ends = new_ends
        gap = add(BLANK, -1, ends)
    return tokens, owners, before


class Aligner:
    """Aligns recordings with their words. The model runs over each once, as a whole."""

    def __init__(self, model: AcousticModel, lexicon: Lexicon) -> None:
        self._model = model
        self._lexicon = lexicon
        self._frame_seconds = model.config.output_frame_seconds

    def align(self, samples: Samples, words: Sequence[str]) -> tuple[TimedWord, ...]:
        """float32 [N] at 16 kHz, and what is said in it. Empty when a word has no pronunciation or nothing fits."""
        pronunciations = [self._lexicon.pronunciations(word) for word in words]
        if not words or not all(pronunciations):
            return ()
        spans = viterbi(self._log_probs(samples), pronunciations)
        limit = len(samples) / SAMPLE_RATE
        return tuple(
            TimedWord(word, min(limit, first * self._frame_seconds), min(limit, (last + 1) * self._frame_seconds))
            for word, (first, last) in zip(words, spans or (), strict=bool(spans))
        )

    def _log_probs(self, samples: Samples) -> NDArray[np.float32]:
        step = self._model.config.frames_per_step
        frames = extract(np.concatenate((samples, np.zeros(FLUSH_SAMPLES, np.float32))))
        frames = np.concatenate((frames, np.repeat(frames[-1:], -len(frames) % step, axis=0)))
        with torch.inference_mode():
            log_probs, _ = self._model(torch.from_numpy(frames)[None], self._model.initial_state(1))
        scores: NDArray[np.float32] = log_probs[0].numpy()
        return scores


def speech_end(samples: Samples) -> float:
    """Seconds at which the last 10 ms frame ends that is within `SPEECH_BELOW_PEAK_DB` of the loudest. No model."""
    shift = round(FRAME_SHIFT_SECONDS * SAMPLE_RATE)
    num_frames = len(samples) // shift
    if num_frames == 0:
        return 0.0
    energy = (samples[: num_frames * shift].reshape(num_frames, shift).astype(np.float64) ** 2).mean(axis=1)
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-SPEECH_BELOW_PEAK_DB / 10))
    return float((loud[-1] + 1) * FRAME_SHIFT_SECONDS) if energy.max() > 0 else 0.0


def read_ctm(path: Path) -> dict[str, tuple[TimedWord, ...]]:
    """Alignments from a CTM file (NIST): ``RECORDING CHANNEL START DURATION WORD`` a line, seconds."""
    words: dict[str, list[TimedWord]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith(";;"):
            recording, _, start, duration, word, *_ = line.split()
            words.setdefault(recording, []).append(
                TimedWord(word.lower(), float(start), float(start) + float(duration))
            )
    return {recording: tuple(timed) for recording, timed in words.items()}
