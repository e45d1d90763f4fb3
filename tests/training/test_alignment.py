"""Forced alignment, by hand and against torchaudio's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio

from streaming_asr.training.alignment import Span, find_pauses, viterbi


def scores(*tokens: int, num_tokens: int = 6) -> np.ndarray:
    """Log-probabilities that are sure of one token a frame."""
    rows = np.full((len(tokens), num_tokens), 0.01, np.float32)
    rows[np.arange(len(tokens)), tokens] = 1 - 0.01 * (num_tokens - 1)
    return np.log(rows)


def test_words_span_their_own_phones_and_not_the_blanks_around_them() -> None:
    assert viterbi(scores(0, 1, 0, 2, 2, 0, 0, 3, 0), [[[1, 2]], [[3]]]) == [(1, 4, 0), (7, 7, 0)]


def test_words_may_touch_but_the_same_phone_twice_needs_a_blank_between() -> None:
    assert viterbi(scores(1, 2, 3), [[[1, 2]], [[3]]]) == [(0, 1, 0), (2, 2, 0)]
    assert viterbi(scores(1, 1, 1), [[[1]], [[1]]]) == [(0, 0, 0), (2, 2, 0)]
    assert viterbi(scores(1, 1), [[[1]], [[1]]]) is None


def test_the_pronunciation_that_was_spoken_is_chosen() -> None:
    variants = [[[1, 2], [1, 3]], [[4]]]
    assert viterbi(scores(0, 1, 0, 3, 0, 4), variants) == [(1, 3, 1), (5, 5, 0)]
    assert viterbi(scores(0, 1, 2, 0, 0, 4), variants) == [(1, 2, 0), (5, 5, 0)]


def test_too_few_frames_give_no_alignment() -> None:
    assert viterbi(scores(1), [[[1, 2]]]) is None


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_torchaudio_on_single_pronunciations(seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(60, 8)).astype(np.float32) * 3
    log_probs = torch.from_numpy(logits).log_softmax(-1)
    words = [[generator.integers(1, 8, size=generator.integers(1, 5)).tolist()] for _ in range(6)]
    phones = [phone for (pronunciation,) in words for phone in pronunciation]
    path, _ = torchaudio.functional.forced_align(log_probs[None], torch.tensor([phones], dtype=torch.int32), blank=0)
    spans = torchaudio.functional.merge_tokens(path[0], torch.ones(60), blank=0)
    expected, position = [], 0
    for (pronunciation,) in words:
        own = spans[position : position + len(pronunciation)]
        expected.append((own[0].start, own[-1].end - 1, 0))
        position += len(pronunciation)
    assert viterbi(log_probs.numpy(), words) == expected


def test_a_recording_is_cut_where_it_is_soft_between_two_words() -> None:
    spans = [Span(0, 1, 0), Span(6, 8, 0), Span(10, 11, 0), Span(17, 19, 0)]  # gaps: of silence, too short, of noise
    features = np.full((60, 80), 5.0)
    features[6:16] = 1.0
    features[11:14] = 0.5
    features[40:46] = 4.9
    assert find_pauses(features, spans, 3) == [(12, 1)]
    features[40:46] = 0.6
    assert find_pauses(features, spans, 3) == [(12, 1), (41, 3)]
    assert find_pauses(features, spans[:1], 3) == []
