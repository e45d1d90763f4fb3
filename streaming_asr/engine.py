"""Owns the workers that all streams are shared among: threads, or, where a process can be forked, processes.

A stream stays with its worker. Of a worker about half is compiled and runs without the interpreter's lock; the rest,
and the event loop, would take turns at it in one process. Knows neither sockets nor what a worker does.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence

from .handle import Callbacks, Handle
from .limits import MAX_BACKLOG_SECONDS
from .messages import Event, StreamOptions
from .watchdog import STALL_SECONDS, Watchdog
from .worker import (
    MAX_ABANDONED,
    MAX_BATCH,
    EngineRecognizer,
    StepReport,
    Worker,
)
from .worker_process import RemoteHandle, Usage, WorkerProcess, can_fork, give_back_free_memory

MAX_WORKERS = 4  # by default

StreamHandle = Handle | RemoteHandle


def num_usable_cores() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Engine:
    """Runs all streams of one recognizer on several workers, each stream on the one that had fewest when it came."""

    def __init__(
        self,
        recognizer: EngineRecognizer,
        num_workers: int = 1,
        max_batch: int = MAX_BATCH,
        max_backlog_seconds: float = MAX_BACKLOG_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        stall_seconds: float = STALL_SECONDS,
        on_step: Callable[[StepReport], None] = lambda report: None,
    ) -> None:
        """`stall_seconds` is for the workers' threads, and `clock`, unless those are in other processes.

        `on_step` is called on such a thread, or, for other processes, on the event loop.
        """
        self._workers: Sequence[Worker | WorkerProcess]
        if recognizer.can_fork and can_fork():
            self._workers = [
                WorkerProcess(recognizer, max_batch, max_backlog_seconds, stall_seconds, on_step)
                for _ in range(num_workers)
            ]
        else:
            self._workers = [
                Worker(recognizer, max_batch, max_backlog_seconds, clock, Watchdog(stall_seconds), on_step)
                for _ in range(num_workers)
            ]

    @property
    def num_streams(self) -> int:
        """Streams that are open, or closed but not yet given back."""
        return sum(worker.num_streams for worker in self._workers)

    @property
    def is_hopeless(self) -> bool:
        """Whether so many threads of this process stood still that only another one helps."""
        threads = sum(worker.num_abandoned for worker in self._workers if isinstance(worker, Worker))
        return threads >= MAX_ABANDONED

    @property
    def usage(self) -> Usage:
        """Of the workers' processes, if they have their own."""
        each = [worker.usage for worker in self._workers if isinstance(worker, WorkerProcess)]
        return Usage(sum(one.cpu_seconds for one in each), sum(one.resident_bytes for one in each))

    def start(self) -> None:
        """Starts the workers; events will be delivered on the event loop that this is called from.

        Raises `OSError` if a process cannot be forked.
        """
        if any(isinstance(worker, WorkerProcess) for worker in self._workers):
            give_back_free_memory()
        for worker in self._workers:
            worker.start()

    async def stop(self) -> None:
        """Ends the workers after the steps under way and gives all streams back."""
        await asyncio.gather(*(worker.stop() for worker in self._workers))

    def supervise(self) -> bool:
        """`Worker.supervise` of all of them; whether any had to be replaced."""
        replaced = [worker.supervise() for worker in self._workers]  # all: `any` would stop at the first
        return any(replaced)

    def open(
        self,
        options: StreamOptions,
        deliver: Callable[[list[Event]], None],
        fail: Callable[[], None] = lambda: None,
        reached: Callable[[], None] = lambda: None,
    ) -> StreamHandle:
        """A new stream; what it is given is called on the event loop, see `Callbacks`."""
        worker = min(self._workers, key=lambda each: each.num_streams)
        return worker.open(options, Callbacks(deliver, fail, reached))
