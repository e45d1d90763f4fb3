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
# Where nothing else is wanted words of the lexicon come to this log probability, or as near as BONUS brings them, and
# no more than so many nats a phone: else single letters are heard everywhere.
ALONE_LOG_PROB, ALONE_NATS_A_PHONE = -4.0, 2.0
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


def words_of(phrases: Iterable[str]) -> Iterator[str]:
    """The words of all phrases, in their order, as `spoken_words` has them."""
    return itertools.chain.from_iterable(map(spoken_words, phrases))


def unknown_words(phrases: Iterable[str], word_id: Mapping[str, int]) -> list[str]:
    """The first words of the phrases that the lexicon lacks and that at most 24 letters from a to z spell.

    At most 100, and 700 letters in all.
    """
    unknown = dict.fromkeys(word for word in words_of(phrases) if word not in word_id and _SPELLED.fullmatch(word))
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
    phrases: Iterable[str], word_id: Mapping[str, int], unigram_log_probs: NDArray[np.float32], nats: float = BONUS
) -> NDArray[np.float32] | None:
    """The bonus [W] of each word of the lexicon, ``nats`` for rare ones; `None` if no word has one."""
    listed = _listed(phrases, word_id)
    bonus = np.zeros(len(unigram_log_probs), np.float32)
    bonus[listed] = np.where(unigram_log_probs[listed] < COMMON_LOG_PROB, nats, 0)
    return bonus if bonus.any() else None


def word_bonus_alone(
    phrases: Iterable[str],
    word_id: Mapping[str, int],
    unigram_log_probs: NDArray[np.float32],
    num_phones: NDArray[np.uint8],
    nats: float = BONUS,
) -> NDArray[np.float32] | None:
    """The same where nothing else is wanted: common words have one, too, but none more than ``nats``.

    ``num_phones`` [W] as `Lexicon.fewest_phones` gives them.
    """
    listed = _listed(phrases, word_id)
    bonus = np.zeros(len(unigram_log_probs), np.float32)
    most = np.minimum(nats, ALONE_NATS_A_PHONE * num_phones[listed])
    bonus[listed] = np.clip(ALONE_LOG_PROB - unigram_log_probs[listed], 0, most)
    return bonus if bonus.any() else None


def _listed(phrases: Iterable[str], word_id: Mapping[str, int]) -> list[int]:
    return sorted({word_id[word] for word in words_of(phrases) if word in word_id})


class Phrases:
    """Which words of what was said are hotwords', where nothing else is wanted: those of whole phrases."""

    def __init__(self, phrases: Iterable[str]) -> None:
        distinct = {tuple(spoken_words(phrase)) for phrase in phrases} - {()}
        self._by_first: dict[str, list[tuple[str, ...]]] = {}
        for phrase in sorted(distinct, key=len, reverse=True):
            self._by_first.setdefault(phrase[0], []).append(phrase)
        self._longest = max(map(len, distinct), default=0)

    def places(self, words: Sequence[str], is_over: bool = True) -> list[int]:
        """The indices of the words that whole phrases hold, of phrases that begin at one word the longest.

        Unless all ``is_over``, only those of which what is said next changes nothing.
        """
        places: list[int] = []
        at = 0
        while at < len(words):
            rest = tuple(words[at : at + self._longest])
            phrases = self._by_first.get(words[at], [])
            if not is_over and any(_goes_on(rest, phrase) for phrase in phrases):
                break
            length = next((len(phrase) for phrase in phrases if phrase == rest[: len(phrase)]), 0)
            places += range(at, at + length)
            at += length or 1
        return places

    def may_go_on(self, words: Sequence[str]) -> bool:
        """Whether a phrase may have begun that is not whole, or may become a longer one."""
        ends = (tuple(words[at:]) for at in range(max(0, len(words) - self._longest), len(words)))
        return any(_goes_on(end, phrase) for end in ends for phrase in self._by_first.get(end[0], []))


def _goes_on(begun: tuple[str, ...], phrase: tuple[str, ...]) -> bool:
    return len(phrase) > len(begun) and phrase[: len(begun)] == begun
