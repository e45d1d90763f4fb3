"""Owns the back-off n-gram language model: reading ARPA, the packed file, and scoring without the GIL.

Knows nothing of sounds, lexicons or search. The model is a forward trie in breadth-first order on flat
arrays: node 0 is the empty context, node ``1 + word`` the unigram of ``word``, then the bigrams, trigrams …
each sorted by their words, so that the children of a node are neighbours and found by bisection. A *state* is
the node of the longest context that can still make a difference. Back-off arithmetic: Katz 1987, in the form
of the ARPA file; 8-bit codebooks for each order as in KenLM (Heafield 2011), fitted by Lloyd's algorithm.
"""

from __future__ import annotations

import gzip
import hashlib
import math
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from streaming_asr.compiled import njit_cached, njit_uncounted
from streaming_asr.errors import InputError, ModelError
from streaming_asr.tensor_file import read_tensors

MAX_ORDER = 5
FORMAT = "streaming_asr.ngram"
VERSION = "1"
LN10 = math.log(10.0)
SPECIAL_WORDS = ("<s>", "</s>", "<unk>")  # ids W, W + 1, W + 2
NO_UNIGRAM = -20.0  # natural log; for words the ARPA lacks, if it lacks <unk> as well
LLOYD_ROUNDS = 40


class NGramArrays(NamedTuple):
    """The whole model as numba sees it. N order, V words (specials included), I inner nodes, M nodes."""

    level_start: NDArray[np.int64]  # [N + 2]; nodes of order k are level_start[k] .. level_start[k + 1]
    word: NDArray[np.int32]  # [M]
    log_prob_code: NDArray[np.uint8]  # [M]; unused up to the unigrams
    log_prob_codebook: NDArray[np.float32]  # [N + 1, 256]
    unigram_log_prob: NDArray[np.float32]  # [V]
    unigram_backoff: NDArray[np.float32]  # [V]
    backoff_code: NDArray[np.uint8]  # [I]; unused up to the unigrams
    backoff_codebook: NDArray[np.float32]  # [N + 1, 256]
    first_child: NDArray[np.uint32]  # [I + 1]
    suffix: NDArray[np.uint32]  # [I]; the longest proper suffix that can make a difference
    mark: NDArray[np.uint8]  # [M]; see `_bit`


# A call hands over every array of a tuple in full: the innermost functions are therefore put in place.
@njit_uncounted(inline="always")
def _bit(first: Any, end: Any, word: Any) -> Any:
    """Where ``word`` leaves its mark among the children ``first`` .. ``end`` of its context, which have 8 bits each.

    Most words that the search asks for follow no such context. Without a mark that is known at once, where a
    bisection of many children would wait for memory at every step (a Bloom filter: Bloom 1970; one word in 9 is
    marked by another).
    """
    place = (np.uint64(word) * np.uint64(0x9E3779B1)) & np.uint64(0xFFFFFFFF)
    return 8 * first + np.int64(place * np.uint64(8 * (end - first)) >> np.uint64(32))


@njit_cached()
def _marks(first_child: Any, words: Any) -> Any:
    """The marks of all children, uint8 [M]."""
    mark = np.zeros(words.shape[0], np.uint8)
    for node in range(first_child.shape[0] - 1):
        first, end = np.int64(first_child[node]), np.int64(first_child[node + 1])
        for child in range(first, end):
            bit = _bit(first, end, words[child])
            mark[bit >> 3] |= np.uint8(1 << (bit & 7))
    return mark


@njit_uncounted(inline="always")
def _find_child(first_child: Any, words: Any, mark: Any, node: Any, word: Any) -> Any:
    low = np.int64(first_child[node])
    end = np.int64(first_child[node + 1])
    bit = _bit(low, end, word)
    if low == end or (mark[bit >> 3] >> (bit & 7)) & 1 == 0:
        return -1
    high = end
    while low < high:
        middle = (low + high) >> 1
        if words[middle] < word:
            low = middle + 1
        else:
            high = middle
    return low if low < end and words[low] == word else -1


@njit_uncounted(inline="always")
def _node_backoff(lm: Any, node: Any, order: Any) -> Any:
    if order == 1:
        return np.float32(lm.unigram_backoff[node - 1])
    return np.float32(lm.backoff_codebook[order, lm.backoff_code[node]])


