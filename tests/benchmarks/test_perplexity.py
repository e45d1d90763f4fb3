"""The command line that says how well language models foresee transcripts."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.perplexity import neural_log_prob, ngram_log_prob
from streaming_asr.neural_lm import NeuralLM
from tests.neural import expected, random_network, spelling
from tests.searching import Setup


def test_words_are_scored_one_after_the_other_and_unknown_ones_are_not(tmp_path: Path) -> None:
    setup = Setup(tmp_path, 0)
    bee, be, unknown = 0, 1, len(setup.lexicon.words)
    first, after = setup.ngram.score(setup.ngram.start_state, bee)
    second, _ = setup.ngram.score(after, be)
    assert ngram_log_prob(setup.ngram, [bee, be]) == pytest.approx(first + second)
    _, after = setup.ngram.score(setup.ngram.start_state, setup.ngram.unk)
    assert ngram_log_prob(setup.ngram, [unknown, be]) == pytest.approx(setup.ngram.score(after, be)[0])
    lm = NeuralLM(random_network(), spelling(), precision="float32")
    assert neural_log_prob(lm, [bee, be, 3]) == pytest.approx(sum(expected(random_network(), [bee, be, 3])), abs=0.1)
    assert neural_log_prob(lm, [unknown, be]) == pytest.approx(expected(random_network(), [unknown, be])[1], abs=0.1)
    assert math.isfinite(neural_log_prob(lm, [unknown]))
