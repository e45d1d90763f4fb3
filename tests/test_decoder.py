"""The search: exact against enumeration with a wide beam, stable and bounded with a narrow one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr import decoder as decoder_module
from streaming_asr.decoder import Decoder, DecoderOptions, Guess, Hypothesis, Words, greedy_phones
from streaming_asr.decoder_state import DecoderState
from streaming_asr.errors import InputError
from streaming_asr.lexicon import ROOT, Lexicon, LexiconTree
from streaming_asr.search_results import REACH
from streaming_asr.search_state import HEADER, HISTORY_CAPACITY, IMPOSSIBLE, NUM_HISTORY, NUM_LINKS, kth_best
from streaming_asr.tokens import NUM_TOKENS
from tests.searching import EXACT, USED, Log, Setup, random_log_probs, spoken, step_in_chunks

pytestmark = pytest.mark.timeout(600)  # whichever test comes first compiles the search, on a busy machine slowly


@pytest.fixture(scope="module")
def setups(tmp_path_factory: pytest.TempPathFactory) -> list[Setup]:
    folder = tmp_path_factory.mktemp("lm")
    return [Setup(folder, seed) for seed in range(3)]


@pytest.fixture(scope="module")
def setup(setups: list[Setup]) -> Setup:
    return setups[0]


def enumerate_hypotheses(setup: Setup, options: DecoderOptions, log_probs: Log) -> dict[tuple[int, ...], float]:
    """The Viterbi score of every word sequence, from all alignments and all segmentations."""
    acoustic: dict[tuple[int, ...], float] = {}
    for path in itertools.product(USED, repeat=len(log_probs)):
        score = float(sum(log_probs[frame, token] for frame, token in enumerate(path)))
        phones = tuple(token for token, _ in itertools.groupby(path) if token)
        acoustic[phones] = max(score, acoustic.get(phones, -math.inf))
    pronunciations = [
        (word, phones) for word, name in enumerate(setup.lexicon.words) for phones in setup.lexicon.pronunciations(name)
    ]
    found: dict[tuple[int, ...], float] = {}

    def extend(phones: tuple[int, ...], words: tuple[int, ...], state: int, score: float) -> None:
        if not phones:
            end, _ = setup.score(state, setup.ngram.eos)
            found[words] = max(score + options.lm_weight * end, found.get(words, -math.inf))
        for word, pronunciation in pronunciations:
            if phones[: len(pronunciation)] == pronunciation:
                log_prob, after = setup.score(state, word)
                gain = options.lm_weight * log_prob + options.word_score
                extend(phones[len(pronunciation) :], (*words, word), after, score + gain)

    for phones, score in acoustic.items():
        extend(phones, (), setup.ngram.start_state, score)
    return found


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2), st.integers(0, 10**6), st.integers(0, 6), st.sampled_from([0.5, 2.0, 5.0]))
def test_a_wide_beam_finds_what_enumeration_finds(
    setups: list[Setup], which: int, seed: int, num_frames: int, peak: float
) -> None:
    setup = setups[which]
    log_probs = random_log_probs(seed, num_frames, peak)
    decoder = setup.decoder(EXACT)
    state = decoder.start()
    decoder.step(state, log_probs)
    hypotheses = decoder.finish(state, 5)
    expected = enumerate_hypotheses(setup, EXACT, log_probs)
    assert hypotheses[0].score == pytest.approx(max(expected.values()), abs=1e-3)
    for hypothesis in hypotheses:
        assert hypothesis.score <= expected[tuple(hypothesis.word_ids)] + 1e-3
    assert expected[tuple(hypotheses[0].word_ids)] == pytest.approx(hypotheses[0].score, abs=1e-3)
    assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
    assert len({tuple(h.word_ids) for h in hypotheses}) == len(hypotheses)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ("B IY", {"bee", "be"}),
        ("B B IY IY -", {"bee", "be"}),
        ("B IY T", {"beet"}),
        ("B IY T - B", {"beets"}),
        ("B - B", {"b b"}),  # the same phone on both sides of a word boundary needs a blank
        ("B B", {"b"}),
        ("IY - IY", {"a a"}),
        ("T IY", {"a"}),
        ("- - -", {""}),
        ("", {""}),
    ],
)
def test_what_was_spoken(setup: Setup, frames: str, words: set[str]) -> None:
    for options in (EXACT, DecoderOptions(lm_weight=0.2)):
        decoder = setup.decoder(options)
        state = decoder.start()
        decoder.step(state, spoken(frames, 12.0))
        assert setup.words(decoder.finish(state)[0].word_ids) in words
        if len(words) == 2:
            assert setup.words(decoder.best(state).words.ids) in words


def test_homophones_are_told_apart_by_the_language_model(setup: Setup) -> None:
    decoder = setup.decoder(EXACT)
    state = decoder.start()
    decoder.step(state, spoken("B IY"))
    texts = [setup.words(h.word_ids) for h in decoder.finish(state, 10)]
    assert {"bee", "be"} <= set(texts)
    bonus = np.zeros(len(setup.lexicon), np.float32)
    for favourite in ("bee", "be"):
        bonus[:] = 0
        bonus[setup.lexicon.word_id[favourite]] = 20
        state = decoder.start(bonus)
        decoder.step(state, spoken("B IY"))
        assert setup.words(decoder.best(state).words.ids) == favourite
        assert setup.words(decoder.finish(state)[0].word_ids) == favourite


def test_word_times(tmp_path: Path) -> None:
    setup = Setup(tmp_path, 5, "beet\tB IY T\nbee\tB IY\n")
    for options in (EXACT, DecoderOptions(lm_weight=0.1)):
        decoder = setup.decoder(options)
        state = decoder.start()
        decoder.step(state, spoken("- B IY T T - - B IY - - -", 12.0))
        guess, hypothesis = decoder.best(state), decoder.finish(state)[0]
        assert (guess.words.starts, guess.words.ends) == ([1, 7], [4, 8])
        assert [(word.start_frame, word.end_frame) for word in hypothesis.words] == [(1, 4), (7, 8)]
        assert all(word.acoustic <= 0 and 0 < word.vote <= 1 for word in hypothesis.words)


def test_confidence_is_the_logistic_function_of_what_is_known_of_a_word(tmp_path: Path) -> None:
    setup = Setup(tmp_path, 5, "beet\tB IY T\nbee\tB IY\n")
    options = DecoderOptions(confidence_bias=0.5, confidence_acoustic=2.0, confidence_vote=0.25)
    decoder = setup.decoder(options)
    state = decoder.start()
    decoder.step(state, spoken("- B IY T T -", 3.0))
    (word,) = decoder.finish(state)[0].words
    assert 0.0 < word.vote < 1.0
    odds = math.exp(0.5 + 2.0 * word.acoustic) * ((word.vote + 1e-4) / (1 - word.vote + 1e-4)) ** 0.25
    assert word.confidence == pytest.approx(odds / (1 + odds))


def test_a_word_that_may_end_here_is_visible_at_once(tmp_path: Path) -> None:
    setup = Setup(tmp_path, 6, "beet\tB IY T\nbeets\tB IY T S\nbee\tB IY\n")
    decoder = setup.decoder(DecoderOptions(lm_weight=1.0, word_score=-3.0))
    state = decoder.start()
    decoder.step(state, spoken("B IY T"))
    assert setup.words(decoder.best(state).words.ids) == "beet"


def test_a_partial_word_falls_back_to_the_complete_ones(tmp_path: Path) -> None:
    setup = Setup(tmp_path, 7, "beet\tB IY T\nbeta\tB IY T AH\n")
    decoder = setup.decoder(DecoderOptions(beam=1, beam_threshold=1.0))
    state = decoder.start()
    decoder.step(state, spoken("B IY", 12.0))
    assert decoder.best(state).words.ids == []
    (hypothesis,) = decoder.finish(state, 3)
    assert hypothesis.words == []
    assert hypothesis.posterior == 1.0


def same(left: DecoderState, right: DecoderState) -> bool:
    return left.block.tobytes() == right.block.tobytes()


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(0, 40), min_size=1, max_size=8),
    st.sampled_from([1, 7, 60]),
    st.sampled_from([0.6, 2.0]),
)
def test_chunking_changes_nothing(setup: Setup, seed: int, chunks: list[int], beam: int, blank_skip: float) -> None:
    decoder = setup.decoder(DecoderOptions(beam=beam, beam_threshold=20, blank_skip_threshold=blank_skip))
    log_probs = random_log_probs(seed, sum(chunks), 3.0, list(range(NUM_TOKENS)))
    whole, single = decoder.start(), decoder.start()
    decoder.step(whole, log_probs)
    parts = step_in_chunks(decoder, log_probs, chunks)
    for frame in log_probs:
        decoder.step(single, frame[None])
    assert same(whole, parts)
    assert same(whole, single)
    assert whole.num_frames == sum(chunks)


def test_several_streams_in_one_call(setup: Setup) -> None:
    decoder = setup.decoder(DecoderOptions(beam=20))
    log_probs = np.stack([random_log_probs(seed, 300, 4.0) for seed in range(4)])
    lengths = [300, 0, 120, 300]
    bonus = np.linspace(-1, 1, len(setup.lexicon), dtype=np.float32)
    together = [decoder.start(), decoder.start(), decoder.start(), decoder.start(bonus)]
    decoder.step_many(together, log_probs, lengths)
    for index, state in enumerate(together):
        alone = decoder.start(bonus if index == 3 else None)
        decoder.step(alone, log_probs[index, : lengths[index]])
        assert same(alone, state)
    decoder.step_many([], np.zeros((0, 3, NUM_TOKENS), np.float32))


def test_threads_that_search_at_once_do_not_disturb_each_other(setup: Setup) -> None:
    decoder = setup.decoder(DecoderOptions(beam=20))
    log_probs = np.stack([random_log_probs(seed, 200, 4.0) for seed in range(13)])
    lengths = [200 - 13 * (seed % 5) for seed in range(13)]  # so that some have more to do

    def search(_: int) -> tuple[list[DecoderState], list[Guess]]:
        states = [decoder.start() for _ in log_probs]
        decoder.step_many(states, log_probs, lengths)
        return states, decoder.best_many(states)

    states, best = search(0)
    with ThreadPoolExecutor(3) as pool:
        for other_states, other_best in pool.map(search, range(6)):
            assert all(map(same, states, other_states))
            assert best == other_best
    assert best == [decoder.best(state) for state in states]
    assert any(guess.words.ids for guess in best)


def test_the_best_path_may_have_more_words_than_there_was_room_for(setup: Setup) -> None:
    decoder = setup.decoder(DecoderOptions(beam=20, word_score=3.0))
    state, short = decoder.start(), decoder.start()
    decoder.step(state, random_log_probs(1, 2000, 4.0))
    long_guess, short_guess = decoder.best_many([state, short])
    assert len(long_guess.words.ids) > 64
    assert len(long_guess.agreement) == len(long_guess.words.ids)
    assert len(long_guess.likely.ids) == len(long_guess.likelihood) > 64
    assert long_guess == decoder.best(state)
    assert short_guess.words.ids == []


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(1, 60), st.integers(-1, 4)), min_size=2, max_size=12),
    st.sampled_from([1, 2, 8, 50]),
    st.sampled_from([0.0, 1.0, 4.0]),
    st.sampled_from([3.0, 30.0]),
)
def test_stable_words_are_never_taken_back(
    setup: Setup, seed: int, plan: list[tuple[int, int]], beam: int, peak: float, threshold: float
) -> None:
    decoder = setup.decoder(DecoderOptions(beam=beam, beam_threshold=threshold, word_score=1.0))
    state = decoder.start()
    settled: list[tuple[int, int]] = []
    for index, (num_frames, unstable) in enumerate(plan):
        decoder.step(state, random_log_probs(seed + index, num_frames, peak))
        before = decoder.best(state)
        hypotheses: list[Guess | Hypothesis] = [before, *decoder.finish(state, 4)]
        if unstable >= 0:  # commit all but so many words
            wanted = max(0, len(before.words.ids) - unstable)
            stable = decoder.commit(state, wanted)
            assert stable >= max(wanted, before.stable_words)
            after = decoder.best(state)
            assert after.words.ids[:wanted] == before.words.ids[:wanted]
            assert after.stable_words == stable
            hypotheses += [after, *decoder.finish(state, 4)]
        for hypothesis in hypotheses:
            ids, starts, ends = details(hypothesis)
            begun = list(zip(ids, starts, strict=True))
            assert begun[: len(settled)] == settled
            assert hypothesis.stable_words <= len(begun)
            assert all(start <= end for start, end in zip(starts, ends, strict=True))
            assert all(end < start for end, start in zip(ends[:-1], starts[1:], strict=True))
            assert not ends or ends[-1] < state.num_frames
        settled = begun[: hypothesis.stable_words]  # of the last


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(1, 60), st.integers(0, 4)), min_size=2, max_size=12),
    st.sampled_from([2, 8, 50]),
    st.sampled_from([1.0, 4.0]),
)
def test_a_search_goes_on_without_the_words_that_are_taken_as_it_does_with_them(
    setup: Setup, seed: int, plan: list[tuple[int, int]], beam: int, peak: float
) -> None:
    decoder = setup.decoder(DecoderOptions(beam=beam, word_score=1.0))
    state, whole = decoder.start(), decoder.start()
    taken: list[tuple[int, int]] = []
    for index, (num_frames, unstable) in enumerate(plan):
        log_probs = random_log_probs(seed + index, num_frames, peak)
        for each in (state, whole):
            decoder.step(each, log_probs)
        wanted = max(0, len(decoder.best(whole).words.ids) - unstable)
        stable = decoder.commit(whole, wanted)
        assert decoder.commit(state, max(0, wanted - len(taken))) == stable - len(taken)
        found = decoder.take(state)
        assert found.stable_words == len(found.words)
        taken += [word[:2] for word in found.words]  # the last may have gone on
        assert len(taken) == stable
        assert decoder.best(state).stable_words == 0
        hypotheses, rest = decoder.finish(whole, 4), decoder.finish(state, 4)
        assert [each.words for each in rest] == [each.words[stable:] for each in hypotheses]
        assert all([word[:2] for word in each.words[:stable]] == taken for each in hypotheses)
        assert [each.score for each in rest] == [each.score for each in hypotheses]


def details(found: Guess | Hypothesis) -> Words:
    if isinstance(found, Guess):
        return found.words
    rows = [(word.word_id, word.start_frame, word.end_frame) for word in found.words]
    return Words(*map(list, zip(*rows, strict=True))) if rows else Words([], [], [])


def test_memory_is_bounded(setup: Setup) -> None:
    decoder = setup.decoder(DecoderOptions(beam=8, beam_threshold=50.0, word_score=3.0))
    state = decoder.start()
    fixed = state.nbytes - 16 * int(state.block[HISTORY_CAPACITY])
    for seed in range(30):
        decoder.step(state, random_log_probs(seed, 500, 0.5))
        assert state.nbytes - 16 * int(state.block[HISTORY_CAPACITY]) == fixed
        assert state.block[NUM_LINKS] <= 64
    assert state.nbytes <= fixed + 16 * 1.5 * len(decoder.best(state).words.ids)
    assert state.block[NUM_HISTORY] > 1000
    default = Decoder(setup.tree, setup.ngram).start()
    assert default.nbytes < 200_000


def test_a_full_arena_drops_tokens_and_nothing_else(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_module, "LINKS_A_TOKEN", 3)
    decoder = setup.decoder(DecoderOptions(beam=100, beam_threshold=1e6, word_score=5.0))
    state = decoder.start()
    words: list[int] = []
    for seed in range(40):
        decoder.step(state, random_log_probs(seed, 50, 0.0))
        best = decoder.best(state)
        assert best.words.ids[: len(words)] == words
        words = best.words.ids[: best.stable_words]
        assert 1 <= state.num_tokens <= 100
    assert len(words) > 100


def test_many_homophones_fit_the_candidates(tmp_path: Path) -> None:
    text = "".join(f"w{index}\tB\n" for index in range(20)) + "x\tB IY\n"
    setup = Setup(tmp_path, 11, text)
    decoder = setup.decoder(DecoderOptions(beam=5, beam_threshold=40.0))
    state = decoder.start()
    decoder.step(state, random_log_probs(0, 200, 2.0))
    assert state.num_tokens <= 5
    assert decoder.finish(state, 100)[0].words


@pytest.mark.parametrize("num_blanks", [1, 5, 20])
def test_silence_does_not_count_in_the_sound_of_a_word_that_might_go_on(tmp_path: Path, num_blanks: int) -> None:
    setup = Setup(tmp_path, 11, "car\tK AA R\ncars\tK AA R Z\n")
    decoder = setup.decoder(EXACT)
    state = decoder.start()
    decoder.step(state, spoken("K AA AA R", 3.0))
    (before,) = decoder.finish(state)[0].words
    decoder.step(state, spoken("- " * num_blanks))
    (after,) = decoder.finish(state)[0].words
    assert after.word_id == before.word_id
    assert after.acoustic == before.acoustic
    assert after.acoustic < -0.5


def test_pruning_by_blank_and_by_phone_keeps_clear_speech(setup: Setup) -> None:
    frames = spoken("- - B IY - - T IY - - B - B - -", 14.0)
    texts = set()
    for options in (EXACT, DecoderOptions(lm_weight=0.1, token_threshold=-3.0, blank_skip_threshold=0.9)):
        decoder = setup.decoder(options)
        state = decoder.start()
        decoder.step(state, frames)
        texts.add(setup.words(decoder.finish(state)[0].word_ids).replace("bee", "be"))
    assert len(texts) == 1


def test_scores_stay_exact_over_long_streams(setup: Setup) -> None:
    decoder = setup.decoder(DecoderOptions(beam=20))
    state = decoder.start()
    silence = np.full((2000, NUM_TOKENS), -10.0, np.float32)
    silence[:, 0] = -1.0
    for _ in range(20):
        decoder.step(state, silence)
    assert decoder.best(state).score == pytest.approx(-40000.0, abs=0.1)


def test_unusable_input(setup: Setup) -> None:
    decoder = setup.decoder(DecoderOptions(beam=5))
    state = decoder.start()
    decoder.step(state, spoken("B IY"))
    before = state.copy()
    for value in (np.nan, np.inf, -np.inf):
        log_probs = spoken("B IY")
        log_probs[1, 3] = value
        with pytest.raises(InputError, match="finite"):
            decoder.step(state, log_probs)
    for shape in ((3,), (3, NUM_TOKENS + 1), (2, 3, NUM_TOKENS)):
        with pytest.raises(InputError, match="log_probs must be"):
            decoder.step(state, np.zeros(shape, np.float32))
    for lengths in ([3], [-1]):
        with pytest.raises(InputError, match="num_frames"):
            decoder.step_many([state], np.zeros((1, 2, NUM_TOKENS), np.float32), lengths)
    assert same(before, state)
    for bonus in (np.zeros(3, np.float32), np.full(len(setup.lexicon), np.nan, np.float32)):
        with pytest.raises(InputError, match="bonus"):
            decoder.start(bonus)
    read_only = spoken("B IY")
    read_only.flags.writeable = False
    decoder.step(state, read_only)
    with pytest.raises(InputError, match="has 1 words"):
        Decoder(LexiconTree.build(Lexicon([("x", (1,))]), np.zeros(1, np.float32)), setup.ngram)
    others = Lexicon([(f"{word}s", (1,)) for word in setup.lexicon.words])
    with pytest.raises(InputError, match="others than"):
        Decoder(LexiconTree.build(others, setup.ngram.unigram_log_probs), setup.ngram)


def paths_alive(decoder: Decoder, state: DecoderState) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Their numbers and words."""
    scores = decoder._sections(state.block).score
    for path in range(2 * state.num_tokens):
        if scores[path] > IMPOSSIBLE:
            yield path, tuple(decoder._traced(state, path)[0][0].tolist())


