"""Owns a stream's handle: what its session gives, what of it waits for the worker, and what the session is told.

The session never waits, unless it asks to with `Handle.wait_capacity`; it is told on the event loop. Knows nothing of
the stream itself, or of when the worker gets to it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .audio import SAMPLE_RATE, Samples
from .logs import log_failure
from .messages import Event, Reason, StreamOptions
from .scheduling import Backlog, Marker

logger = logging.getLogger(__name__)

MAX_REQUESTS = (
    64  # flushes and markers of one stream that wait, from which its sender is to: each may cost a block or some steps
)
TELL_SAMPLES = 4000  # 0.25 s: how much may have been taken in hand before `Callbacks.taken` says so


def tell(news: Callable[[], None], fail: Callable[[], None]) -> None:
    """On the event loop: lets a session have its news. One that raises, whatever its protocol does, fails instead of
    waiting for what it asked for, and the others hear theirs all the same.
    """
    try:
        news()
    except Exception as error:
        log_failure(logger, "telling a session", error)
        asyncio.get_running_loop().call_soon(fail)  # which may raise too


@dataclass(frozen=True)
class Callbacks:
    """What a stream's owner is told, on the event loop."""

    deliver: Callable[[list[Event]], None]  # what a step found
    fail: Callable[[], None] = lambda: None  # once, if it broke
    reached: Callable[[], None] = lambda: None  # once for each `Handle.mark`, after the events that came before it
    # For an owner that does not see the handle itself:
    taken: Callable[[int, int], None] | None = None  # so many samples and requests wait no longer, of all so far; …
    gone: Callable[[], None] = lambda: None  # … and the stream was given back


class HandleWorker(Protocol):
    """What a handle needs of `worker.Worker`."""

    max_backlog_seconds: float  # of audio, from which its sender is to wait
    block_samples: int  # in a full block of the backlog; the most that the worker waits for
    wake: threading.Condition  # guards what waits

    def nudge(self, handle: Handle) -> None:
        """Has the worker look at a handle. To be called with ``wake`` held."""

    def on_loop(self, call: Callable[..., None], *args: Any) -> None:
        """Makes a call on the event loop."""


class Handle:
    """One stream, as its session sees it, from any thread, but for `wait_capacity`; and the worker's end of it."""

    def __init__(self, worker: HandleWorker, options: StreamOptions, callbacks: Callbacks) -> None:
        self.options = options
        self._worker = worker
        self._callbacks = callbacks
        self._backlog = Backlog(worker.block_samples)
        self._missing_samples = 0  # less than this need not wake the worker; what it found at its last look
        self._has_capacity: asyncio.Event | None = None  # set by the worker for who waits
        self._closed = False
        self._taken_samples = self._taken_requests = 0  # out of the backlog; the worker's alone
        self._told_samples = 0  # of them, by the last `taken`; the same

    @property
    def backlog_seconds(self) -> float:
        """Audio pushed and not yet begun."""
        return self._backlog.num_samples / SAMPLE_RATE

    @property
    def has_capacity(self) -> bool:
        """Whether the backlog is below its limits."""
        too_long = self.backlog_seconds >= self._worker.max_backlog_seconds
        return not too_long and self._backlog.num_requests < MAX_REQUESTS

    def push(self, samples: Samples) -> None:
        """Appends audio: float32 [N], 16 kHz mono. Never blocks; see `wait_capacity`."""
        with self._worker.wake:
            if not self._closed:
                self._backlog.append(samples)
                if self._backlog.holds(self._missing_samples):
                    self._worker.nudge(self)

    def flush(self, reason: Reason) -> None:
        """Settles everything pushed so far into one `Final` with this reason."""
        with self._worker.wake:
            if not self._closed:
                self._backlog.append_flush(reason)
                self._worker.nudge(self)

    def mark(self) -> None:
        """Has ``reached`` called when everything pushed so far was recognized as far as it can be."""
        with self._worker.wake:
            if not self._closed:
                self._backlog.append_marker()
                self._worker.nudge(self)

    def close(self) -> None:
        """Gives the stream back; nothing is delivered any more once this was called on the event loop."""
        with self._worker.wake:
            self._closed = True
            self._backlog.clear()
            self._worker.nudge(self)
        if self._has_capacity is not None:
            self._worker.on_loop(self._has_capacity.set)

    async def wait_capacity(self) -> bool:
        """Waits until the backlog is below its limits, or the handle closed; says whether it had to."""
        if self._closed or self.has_capacity:
            return False
        with self._worker.wake:
            self._has_capacity = asyncio.Event()
            if self._closed or self.has_capacity:
                self._has_capacity.set()
        await self._has_capacity.wait()
        self._has_capacity = None
        return True

    # --- for the worker, on its thread ---

    @property
    def is_closed(self) -> bool:
        """Whether the stream is to be given back."""
        return self._closed

    def take(self, missing_samples: int) -> Samples | Reason | Marker | None:
        """What came first of what waits. None: it is less than the ``missing_samples``, with nothing to be answered;
        the worker will be nudged when there is more.
        """
        with self._worker.wake:
            self._missing_samples = min(missing_samples, self._worker.block_samples)
            if not self._backlog.holds(self._missing_samples):
                return None
            item = self._backlog.take()
            waiting = self._has_capacity  # who was woken takes it back at any time
            if waiting is not None and self.has_capacity:
                self._worker.on_loop(waiting.set)
        self._tell_taken(item)
        return item

    def _tell_taken(self, item: Samples | Reason | Marker) -> None:
        taken = self._callbacks.taken
        if taken is None:
            return
        if isinstance(item, np.ndarray):
            self._taken_samples += len(item)
            if self._taken_samples - self._told_samples < TELL_SAMPLES:
                return
        else:
            self._taken_requests += 1
        self._told_samples = self._taken_samples
        self._worker.on_loop(taken, self._taken_samples, self._taken_requests)

    # --- from the worker, on the event loop ---

    def on_events(self, events: list[Event]) -> None:
        """What a step found."""
        if not self._closed:
            self._callbacks.deliver(events)

    def on_reached(self) -> None:
        """The oldest mark that was not reached yet is."""
        if not self._closed:
            self._callbacks.reached()

    def on_failure(self) -> None:
        """The stream is lost."""
        if not self._closed:
            self.close()
            self._callbacks.fail()

    def on_gone(self) -> None:
        """The stream was given back."""
        self._callbacks.gone()
