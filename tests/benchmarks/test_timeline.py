import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.timeline import (
    Retractions,
    Shown,
    TimedWord,
    Timeline,
    added_latencies,
    endpoint,
    finalize_latency,
    first_partial,
    kept_since,
    matches,
    percentile,
    recognized_seconds,
    retractions,
    summarize,
    throughput,
    word_latencies,
)

ORIGIN = 100.0
REFERENCE = tuple(
    TimedWord(word, 1.0 + 0.4 * i, 1.3 + 0.4 * i) for i, word in enumerate(["turn", "off", "the", "kitchen", "light"])
)  # "light" ends at 2.9


def partial(seconds: float, words: str, committed: int = 0, utterance: int = 0) -> Shown:
    return Shown(ORIGIN + seconds, "partial", utterance, tuple(words.split()), committed)


def final(seconds: float, words: str, reason: str = "endpoint", utterance: int = 0) -> Shown:
    return Shown(ORIGIN + seconds, "final", utterance, tuple(words.split()), len(words.split()), reason)


def timeline(*shown: Shown, recording: str = "a", **fields: float | None) -> Timeline:
    return Timeline(recording, ORIGIN, 3.0, shown, REFERENCE, **{"done": ORIGIN + 4.0, **fields})  # type: ignore[arg-type]


def latencies(made: Timeline) -> list[float]:
    return [round(1000 * word.seconds) for word in word_latencies(made)]


def test_a_word_arrives_when_it_is_first_shown_and_stays() -> None:
    made = timeline(
        partial(1.5, "turn"),
        partial(1.9, "turn of"),
        partial(2.3, "turn off the"),
        partial(2.7, "turn off the chicken"),
        final(3.2, "turn off the kitchen light"),
    )
    assert latencies(made) == [200, 600, 200, 700, 300]


def test_a_word_that_was_away_meanwhile_counts_from_its_return() -> None:
    made = timeline(partial(1.5, "turn"), partial(1.8, "burn"), partial(2.0, "turn off"), final(3.0, "turn off"))
    assert latencies(made) == [700, 300]


def test_a_word_that_moves_because_one_before_it_changes_was_there() -> None:
    messages = [partial(1.0, "a lot of it"), final(2.0, "allot of it")]
    assert kept_since(messages) == [ORIGIN + 2.0, ORIGIN + 1.0, ORIGIN + 1.0]


def test_a_repeated_word_is_not_taken_for_its_later_self() -> None:
    messages = [partial(1.0, "the"), partial(2.0, "the cat saw"), final(3.0, "the cat saw the dog")]
    assert kept_since(messages) == [ORIGIN + s for s in (1.0, 2.0, 2.0, 3.0, 3.0)]


def test_words_not_recognized_have_no_latency() -> None:
    made = timeline(final(3.0, "turn the kitten light"))
    assert [word.index for word in word_latencies(made)] == [0, 2, 4]
    assert summarize([made]).words_used == pytest.approx(0.6)


def test_utterances_of_one_recording_follow_each_other() -> None:
    made = timeline(
        partial(1.5, "turn"),
        final(1.9, "turn off"),
        partial(2.3, "the", utterance=1),
        final(3.1, "the kitchen light", "stop", utterance=1),
    )
    assert latencies(made) == [200, 200, 200, 600, 200]


def test_first_partial_counts_from_the_first_words_start() -> None:
    assert first_partial(timeline(partial(0.9, ""), partial(1.25, "turn"))) == pytest.approx(0.25)
    assert first_partial(timeline()) is None


def test_finalize_counts_to_the_final_that_answers_it() -> None:
    made = timeline(final(1.0, "turn"), final(3.08, "off", "finalize", 1), finalize_sent=ORIGIN + 3.0)
    assert finalize_latency(made) == pytest.approx(0.08)
    by_itself = final(3.01, "off", "endpoint", 1)  # just before it was heard
    made = timeline(by_itself, final(3.9, "", "finalize", 2), finalize_sent=ORIGIN + 3.0)
    assert finalize_latency(made) == pytest.approx(0.9)
    assert finalize_latency(timeline(final(1.0, "turn"))) is None
    assert finalize_latency(timeline(finalize_sent=ORIGIN + 3.0)) is None


