"""Owns the pronunciations of words, their text file, and the prefix tree the decoder walks.

Knows nothing of n-grams beyond an array of unigram log probabilities, and nothing of search. File format: one
pronunciation a line, ``word<TAB>PH PH PH``, phones by name without stress; several lines a word are several
pronunciations. Word ids count from 0 in order of first appearance.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_asr.errors import InputError
from streaming_asr.tokens import NUM_TOKENS, PHONE_ID, PHONES

ROOT = 0


class Lexicon:
    """Words and their pronunciations. P pronunciations over W words; never changes once made."""

    def __init__(self, pronunciations: Iterable[tuple[str, Sequence[int]]]) -> None:
        """Takes (word, phone ids) pairs.

        :raises InputError: a word is empty or has white space, a pronunciation is empty or has unknown phones.
        """
        rows = [(word, tuple(phones)) for word, phones in pronunciations]
        lengths = [len(phones) for _, phones in rows]
        joined = list(itertools.chain.from_iterable(phones for _, phones in rows))
        if joined and (min(joined) < 1 or max(joined) >= NUM_TOKENS):
            raise InputError(f"phone ids must be 1 to {NUM_TOKENS - 1}")
        self._fill([word for word, _ in rows], np.array(lengths, np.int64), np.array(joined, np.uint8))
        for word in self.words:
            if word.split() != [word]:
                raise InputError(f"{word!r} is not a word")
        if lengths and min(lengths) == 0:
            raise InputError(f"{rows[lengths.index(0)][0]!r} has an empty pronunciation")

    def _fill(self, words: list[str], lengths: NDArray[np.int64], phones: NDArray[np.uint8]) -> None:
        """The word and the number of phones of each pronunciation, and all phones."""
        ids = {word: number for number, word in enumerate(dict.fromkeys(words))}
        self.words: list[str] = list(ids)
        self.word_id: dict[str, int] = ids
        self.pronunciation_word: NDArray[np.int32] = np.array([ids[word] for word in words], np.int32)  # [P]
        self.offsets: NDArray[np.int64] = np.concatenate(([0], np.cumsum(lengths)))  # [P + 1]
        self.phones: NDArray[np.uint8] = phones  # [sum of lengths]

    def __len__(self) -> int:
        """Number of words."""
        return len(self.words)

    def pronunciations(self, word: str) -> list[tuple[int, ...]]:
        """All pronunciations of a word, phone ids; none if the word is unknown."""
        rows = np.flatnonzero(self.pronunciation_word == self.word_id.get(word, -1))
        return [tuple(self.phones[self.offsets[row] : self.offsets[row + 1]].tolist()) for row in rows]

    def fewest_phones(self) -> NDArray[np.uint8]:
        """Of any pronunciation of each word, [W]; 255 for more."""
        fewest = np.full(len(self), 255, np.uint8)
        np.minimum.at(fewest, self.pronunciation_word, np.diff(self.offsets).clip(max=255).astype(np.uint8))
        return fewest

    @classmethod
    def from_text(cls, text: str, name: str = "lexicon") -> Lexicon:
        """Parses the text of a lexicon file; ``name`` is for error messages.

        :raises InputError: a line is not ``word<TAB>PHONES`` or names an unknown phone.
        """

        def parse() -> Iterable[tuple[str, list[int]]]:
            phone_id = PHONE_ID
            for number, line in enumerate(text.split("\n"), 1):
                if not line:
                    continue
                word, tab, phones = line.partition("\t")
                try:
                    pronunciation = [phone_id[phone] for phone in phones.split()]
                except KeyError as error:
                    raise InputError(f"{name}, line {number}: unknown phone {error}") from None
                if not tab or not pronunciation:
                    raise InputError(f"{name}, line {number}: not a word, a tab and phones")
                yield word, pronunciation

        return cls(parse())

    @classmethod
    def from_file(cls, path: str | Path) -> Lexicon:
        """Reads a lexicon file, UTF-8.

        :raises InputError: see `from_text`; or the file is not UTF-8. OSError passes through.
        """
        content = Path(path).read_bytes()
        columns = _read_plain(content)
        if columns is not None:
            lexicon = cls([])
            lexicon._fill(*columns)
            return lexicon
        try:
            return cls.from_text(content.decode(), str(path))
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8: {error}") from error

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Lexicon:
        """The lexicon of which `to_arrays` gave these; raises `KeyError` when one is missing."""
        lexicon = cls([])
        lexicon.words = arrays["words"].tobytes().decode().split("\n")
        lexicon.word_id = dict(zip(lexicon.words, range(len(lexicon.words)), strict=True))
        lexicon.pronunciation_word = arrays["pronunciation_word"]
        lexicon.offsets, lexicon.phones = arrays["offsets"], arrays["phones"]
        return lexicon

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """words uint8 (UTF-8, a line each), pronunciation_word int32 [P], offsets int64 [P + 1], phones uint8.

        `from_arrays` makes the lexicon of them faster than `from_file` does of text.
        """
        return {
            "words": np.frombuffer("\n".join(self.words).encode(), np.uint8),
            "pronunciation_word": self.pronunciation_word,
            "offsets": self.offsets,
            "phones": self.phones,
        }

    def to_text(self) -> str:
        """The text `from_text` reads."""
        lines = []
        for row, word in enumerate(self.pronunciation_word.tolist()):
            phones = self.phones[self.offsets[row] : self.offsets[row + 1]].tolist()
            lines.append(f"{self.words[word]}\t{' '.join(PHONES[phone - 1] for phone in phones)}\n")
        return "".join(lines)

    def save(self, path: str | Path) -> None:
        """Writes a lexicon file, UTF-8."""
        Path(path).write_text(self.to_text(), encoding="utf-8")


def _read_plain(content: bytes) -> tuple[list[str], NDArray[np.int64], NDArray[np.uint8]] | None:
    """`Lexicon.from_text`, ten times as fast, of a file without oddities; None for all others.

    Returns words [P], lengths [P] and all phones. What is odd is for `from_text` to judge.
    """
    at = np.frombuffer(content, np.uint8)
    tabs, ends = np.flatnonzero(at == ord("\t")), np.flatnonzero(at == ord("\n"))
    controls = np.count_nonzero(at < ord(" ")) - len(tabs) - len(ends)
    if controls or not content.isascii() or not content.endswith(b"\n") or len(tabs) != len(ends):
        return None
    starts = np.concatenate(([0], ends[:-1] + 1))
    if not ((starts < tabs) & (tabs < ends)).all():
        return None
    space = at <= ord(" ")
    first = np.flatnonzero(~space[1:] & space[:-1] & (at[:-1] != ord("\n"))) + 1  # letter of each phone
    line = np.searchsorted(ends, first)
    lengths = np.bincount(line, minlength=len(ends))
    has_second = ~space[first + 1]
    ids = _PHONE_OF_LETTERS[at[first].astype(np.int64) * 256 + at[first + 1] * has_second]
    if (first < tabs[line]).any() or not lengths.all() or not ids.all() or not space[first + 1 + has_second].all():
        return None
    text = content.decode("ascii")
    words = [text[start:tab] for start, tab in zip(starts.tolist(), tabs.tolist(), strict=True)]
    return words, lengths, ids


_PHONE_OF_LETTERS = np.zeros(1 << 16, np.uint8)  # by the codes of its letters, 0 for a second that it lacks
for _phone, _id in PHONE_ID.items():
    _PHONE_OF_LETTERS[int.from_bytes(_phone.encode().ljust(2, b"\0"), "big")] = _id


class TreeArrays(NamedTuple):
    """The tree as numba sees it; node 0 is the root. K nodes, breadth first, E word ends."""

    first_child: NDArray[np.int32]  # [K + 1]; children of k are first_child[k] .. first_child[k + 1], by phone
    child_mask: NDArray[np.uint64]  # [K]; bit p is set if there is a child of phone p
    phone: NDArray[np.uint8]  # [K]; 0 at the root
    first_end: NDArray[np.int32]  # [K + 1]
    end_word: NDArray[np.int32]  # [E]; words that end at node k are first_end[k] .. first_end[k + 1]
    look_ahead: NDArray[np.float32]  # [K]; best unigram log probability of any word at or below; 0 at the root


@dataclass(frozen=True)
class LexiconTree:
    """Prefix tree of all pronunciations; words with the same sounds share their node."""

    arrays: TreeArrays
    words: list[str]

    @property
    def num_nodes(self) -> int:
        """Number of nodes, the root included."""
        return len(self.arrays.phone)

    @classmethod
    def build(cls, lexicon: Lexicon, unigram_log_probs: NDArray[np.float32]) -> LexiconTree:
        """Builds the tree; ``unigram_log_probs`` [W], natural log, feed the look-ahead.

        :raises InputError: the lexicon is empty, or there is not one finite log probability a word.
        """
        num_rows = len(lexicon.pronunciation_word)
        if not num_rows:
            raise InputError("a lexicon needs at least one word")
        if unigram_log_probs.shape != (len(lexicon),) or not np.isfinite(unigram_log_probs).all():
            raise InputError("the look-ahead needs one finite log probability a word")
        lengths = np.diff(lexicon.offsets)
        longest = int(lengths.max())
        table = np.zeros((num_rows, longest), np.uint8)  # [P, longest], zero padded
        table[np.arange(longest) < lengths[:, None]] = lexicon.phones
        order = np.argsort(table.view(f"S{longest}")[:, 0], kind="stable")
        table, lengths = table[order], lengths[order]
        differs = table[1:] != table[:-1]
        shared = np.zeros(num_rows, np.int64)  # phones shared with the row before
        shared[1:] = np.where(differs.any(axis=1), differs.argmax(axis=1), longest)

        # Sorted rows make the nodes of one depth sorted too, so that siblings are neighbours at every depth.
        parents = [np.full(1, -1, np.int64)]
        phones = [np.zeros(1, np.uint8)]
        node_of_row = np.zeros(num_rows, np.int64)  # the node of the row's first `depth` phones
        level_starts = [0, 1]
        for depth in range(1, longest + 1):
            rows = np.flatnonzero(lengths >= depth)
            new = shared[rows] < depth
            new[0] = True
            parents.append(node_of_row[rows[new]])
            phones.append(table[rows[new], depth - 1])
            node_of_row[rows] = level_starts[-1] + np.cumsum(new) - 1
            level_starts.append(level_starts[-1] + int(new.sum()))
        parent = np.concatenate(parents)
        phone = np.concatenate(phones)
        num_nodes = len(parent)
        first_child = np.concatenate([[1], 1 + np.cumsum(np.bincount(parent[1:], minlength=num_nodes))])
        child_mask = np.zeros(num_nodes, np.uint64)
        np.bitwise_or.at(child_mask, parent[1:], np.uint64(1) << phone[1:].astype(np.uint64))

        # Sorted here, since `np.unique` hashes whole numbers, which takes sixty times as long.
        ends = np.sort(node_of_row * len(lexicon) + lexicon.pronunciation_word[order])
        ends = ends[np.diff(ends, prepend=-1) > 0]
        end_node, end_word = ends // len(lexicon), ends % len(lexicon)
        first_end = np.concatenate([[0], np.cumsum(np.bincount(end_node, minlength=num_nodes))])
        look_ahead = np.full(num_nodes, -np.inf, np.float32)
        np.maximum.at(look_ahead, end_node, unigram_log_probs[end_word])
        for start, end in zip(level_starts[-2:0:-1], level_starts[:1:-1], strict=True):
            np.maximum.at(look_ahead, parent[start:end], look_ahead[start:end])
        look_ahead[ROOT] = 0.0
        arrays = TreeArrays(
            first_child.astype(np.int32),
            child_mask,
            phone,
            first_end.astype(np.int32),
            end_word.astype(np.int32),
            look_ahead,
        )
        return cls(arrays, lexicon.words)
