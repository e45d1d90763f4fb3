"""Owns n-gram estimation: counts from token ids, pruning by relative entropy, smoothing, and the ARPA file.

Knows nothing of words beyond their ids and nothing of where text comes from. Everything is flat arrays: the n-grams of
one order are rows sorted by ``key = prefix row * V + last word``, so a level is a trie level in prefix order.

Smoothing is interpolated modified Kneser-Ney (Chen & Goodman 1998) generalised to any set of kept n-grams: the count
of an n-gram is that of the tokens that reach its order, i.e. whose longer n-grams were not kept, plus what is
discounted from those that were (after Siivola, Hirsimäki & Virpioja 2007). So marginals stay right however much is
pruned, where plain Kneser-Ney breaks (Chelba et al. 2010). What to keep is chosen by relative entropy (Stolcke 1998).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOST = 0.999  # of a context's probability that its own n-grams may take
BREAK = -1  # in place of a token that no n-gram may contain or span


@dataclass(frozen=True)
class Level:
    """The counted n-grams of one order, sorted by key. R rows."""

    key: Rows  # [R] prefix row * V + last word
    count: Rows  # [R] occurrences
    suffix: Rows  # [R] row in the level below of the n-gram without its first word
    continued: Rows  # [R] occurrences followed by a countable token
    discounts: tuple[float, float, float]  # for counts 1, 2 and more


@dataclass(frozen=True)
class Counts:
    """N-gram counts of a text over V token ids; ``bos`` is a context only and never predicted."""

    num_tokens: int  # V
    bos: int
    levels: list[Level]  # of order 1, 2 …; unigram rows are token ids


@dataclass(frozen=True)
class BackoffLevel:
    """One order of a back-off model. Contexts without n-grams have back-off weight 0 (natural log)."""

    key: Rows
    log_prob: Floats
    backoff: Floats


def _discounts(count: Rows) -> tuple[float, float, float]:
    """Chen & Goodman's D1, D2, D3+ from the counts of counts; 0.5, 1, 1.5 where there is too little to tell."""
    ones, twos, threes, fours = (max(int((count == k).sum()), 0) for k in (1, 2, 3, 4))
    if not (ones and twos and threes and fours):
        return (0.5, 1.0, 1.5)
    y = ones / (ones + 2 * twos)
    found = (1 - 2 * y * twos / ones, 2 - 3 * y * threes / twos, 3 - 4 * y * fours / threes)
    first, second, third = (min(max(value, 0.1), k - 0.05) for k, value in zip((1, 2, 3), found, strict=True))
    return (first, max(second, first), max(third, second, first))


def count_ngrams(tokens: NDArray[np.int32], num_tokens: int, bos: int, min_counts: Sequence[int]) -> Counts:
    """Counts the n-grams of order 1 to ``len(min_counts)`` that occur at least ``min_counts[order - 1]`` times.

    :param tokens: [T] sentences one after the other, each ``bos words… eos``; `BREAK` where an n-gram must not pass.
    """
    position = np.flatnonzero(tokens >= 0)
    row = np.full(len(tokens), -1, np.int32)  # of the n-gram of the current order that ends at each token
    row[position] = tokens[position]
    predicted = (tokens >= 0) & (tokens != bos)
    count = np.bincount(tokens[position], minlength=num_tokens)
    levels = [
        Level(
            np.arange(num_tokens),
            count,
            np.zeros(num_tokens, np.int64),
            np.bincount(row[:-1][predicted[1:] & (row[:-1] >= 0)], minlength=num_tokens),
            _discounts(count[count > 0]),
        )
    ]
    for min_count in min_counts[1:]:
        position = position[position > 0]
        # Tokens that end an n-gram of this order: both n-grams of the order below, one token apart, were kept.
        position = position[(row[position - 1] >= 0) & (row[position] >= 0) & predicted[position]]
        key = row[position - 1].astype(np.int64) * num_tokens + tokens[position]
        order = np.argsort(key)
        key = key[order]
        starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]])) if len(key) else np.zeros(0, np.int64)
        count = np.diff(np.append(starts, len(key)))
        discounts = _discounts(count)
        kept = count >= min_count
        new_row = np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
        row_of_sorted = np.repeat(new_row, count)
        suffix = row[position[order[starts[kept]]]].astype(np.int64)
        row = np.full(len(tokens), -1, np.int32)
        row[position[order]] = row_of_sorted
        position = position[row[position] >= 0]
        followed = position[position + 1 < len(tokens)]
        continued = np.bincount(row[followed[predicted[followed + 1]]], minlength=int(kept.sum()))
        levels.append(Level(key[starts[kept]], count[kept], suffix, continued, discounts))
    return Counts(num_tokens, bos, levels)


