"""Owns where pronunciations come from: CMUdict's file, rules for clitics ("'s", "'ll"), and a guess for the rest.

The result is the text of the runtime's lexicon file. Knows nothing of word frequencies (`lm`) nor of how the guess is
made (`g2p`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from ..errors import InputError
from ..tokens import PHONE_ID

Pronunciation = tuple[str, ...]  # phones by name, without stress
Pronunciations = dict[str, list[Pronunciation]]

_ENTRY = re.compile(r"'?([a-z]+(?:'[a-z]+)*)'?(?:\(\d+\))?")
_SIBILANTS = frozenset({"S", "Z", "SH", "ZH", "CH", "JH"})
_VOICELESS = frozenset({"P", "T", "K", "F", "TH"})


def parse_cmudict(text: str, name: str = "dictionary") -> Pronunciations:
    """Reads CMUdict's format: ``word PH1 PH0 …``, ``word(2)`` for variants, ``#`` or ``;;;`` for comments.

    Stress digits are stripped, words lowered, outer apostrophes dropped ("'em" becomes a variant of "em"). Entries with
    digits, full stops or hyphens are left out: normalised text never holds them. Variants that differ in stress alone
    become one. `streaming_asr.lexicon`'s own format (a tab after the word) is read too.

    :raises InputError: a line has a word but no phones, or an unknown phone.
    """
    found: Pronunciations = {}
    for line_number, line in enumerate(text.splitlines(), 1):
        if line.startswith(";;;"):
            continue
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        phones = tuple(phone.rstrip("012") for phone in fields[1:])
        if not phones or any(phone not in PHONE_ID for phone in phones):
            raise InputError(f"{name}, line {line_number}: not a word and ARPAbet phones: {line.strip()!r}")
        match = _ENTRY.fullmatch(fields[0].lower())
        if match and phones not in (variants := found.setdefault(match[1], [])):
            variants.append(phones)
    return found


def with_s(phones: Pronunciation) -> Pronunciation:
    """``phones`` with the English possessive or plural ending."""
    if phones[-1] in _SIBILANTS:
        return (*phones, "IH", "Z")
    return (*phones, "S" if phones[-1] in _VOICELESS else "Z")


def with_d(phones: Pronunciation) -> Pronunciation:
    """``phones`` with the ending of "he'd"."""
    return (*phones, "AH", "D") if phones[-1] in ("T", "D") else (*phones, "D")


_CLITICS: tuple[tuple[str, Callable[[Pronunciation], Pronunciation]], ...] = (
    ("'s", with_s),
    ("'ll", lambda phones: (*phones, "AH", "L")),
    ("'d", with_d),
    ("'ve", lambda phones: (*phones, "AH", "V")),
    ("'re", lambda phones: (*phones, "ER")),
)


def pronounce(
    word: str,
    known: Mapping[str, Sequence[Pronunciation]],
    guess: Callable[[str], Sequence[Pronunciation]] | None = None,
) -> list[Pronunciation]:
    """Pronunciations of ``word``: by ``known``, else by clitic rule from its stem, else by ``guess``, else none."""
    if word in known:
        return list(known[word])
    for ending, rule in _CLITICS:
        if word.endswith(ending) and (stem := word.removesuffix(ending)):
            return [rule(phones) for phones in pronounce(stem, known, guess)]
    return list(guess(word)) if guess else []


def lexicon_lines(
    words: Iterable[str],
    known: Mapping[str, Sequence[Pronunciation]],
    guess: Callable[[str], Sequence[Pronunciation]] | None = None,
) -> list[str]:
    """``word<TAB>PH PH PH`` lines in the order of ``words``; a word that nothing pronounces gets no line."""
    return [f"{word}\t{' '.join(phones)}" for word in words for phones in pronounce(word, known, guess)]
