"""Old spellings come out as today's, and two words stay two where they are two."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.formatting.numbers import Span, write_numbers
from streaming_asr.formatting.spelling import TODAY, spell
from streaming_asr.lexicon import Lexicon
from streaming_asr.manifest import LEXICON_FILE, SHIPPED_MODEL


def written(text: str) -> str:
    words = text.split()
    return " ".join(span.text for span in spell(words, write_numbers(words)))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("see you to morrow", "see you tomorrow"),
        ("to day's weather and to night's", "today's weather and tonight's"),
        ("from day to day and night to night", "from day to day and night to night"),
        ("morning to night", "morning to night"),
        ("good bye for ever", "goodbye forever"),
        ("to to day", "to today"),
        ("some one told every one", "someone told everyone"),
        ("any one's guess", "anyone's guess"),
        ("any one of them", "any one of them"),
        ("at any one time some one person", "at any one time some one person"),
        ("every body of water and every body else", "every body of water and everybody else"),
        ("some one hundred men", "some 100 men"),
        ("buy it on line", "buy it online"),
        ("on line four and on line twelve", "on line 4 and on line 12"),
        ("what per cent", "what percent"),
        ("ten per cent of the bath room", "10% of the bathroom"),
        ("the colour of the centre", "the color of the center"),
        ("five kilometres to the harbour", "5 kilometers to the harbor"),
        ("four hours in our tour", "four hours in our tour"),
        ("we advise you to exercise", "we advise you to exercise"),
        ("the living room", "the living room"),
        ("my heart beat and my head aches", "my heart beat and my head aches"),
        ("let the water fall without a cross word", "let the water fall without a cross word"),
    ],
)
def test_what_is_written(said: str, expected: str) -> None:
    assert written(said) == expected


def test_words_that_a_session_names_stay_as_it_spells_them() -> None:
    words = ["tokio", "in", "colour", "some", "one"]
    spans = spell(words, write_numbers(words), {"tokio", "one"})
    assert " ".join(span.text for span in spans) == "tokio in color some one"


def test_the_table_says_each_thing_once_and_leads_nowhere_else() -> None:
    assert not TODAY.keys() & TODAY.values()
    assert all(old.replace(" ", "") == today for old, today in TODAY.items() if " " in old)
    assert all(first < second for first, second in pairwise(TODAY))
    assert all(today.replace("'", "").isalpha() and today.islower() for today in TODAY.values())


def test_the_table_holds_what_the_shipped_model_can_say() -> None:
    known = Lexicon.from_file(SHIPPED_MODEL / LEXICON_FILE).word_id
    assert [old for old in TODAY if not all(word in known for word in old.split())] == []


@given(st.lists(st.sampled_from(sorted({word for old in TODAY for word in old.split()} | {"of", "ten", "hundred"}))))
def test_every_word_is_in_one_span(words: list[str]) -> None:
    spans: list[Span] = spell(words, write_numbers(words))
    assert [at for span in spans for at in range(span.start, span.end)] == list(range(len(words)))