@pytest.mark.parametrize("seed", range(6))
def test_agreement_is_the_share_of_the_paths_that_begin_so(setup: Setup, seed: int) -> None:
    decoder = setup.decoder(EXACT)
    state = decoder.start()
    for frames in np.split(random_log_probs(seed, 24), 8):
        decoder.step(state, frames)
        best = decoder.best(state)
        v = decoder._sections(state.block)
        shares = np.zeros(len(best.words.ids) + 1)
        for path, words in paths_alive(decoder, state):
            agreed = next((i for i, (a, b) in enumerate(zip(words, best.words.ids, strict=False)) if a != b), None)
            agreed = min(len(words), len(best.words.ids)) if agreed is None else agreed
            shares[: agreed + 1] += math.exp(v.score[path])
        assert best.agreement == pytest.approx((shares / shares[0])[1:].tolist())
        assert list(best.agreement[: best.stable_words]) == [1.0] * best.stable_words


@pytest.mark.parametrize("seed", range(6))
def test_what_is_likely_is_what_most_paths_say_word_for_word(setup: Setup, seed: int) -> None:
    """Against a plain reckoning over all paths."""
    decoder = setup.decoder(EXACT)
    state = decoder.start()
    for frames in np.split(random_log_probs(seed, 24), 8):
        decoder.step(state, frames)
        best = decoder.best(state)
        v, num_stable = decoder._sections(state.block), int(state.block[NUM_HISTORY])
        weights: dict[tuple[int, ...], float] = {}  # of each beginning
        ended: dict[tuple[int, ...], float] = {}
        token_scores = v.score.reshape(-1, 2).max(axis=1)[: state.num_tokens]
        for path, words in paths_alive(decoder, state):
            node, score = int(v.node[path // 2]), float(v.score[path])
            if node != ROOT:
                if token_scores[path // 2] > token_scores.max() - REACH:
                    score += forecast(setup, node, int(v.lm_state[path // 2]))
                score -= max(0, state.num_frames - 1 - int(v.last[path]) - 3)
            ended[words] = ended.get(words, 0.0) + math.exp(score)
            for count in range(len(words) + 1):
                weights[words[:count]] = weights.get(words[:count], 0.0) + math.exp(score)
        expected: tuple[int, ...] = tuple(best.words.ids[:num_stable])
        likelihood = [1.0] * num_stable
        while True:
            longer = {words: weight for words, weight in weights.items() if words[:-1] == expected and words}
            if not longer or max(longer.values()) < ended.get(expected, 0.0):
                break
            expected = max(longer, key=longer.__getitem__)
            likelihood.append(longer[expected] / weights[()])
        assert tuple(best.likely.ids) == expected
        assert best.likelihood == pytest.approx(likelihood)


def forecast(setup: Setup, node: int, lm_state: int) -> float:
    """Of the language model for a path inside a word, over all words that it may become; less the look-ahead."""
    tree = setup.tree.arrays
    below, nodes = set(), [node]
    while nodes:
        at = nodes.pop()
        below |= set(tree.end_word[tree.first_end[at] : tree.first_end[at + 1]].tolist())
        nodes += range(tree.first_child[at], tree.first_child[at + 1])
    scores = [EXACT.lm_weight * setup.ngram.score(lm_state, word)[0] for word in below]
    return math.log(sum(map(math.exp, scores))) + EXACT.word_score - EXACT.lm_weight * float(tree.look_ahead[node])


def test_no_word_goes_on_through_a_long_pause(setup: Setup) -> None:
    decoder = setup.decoder(DecoderOptions(lm_weight=0.2))
    state = decoder.start()
    decoder.step(state, spoken("B IY T", 12.0))
    assert decoder.best(state).likely.ids == []  # it may become "beets"
    decoder.step(state, spoken("- - - - - - - -", 12.0))
    assert setup.words(decoder.best(state).likely.ids) == "beet"


@pytest.mark.parametrize(
    "options",
    [
        {"beam": 0},
        {"beam_threshold": 0.0},
        {"beam_threshold": 1e10},
        {"lm_weight": -1.0},
        {"word_score": math.nan},
        {"token_threshold": math.nan},
        {"blank_skip_threshold": 0.0},
        {"confidence_bias": math.nan},
    ],
)
def test_unusable_options(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        DecoderOptions(**options)  # type: ignore[arg-type]


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=30), st.data())
def test_selection(values: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    array = np.array([*values, 99], np.float32)
    assert kth_best(array, len(values), k) == sorted(values, reverse=True)[k - 1]


def test_greedy_phones() -> None:
    assert greedy_phones(spoken("- B B IY - IY T")) == ["B", "IY", "IY", "T"]
    assert greedy_phones(np.zeros((0, NUM_TOKENS), np.float32)) == []


def test_warm_up_and_empty_stream(setup: Setup) -> None:
    decoder = setup.decoder(DecoderOptions(beam=3))
    decoder.warm_up()
    state = decoder.start()
    assert len(state.block) > HEADER
    assert decoder.best(state).words.ids == []
    (hypothesis,) = decoder.finish(state, 2)
    assert hypothesis.words == []
    assert hypothesis.stable_words == 0
