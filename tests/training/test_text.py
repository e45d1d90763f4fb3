"""Written English to spoken words: a table of what comes in and what must come out."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.training.text import cardinal, fold, ordinal, roman, sentences, spoken, year

DIGITS = "one two three four five six seven eight nine zero"
SPOKEN = [
    ("Mr. Smith and Mrs Jones met Dr. Brown.", "mister smith and missus jones met doctor brown"),
    ("Messrs. Ham &c., at St. Paul's", "messieurs ham et cetera at saint paul's"),
    ("'Tis o'er--the princes' day, 'twas ''fun''", "tis o'er the princes day twas fun"),
    ("It's ten o'clock; don't!", "it's ten o'clock don't"),
    ("a _very_ well-known *thing*", "a very well known thing"),
    ("naïve café œuvre Ægean façade", "naive cafe oeuvre aegean facade"),
    ("“Curly” ‘quotes’ and isn’t", "curly quotes and isn't"),
    ("42 dogs, 1,234 cats, 1000000", "forty two dogs one thousand two hundred and thirty four cats one million"),
    ("in 1842, 1905, 1900", "in eighteen forty two nineteen o five nineteen hundred"),
    ("2004 and 2021", "two thousand and four and twenty twenty one"),
    ("the 1850s and the 90s", "the eighteen fifties and the nineties"),
    ("the 1st, 2nd, 3d and 21st", "the first second third and twenty first"),
    ("July 4, 1776 and Jan. 28th", "july fourth seventeen seventy six and january twenty eighth"),
    ("Jan. 5 to Mar. 31st; AUG. 1, Sept 2d", "january fifth to march thirty first august first september second"),
    ("May 5 may 5 Jun. 32 Dec. 1850", "may fifth may five jun thirty two december eighteen fifty"),
    ("at 10:30 a.m. or 7:05 or 12:00", "at ten thirty a m or seven o five or twelve o'clock"),
    ("$5, $1, £2.50 and $3 million", "five dollars one dollar two pounds and fifty pence and three million dollars"),
    ("25% of 3.14, ½ and 3/4", "twenty five percent of three point one four one half and three quarters"),
    ("agent 007, row 12345678901234567", f"agent zero zero seven row {' '.join([DIGITS] * 2).rsplit(' ', 3)[0]}"),
    ("Henry VIII. and Charles V were kings", "henry the eighth and charles the fifth were kings"),
    ("See Chapter IV. and BOOK XII", "see chapter four and book twelve"),
    ("I know what I said", "i know what i said"),
    ("the U.S. navy, J. R. Smith", "the u s navy j r smith"),
    ("[Illustration: a dog] He ran. <b>Fast</b>", "he ran fast"),
    ("No. 5, p. 7 and no. That is etc.", "number five page seven and no that is et cetera"),
    ("R&D", "r and d"),
    ("12x34", "twelve x thirty four"),
    ("日本 words", "words"),
]  # fmt: skip


@pytest.mark.parametrize(("written", "expected"), SPOKEN)
def test_written_text_becomes_spoken_words(written: str, expected: str) -> None:
    assert spoken(written) == expected


def test_sentences_end_at_full_stops_and_blank_lines_but_not_at_initials_or_line_breaks() -> None:
    text = 'Mr. J. R. Smith came\nhome. "Hello!" he said.  (Nobody\nheard?) Silence\n\nXIV\n\nA new day'
    assert sentences(text) == [
        "mister j r smith came home", "hello he said", "nobody heard", "silence", "a new day",
    ]  # fmt: skip


def test_abbreviations_inside_words_stay() -> None:
    assert spoken("the column. Disco. Tempo.") == "the column disco tempo"


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "zero"), (13, "thirteen"), (40, "forty"), (105, "one hundred and five"), (2_001, "two thousand and one"),
     (1_000_100, "one million one hundred"), (10**15, "one" + " zero" * 15)],
)  # fmt: skip
def test_cardinals(number: int, words: str) -> None:
    assert cardinal(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [(1, "first"), (12, "twelfth"), (20, "twentieth"), (33, "thirty third"), (100, "one hundredth")],
)
def test_ordinals(number: int, words: str) -> None:
    assert ordinal(number) == words


@pytest.mark.parametrize(
    ("number", "words"), [(1066, "ten sixty six"), (1800, "eighteen hundred"), (2000, "two thousand")]
)
def test_years(number: int, words: str) -> None:
    assert year(number) == words


@pytest.mark.parametrize(("numeral", "value"), [("XIV", 14), ("XLIX", 49), ("CCC", 300), ("IIII", None), ("", None)])
def test_roman_numerals(numeral: str, value: int | None) -> None:
    assert roman(numeral) == value


@given(st.text())
def test_any_text_becomes_plain_words(text: str) -> None:
    for sentence in sentences(text):
        assert re.fullmatch(r"[a-z']+(?: [a-z']+)*", sentence)
        assert not any(word.startswith("'") or word.endswith("'") for word in sentence.split())


@given(st.text(alphabet="abc d'"))
def test_normal_text_stays_as_it_is(text: str) -> None:
    once = spoken(text)
    assert spoken(once) == once


@given(st.text())
def test_folding_leaves_no_letters_beyond_ascii(text: str) -> None:
    assert all(char.isascii() or char in "£€" for char in fold(text))
