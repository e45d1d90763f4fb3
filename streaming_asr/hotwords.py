"""Owns what a session's hotwords do to scores: words that a speaker is likely to say are cheaper in the search.

Pure: phrases, a lexicon and unigram log probabilities in, one bonus a word out. Knows nothing of search or sessions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

MAX_HOTWORDS = 100  # phrases of a session
MAX_HOTWORD_CHARACTERS = 100  # of one
BONUS = 8.0  # nats, of a word that is listed; `benchmarks.hotwords` measures it
COMMON_LOG_PROB = -9.0  # words likelier than this anywhere need no help, and "the" in a phrase would pop up everywhere


def fitting_hotwords(phrases: Iterable[object]) -> tuple[str, ...]:
    """The phrases among `phrases` that a session takes, for protocols whose servers take any list without a word."""
    fit = (phrase for phrase in phrases if isinstance(phrase, str) and 0 < len(phrase) <= MAX_HOTWORD_CHARACTERS)
    return tuple(phrase for _, phrase in zip(range(MAX_HOTWORDS), fit, strict=False))


def spoken_words(phrase: str) -> Iterator[str]:
    """The words of a phrase as a lexicon writes them."""
    for part in phrase.lower().replace("-", " ").replace("’", "'").split():
        word = part.strip('.,;:!?"()[]')
        if word:
            yield word


def word_bonus(
    phrases: Iterable[str], word_id: Mapping[str, int], unigram_log_probs: NDArray[np.float32], nats: float = BONUS
) -> NDArray[np.float32] | None:
    """The bonus [W] of each word; `None` if no word has one. Words outside the lexicon are passed over."""
    listed = {word_id[word] for phrase in phrases for word in spoken_words(phrase) if word in word_id}
    rare = [word for word in listed if unigram_log_probs[word] < COMMON_LOG_PROB]
    if not rare:
        return None
    bonus = np.zeros(len(unigram_log_probs), np.float32)
    bonus[rare] = nats
    return bonus