def _discount(count: Floats, discounts: tuple[float, float, float]) -> Floats:
    """What is taken from each count; counts of lower orders are fractional, so the three steps are joined linearly."""
    return np.interp(count, (0.0, 1.0, 2.0, 3.0), (0.0, *discounts))


@dataclass(frozen=True)
class _Estimate:
    prob: list[Floats]  # P(last word | prefix)
    gamma: list[Floats]  # back-off weight of each row as a context; 1 where nothing follows


def _estimate(counts: Counts) -> _Estimate:
    levels, num_tokens = counts.levels, counts.num_tokens
    reaching = [level.count.astype(np.float64) for level in levels]  # tokens that reach this order
    following = [level.continued.astype(np.float64) for level in levels]  # the same, summed over what follows a row
    for index in range(len(levels) - 1, 0, -1):
        level = levels[index]
        absorbed = level.count - _discount(reaching[index], level.discounts)
        reaching[index - 1] -= np.bincount(level.suffix, absorbed, len(levels[index - 1].key))
        np.maximum(reaching[index - 1], 0.0, out=reaching[index - 1])
        if index > 1:
            contexts = levels[index - 1].key[level.suffix] // num_tokens
            following[index - 2] -= np.bincount(contexts, absorbed, len(levels[index - 2].key))
    unigram = reaching[0]
    unigram[counts.bos] = 0.0
    total = unigram.sum()
    discounted = unigram - _discount(unigram, levels[0].discounts)
    predictable = num_tokens - 1
    prob = [(discounted + (total - discounted.sum()) / predictable) / total]
    prob[0][counts.bos] = 0.0
    gamma = []
    for index in range(1, len(levels)):
        level = levels[index]
        context = level.key // num_tokens
        share = reaching[index] - _discount(reaching[index], level.discounts)
        share /= np.maximum(following[index - 1][context], 1e-9)
        sums = np.bincount(context, share, len(levels[index - 1].key))
        # Only rounding can bring a sum to 1, where nothing would be left to back off with.
        share *= np.where(sums > MOST, MOST / np.maximum(sums, MOST), 1.0)[context]
        weight = 1.0 - np.minimum(sums, MOST)
        gamma.append(weight)
        prob.append(share + weight[context] * prob[index - 1][level.suffix])
    gamma.append(np.ones(len(levels[-1].key)))
    return _Estimate(prob, gamma)


def _losses(counts: Counts) -> list[Floats]:
    """By how much dropping each n-gram alone raises the model's relative entropy, nats a token (Stolcke 1998).

    The probability of a context is its relative frequency in the text. Unigrams are not considered: empty.
    """
    estimate = _estimate(counts)
    num_predicted = float(counts.levels[0].continued.sum())
    result = [np.zeros(0)]
    for index in range(1, len(counts.levels)):
        level, below = counts.levels[index], counts.levels[index - 1]
        context = level.key // counts.num_tokens
        p = estimate.prob[index]
        q = estimate.prob[index - 1][level.suffix]
        sum_p = np.bincount(context, p, len(below.key))[context]
        sum_q = np.bincount(context, q, len(below.key))[context]
        gamma = estimate.gamma[index - 1][context]
        gamma_without = (1.0 - sum_p + p) / np.maximum(1.0 - sum_q + q, 1e-9)
        change = p * (np.log(p) - np.log(gamma_without * q)) - (1.0 - sum_p) * np.log(gamma_without / gamma)
        result.append(below.continued[context] / num_predicted * change)
    return result


