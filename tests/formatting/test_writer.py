"""Marks, capitals and figures in one text, whatever the punctuator says."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.formatting.marks import MARKS
from streaming_asr.formatting.writer import MAX_WORDS_BEFORE, Formatter, as_written, open_after, open_sentence
from streaming_asr.messages import Final, Word
from tests.formatting.test_numbers import WORDS


class Told:
    """Says what it was told: words as they should come out, "Mister" capitalized, "five," with a comma."""

    def __init__(self, told: str) -> None:
        self._told = told.split()

    def punctuate(self, words: Sequence[str], before: Sequence[str]) -> tuple[list[str], list[bool]]:
        assert [word.lower().strip(",.?") for word in self._told] == list(words)
        marks = [word[-1] if word[-1] in MARKS else "" for word in self._told]
        return marks, [word[0].isupper() for word in self._told]


@pytest.mark.parametrize(
    ("told", "written"),
    [
        ("Turn off the light.", "Turn off the light."),
        ("He came in nineteen forty. Two men said.", "He came in 1940. Two men said."),
        ("The room was six. One day, seven.", "The room was six. One day, seven."),
        ("Twenty men came.", "20 men came."),
        ("At five p m. We left at ten a m, he at six p m.", "At 5 p.m. We left at 10 a.m., he at 6 p.m."),
        ("On january fifth, nineteen eighty.", "On January 5, 1980."),
        ("Mister Smith and Doctor Jones, the doctor.", "Mr. Smith and Dr. Jones, the doctor."),
        ("No, mister, thank you.", "No, mister, thank you."),
        ("Call five five five. One two? Three, four. Now.", "Call 555-1234. Now."),
        ("Is it five dollars and fifty cents?", "Is it $5.50?"),
    ],
)
def test_marks_and_capitals_meet_figures(told: str, written: str) -> None:
    words = [word.lower().strip(",.?") for word in told.split()]
    assert " ".join(filter(None, Formatter(Told(told)).write(words))) == written


def test_the_first_word_begins_a_sentence_unless_the_final_before_went_on() -> None:
    formatter = Formatter(Told("and so on."))
    assert formatter.write(["and", "so", "on"]) == ["And", "so", "on."]
    assert formatter.write(["and", "so", "on"], ["he", "came"]) == ["and", "so", "on."]


@pytest.mark.parametrize(
    ("told", "written"),
    [
        ("He came. And went.", "He came. And went"),
        ("Who came, and?", "Who came, and"),
        ("He came,", "He came,"),
        ("It cost five dollars.", "It cost $5"),
        ("", ""),
    ],
)
def test_where_speech_was_cut_no_sentence_ends(told: str, written: str) -> None:
    words = [word.lower().strip(",.?") for word in told.split()]
    assert " ".join(filter(None, Formatter(Told(told)).write(words, goes_on=True))) == written


def test_without_a_punctuator_there_are_figures_only() -> None:
    assert Formatter().write(["i", "paid", "twenty", "one", "dollars"]) == ["I", "paid", "$21", "", ""]
    assert Formatter().write([]) == []


@pytest.mark.parametrize(
    ("written", "before", "rest"),
    [
        (["He", "paid", "$21.", "", ""], [], []),
        (["He", "paid", "$21", "", ""], [], ["w0", "w1", "w2", "w3", "w4"]),
        (["paid", "$21", "", ""], ["he"], ["he", "w0", "w1", "w2", "w3"]),
        (["and.", "He,"], ["he"], ["w1"]),
        (["What?", "$21", "", "men"], ["he"], ["w1", "w2", "w3"]),
        ([], ["he"], ["he"]),
    ],
)
def test_what_is_open_of_a_sentence_is_what_was_said_since_the_last_end(
    written: list[str], before: list[str], rest: list[str]
) -> None:
    assert open_sentence([f"w{index}" for index in range(len(written))], written, before) == rest


@pytest.mark.parametrize(
    ("formatted", "with_words", "without"),
    [("He, he. And", ["and"], ["a", "he", "he", "and"]), ("He, he and.", [], []), ("", ["a"], ["a"])],
)
def test_a_final_tells_what_it_left_open(formatted: str, with_words: list[str], without: list[str]) -> None:
    said = ["he", "he", "and"] if formatted else []
    words = [Word(word, 0, 1, 1.0, written) for word, written in zip(said, formatted.split(), strict=True)]
    final = Final(0, " ".join(said), 0, 1, 1.0, "endpoint", words, formatted=formatted)
    assert open_after(final, ["a"]) == with_words
    assert open_after(msgspec.structs.replace(final, words=[]), ["a"]) == without


def test_only_the_last_words_of_an_open_sentence_count() -> None:
    assert open_sentence(["b"], ["b"], ["a"] * 99) == ["a"] * (MAX_WORDS_BEFORE - 1) + ["b"]


def test_words_that_are_written_as_one_are_joined() -> None:
    words = [Word("paid", 0, 1, 0.9, "paid"), Word("twenty", 1, 2, 0.8, "21."), Word("one", 2, 3, 0.7, "")]
    assert as_written(words) == [words[0], Word("twenty one", 1, 3, 0.7, "21.")]
    assert as_written([Word("raw", 0, 1, 0.5)]) == [Word("raw", 0, 1, 0.5, "raw")]


@given(st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(MARKS), st.booleans()), max_size=12), st.booleans())
def test_every_word_has_its_place(said: list[tuple[str, str, bool]], begins: bool) -> None:
    words = [word for word, _, _ in said]

    class Any:
        def punctuate(self, words: Sequence[str], before: Sequence[str]) -> tuple[list[str], list[bool]]:
            return [mark for _, mark, _ in said], [capital for _, _, capital in said]

    written = Formatter(Any()).write(words, [] if begins else ["so"])
    assert len(written) == len(words)
    assert written[:1] != [""]
    assert not any(".." in word for word in written)
