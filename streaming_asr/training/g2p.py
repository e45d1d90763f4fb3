"""Owns training the pronunciation guesser from a pronunciation dictionary: alignment, then an n-gram over its units.

Letters and phones are aligned by expectation maximisation over monotone segmentations into units of one or two letters
with up to two phones (Jiampojamarn et al. 2007); the units of the best alignments are counted, smoothed and pruned by
`ngram`.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..compiled import njit_cached
from ..errors import InputError
from ..g2p import G2P, G2PLevel
from ..tokens import NUM_TOKENS, PHONE_ID, PHONES
from . import ngram
from .lexicon import Pronunciation

logger = logging.getLogger(__name__)

# A unit is coded letters * PHONE_CODES + phones; letters 1-26 and phones 1-39 in base 27 and 40, 0 for "none".
LETTER_BASE = 27
PHONE_BASE = NUM_TOKENS
PHONE_CODES = PHONE_BASE * PHONE_BASE
UNIT_CODES = LETTER_BASE * LETTER_BASE * PHONE_CODES
SHAPES = np.array([(1, 1), (1, 0), (1, 2), (2, 1)])  # letters, phones
EM_ROUNDS = 8
MIN_UNIT_COUNT = 3  # words aligned with rarer units are mostly foreign spellings or mistakes


@njit_cached()
def _unit_code(letters: Any, phones: Any, i: int, j: int, a: int, b: int) -> Any:
    """The unit that takes letters i - a .. i and phones j - b .. j."""
    spelled = letters[i - 1] if a == 1 else letters[i - 2] * 27 + letters[i - 1]
    said = 0 if b == 0 else phones[j - 1] if b == 1 else phones[j - 2] * 40 + phones[j - 1]
    return np.int64(spelled) * 1600 + np.int64(said)


@njit_cached()
def _expect(
    letters: Any, phones: Any, letter_start: Any, phone_start: Any, shapes: Any, prob: Any, counts: Any
) -> float:
    """Adds the expected unit counts of every pair to ``counts``; returns the total log likelihood."""
    total = 0.0
    for pair in range(len(letter_start) - 1):
        spelled = letters[letter_start[pair] : letter_start[pair + 1]]
        said = phones[phone_start[pair] : phone_start[pair + 1]]
        n, m = len(spelled), len(said)
        forward = np.zeros((n + 1, m + 1))
        forward[0, 0] = 1.0
        for i in range(1, n + 1):
            for j in range(m + 1):
                for k in range(len(shapes)):
                    a, b = shapes[k, 0], shapes[k, 1]
                    if i >= a and j >= b and forward[i - a, j - b] > 0.0:
                        forward[i, j] += forward[i - a, j - b] * prob[_unit_code(spelled, said, i, j, a, b)]
        if forward[n, m] <= 0.0:
            continue
        total += math.log(forward[n, m])
        backward = np.zeros((n + 1, m + 1))
        backward[n, m] = 1.0 / forward[n, m]
        for i in range(n, 0, -1):
            for j in range(m, -1, -1):
                if backward[i, j] == 0.0:
                    continue
                for k in range(len(shapes)):
                    a, b = shapes[k, 0], shapes[k, 1]
                    if i >= a and j >= b and forward[i - a, j - b] > 0.0:
                        code = _unit_code(spelled, said, i, j, a, b)
                        weight = prob[code] * backward[i, j]
                        counts[code] += forward[i - a, j - b] * weight
                        backward[i - a, j - b] += weight
    return total


@njit_cached()
def _align(
    letters: Any, phones: Any, letter_start: Any, phone_start: Any, shapes: Any, log_prob: Any, path: Any
) -> Any:
    """The best units of every pair, pair after pair in ``path``; returns where each pair's begin."""
    starts = np.zeros(len(letter_start), np.int64)
    length = 0
    for pair in range(len(letter_start) - 1):
        spelled = letters[letter_start[pair] : letter_start[pair + 1]]
        said = phones[phone_start[pair] : phone_start[pair + 1]]
        n, m = len(spelled), len(said)
        best = np.full((n + 1, m + 1), -np.inf)
        shape = np.zeros((n + 1, m + 1), np.int64)
        best[0, 0] = 0.0
        for i in range(1, n + 1):
            for j in range(m + 1):
                for k in range(len(shapes)):
                    a, b = shapes[k, 0], shapes[k, 1]
                    if i >= a and j >= b and best[i - a, j - b] > -np.inf:
                        score = best[i - a, j - b] + log_prob[_unit_code(spelled, said, i, j, a, b)]
                        if score > best[i, j]:
                            best[i, j] = score
                            shape[i, j] = k
        if best[n, m] > -np.inf:
            i, j, end = n, m, length
            while i > 0:
                a, b = shapes[shape[i, j], 0], shapes[shape[i, j], 1]
                path[end] = _unit_code(spelled, said, i, j, a, b)
                end += 1
                i -= a
                j -= b
            path[length:end] = path[length:end][::-1].copy()
            length = end
        starts[pair + 1] = length
    return starts