def _select(counts: Counts, losses: Sequence[Floats], threshold: float) -> list[Mask]:
    """What stays at a threshold: unigrams, losses that reach it, and prefixes and suffixes of what stays."""
    keep = [np.ones(len(counts.levels[0].key), bool)] + [loss >= threshold for loss in losses[1:]]
    for index in range(len(counts.levels) - 1, 1, -1):
        level, kept = counts.levels[index], keep[index]
        keep[index - 1][level.key[kept] // counts.num_tokens] = True
        keep[index - 1][level.suffix[kept]] = True
    return keep


def _restrict(counts: Counts, keep: Sequence[Mask]) -> Counts:
    """Only the masked rows; every kept n-gram's prefix and suffix must be kept."""
    levels = [counts.levels[0]]
    new_row = np.arange(counts.num_tokens)
    for level, kept in zip(counts.levels[1:], keep[1:], strict=True):
        prefix, word = np.divmod(level.key[kept], counts.num_tokens)
        key = new_row[prefix] * counts.num_tokens + word
        suffix = new_row[level.suffix[kept]]
        levels.append(Level(key, level.count[kept], suffix, level.continued[kept], level.discounts))
        new_row = np.cumsum(kept) - 1
    return Counts(counts.num_tokens, counts.bos, levels)


def prune(counts: Counts, threshold: float) -> Counts:
    """Without the n-grams whose loss raises the relative entropy by less than ``threshold`` nats a token.

    An n-gram that another kept one needs as its prefix or suffix stays, and so do unigrams.
    """
    return _restrict(counts, _select(counts, _losses(counts), threshold))


def prune_to_size(
    counts: Counts, size: Callable[[Sequence[int]], float], limit: float, *, passes: int = 2, rounds: int = 12
) -> Counts:
    """Prunes until ``size(n-grams of each order)`` is just under ``limit``; by bisection.

    Each pass goes part of the way (by equal factors) and judges what is left by a new estimate. Where even the
    unigrams alone are too large, they are what is left.
    """
    for left in range(passes, 0, -1):
        now = size([len(level.key) for level in counts.levels])
        if now <= limit:
            break
        goal = limit * (now / limit) ** ((left - 1) / passes)
        losses = _losses(counts)
        low, high = math.log(1e-13), math.log(1e-1)
        for _ in range(rounds):
            middle = (low + high) / 2
            if size([int(mask.sum()) for mask in _select(counts, losses, math.exp(middle))]) > goal:
                low = middle
            else:
                high = middle
        counts = _restrict(counts, _select(counts, losses, math.exp(high)))
    return counts


def back_off(counts: Counts) -> list[BackoffLevel]:
    """The smoothed model, natural logs. ``bos``, never predicted, gets log probability -99 ln 10."""
    estimate = _estimate(counts)
    result = []
    for level, prob, gamma in zip(counts.levels, estimate.prob, estimate.gamma, strict=True):
        with np.errstate(divide="ignore"):
            log_prob = np.maximum(np.log(prob), -99.0 * math.log(10.0))
        result.append(BackoffLevel(level.key, log_prob, np.log(gamma)))
    return result


def log_probs(levels: Sequence[BackoffLevel], tokens: NDArray[np.int32], num_tokens: int, bos: int) -> Floats:
    """Natural log probability of each token [T] given those before it; 0 for ``bos`` and `BREAK`."""
    predicted = (tokens >= 0) & (tokens != bos)
    row = np.where(tokens >= 0, tokens, -1).astype(np.int64)
    result = np.where(tokens >= 0, levels[0].log_prob[row], 0.0)
    for below, level in itertools.pairwise(levels):
        context = np.concatenate([[-1], row[:-1]])
        has_context = context >= 0
        key = context * num_tokens + tokens
        if not len(level.key):
            break
        found = np.minimum(np.searchsorted(level.key, key), len(level.key) - 1)
        hit = has_context & (tokens >= 0) & (level.key[found] == key)
        result = np.where(hit, level.log_prob[found], result + np.where(has_context, below.backoff[context], 0.0))
        row = np.where(hit, found, -1)
    return np.where(predicted, result, 0.0)


def perplexity(levels: Sequence[BackoffLevel], tokens: NDArray[np.int32], num_tokens: int, bos: int) -> float:
    """Per predicted token, ends of sentences included, `BREAK` left out."""
    predicted = (tokens >= 0) & (tokens != bos)
    return math.exp(-float(log_probs(levels, tokens, num_tokens, bos).sum()) / max(int(predicted.sum()), 1))


def write_arpa(path: Path, levels: Sequence[BackoffLevel], names: Sequence[str], *, chunk: int = 100_000) -> None:
    """Writes an ARPA file; ``names`` [V] by token id.

    :raises InputError: the number of names is not that of the unigrams.
    """
    if len(names) != len(levels[0].key):
        raise InputError(f"{len(names)} names for {len(levels[0].key)} unigrams")
    ln10 = math.log(10.0)
    with path.open("w", encoding="utf-8") as file:
        file.write("\\data\\\n")
        for index, level in enumerate(levels):
            file.write(f"ngram {index + 1}={len(level.key)}\n")
        history: list[NDArray[np.int64]] = []  # the words of each row of the level below, first word first
        for index, level in enumerate(levels):
            file.write(f"\n\\{index + 1}-grams:\n")
            context = level.key // len(names)
            history = [*(column[context] for column in history), level.key % len(names)]
            top = index + 1 == len(levels)
            for start in range(0, len(level.key), chunk):
                part = slice(start, start + chunk)
                columns = [column[part].tolist() for column in history]
                lines = []
                for values in zip(
                    (level.log_prob[part] / ln10).tolist(), (level.backoff[part] / ln10).tolist(), *columns, strict=True
                ):
                    ngram = " ".join([names[word] for word in values[2:]])
                    lines.append(
                        f"{values[0]:.5f}\t{ngram}\n" if top else f"{values[0]:.5f}\t{ngram}\t{values[1]:.5f}\n"
                    )
                file.write("".join(lines))
        file.write("\n\\end\\\n")
