"""Words that a neural language model scores again while the search goes on."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.decoder import Decoder, DecoderOptions
from streaming_asr.decoder_state import DecoderState
from streaming_asr.errors import InputError
from streaming_asr.neural_lm import NO_PIECE, NeuralLM
from streaming_asr.ngram import vocabulary_fingerprint
from streaming_asr.search_state import FREE, HISTORY_NODE, IMPOSSIBLE, NODES, NUM_HISTORY, NUM_LINKS, UNSCORED
from streaming_asr.tokens import NUM_TOKENS
from tests.neural import WORDS, expected, random_network, spelling
from tests.searching import EXACT, LEXICON, Log, Setup, random_log_probs, spoken, step_in_chunks

RESCORED = dataclasses.replace(EXACT, neural_lm_weight=0.6, rescored_lm_weight=0.25, rescore_reach=1e6)
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(tmp_path_factory.mktemp("lm"), 0)


@pytest.fixture(scope="module")
def neural_lm() -> NeuralLM:
    return NeuralLM(random_network(), spelling())


def stepped(decoder: Decoder, log_probs: Log) -> DecoderState:
    state = decoder.start()
    decoder.step(state, log_probs)
    return state


@pytest.mark.parametrize("seed", range(6))
def test_the_best_hypothesis_has_the_scores_of_both_models(setup: Setup, seed: int) -> None:
    neural_lm = NeuralLM(random_network(), spelling(), precision="float32")
    log_probs = np.concatenate((random_log_probs(seed, 6, 3.0), spoken("- - - -", 12.0)))
    plain = setup.decoder(EXACT)
    before = {tuple(h.word_ids): h.score for h in plain.finish(stepped(plain, log_probs), 300)}
    decoder = Decoder(setup.tree, setup.ngram, RESCORED, neural_lm)
    best = decoder.finish(stepped(decoder, log_probs), 1)[0]
    assert best.words
    state, ngram = setup.ngram.start_state, 0.0
    for word in best.word_ids:
        log_prob, state = setup.score(state, word)
        ngram += log_prob
    gain = (RESCORED.rescored_lm_weight - RESCORED.lm_weight) * ngram
    gain += RESCORED.neural_lm_weight * sum(expected(random_network(), best.word_ids))
    assert best.score == pytest.approx(before[tuple(best.word_ids)] + gain, abs=0.05)
    assert best.score >= max(before.values()) - 30


def test_homophones_are_told_apart_by_the_neural_language_model(setup: Setup, neural_lm: NeuralLM) -> None:
    bee, be = (setup.lexicon.word_id[word] for word in ("bee", "be"))
    likelier = bee if expected(random_network(), [bee]) > expected(random_network(), [be]) else be
    options = dataclasses.replace(RESCORED, neural_lm_weight=5.0)
    decoder = Decoder(setup.tree, setup.ngram, options, neural_lm)
    state = stepped(decoder, spoken("B IY - -", 8.0))
    assert decoder.best(state).words.ids == [likelier]
    assert decoder.finish(state)[0].word_ids == [likelier]


def test_without_weight_nothing_changes(setup: Setup, neural_lm: NeuralLM) -> None:
    options = dataclasses.replace(DecoderOptions(beam=40), neural_lm_weight=0.0, rescored_lm_weight=1.0)
    plain, decoder = setup.decoder(options), Decoder(setup.tree, setup.ngram, options, neural_lm)
    log_probs = random_log_probs(3, 200, 4.0)
    found = [dataclasses.replace(one, context=b"") for one in decoder.finish(stepped(decoder, log_probs), 5)]
    assert found == plain.finish(stepped(plain, log_probs), 5)


def same(left: DecoderState, right: DecoderState) -> bool:
    rows = [{node: (row.tobytes(), piece) for node, (row, piece) in state.rows.items()} for state in (left, right)]
    return left.block.tobytes() == right.block.tobytes() and rows[0] == rows[1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.integers(0, 40), min_size=1, max_size=6), st.sampled_from([2, 60]))
def test_neither_chunking_nor_company_changes_anything(
    setup: Setup, neural_lm: NeuralLM, seed: int, chunks: list[int], beam: int
) -> None:
    options = DecoderOptions(beam=beam, beam_threshold=20)
    decoder = Decoder(setup.tree, setup.ngram, options, neural_lm)
    log_probs = random_log_probs(seed, sum(chunks), 3.0, list(range(NUM_TOKENS)))
    whole = stepped(decoder, log_probs)
    parts, company = step_in_chunks(decoder, log_probs, chunks), decoder.start()
    others = [random_log_probs(seed + other, sum(chunks), 3.0) for other in range(2)]
    decoder.step_many([decoder.start(), company, decoder.start()], np.stack([others[0], log_probs, others[1]]))
    assert same(whole, parts)
    assert same(whole, company)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(1, 60), st.integers(-1, 4)), min_size=2, max_size=12),
    st.sampled_from([2, 8, 50]),
    st.sampled_from([0.5, 5.0, 100.0]),
)
def test_committed_words_are_never_taken_back_and_nodes_stay_true(
    setup: Setup, neural_lm: NeuralLM, seed: int, plan: list[tuple[int, int]], beam: int, reach: float
) -> None:
    options = DecoderOptions(beam=beam, word_score=2.0, rescore_reach=reach)
    decoder = Decoder(setup.tree, setup.ngram, options, neural_lm)
    state = decoder.start()
    held: list[int] = []
    for index, (num_frames, more) in enumerate(plan):
        decoder.step(state, random_log_probs(seed + index, num_frames, 4.0))
        if more >= 0:
            stable = decoder.commit(state, decoder.best(state).stable_words + more)
            held = decoder.best(state).words.ids[: max(stable, len(held))]
        best = decoder.best(state)
        assert best.words.ids[: len(held)] == held
        held = best.words.ids[: max(len(held), best.stable_words)]
        check_nodes(setup, decoder, state)
    assert decoder.finish(state)[0].word_ids[: len(held)] == held


def check_nodes(setup: Setup, decoder: Decoder, state: DecoderState) -> None:
    """Each link of a possible path, and the history, has a node of just its words, or none yet."""
    v = decoder._sections(state.block)
    history = tuple(v.history_word[: int(state.block[NUM_HISTORY])].tolist())
    words: dict[int, tuple[int, ...]] = {int(state.block[HISTORY_NODE]): history}
    links: set[int] = set()
    for path in range(2 * state.num_tokens):
        link = int(v.link[path])
        while v.score[path] > IMPOSSIBLE and link >= 0:
            links.add(link)
            link = int(v.parent[link])
    said: dict[int, tuple[int, ...]] = {}
    for link in sorted(links):
        before = said[int(v.parent[link])] if v.parent[link] >= 0 else history
        said[link] = (*before, int(v.word[link]))
        node = int(v.word_node[link])
        assert UNSCORED <= node < NODES
        if node >= 0:
            assert words.setdefault(node, said[link]) == said[link]
            assert v.node_word[node] == v.word[link]
            lm_state = setup.ngram.start_state
            for word in said[link]:
                _, lm_state = setup.score(lm_state, word)
            assert v.node_lm_state[node] == lm_state
    assert len(set(words.values())) == len(words)
    assert v.node_word[int(state.block[HISTORY_NODE])] != FREE
    assert len(links) <= int(state.block[NUM_LINKS])


@pytest.mark.parametrize("reach", [0.01, 100.0])  # 0.01: of the best path words lack their scores, too
def test_a_search_says_what_the_next_may_keep_in_mind(setup: Setup, neural_lm: NeuralLM, reach: float) -> None:
    options = DecoderOptions(beam=60, word_score=3.0, rescore_reach=reach)
    decoder = Decoder(setup.tree, setup.ngram, options, neural_lm)
    log_probs = random_log_probs(5, 120, 3.0)
    state = stepped(decoder, log_probs)
    before = state.block.tobytes()
    first, *others = decoder.finish(state, 3)
    assert len(first.word_ids) > 3
    assert first.context == neural_lm.remember(neural_lm.start_row, NO_PIECE, first.word_ids)
    assert {other.context for other in others} == {b""}
    assert state.block.tobytes() == before
    following = decoder.start(context=first.context)
    assert following.rows[0][0].tobytes() == neural_lm.recall(first.context).tobytes()
    decoder.step(following, log_probs)
    assert decoder.finish(following)[0].score != first.score


def test_memory_is_bounded(setup: Setup, neural_lm: NeuralLM) -> None:
    options = DecoderOptions(beam=60, word_score=3.0, rescore_reach=100.0)
    decoder = Decoder(setup.tree, setup.ngram, options, neural_lm)
    state = decoder.start()
    kept = [len(state.rows)]
    for seed in range(20):
        decoder.step(state, random_log_probs(seed, 100, 3.0))
        kept.append(len(state.rows))
    assert kept[0] < max(kept) <= NODES
    assert any(after < before for before, after in pairwise(kept))  # of nodes that were given up
    copy = state.copy()
    assert same(copy, state)
    decoder.step(copy, random_log_probs(1, 50, 3.0))
    assert not same(copy, state)


@pytest.mark.parametrize("name", ["neural_lm_weight", "rescored_lm_weight", "rescore_reach"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_options_out_of_range_are_refused(name: str, value: float) -> None:
    options: dict[str, Any] = {name: value}
    with pytest.raises(InputError, match=name):
        DecoderOptions(**options)


def test_words_of_another_lexicon_are_refused(setup: Setup, tmp_path: Path) -> None:
    neural_lm = NeuralLM(random_network(), spelling(), vocabulary_fingerprint(WORDS))
    Decoder(setup.tree, setup.ngram, DecoderOptions(), neural_lm)
    lines = LEXICON.splitlines(keepends=True)
    others = ["".join(lines[:-2]), "".join(lines[:-2]) + "an\tIY B\n", "".join(lines[::-1])]
    for seed, (text, what) in enumerate(zip(others, ("5 words", "are others", "are others"), strict=True)):
        other = Setup(tmp_path, seed, text)
        with pytest.raises(InputError, match=f"{what}.* neural language model"):
            Decoder(other.tree, other.ngram, DecoderOptions(), neural_lm)
