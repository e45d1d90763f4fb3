"""Words that only one stream knows, and copies of what its search holds."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from streaming_asr.decoder_state import Overlay
from streaming_asr.errors import InputError
from streaming_asr.lexicon import Lexicon
from tests.searching import EXACT, USED, Log, Setup, random_log_probs, spoken

pytestmark = pytest.mark.timeout(600)  # whichever test comes first compiles the search, on a busy machine slowly

OWN = Lexicon.from_text("teeb\tT IY B\ntib\tT B\ntib\tB T\n")  # words beside the lexicon


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(tmp_path_factory.mktemp("lm"), 0)


@pytest.mark.parametrize("seed", range(8))
def test_own_words_are_found_as_if_the_lexicon_had_them_and_only_in_their_stream(setup: Setup, seed: int) -> None:
    scores = np.array([-0.1, 0.2], np.float32)
    decoder = setup.decoder(EXACT)
    frames = random_log_probs(seed, 9, peak=3.0)
    plain = decoder.start()
    decoder.step(plain, frames)
    beside, state = decoder.start(), decoder.start(overlay=Overlay(OWN, scores))
    decoder.step_many([beside, state], np.stack([frames, frames]))
    assert (beside.block == plain.block).all()
    best = decoder.finish(state)[0]
    ids = range(len(setup.lexicon) + len(OWN))
    sequences = [words for length in (1, 2) for words in itertools.product(ids, repeat=length)]
    assert best.score == pytest.approx(best_alignment(setup, scores, best.word_ids, frames), abs=1e-3)
    assert best.score >= max(best_alignment(setup, scores, words, frames) for words in sequences) - 1e-3


def best_alignment(setup: Setup, own_scores: Log, words: Sequence[int], log_probs: Log) -> float:
    """The score of the best path that says ``words``, by dynamic programming over each choice of pronunciations."""
    total, state = 0.0, setup.ngram.start_state
    choices = []
    for word in words:
        own = word - len(setup.lexicon)  # below 0: a word of the lexicon
        log_prob, state = setup.score(state, word if own < 0 else setup.ngram.unk)
        if own >= 0:
            log_prob -= setup.ngram.arrays.unigram_log_prob[setup.ngram.unk]
            total += own_scores[own]
        total += EXACT.lm_weight * log_prob + EXACT.word_score
        lexicon, name = (setup.lexicon, setup.lexicon.words[word]) if own < 0 else (OWN, OWN.words[own])
        choices.append(lexicon.pronunciations(name))
    total += EXACT.lm_weight * setup.score(state, setup.ngram.eos)[0]
    best = -math.inf
    for pronunciations in itertools.product(*choices):
        tokens = [0, *itertools.chain.from_iterable((phone, 0) for phone in itertools.chain(*pronunciations))]
        scores = np.full(len(tokens), -math.inf)
        scores[0] = 0.0
        for frame in log_probs:
            moved = scores.copy()
            moved[1:] = np.maximum(moved[1:], scores[:-1])
            for at in range(3, len(tokens), 2):
                if tokens[at] != tokens[at - 2]:
                    moved[at] = max(moved[at], scores[at - 2])
            scores = moved + frame[tokens]
        best = max(best, *scores[-2:])
    return total + best


def test_an_own_word_is_heard_and_has_an_id_beyond_the_lexicon(setup: Setup) -> None:
    decoder = setup.decoder(EXACT)
    frames = spoken("T IY B - B IY -")
    state = decoder.start(overlay=Overlay(OWN, np.zeros(2, np.float32)))
    decoder.step(state, frames[:4])
    continued = state.copy()
    for after in (state, continued):
        decoder.step(after, frames[4:])
        assert decoder.commit(after, 1) == 1
        assert decoder.best(after).words.ids == decoder.finish(after)[0].word_ids
        assert decoder.best(after).words.ids[0] == len(setup.lexicon)
    plain = decoder.start()
    decoder.step(plain, frames)
    assert decoder.finish(plain)[0].word_ids[0] < len(setup.lexicon)


def test_own_words_fit_in_the_beam_and_are_bounded(setup: Setup) -> None:
    """Every one of them ends at once, at every token, and the candidates still have room."""
    homophones = Lexicon((f"{word}", (USED[1],)) for word in range(300))
    decoder = setup.decoder(dataclasses.replace(EXACT, beam=2))
    state = decoder.start(overlay=Overlay(homophones, np.zeros(300, np.float32)))
    decoder.step(state, random_log_probs(0, 20))
    assert len(decoder.finish(state, 10)) >= 1
    with pytest.raises(InputError, match="300"):
        Overlay(Lexicon((f"{word}", (USED[1],)) for word in range(301)), np.zeros(301, np.float32))
