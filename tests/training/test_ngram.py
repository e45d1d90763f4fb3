"""The language model's arithmetic: counts by hand, probabilities that sum to one, pruning that costs little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from streaming_asr.errors import InputError
from streaming_asr.ngram import NGram
from streaming_asr.training import ngram

NUM_TOKENS, BOS, EOS = 30, 28, 29
Tokens = NDArray[np.int32]


def random_text(num_sentences: int, seed: int) -> Tokens:
    """Sentences of a Markov chain, so that contexts matter."""
    generator = np.random.default_rng(seed)
    tokens = []
    for _ in range(num_sentences):
        tokens.append(BOS)
        word = 0
        for _ in range(generator.integers(1, 12)):
            word = int(word * 7 + generator.geometric(0.4)) % 28
            tokens.append(word)
        tokens.append(EOS)
    return np.array(tokens, np.int32)


def total_probability(levels: list[ngram.BackoffLevel], context: list[int]) -> float:
    probabilities = [
        np.exp(ngram.log_probs(levels, np.array([*context, word], np.int32), NUM_TOKENS, BOS)[-1])
        for word in range(NUM_TOKENS)
        if word != BOS
    ]
    return float(sum(probabilities))


def test_counts_are_those_of_the_text() -> None:
    tokens = np.array([3, 0, 1, 4, 3, 0, 1, 2, 4, 3, 0, ngram.BREAK, 1, 4], np.int32)  # 3 is <s>, 4 is </s>
    counts = ngram.count_ngrams(tokens, 5, 3, (1, 1, 1))
    unigrams, bigrams, trigrams = counts.levels
    assert unigrams.count.tolist() == [3, 3, 1, 3, 3]
    pairs = {divmod(key, 5): count for key, count in zip(bigrams.key.tolist(), bigrams.count.tolist(), strict=True)}
    assert pairs == {(0, 1): 2, (1, 2): 1, (1, 4): 2, (2, 4): 1, (3, 0): 3}
    assert len(trigrams.key) == 4  # <s> 0 1, 0 1 </s>, 0 1 2, 1 2 </s>: none spans the break or two sentences


def test_rare_ngrams_and_what_extends_them_are_not_considered() -> None:
    counts = ngram.count_ngrams(random_text(200, 1), NUM_TOKENS, BOS, (1, 2, 3))
    assert all(int(level.count.min()) >= least for level, least in zip(counts.levels[1:], (2, 3), strict=True))


@pytest.mark.parametrize("threshold", [0.0, 1e-6, 1e-5, 1e-4, 1.0])
@pytest.mark.parametrize("with_breaks", [False, True])
def test_probabilities_sum_to_one_however_much_is_pruned(threshold: float, with_breaks: bool) -> None:
    tokens = random_text(1000, 2)
    if with_breaks:
        tokens[::97] = ngram.BREAK
    counts = ngram.count_ngrams(tokens, NUM_TOKENS, BOS, (1, 1, 1, 2))
    levels = ngram.back_off(ngram.prune(counts, threshold))
    for context in ([], [5], [BOS], [3, 7], [BOS, 1], [1, 2, 3], [0, 0, 0, 0]):
        assert total_probability(levels, context) == pytest.approx(1.0, abs=1e-9)


def ngrams_of(counts: ngram.Counts) -> list[list[tuple[int, ...]]]:
    """The n-grams of each order, as words."""
    result: list[list[tuple[int, ...]]] = [[(word,) for word in range(NUM_TOKENS)]]
    for level in counts.levels[1:]:
        pairs = (divmod(key, NUM_TOKENS) for key in level.key.tolist())
        result.append([(*result[-1][prefix], word) for prefix, word in pairs])
    return result


def test_pruning_keeps_what_the_kept_need() -> None:
    counts = ngram.count_ngrams(random_text(1000, 3), NUM_TOKENS, BOS, (1, 1, 1, 1))
    pruned = ngram.prune(counts, 1e-4)
    assert 0 < len(pruned.levels[2].key) < len(counts.levels[2].key)
    grams = ngrams_of(pruned)
    for below, above, level in zip(grams[:-1], grams[1:], pruned.levels[1:], strict=True):
        assert [below[row] for row in level.suffix.tolist()] == [gram[1:] for gram in above]
        assert above == sorted(above)


def test_longer_contexts_help_and_pruning_hurts_a_little() -> None:
    counts = ngram.count_ngrams(random_text(4000, 4), NUM_TOKENS, BOS, (1, 1, 1))
    test = random_text(500, 5)

    def size(counts: ngram.Counts) -> int:
        return sum(len(level.key) for level in counts.levels[1:])

    def perplexity(counts: ngram.Counts) -> float:
        return ngram.perplexity(ngram.back_off(counts), test, NUM_TOKENS, BOS)

    half = ngram.prune_to_size(counts, lambda kept: sum(kept[1:]), size(counts) / 2)
    assert 0.4 * size(counts) < size(half) <= size(counts) / 2
    nothing = ngram.prune(counts, 1.0)
    assert size(nothing) == 0
    assert perplexity(half) < 1.05 * perplexity(counts)
    assert perplexity(half) < 0.7 * perplexity(nothing)


def test_a_limit_that_everything_meets_prunes_nothing() -> None:
    counts = ngram.count_ngrams(random_text(50, 6), NUM_TOKENS, BOS, (1, 1))
    assert ngram.prune_to_size(counts, sum, 1e9) is counts


def test_the_arpa_file_means_the_same(tmp_path: Path) -> None:
    names = [f"w{word}" for word in range(28)]
    counts = ngram.count_ngrams(random_text(300, 7), NUM_TOKENS, BOS, (1, 1, 1))
    levels = ngram.back_off(ngram.prune(counts, 1e-5))
    ngram.write_arpa(tmp_path / "lm.arpa", levels, [*names, "<s>", "</s>"], chunk=100)
    model = NGram.from_arpa(tmp_path / "lm.arpa", names)
    for seed in range(3):
        sentence = random_text(1, seed)
        expected = ngram.log_probs(levels, sentence, NUM_TOKENS, BOS)
        state = model.start_state
        for word, log_prob in zip(sentence[1:].tolist(), expected[1:].tolist(), strict=True):
            score, state = model.score(state, model.eos if word == EOS else word)
            assert score == pytest.approx(log_prob, abs=0.1)  # 8-bit codebooks


def test_the_arpa_file_needs_a_name_a_token(tmp_path: Path) -> None:
    counts = ngram.count_ngrams(random_text(5, 8), NUM_TOKENS, BOS, (1,))
    with pytest.raises(InputError, match="1 names for 30"):
        ngram.write_arpa(tmp_path / "lm.arpa", ngram.back_off(counts), ["a"])
