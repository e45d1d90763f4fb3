"""Dictionary reading, clitics, and the order in which pronunciations are looked for."""

from __future__ import annotations

import pytest

from streaming_asr.errors import InputError
from streaming_asr.lexicon import Lexicon
from streaming_asr.training.lexicon import lexicon_lines, parse_cmudict, pronounce

DICTIONARY = """;;; a comment
abbe AE1 B IY0
abbe(2) AE0 B EY1
abbe(3) AE2 B EY2
'em AH0 M
em EH1 M
aalen AE1 L AH0 N # place, german
x-ray EH1 K S R EY2
a.m. EY2 EH1 M
cat K AE1 T
dog D AO1 G
judge JH AH1 JH
"""


def test_stress_and_duplicates_go_variants_and_outer_apostrophes_merge() -> None:
    known = parse_cmudict(DICTIONARY)
    assert known["abbe"] == [("AE", "B", "IY"), ("AE", "B", "EY")]
    assert known["em"] == [("AH", "M"), ("EH", "M")]
    assert known["aalen"] == [("AE", "L", "AH", "N")]
    assert set(known) == {"abbe", "em", "aalen", "cat", "dog", "judge"}


def test_the_runtime_format_is_read_too() -> None:
    assert parse_cmudict("cat\tK AE T\n") == {"cat": [("K", "AE", "T")]}


@pytest.mark.parametrize("line", ["cat", "cat K QQ T", "cat K AE3 T"])
def test_bad_lines_are_named(line: str) -> None:
    with pytest.raises(InputError, match="words, line 2"):
        parse_cmudict(f"dog D AO1 G\n{line}\n", "words")


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("cat's", "K AE T S"),
        ("dog's", "D AO G Z"),
        ("judge's", "JH AH JH IH Z"),
        ("cat'd", "K AE T AH D"),
        ("dog'd", "D AO G D"),
        ("dog'll", "D AO G AH L"),
        ("dog've", "D AO G AH V"),
        ("dog're", "D AO G ER"),
        ("dog'll've", "D AO G AH L AH V"),
    ],
)
def test_clitics_follow_from_the_stem(word: str, phones: str) -> None:
    assert pronounce(word, parse_cmudict(DICTIONARY)) == [tuple(phones.split())]


def test_the_dictionary_comes_first_then_rules_then_the_guess() -> None:
    known = parse_cmudict("cat K AE T\ncat's K AE T IH S\n")
    asked: list[str] = []

    def guess(word: str) -> list[tuple[str, ...]]:
        asked.append(word)
        return [("T", "UW")]

    lines = lexicon_lines(["cat", "cat's", "zwo", "zwo's"], known, guess)
    assert lines == ["cat\tK AE T", "cat's\tK AE T IH S", "zwo\tT UW", "zwo's\tT UW Z"]
    assert asked == ["zwo", "zwo"]
    assert Lexicon.from_text("\n".join(lines)).words == ["cat", "cat's", "zwo", "zwo's"]


def test_unknown_words_get_no_line_without_a_guess() -> None:
    assert lexicon_lines(["zwo", "'s"], {}) == []
