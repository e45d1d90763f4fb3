"""Owns what one stream's search holds between two steps, and the words that only one stream knows: an `Overlay`, a
second tree beside the lexicon's.

Must not know how it is searched on from there: see `decoder`.
"""

from __future__ import annotations

import mmap

import numpy as np
from numpy.typing import NDArray

from streaming_asr.errors import InputError
from streaming_asr.lexicon import Lexicon, LexiconTree
from streaming_asr.search_state import FRAME, NUM_ALIVE

MAX_OVERLAY_PRONUNCIATIONS = 300


class Overlay:
    """Words beside the lexicon, W, W + 1, …, in a tree of their own; never changes, so that states may share it.

    Tokens in it have its nodes' numbers plus K, the number of nodes of the lexicon's tree. To the language model each
    of its words is ``<unk>``.
    """

    def __init__(self, lexicon: Lexicon, scores: NDArray[np.float32]) -> None:
        """``scores`` [O]: of each word as a unigram, weighted, with any bonus; they take the place of ``<unk>``'s.

        :raises InputError: there is no word, more than 300 pronunciations, or not one finite score a word.
        """
        arrays = LexiconTree.build(lexicon, scores).arrays
        if len(lexicon.pronunciation_word) > MAX_OVERLAY_PRONUNCIATIONS:
            raise InputError(f"there may be {MAX_OVERLAY_PRONUNCIATIONS} pronunciations of words beside the lexicon")
        self.words = lexicon.words
        self._block = np.concatenate(
            [
                np.array([len(arrays.phone), len(arrays.end_word), len(scores)], np.int32),
                arrays.first_child,
                arrays.first_end,
                arrays.phone.astype(np.int32),
                arrays.look_ahead.view(np.int32),
                arrays.end_word,
                scores.astype(np.float32).view(np.int32),
            ]
        )
        self.address = int(self._block.ctypes.data)


_NO_OVERLAY = np.array([1, 0, 0, 1, 1, 0, 0, 0, 0], np.int32)  # a root


def zeros(size: int) -> NDArray[np.int32]:
    """int32 [size], in pages of its own: those that were never written to take no memory, and all are given back."""
    return np.frombuffer(mmap.mmap(-1, 4 * size), np.int32)


class DecoderState:
    """The search of one stream; made by `Decoder.start`, changed by one thread at a time."""

    __slots__ = ("_block", "address", "bonus", "bonus_address", "overlay", "overlay_address", "rows")

    def __init__(
        self,
        block: NDArray[np.int32],
        bonus: NDArray[np.float32] | None,
        overlay: Overlay | None,
    ) -> None:
        self.block = block
        self.bonus = bonus
        self.bonus_address = 0 if bonus is None else int(bonus.ctypes.data)
        self.overlay = overlay
        self.overlay_address = int(_NO_OVERLAY.ctypes.data) if overlay is None else overlay.address
        # Of the neural language model, of each word node: its row [R], and the piece that is pending (see `NeuralLM`).
        self.rows: dict[int, tuple[NDArray[np.float16], int]] = {}

    @property
    def block(self) -> NDArray[np.int32]:
        """The stream's array, int32; see `search_state`."""
        return self._block

    @block.setter
    def block(self, block: NDArray[np.int32]) -> None:
        self._block = block
        self.address = int(block.ctypes.data)

    @property
    def num_frames(self) -> int:
        """Frames seen so far."""
        return int(self.block[FRAME])

    @property
    def num_tokens(self) -> int:
        """Tokens alive."""
        return int(self.block[NUM_ALIVE])

    @property
    def nbytes(self) -> int:
        """Memory held at most; grows by 16 bytes a stable word, and up to 64 rows of the neural language model."""
        return self.block.nbytes + sum(row.nbytes for row, _ in self.rows.values())

    def copy(self) -> DecoderState:
        """An independent state that continues from here."""
        block = zeros(len(self.block))
        block[:] = self.block
        state = DecoderState(block, self.bonus, self.overlay)
        state.rows = dict(self.rows)  # a row never changes
        return state