@njit_uncounted(inline="always")
def _as_state(lm: Any, node: Any, order: Any) -> Any:
    """The shortest context that predicts the same as ``node``."""
    if lm.first_child[node] == lm.first_child[node + 1] and _node_backoff(lm, node, order) == 0.0:
        return np.int64(lm.suffix[node])
    return np.int64(node)


@njit_uncounted(inline="always")
def ngram_log_prob(lm: Any, state: Any, word: Any) -> Any:
    """Natural log probability of ``word`` in ``state``; the arguments are not checked.

    Also the n-gram that says so, for `ngram_next`: its context, its node, its order.
    """
    node = np.int64(state)
    order = np.int64(0)
    while lm.level_start[order + 1] <= node:
        order += 1
    total = np.float32(0.0)
    while node > 0:
        child = _find_child(lm.first_child, lm.word, lm.mark, node, word)
        if child >= 0:
            return total + lm.log_prob_codebook[order + 1, lm.log_prob_code[child]], node, child, order + 1
        total += _node_backoff(lm, node, order)
        node = np.int64(lm.suffix[node])
        while lm.level_start[order] > node:
            order -= 1
    return total + lm.unigram_log_prob[word], node, np.int64(1 + word), np.int64(1)


@njit_uncounted(inline="always")
def ngram_next(lm: Any, context: Any, node: Any, order: Any) -> Any:
    """The state after an n-gram."""
    highest = lm.level_start.shape[0] - 2
    if highest == 1:
        return np.int64(0)
    if order < highest:
        return _as_state(lm, node, order)
    # The highest order has no state of its own: it is the longest suffix that is a node.
    word = np.int64(lm.word[node])
    context = np.int64(lm.suffix[context])
    while context > 0:
        child = _find_child(lm.first_child, lm.word, lm.mark, context, word)
        if child >= 0:
            order = np.int64(0)
            while lm.level_start[order + 1] <= child:
                order += 1
            return _as_state(lm, child, order)
        context = np.int64(lm.suffix[context])
    return _as_state(lm, 1 + word, 1)


@njit_uncounted()
def ngram_score(lm: Any, state: Any, word: Any) -> Any:
    """Natural log probability of ``word`` in ``state`` and the state after it; the arguments are not checked."""
    log_prob, context, node, order = ngram_log_prob(lm, state, word)
    return log_prob, ngram_next(lm, context, node, order)


@njit_uncounted()
def _link_suffixes(first_child: Any, words: Any, mark: Any, num_unigrams: Any, suffix: Any) -> None:
    """Fills ``suffix`` of every inner node with its longest proper suffix that is a node."""
    num_inner = suffix.shape[0]
    suffix[: min(num_inner, 1 + num_unigrams)] = 0
    for node in range(1, num_inner):
        for child in range(np.int64(first_child[node]), np.int64(first_child[node + 1])):
            if child >= num_inner:
                return
            word = np.int64(words[child])
            context = np.int64(suffix[node])
            found = np.int64(-1)
            while context > 0:
                found = _find_child(first_child, words, mark, context, word)
                if found >= 0:
                    break
                context = np.int64(suffix[context])
            suffix[child] = found if found >= 0 else 1 + word


@njit_uncounted()
def _shorten_suffixes(lm: Any) -> None:
    """Lets every suffix skip the contexts that predict the same as their own suffix."""
    for node in range(1, lm.suffix.shape[0]):  # suffixes come before the nodes they are of: they are final already
        target = np.int64(lm.suffix[node])
        order = 0
        while lm.level_start[order + 1] <= target:
            order += 1
        if target > 0:
            lm.suffix[node] = _as_state(lm, target, order)


@njit_cached()
def _parents(lower: Any, upper: Any, parents: Any) -> Any:
    """Merges two sorted levels: for each row of ``upper`` the row of ``lower`` it extends, or -1; counts these."""
    row = 0
    missing = 0
    width = lower.shape[1]
    for index in range(upper.shape[0]):
        parents[index] = -1
        while row < lower.shape[0]:
            order = 0
            for column in range(width):
                if lower[row, column] != upper[index, column]:
                    order = -1 if lower[row, column] < upper[index, column] else 1
                    break
            if order >= 0:
                if order == 0:
                    parents[index] = row
                break
            row += 1
        if parents[index] < 0:
            missing += 1
    return missing


