import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.decoder import Guess, Words
from streaming_asr.errors import InputError
from streaming_asr.partials import EVERY_GUESS, PartialRule, PartialText

RULE = PartialRule(probability=0.7, change_probability=0.6, change_steps=2, commit_probability=0.99)


def guess(words: str, *agreement: float, stable: int = 0, likely: str | None = None) -> Guess:
    """The best path says ``words``, all together ``likely``, if that is something else."""
    best, together = (
        Words([ord(word) for word in text], list(range(len(text))), list(range(len(text))))
        for text in (words, words if likely is None else likely)
    )
    return Guess(best, 0.0, stable, agreement, together, agreement)


def shown(text: PartialText) -> str:
    return "".join(map(chr, text.shown.ids))


# Each: what the search guesses step after step, and what is shown and committed after the last.
@pytest.mark.parametrize(
    ("guesses", "expected", "committed"),
    [
        ([guess("a", 0.7)], "a", 0),
        ([guess("a", 0.6)], "", 0),  # likely, but not for long enough
        ([guess("a", 0.6), guess("a", 0.6)], "a", 0),
        ([guess("a", 0.6), guess("a", 0.5)], "", 0),
        ([guess("ab", 0.7, 0.5), guess("ab", 0.6, 0.6)], "a", 0),
        ([guess("ab", 0.7, 0.6), guess("ab", 0.7, 0.6)], "ab", 0),
        ([guess("a", 0.7), guess("ab", 0.7, 0.7)], "ab", 0),
        ([guess("a", 0.7), guess("bc", 0.9, 0.9)], "a", 0),  # another is not shown at once where one stands
        ([guess("a", 0.7), guess("a", 0.7), guess("b", 0.5)], "a", 0),  # a passing doubt takes nothing back
        ([guess("a", 0.7), guess("a", 0.7), guess("b", 0.5), guess("ab", 0.7, 0.5)], "a", 0),
        ([guess("a", 0.7), guess("a", 0.7), guess("b", 0.7), guess("b", 0.7)], "b", 0),
        ([guess("ab", 0.7, 0.7), guess("ab", 0.7, 0.7), guess("cd", 0.7, 0.4), guess("cd", 0.7, 0.4)], "c", 0),
        ([guess("a", 0.999)], "a", 0),  # the last word may still become a longer one
        ([guess("a", 0.9, likely="b")], "b", 0),  # what all paths make likely, not the best one
        ([guess("ab", 0.999, 0.5, likely="cd")], "a", 1),  # but what is settled is the best one's
        ([guess("ab", 0.999, 0.5)], "a", 1),
        ([guess("abc", 0.999, 0.995, 0.5)], "ab", 2),
        ([guess("abc", 1.0, 0.3, 0.2, stable=1)], "a", 1),
        ([guess("", stable=0)], "", 0),
    ],
)
def test_what_is_shown_and_committed(guesses: list[Guess], expected: str, committed: int) -> None:
    text = PartialText(RULE)
    settled = [text.update(step) for step in guesses]
    assert (shown(text), text.num_committed) == (expected, committed)
    assert max(settled) == committed


def test_without_a_threshold_the_guess_is_shown_as_it_is() -> None:
    text = PartialText(EVERY_GUESS)
    text.update(guess("ab", 0.1, 0.1))
    assert shown(text) == "ab"
    text.update(guess("cd", 0.1, 0.1))
    assert shown(text) == "cd"


texts = st.text("ab", max_size=4)


@given(st.lists(st.tuples(texts, texts, st.lists(st.floats(0, 1), min_size=4, max_size=4)), max_size=12))
def test_committed_words_stay(steps: list[tuple[str, str, list[float]]]) -> None:
    text, before = PartialText(RULE), ""
    for best, together, chances in steps:
        words, likely = before + best, before + together  # the search keeps what it was told to settle
        agreement = [1.0] * len(before) + sorted(chances, reverse=True)
        text.update(guess(words, *agreement[: len(words)], stable=len(before), likely=likely))
        assert shown(text).startswith(before)
        before = shown(text)[: text.num_committed]


@pytest.mark.parametrize(
    "rule", [{"probability": -0.1}, {"change_probability": 1.1}, {"change_steps": 0}, {"commit_probability": 0.5}]
)
def test_unusable_rules(rule: dict[str, float]) -> None:
    with pytest.raises(InputError):
        PartialRule(**rule)  # type: ignore[arg-type]
