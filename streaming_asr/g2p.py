"""Owns guessing how a word is said from how it is spelled: a joint-sequence model and its file.

A pronunciation and a spelling are one sequence of units, each one or two letters with no, one or two phones
("ph" = F, "x" = K S, silent "e" = nothing); a back-off n-gram over the units scores it (Bisani & Ney 2008), a beam
search over the units that spell the word finds the best. What has no vowel then ("xiv") is said letter by letter.
Knows nothing of lexicons or of training.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from streaming_asr.compiled import njit_cached
from streaming_asr.errors import InputError, ModelError
from streaming_asr.tensor_file import read_tensors
from streaming_asr.tokens import PHONE_ID, VOWELS

FORMAT = "streaming_asr.g2p"
VERSION = "1"
BEAM = 24  # hypotheses kept at each letter; wider ones change fewer than 1 word in 200
LONGEST_WORD = 64  # letters
LETTERS = {  # as they are called
    "a": "EY", "b": "B IY", "c": "S IY", "d": "D IY", "e": "IY", "f": "EH F", "g": "JH IY", "h": "EY CH", "i": "AY",
    "j": "JH EY", "k": "K EY", "l": "EH L", "m": "EH M", "n": "EH N", "o": "OW", "p": "P IY", "q": "K Y UW",
    "r": "AA R", "s": "EH S", "t": "T IY", "u": "Y UW", "v": "V IY", "w": "D AH B AH L Y UW", "x": "EH K S",
    "y": "W AY", "z": "Z IY",
}  # fmt: skip
_LOG_PROB_STEP = 1 / 12  # nats a code; 8 bits reach 21 nats

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def letter_by_letter(letters: str) -> tuple[str, ...]:
    """The names of ``letters`` (a to z), as phones."""
    return tuple(phone for letter in letters for phone in LETTERS[letter].split())


@njit_cached()
def _score(
    first: Any, unit: Any, log_prob: Any, backoff: Any, contexts: Any, units: Any, scores: Any, after: Any
) -> None:
    """Fills scores [H, K] and after [H, K, N - 1]; see `G2P._extend`. Rows of all levels are numbered in one go."""
    for h in range(contexts.shape[0]):
        for k in range(units.shape[0]):
            row: Any = np.int64(units[k])
            total = log_prob[row]
            for n in range(contexts.shape[1]):
                after[h, k, n] = row
                context = contexts[h, n]
                if context < 0:
                    row = -1
                    continue
                low, end = first[context], first[context + 1]
                high = end
                while low < high:
                    middle = (low + high) >> 1
                    if unit[middle] < units[k]:
                        low = middle + 1
                    else:
                        high = middle
                if low < end and unit[low] == units[k]:
                    row = low
                    total = log_prob[row]
                else:
                    row = -1
                    total += backoff[context]
            scores[h, k] = total


@dataclass(frozen=True)
class G2PLevel:
    """The unit n-grams of one order, sorted by ``key = prefix row * U + last unit``. R rows."""

    key: Ints  # [R]
    log_prob: Floats  # [R]
    backoff: Floats  # [R]


class G2P:
    """The model; never changes once made, so any thread may use it. Units 0 … U - 3, then begin, then end."""

    def __init__(self, units: Sequence[tuple[str, tuple[str, ...]]], levels: Sequence[G2PLevel]) -> None:
        """``units`` are (letters, phones) pairs; ``levels`` the model over their indices, ``len(units)`` the begin."""
        self.units = list(units)
        self.levels = list(levels)
        self._begin = len(self.units)
        self._end = self._begin + 1
        self._num_tokens = self._begin + 2
        spelling: dict[str, list[int]] = {}
        for index, (letters, _) in enumerate(self.units):
            spelling.setdefault(letters, []).append(index)
        self._spelling = {letters: np.array(indices) for letters, indices in spelling.items()}
        children = [
            np.bincount(level.key // self._num_tokens, minlength=len(below.key))
            for below, level in itertools.pairwise(self.levels)
        ]
        children.append(np.zeros(len(self.levels[-1].key), np.int64))
        self._first = np.cumsum([self._num_tokens, *np.concatenate(children)])
        self._unit = np.concatenate([level.key % self._num_tokens for level in self.levels])
        self._log_prob = np.concatenate([level.log_prob for level in self.levels])
        self._backoff = np.concatenate([level.backoff for level in self.levels])

    def _extend(self, contexts: Ints, units: Ints) -> tuple[Floats, Ints]:
        """Log probabilities [H, K] of units [K] after contexts [H, N - 1], and the contexts after them [H, K, N - 1].

        Column n of a context is the row of the n + 1 last units, counted through all levels, or -1.
        """
        scores = np.empty((len(contexts), len(units)))
        after = np.empty((len(contexts), len(units), contexts.shape[1]), np.int64)
        _score(self._first, self._unit, self._log_prob, self._backoff, contexts, units, scores, after)
        return scores, after

    def pronounce(self, word: str, variants: int = 1, margin: float = 3.0) -> list[tuple[str, ...]]:
        """The best pronunciations of ``word``, at most ``variants``, none ``margin`` nats below the likeliest units.

        One without a vowel is none; if all are, the letters are said by their names. What is no letter from a to z is
        passed over.

        :raises InputError: the word has no letters, or more than 64.
        """
        letters = "".join(letter for letter in word.lower() if "a" <= letter <= "z")
        if not 1 <= len(letters) <= LONGEST_WORD:
            raise InputError(f"{word!r}: a word to pronounce needs 1 to {LONGEST_WORD} letters from a to z")
        start = np.full((1, len(self.levels) - 1), -1, np.int64)
        start[:, :1] = self._begin  # a model of single units has no contexts
        pending: list[list[tuple[Floats, Ints, list[tuple[int, ...]]]]] = [[] for _ in range(len(letters) + 1)]
        pending[0].append((np.zeros(1), start, [()]))
        for position in range(len(letters) + 1):
            if not pending[position]:
                continue
            scores = np.concatenate([part[0] for part in pending[position]])
            contexts = np.concatenate([part[1] for part in pending[position]])
            paths = [path for part in pending[position] for path in part[2]]
            best = np.argsort(-scores, kind="stable")[:BEAM]
            scores, contexts, paths = scores[best], contexts[best], [paths[index] for index in best]
            if position == len(letters):
                ending, _ = self._extend(contexts, np.array([self._end]))
                found = self._best(scores + ending[:, 0], paths, variants, margin)
                return found or [letter_by_letter(letters)]
            for width in (1, 2):
                units = self._spelling.get(letters[position : position + width])
                if units is None or position + width > len(letters):
                    continue
                steps, after = self._extend(contexts, units)
                total = (scores[:, None] + steps).ravel()
                top = np.argsort(-total, kind="stable")[:BEAM]
                longer = [(*paths[index // len(units)], int(units[index % len(units)])) for index in top.tolist()]
                pending[position + width].append((total[top], after.reshape(len(total), -1)[top], longer))
        return [letter_by_letter(letters)]

    def _best(
        self, scores: Floats, paths: Sequence[tuple[int, ...]], variants: int, margin: float
    ) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        order = np.argsort(-scores, kind="stable")
        for index in order.tolist():
            phones = tuple(phone for unit in paths[index] for phone in self.units[unit][1])
            if scores[index] < scores[order[0]] - margin or len(found) == variants:
                break
            if not VOWELS.isdisjoint(phones) and phones not in found:
                found.append(phones)
        return found

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file; log probabilities and back-offs in 8 bits."""
        tensors: dict[str, NDArray[np.uint8] | NDArray[np.uint16]] = {}
        for order, level in enumerate(self.levels, 1):
            prefix, unit = np.divmod(level.key, self._num_tokens)
            rows_below = len(self.levels[order - 2].key) if order > 1 else 1
            children = np.bincount(prefix, minlength=rows_below)
            few = children.max() < 256
            tensors[f"{order}.children"] = children.astype(np.uint8) if few else children.astype(np.uint16)
            tensors[f"{order}.unit"] = unit.astype(np.uint16)
            tensors[f"{order}.log_prob"] = np.clip(np.rint(-level.log_prob / _LOG_PROB_STEP), 0, 255).astype(np.uint8)
            if order < len(self.levels):
                tensors[f"{order}.backoff"] = np.clip(np.rint(-level.backoff / _LOG_PROB_STEP), 0, 255).astype(np.uint8)
        units = [f"{letters} {' '.join(phones)}".strip() for letters, phones in self.units]
        metadata = {"format": FORMAT, "version": VERSION, "order": str(len(self.levels)), "units": json.dumps(units)}
        save_file(tensors, path, metadata)

    @classmethod
    def load(cls, path: str | Path) -> G2P:
        """Reads what `save` wrote.

        :raises ModelError: the file is absent, not of this format and version, or inconsistent.
        """
        metadata, tensors = read_tensors(path, FORMAT, VERSION)
        try:
            units = [(line.split()[0], tuple(line.split()[1:])) for line in json.loads(metadata["units"])]
            num_tokens = len(units) + 2
            levels: list[G2PLevel] = []
            rows_below = 1
            for order in range(1, int(metadata["order"]) + 1):
                children, unit = tensors[f"{order}.children"].astype(np.int64), tensors[f"{order}.unit"]
                if len(children) != rows_below or children.sum() != len(unit) or not len(unit):
                    raise ModelError(f"{path}: the {order}-grams do not fit together")
                key = np.repeat(np.arange(rows_below), children) * num_tokens + unit
                if unit.max() >= num_tokens or (np.diff(key) <= 0).any():  # as the search in `_score` expects
                    raise ModelError(f"{path}: the {order}-grams are not in order")
                log_prob = -_LOG_PROB_STEP * tensors[f"{order}.log_prob"].astype(np.float64)
                backoff = tensors.get(f"{order}.backoff", np.zeros(len(unit), np.uint8)).astype(np.float64)
                if len(log_prob) != len(unit) or len(backoff) != len(unit):
                    raise ModelError(f"{path}: the {order}-grams do not fit together")
                levels.append(G2PLevel(key, log_prob, -_LOG_PROB_STEP * backoff))
                rows_below = len(unit)
        except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
            raise ModelError(f"{path}: cannot read the pronunciation model: {error}") from error
        if (
            not levels
            or len(levels[0].key) != num_tokens
            or any(phone not in PHONE_ID for _, phones in units for phone in phones)
        ):
            raise ModelError(f"{path}: its units are not of this version's phones")
        return cls(units, levels)