@njit_cached()
def _fill_missing(first_child: Any, words: Any, mark: Any, suffix: Any, log_prob: Any, backoff: Any) -> None:
    """Gives every node whose log_prob is NaN the probability that back-off gives it."""
    for node in range(1, suffix.shape[0]):
        for child in range(np.int64(first_child[node]), np.int64(first_child[node + 1])):
            if log_prob[child] == log_prob[child]:
                continue
            word = np.int64(words[child])
            total = backoff[node]
            context = np.int64(suffix[node])
            found = np.int64(1 + word)
            while context > 0:
                found = _find_child(first_child, words, mark, context, word)
                if found >= 0:
                    break
                total += backoff[context]
                context = np.int64(suffix[context])
                found = np.int64(1 + word)
            log_prob[child] = total + log_prob[found]


class NGram:
    """A back-off language model over word ids 0..W-1, then ``<s>``, ``</s>`` and ``<unk>``.

    Never changes once made: any number of threads may read it.
    """

    def __init__(self, arrays: NGramArrays, vocabulary: str = "") -> None:
        self.arrays = arrays
        self.vocabulary = vocabulary
        self.num_words = len(arrays.unigram_log_prob) - len(SPECIAL_WORDS)
        self.bos, self.eos, self.unk = range(self.num_words, self.num_words + 3)
        # The state at the beginning of a sentence, after <s>. Not when it is asked for: the first compiled call of a
        # process takes half a second, and a model is read while there is other work.
        self.start_state = 0 if self.order == 1 else int(_as_state(arrays, 1 + self.bos, 1))

    @property
    def order(self) -> int:
        """Length of the longest n-grams."""
        return len(self.arrays.level_start) - 2

    @property
    def counts(self) -> list[int]:
        """Number of n-grams of order 1, 2 …"""
        return [int(count) for count in np.diff(self.arrays.level_start)[1:]]

    @property
    def unigram_log_probs(self) -> NDArray[np.float32]:
        """Natural log unigram probabilities of words 0..W-1."""
        return self.arrays.unigram_log_prob[: self.num_words]

    def score(self, state: int, word: int) -> tuple[float, int]:
        """Natural log probability of ``word`` after ``state``, and the next state.

        :raises InputError: the state or word is out of range.
        """
        if not 0 <= state < len(self.arrays.suffix) or not 0 <= word < self.num_words + 3:
            raise InputError(f"state {state} or word {word} is not of this language model")
        log_prob, next_state = ngram_score(self.arrays, state, word)
        return float(log_prob), int(next_state)

    @classmethod
    def from_arpa(cls, path: str | Path, words: Sequence[str]) -> NGram:
        """Reads an ARPA file (gzipped if it begins so); the id of a word is its index in ``words``.

        N-grams with other words are dropped. Words the file lacks get the probability of ``<unk>``.

        :raises InputError: the file is malformed, its order is above 5, or ``words`` are not distinct.
        """
        ids = {word.encode(): index for index, word in enumerate((*words, *SPECIAL_WORDS))}
        if len(ids) != len(words) + len(SPECIAL_WORDS):
            raise InputError("the words of a language model must be distinct, and none of <s>, </s>, <unk>")
        with open(path, "rb") as raw:
            is_gzip = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            try:
                levels = _parse_arpa(gzip.GzipFile(fileobj=raw) if is_gzip else raw, ids, str(path))
            except (gzip.BadGzipFile, EOFError) as error:
                raise InputError(f"{path}: damaged gzip file: {error}") from error
        return cls(_build(levels, len(ids)), vocabulary_fingerprint(words))

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file."""
        lm = self.arrays
        first = int(lm.level_start[2])  # the words of unigrams are their ids
        tensors: dict[str, NDArray[Any]] = {
            "level_start": lm.level_start,
            "word": _pack_words(lm.word[first:], self.num_words + 3),
            "log_prob_code": lm.log_prob_code[first:],
            "log_prob_codebook": lm.log_prob_codebook,
            "unigram_log_prob": lm.unigram_log_prob,
            "unigram_backoff": lm.unigram_backoff,
            "backoff_code": lm.backoff_code[first:],
            "backoff_codebook": lm.backoff_codebook,
            "first_child": lm.first_child,
        }
        metadata = {"format": FORMAT, "version": VERSION, "vocabulary": self.vocabulary}
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path, metadata)

    @classmethod
    def load(cls, path: str | Path) -> NGram:
        """Reads what `save` wrote, checks it, and relinks the suffixes.

        :raises ModelError: the file is absent, not of this format and version, or inconsistent.
        """
        metadata, tensors = read_tensors(path, FORMAT, VERSION)
        try:
            arrays = _unpack(tensors)
        except KeyError as error:
            raise ModelError(f"{path}: lacks the tensor {error}") from error
        except ValueError as error:
            raise ModelError(f"{path}: {error}") from error
        return cls(arrays, metadata.get("vocabulary", ""))


def vocabulary_fingerprint(words: Sequence[str]) -> str:
    """A digest of the words in order; equal only where word ids mean the same."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()


