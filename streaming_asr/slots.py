"""Owns the network's states of all streams that are awake: each is a row of the same few tensors.

A step reads and writes the rows of its streams with one operation a tensor, however many they are. Must not know
streams or what the network computes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .model import ModelState

FIRST_SLOTS = 16  # to begin with; twice as many whenever all are taken
BATCH_DIMS = 0, 1, 1, 0  # of a state's parts


class Slot:
    """A row, the holder's own until this object goes."""

    def __init__(self, row: int, free: list[int]) -> None:
        self.row = row
        self._free = free

    def __del__(self) -> None:
        self._free.append(self.row)


class StateSlots:
    """The rows of one network. May be used from several threads, each with slots of its own."""

    def __init__(self, initial_state: Callable[[int], ModelState]) -> None:
        """`initial_state`: the network's."""
        self._initial_state = initial_state
        self._states = initial_state(FIRST_SLOTS)
        self._free = list(range(FIRST_SLOTS))[::-1]
        self._lock = threading.Lock()  # held while rows are written, since they may move

    @property
    def num_taken(self) -> int:
        """Slots that somebody holds."""
        return self._states.context.shape[0] - len(self._free)

    @torch.inference_mode()
    def take(self) -> Slot:
        """A slot with the state before the first sample."""
        with self._lock:
            if not self._free:
                self._grow()
            slot = Slot(self._free.pop(), self._free)
            for states, dim, initial in zip(self._states, BATCH_DIMS, self._initial_state(1), strict=True):
                states.narrow(dim, slot.row, 1).copy_(initial)
        return slot

    def rows(self, slots: Sequence[Slot]) -> Tensor:
        """Where these are, int64 [B], for `read` and `write`."""
        return torch.tensor([slot.row for slot in slots], device=self._states.context.device)

    @torch.inference_mode()
    def read(self, rows: Tensor) -> ModelState:
        """A copy of the states of ``rows`` [B]."""
        parts = zip(self._states, BATCH_DIMS, strict=True)
        return ModelState(*(states.index_select(dim, rows) for states, dim in parts))

    @torch.inference_mode()
    def write(self, rows: Tensor, state: ModelState) -> None:
        """Makes ``state`` that of ``rows`` [B]."""
        with self._lock:
            for states, dim, part in zip(self._states, BATCH_DIMS, state, strict=True):
                states.index_copy_(dim, rows, part)

    def _grow(self) -> None:
        size = self._states.context.shape[0]
        parts = zip(self._states, self._initial_state(size), BATCH_DIMS, strict=True)
        self._states = ModelState(*(torch.cat((states, new), dim) for states, new, dim in parts))
        self._free.extend(range(size, 2 * size)[::-1])