def _decode(code: int) -> tuple[str, Pronunciation]:
    spelled, said = divmod(code, PHONE_CODES)
    letters = "".join(chr(96 + letter) for letter in divmod(spelled, LETTER_BASE) if letter)
    return letters, tuple(PHONES[phone - 1] for phone in divmod(said, PHONE_BASE) if phone)


def train_g2p(known: Mapping[str, Sequence[Pronunciation]], *, order: int = 6, max_ngrams: int = 330_000) -> G2P:
    """A `G2P` from the words of a dictionary, about a minute for CMUdict; 5 bytes an n-gram.

    :raises InputError: no word could be aligned with its pronunciation.
    """
    pairs = [
        ([ord(letter) - 96 for letter in word if letter != "'"], [PHONE_ID[phone] for phone in phones])
        for word, variants in known.items()
        for phones in variants
    ]
    letters = np.array([letter for spelled, _ in pairs for letter in spelled], np.int64)
    phones = np.array([phone for _, said in pairs for phone in said], np.int64)
    letter_start = np.cumsum([0, *(len(spelled) for spelled, _ in pairs)])
    phone_start = np.cumsum([0, *(len(said) for _, said in pairs)])
    prob = np.full(UNIT_CODES, 1e-3)
    for round_number in range(EM_ROUNDS):
        expected = np.zeros(UNIT_CODES)
        total = _expect(letters, phones, letter_start, phone_start, SHAPES, prob, expected)
        if expected.sum() == 0.0:
            raise InputError("no word of the dictionary can be aligned with its pronunciation")
        prob = expected / expected.sum()
        logger.info("alignment round %d: %.3f nats a pair", round_number + 1, total / max(len(pairs), 1))
    with np.errstate(divide="ignore"):
        log_prob = np.log(prob)
    path = np.zeros(len(letters), np.int64)
    starts = _align(letters, phones, letter_start, phone_start, SHAPES, log_prob, path)

    codes, unit, count = np.unique(path[: starts[-1]], return_inverse=True, return_counts=True)
    frequent = count >= min(MIN_UNIT_COUNT, int(count.max()))
    unit_id = np.where(frequent, np.cumsum(frequent) - 1, ngram.BREAK)
    begin = int(frequent.sum())
    tokens = np.full(int(starts[-1]) + 2 * len(pairs), begin + 1, np.int32)  # begin units… end, pair after pair
    tokens[np.arange(int(starts[-1])) + 2 * np.repeat(np.arange(len(pairs)), np.diff(starts)) + 1] = unit_id[unit]
    tokens[starts[:-1] + 2 * np.arange(len(pairs))] = begin
    counts = ngram.count_ngrams(tokens, begin + 2, begin, [1] * order)
    pruned = ngram.prune_to_size(counts, sum, max_ngrams)
    levels = [G2PLevel(level.key, level.log_prob, level.backoff) for level in ngram.back_off(pruned)]
    while len(levels) > 2 and not len(levels[-1].key):
        levels.pop()
    return G2P([_decode(int(code)) for code in codes[frequent]], levels)


def split(known: Mapping[str, Sequence[Pronunciation]], held_out: float, seed: int = 1) -> tuple[list[str], list[str]]:
    """Words to train on and words held out; the forms of one stem ("abbey", "abbey's") stay on one side."""
    stems = sorted({word.split("'")[0] for word in known})
    random.Random(seed).shuffle(stems)  # nosec B311  # the same split each time is the point
    held = set(stems[: round(held_out * len(stems))])
    train: list[str] = []
    test: list[str] = []
    for word in known:
        (test if word.split("'")[0] in held else train).append(word)
    return train, test


def edit_distance(left: Sequence[str], right: Sequence[str]) -> int:
    """Insertions, deletions and substitutions between two sequences."""
    row = list(range(len(right) + 1))
    for i, one in enumerate(left, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(right, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (one != other))
    return row[-1]


def error_rates(model: G2P, known: Mapping[str, Sequence[Pronunciation]], words: Sequence[str]) -> tuple[float, float]:
    """Phone and word error rates of the first guess, each word against the nearest of its pronunciations."""
    errors = phones = wrong = 0
    for word in words:
        guess = (model.pronounce(word) or [()])[0]
        distance, length = min((edit_distance(guess, variant), len(variant)) for variant in known[word])
        errors, phones, wrong = errors + distance, phones + length, wrong + (distance > 0)
    return errors / max(phones, 1), wrong / max(len(words), 1)