class _Level(NamedTuple):
    """The n-grams of one order, natural logs."""

    words: NDArray[np.int32]  # [n-grams, order]
    log_prob: NDArray[np.float32]
    backoff: NDArray[np.float32]


def _parse_arpa(file: IO[bytes] | gzip.GzipFile, ids: dict[bytes, int], name: str) -> list[_Level]:
    levels: list[_Level] = []
    order = 0
    number = 0
    ended = False
    words, log_probs, backoffs = array("i"), array("f"), array("f")

    def close_level() -> None:
        if order:
            shape = (len(log_probs), order)
            levels.append(
                _Level(
                    np.array(words, np.int32).reshape(shape),
                    np.array(log_probs, np.float32) * np.float32(LN10),
                    np.array(backoffs, np.float32) * np.float32(LN10),
                )
            )

    get = ids.get
    in_header = False
    for number, line in enumerate(file, 1):
        fields = line.split()
        if not fields:
            continue
        if line[:1] == b"\\":
            keyword = fields[0]
            if keyword == b"\\data\\":
                in_header = True
            elif keyword == b"\\end\\":
                close_level()
                ended = True
                break
            elif keyword == b"\\%d-grams:" % (order + 1) and in_header and order < MAX_ORDER:
                close_level()
                order += 1
                words, log_probs, backoffs = array("i"), array("f"), array("f")
            else:
                raise InputError(f"{name}, line {number}: unexpected section {keyword.decode(errors='replace')}")
            continue
        if not order:  # free text, then the counts; neither is needed
            continue
        row = [get(word, -1) for word in fields[1 : order + 1]]
        if -1 in row:
            continue
        try:
            if len(fields) not in (order + 1, order + 2):
                raise ValueError(f"{len(fields)} fields")
            log_probs.append(float(fields[0]))
            backoffs.append(float(fields[order + 1]) if len(fields) == order + 2 else 0.0)
        except ValueError as error:
            raise InputError(f"{name}, line {number}: not an {order}-gram: {error}") from None
        words.extend(row)
    if not ended:
        raise InputError(f"{name}: ends at line {number} without \\end\\")
    if not levels:
        raise InputError(f"{name}: holds no n-grams")
    for level in levels:
        if not (np.isfinite(level.log_prob).all() and np.isfinite(level.backoff).all()):
            raise InputError(f"{name}: a probability or back-off weight is not finite")
    return levels


def _sorted_level(level: _Level) -> _Level:
    """Sorts by words; of equal n-grams keeps the first."""
    order = np.lexsort(level.words.T[::-1])
    words = level.words[order]
    keep = np.ones(len(words), bool)
    keep[1:] = (words[1:] != words[:-1]).any(axis=1)
    return _Level(np.ascontiguousarray(words[keep]), level.log_prob[order][keep], level.backoff[order][keep])


