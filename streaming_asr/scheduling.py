"""Owns whose turn it is, and what of each stream waits for it. Pure: no threads, no clock of its own."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from .audio import Samples
from .messages import Reason

BURST_RATE = 2.0  # times real time: as fast as a stream's audio falls due; faster audio uses what time is left
FILL_SHARE = 4  # a step waits for a quarter of the streams that take one in each chunk, a quarter of a chunk at most
PATIENCE_SECONDS = 0.25  # the longest that a step falls due later because its stream was ahead

K = TypeVar("K", bound=Hashable)


class Scheduler(Generic[K]):
    """Says whose step is next: earliest due first, one step a stream and batch.

    A step is due as soon as it is offered, but no sooner than ``chunk_seconds / BURST_RATE`` after the stream's last
    one: a file sent at once gets twice real time, as every stream behind its time does, in turns with the others;
    more it gets from the time that they leave. So a live stream waits for one step of every other at most. What is not
    due yet is still taken when nothing else is there. All times are on the caller's clock.

    A step costs much of its time once for all streams in it. So it is better begun a little later, with those that are
    ready by then (`wait_seconds`); who is alone, or one of a few, waits for nobody.
    """

    def __init__(self, chunk_seconds: float) -> None:
        self._spacing = chunk_seconds / BURST_RATE
        self._waiting: dict[K, tuple[float, int]] = {}  # due, order of arrival
        self._last_due: dict[K, float] = {}
        self._offered: dict[K, float] = {}  # when last, earliest first
        self._chunk_seconds = chunk_seconds
        self._offers = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, key: K, now: float) -> bool:
        """`key` can take a step; false: an offer of it waits already, and this one has no effect."""
        if key in self._waiting:
            return False
        due = min(max(now, self._last_due.get(key, -math.inf) + self._spacing), now + PATIENCE_SECONDS)
        self._last_due[key] = due
        self._offers += 1
        self._offered.pop(key, None)
        self._offered[key] = now
        self._waiting[key] = due, self._offers
        return True

    def wait_seconds(self, now: float) -> float:
        """How long others may be waited for before the next `take`; 0 if enough are there, or none."""
        begun = now - self._chunk_seconds
        num_live = sum(1 for _ in itertools.takewhile(lambda at: at > begun, reversed(self._offered.values())))
        if not self._waiting or len(self._waiting) >= num_live // FILL_SHARE:
            return 0.0
        first = min(self._offered[key] for key in self._waiting)
        return max(0.0, first + self._chunk_seconds / FILL_SHARE - now)

    def take(self, most: int) -> list[K]:
        """The keys of the next batch, removed from those that wait."""
        batch = heapq.nsmallest(most, self._waiting, key=self._waiting.__getitem__)
        for key in batch:
            del self._waiting[key]
        return batch

    def due(self, key: K) -> float:
        """When the last step that was offered for `key` fell due."""
        return self._last_due[key]

    def offered(self, key: K) -> float:
        """When that step was offered: since then it waits, or waited, for its turn."""
        return self._offered[key]

    def forget(self, key: K) -> None:
        """`key` is gone."""
        self._waiting.pop(key, None)
        self._last_due.pop(key, None)
        self._offered.pop(key, None)


@dataclass
class _Block:
    samples: Samples  # [block_samples], filled up to `length`
    length: int = 0


class Marker:
    """A place in a stream's audio of which its owner wants to know when everything before it was recognized."""


MARKER = Marker()


class Backlog:
    """Audio, flushes and markers that wait for the worker, in order. Packets of any size share fixed blocks.

    Not thread-safe.
    """

    def __init__(self, block_samples: int) -> None:
        self._block_samples = block_samples
        self._items: deque[_Block | Reason | Marker] = deque()
        self.num_samples = 0
        self.num_requests = 0  # flushes and markers

    def __bool__(self) -> bool:
        return bool(self._items)

    def holds(self, num_samples: int) -> bool:
        """Whether so much audio is there, or anything that is to be answered however little there is."""
        return bool(self._items) and (self.num_samples >= num_samples or self.num_requests > 0)

    def append(self, samples: Samples) -> None:
        """Copies float32 [N] to the end."""
        self.num_samples += len(samples)
        while len(samples):
            last = self._items[-1] if self._items else None
            if not isinstance(last, _Block) or last.length == self._block_samples:
                last = _Block(np.empty(self._block_samples, np.float32))
                self._items.append(last)
            taken = samples[: self._block_samples - last.length]
            last.samples[last.length : last.length + len(taken)] = taken
            last.length += len(taken)
            samples = samples[len(taken) :]

    def append_flush(self, reason: Reason) -> None:
        """Marks this place for a flush."""
        self.num_requests += 1
        self._items.append(reason)

    def append_marker(self) -> None:
        """Marks this place."""
        self.num_requests += 1
        self._items.append(MARKER)

    def take(self) -> Samples | Reason | Marker:
        """The first block, or the flush or marker that comes first."""
        item = self._items.popleft()
        if not isinstance(item, _Block):
            self.num_requests -= 1
            return item
        self.num_samples -= item.length
        return item.samples[: item.length]

    def clear(self) -> None:
        """Drops everything."""
        self._items.clear()
        self.num_samples = self.num_requests = 0
