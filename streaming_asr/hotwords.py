"""Owns what a session's hotwords do to the search: words that a speaker is likely to say are cheaper, or added.

Pure. Words of the lexicon get a bonus; of the others it says which there are and how they sound. Where nothing but
hotwords is wanted it says which words are theirs. Knows nothing of search or sessions.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .g2p import G2P
from .lexicon import Lexicon
from .tokens import PHONE_ID

MAX_HOTWORDS = 100  # phrases of a session
MAX_HOTWORD_CHARACTERS = 100  # of one
BONUS = 8.0  # nats, of a word that is listed; `benchmarks.hotwords` measures it
COMMON_LOG_PROB = -9.0  # words likelier than this anywhere need no help, and "the" in a phrase would pop up everywhere
ALONE_LOG_PROB = -3.0  # to this likelihood words come, or as near as BONUS brings them, where nothing else is wanted
UNKNOWN_LOG_PROB = -16.0  # natural log, of a word outside the lexicon before its bonus: about that of its rarest words
MAX_UNKNOWN_WORDS = 100  # of a session
MAX_UNKNOWN_LETTERS = 700  # of all these: guessing how they sound takes a tenth of a second, in which others wait
MAX_PRONUNCIATIONS = 3  # of such a word
_BETWEEN = re.compile(r"[\s,/&-]+")
_AROUND = ".;:!?\"'()[]‘“”"
_SPELLED = re.compile("[a-z][a-z']{0,23}")


def fitting_hotwords(phrases: Iterable[object]) -> tuple[str, ...]:
    """The phrases among `phrases` that a session takes, for protocols whose servers take any list without a word."""
    fit = (phrase for phrase in phrases if isinstance(phrase, str) and 0 < len(phrase) <= MAX_HOTWORD_CHARACTERS)
    return tuple(phrase for _, phrase in zip(range(MAX_HOTWORDS), fit, strict=False))


def spoken_words(phrase: str) -> Iterator[str]:
    """The words of a phrase as a lexicon writes them: without accents, apostrophes only inside."""
    letters = unicodedata.normalize("NFKD", phrase.lower().replace("’", "'"))
    for part in _BETWEEN.split("".join(letter for letter in letters if not unicodedata.combining(letter))):
        word = part.strip(_AROUND)
        if word:
            yield word


def unknown_words(phrases: Iterable[str], word_id: Mapping[str, int]) -> list[str]:
    """The first words of the phrases that the lexicon lacks and that at most 24 letters from a to z spell.

    At most 100, and 700 letters in all.
    """
    words = (word for phrase in phrases for word in spoken_words(phrase))
    unknown = dict.fromkeys(word for word in words if word not in word_id and _SPELLED.fullmatch(word))
    letters = itertools.accumulate(map(len, unknown))
    return [
        word
        for word, end in itertools.islice(zip(unknown, letters, strict=True), MAX_UNKNOWN_WORDS)
        if end <= MAX_UNKNOWN_LETTERS
    ]


def pronounced(words: Iterable[str], g2p: G2P) -> Lexicon:
    """The words with one to three guessed pronunciations each."""
    return Lexicon(
        (word, [PHONE_ID[phone] for phone in phones])
        for word in words
        for phones in g2p.pronounce(word, MAX_PRONUNCIATIONS)
    )


def word_bonus(
    phrases: Iterable[str],
    word_id: Mapping[str, int],
    unigram_log_probs: NDArray[np.float32],
    nats: float = BONUS,
    alone: bool = False,
) -> NDArray[np.float32] | None:
    """The bonus [W] of each word of the lexicon; `None` if no word has one.

    Only rare words have: all of ``nats``. Where nothing else is wanted, ``alone``, all listed words have what makes
    them about as likely as each other.
    """
    listed = sorted({word_id[word] for phrase in phrases for word in spoken_words(phrase) if word in word_id})
    bonus = np.zeros(len(unigram_log_probs), np.float32)
    own = unigram_log_probs[listed]
    bonus[listed] = np.clip(ALONE_LOG_PROB - own, 0, nats) if alone else np.where(own < COMMON_LOG_PROB, nats, 0)
    return bonus if bonus.any() else None


class Phrases:
    """Which words of what was said are hotwords', where nothing else is wanted: those of whole phrases."""

    def __init__(self, phrases: Iterable[str]) -> None:
        distinct = {tuple(spoken_words(phrase)) for phrase in phrases} - {()}
        self._by_first: dict[str, list[tuple[str, ...]]] = {}
        for phrase in sorted(distinct, key=len, reverse=True):
            self._by_first.setdefault(phrase[0], []).append(phrase)

    def places(self, words: Sequence[str], is_over: bool = True) -> list[int]:
        """The indices of the words that whole phrases hold, of phrases that begin at one word the longest.

        Unless all ``is_over``, only those of which what is said next changes nothing.
        """
        places: list[int] = []
        at = 0
        while at < len(words):
            rest = tuple(words[at:])
            phrases = self._by_first.get(words[at], [])
            if not is_over and any(len(phrase) > len(rest) and phrase[: len(rest)] == rest for phrase in phrases):
                break
            length = next((len(phrase) for phrase in phrases if phrase == rest[: len(phrase)]), 0)
            places += range(at, at + length)
            at += length or 1
        return places