def _build(levels: list[_Level], num_unigrams: int) -> NGramArrays:
    """Sorts, adds missing prefixes, links, quantizes."""
    while len(levels) > 1 and not len(levels[-1].words):
        levels = levels[:-1]
    unk = num_unigrams - 1
    first = levels[0]
    known = first.words[:, 0]
    unigram_log_prob = np.full(num_unigrams, NO_UNIGRAM, np.float32)
    unigram_backoff = np.zeros(num_unigrams, np.float32)
    if (known == unk).any():
        unigram_log_prob[:] = first.log_prob[known == unk][0]
    unigram_log_prob[known[::-1]] = first.log_prob[::-1]
    unigram_backoff[known[::-1]] = first.backoff[::-1]
    all_words = np.arange(num_unigrams, dtype=np.int32)[:, None]
    levels = [
        _Level(all_words, unigram_log_prob, unigram_backoff),
        *(_sorted_level(level) for level in levels[1:]),
    ]

    # An n-gram whose first words are no n-gram themselves has nowhere to hang: add those, with weight one.
    parents: list[NDArray[np.int64]] = [np.zeros(num_unigrams, np.int64)]
    for upper in range(len(levels) - 1, 0, -1):
        rows = levels[upper].words
        found = np.empty(len(rows), np.int64)
        if _parents(levels[upper - 1].words, rows, found):
            absent = np.unique(rows[found < 0, :upper], axis=0)
            below = levels[upper - 1]
            levels[upper - 1] = _sorted_level(
                _Level(
                    np.concatenate([below.words, absent]),
                    np.concatenate([below.log_prob, np.full(len(absent), np.nan, np.float32)]),
                    np.concatenate([below.backoff, np.zeros(len(absent), np.float32)]),
                )
            )
            _parents(levels[upper - 1].words, rows, found)
        parents.insert(1, found)

    order = len(levels)
    level_start = np.cumsum([0, 1, *(len(level.words) for level in levels)]).astype(np.int64)
    if level_start[-1] >= 2**31:
        raise InputError("more than 2^31 n-grams")
    num_inner = int(level_start[order])
    words = np.concatenate([np.zeros(1, np.int32), *(level.words[:, -1] for level in levels)])
    children = np.zeros(num_inner, np.int64)
    for index, found in enumerate(parents):
        start, end = level_start[index], level_start[index + 1]
        children[start:end] += np.bincount(found, minlength=end - start)
    first_child = np.concatenate([[1], 1 + np.cumsum(children)]).astype(np.uint32)
    suffix = np.zeros(num_inner, np.uint32)
    mark = _marks(first_child, words)
    _link_suffixes(first_child, words, mark, num_unigrams, suffix)
    log_prob = np.concatenate([np.zeros(1, np.float32), *(level.log_prob for level in levels)])
    backoff = np.concatenate([np.zeros(1, np.float32), *(level.backoff for level in levels[:-1])])
    _fill_missing(first_child, words, mark, suffix, log_prob, backoff)

    log_prob_code = np.zeros(len(words), np.uint8)
    backoff_code = np.zeros(num_inner, np.uint8)
    log_prob_codebook = np.zeros((order + 1, 256), np.float32)
    backoff_codebook = np.zeros((order + 1, 256), np.float32)
    for n in range(2, order + 1):
        level_nodes = slice(level_start[n], level_start[n + 1])
        log_prob_codebook[n], log_prob_code[level_nodes] = _quantize(log_prob[level_nodes], keep_zero=False)
        if n < order:
            backoff_codebook[n], backoff_code[level_nodes] = _quantize(backoff[level_nodes], keep_zero=True)
    arrays = NGramArrays(
        level_start,
        words,
        log_prob_code,
        log_prob_codebook,
        unigram_log_prob,
        unigram_backoff if order > 1 else np.zeros_like(unigram_backoff),
        backoff_code,
        backoff_codebook,
        first_child,
        suffix,
        mark,
    )
    _shorten_suffixes(arrays)
    return arrays