def test_retracted_words_are_counted_once_each_time() -> None:
    made = timeline(partial(1, "turn"), partial(2, "turn of"), partial(3, "turn off the"), final(4, "turn off the"))
    assert retractions(made) == Retractions(shown=4, retracted=1, committed_retracted=0)
    assert retractions(made).share == pytest.approx(0.25)


def test_a_broken_promise_is_seen() -> None:
    made = timeline(partial(1, "turn of", committed=2), final(2, "turn off"))
    assert retractions(made).committed_retracted == 1


def test_endpoint_latency_is_from_the_last_words_end() -> None:
    found = endpoint(timeline(final(3.5, "turn off the kitchen light")))
    assert found is not None
    assert found.latency == pytest.approx(0.6)
    assert (found.cut_early, found.at_pauses) == (0, 0)


def test_a_final_between_close_words_has_cut_early() -> None:
    found = endpoint(timeline(final(1.9, "turn off"), final(3.5, "the kitchen light", utterance=1)))
    assert found is not None
    assert (found.cut_early, found.at_pauses) == (1, 0)
    assert found.latency == pytest.approx(0.6)


def test_a_final_in_a_pause_has_not_cut_early() -> None:
    reference = (TimedWord("yes", 0.0, 0.5), TimedWord("no", 2.0, 2.4))
    made = Timeline("a", ORIGIN, 2.5, (final(1.2, "yes"), final(3.0, "no", utterance=1)), reference, done=ORIGIN + 4)
    found = endpoint(made)
    assert found is not None
    assert (found.cut_early, found.at_pauses) == (0, 1)


def test_a_final_that_only_the_stop_brought_is_no_endpoint() -> None:
    made = timeline(final(4.0, "turn off the kitchen light", "stop"), stop_sent=ORIGIN + 3.9)
    found = endpoint(made)
    assert found is not None
    assert found.latency is None
    assert summarize([made]).endpoint_missing == 1


def test_added_latency_compares_the_same_words_of_the_same_recording() -> None:
    alone = [timeline(final(3.0, "turn off")), timeline(final(3.0, "turn"), recording="b")]
    loaded = [timeline(final(3.1, "turn off the")), timeline(final(3.5, "off"), recording="b")]
    assert added_latencies(alone, loaded) == pytest.approx([0.1, 0.1])


def test_audio_is_recognized_up_to_the_last_word_that_stayed_and_whole_once_settled() -> None:
    shown = partial(1.5, "turn"), partial(1.9, "turn of"), final(3.2, "turn off the kitchen light", "finalize")
    made = timeline(*shown, finalize_sent=ORIGIN + 3.0)
    seconds = [recognized_seconds(made, ORIGIN + at) for at in (1.4, 1.5, 3.1, 3.2)]
    assert seconds == pytest.approx([0.0, 1.3, 1.3, 3.0])
    assert recognized_seconds(timeline(*shown), ORIGIN + 3.9) == pytest.approx(2.9)  # the end of the session is at 4
    assert recognized_seconds(timeline(*shown, done=None), ORIGIN + 9.0) == pytest.approx(2.9)


def test_throughput_counts_what_was_recognized_within_the_window() -> None:
    made = timeline(partial(1.5, "turn"), final(3.2, "turn off", "finalize"), finalize_sent=ORIGIN + 3.0)
    assert throughput([made, made], (ORIGIN + 2.0, ORIGIN + 4.0)) == pytest.approx(1.7)
    assert throughput([made], (ORIGIN + 4.0, ORIGIN + 9.0)) == 0.0
    assert throughput([made], (ORIGIN + 4.0, ORIGIN + 2.0)) == 0.0


def test_failed_sessions_are_counted_and_not_measured() -> None:
    summary = summarize([timeline(final(3.0, "turn")), timeline(final(9.0, "turn"), done=None)])
    assert (summary.sessions, summary.failed, summary.words.count) == (2, 1, 1)


def test_nothing_gives_no_figures_and_no_error() -> None:
    assert summarize([]).words.percentiles == {}
    assert math.isnan(percentile([], 50))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.integers(0, 100))
def test_percentile_is_numpys(values: list[float], percent: int) -> None:
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), rel=1e-6, abs=1e-6)


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_matches_are_equal_words_in_order(before: list[str], after: list[str]) -> None:
    pairs = matches(before, after)
    assert all(before[b] == after[a] for b, a in pairs)
    assert all(x[0] < y[0] and x[1] < y[1] for x, y in itertools.pairwise(pairs))
