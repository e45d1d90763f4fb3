from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from benchmarks.align import read_ctm, speech_end, viterbi
from benchmarks.timeline import TimedWord


def scores(*tokens: int, num_tokens: int = 6) -> np.ndarray:
    """Log-probabilities that are sure of one token a frame."""
    rows = np.full((len(tokens), num_tokens), 0.01, np.float32)
    rows[np.arange(len(tokens)), tokens] = 1 - 0.01 * (num_tokens - 1)
    return np.log(rows)


def test_words_span_their_own_phones_and_not_the_blanks_around_them() -> None:
    assert viterbi(scores(0, 1, 0, 2, 2, 0, 0, 3, 0), [[[1, 2]], [[3]]]) == [(1, 4), (7, 7)]


def test_words_may_touch_but_the_same_phone_twice_needs_a_blank_between() -> None:
    assert viterbi(scores(1, 2, 3), [[[1, 2]], [[3]]]) == [(0, 1), (2, 2)]
    assert viterbi(scores(1, 1, 1), [[[1]], [[1]]]) == [(0, 0), (2, 2)]
    assert viterbi(scores(1, 1), [[[1]], [[1]]]) is None


def test_the_pronunciation_that_was_spoken_is_chosen() -> None:
    variants = [[[1, 2], [1, 3]], [[4]]]
    assert viterbi(scores(0, 1, 0, 3, 0, 4), variants) == [(1, 3), (5, 5)]
    assert viterbi(scores(0, 1, 2, 0, 0, 4), variants) == [(1, 2), (5, 5)]


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
        expected.append((own[0].start, own[-1].end - 1))
        position += len(pronunciation)
    assert viterbi(log_probs.numpy(), words) == expected


def test_speech_ends_with_the_last_loud_frame() -> None:
    samples = np.full(16000, 0.001, np.float32)
    samples[4000:8000] = 0.5
    assert speech_end(samples) == pytest.approx(0.5)
    assert speech_end(np.zeros(16000, np.float32)) == 0.0
    assert speech_end(np.zeros(5, np.float32)) == 0.0


def test_reads_a_ctm_file(tmp_path: Path) -> None:
    path = tmp_path / "words.ctm"
    path.write_text(";; made by hand\na 1 0.5 0.25 Turn 0.9\na 1 1.0 0.5 OFF\n\nb 1 0 1 yes\n")
    assert read_ctm(path) == {
        "a": (TimedWord("turn", 0.5, 0.75), TimedWord("off", 1.0, 1.5)),
        "b": (TimedWord("yes", 0.0, 1.0),),
    }