def _quantize(values: NDArray[np.float32], keep_zero: bool) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A 256-entry codebook of least squared error (exact for few distinct values), and the codes.

    ``keep_zero``: zero keeps a code of its own, since a weight of exactly one lets states be shortened.
    """
    size = 255 if keep_zero else 256
    ordered = np.sort(values[values != 0.0] if keep_zero else values).astype(np.float64)
    centres = np.unique(ordered)
    if len(centres) > size:
        sums = np.concatenate([[0.0], np.cumsum(ordered)])
        # Half by rank, half by value: from ranks alone Lloyd's algorithm is slow to reach the tails.
        ranks = ((np.arange(size // 2) + 0.5) * len(ordered) / (size // 2)).astype(np.int64)
        even = np.linspace(ordered[0], ordered[-1], size - size // 2)
        centres = np.unique(np.concatenate([ordered[ranks], even]))
        for _ in range(LLOYD_ROUNDS):
            edges = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
            starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [len(ordered)]])
            filled = ends > starts
            centres = (sums[ends] - sums[starts])[filled] / (ends - starts)[filled]
    codebook = np.zeros(256, np.float32)
    codebook[: len(centres)] = centres
    kept = codebook[: len(centres)]
    codes = np.searchsorted((kept[1:] + kept[:-1]) / 2, values).astype(np.uint8)
    if keep_zero:
        codes[values == 0.0] = 255  # never among the centres: there are 255 at most
    return codebook, codes


def _pack_words(words: NDArray[np.int32], num_words: int) -> NDArray[Any]:
    """2 bytes a word where they fit, else 3, least significant first."""
    if num_words <= 1 << 16:
        return words.astype(np.uint16)
    return np.ascontiguousarray(words.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3])


def _checked(tensors: dict[str, NDArray[Any]], name: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    tensor = tensors[name]
    if tensor.dtype != dtype or tensor.shape != shape:
        raise ValueError(f"{name} is {tensor.dtype}{list(tensor.shape)}, not {np.dtype(dtype)}{list(shape)}")
    if tensor.dtype == np.float32 and not np.isfinite(tensor).all():
        raise ValueError(f"{name} holds values that are not finite")
    # A writable copy of the native type: numba would compile a second version for a read-only array.
    return np.array(tensor, order="C")


def _unpack(tensors: dict[str, NDArray[Any]]) -> NGramArrays:
    """Checks every tensor of a file against the others; raises ValueError or KeyError."""
    order = len(tensors["level_start"]) - 2
    if not 1 <= order <= MAX_ORDER:
        raise ValueError(f"order {order} is not 1 to {MAX_ORDER}")
    level_start = _checked(tensors, "level_start", np.int64, (order + 2,))
    num_nodes = int(level_start[-1])
    num_unigrams = int(level_start[2]) - 1
    if level_start[0] != 0 or level_start[1] != 1 or (np.diff(level_start) < 0).any() or num_nodes >= 2**31:
        raise ValueError("level_start does not rise from 0, 1")
    if num_unigrams < len(SPECIAL_WORDS):
        raise ValueError(f"{num_unigrams} unigrams are too few")
    first, inner = 1 + num_unigrams, int(level_start[order])
    num_packed = num_nodes - first
    if num_unigrams <= 1 << 16:
        packed = _checked(tensors, "word", np.uint16, (num_packed,)).astype(np.int32)
    else:
        octets = _checked(tensors, "word", np.uint8, (num_packed, 3)).astype(np.int32)
        packed = octets[:, 0] | octets[:, 1] << 8 | octets[:, 2] << 16
    word = np.concatenate([np.zeros(1, np.int32), np.arange(num_unigrams, dtype=np.int32), packed])
    if num_packed and int(packed.max()) >= num_unigrams:
        raise ValueError("word holds ids beyond the vocabulary")
    first_child = _checked(tensors, "first_child", np.uint32, (inner + 1,))
    offsets = first_child.astype(np.int64)
    if (np.diff(offsets) < 0).any() or offsets[0] != 1 or offsets[-1] != num_nodes:
        raise ValueError("first_child does not rise from 1 to the number of nodes")
    if (offsets[level_start[: order + 1]] != level_start[1:]).any():
        raise ValueError("first_child does not agree with level_start")
    siblings = np.ones(num_nodes, bool)
    siblings[offsets[:-1][np.diff(offsets) > 0]] = False
    siblings[0] = False
    if (np.diff(word)[siblings[1:]] <= 0).any():
        raise ValueError("words of one context are not sorted")

    def codes(name: str, end: int) -> NDArray[np.uint8]:
        stored = _checked(tensors, name, np.uint8, (max(0, end - first),))
        return np.concatenate([np.zeros(min(first, end), np.uint8), stored])

    arrays = NGramArrays(
        level_start,
        word,
        codes("log_prob_code", num_nodes),
        _checked(tensors, "log_prob_codebook", np.float32, (order + 1, 256)),
        _checked(tensors, "unigram_log_prob", np.float32, (num_unigrams,)),
        _checked(tensors, "unigram_backoff", np.float32, (num_unigrams,)),
        codes("backoff_code", inner),
        _checked(tensors, "backoff_codebook", np.float32, (order + 1, 256)),
        first_child,
        np.zeros(inner, np.uint32),
        _marks(first_child, word),
    )
    _link_suffixes(arrays.first_child, arrays.word, arrays.mark, num_unigrams, arrays.suffix)
    _shorten_suffixes(arrays)
    return arrays
