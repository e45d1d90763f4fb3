"""Owns a worker in a process of its own: forked from the server's with the model in its memory.

What is Python of a worker so takes no turns at one interpreter's lock with the event loop and the other workers, and
whatever befalls it, the sockets are served. The child runs a `worker.Worker` and does what it is told over a `channel`;
here stands `WorkerProcess`, with handles that look like the worker's own. Neither trusts the other to be alive: a child
that ends, or tells nothing for a while in which it could have, is replaced, and all its streams are lost; one whose
server is gone ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import enum
import functools
import gc
import itertools
import logging
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import numpy as np

from .audio import SAMPLE_RATE, Samples
from .channel import Channel
from .handle import MAX_REQUESTS, TELL_SAMPLES, Callbacks, Handle, tell
from .logs import log_failure
from .messages import Event, Reason, StreamOptions
from .proc import PROC, read_stat
from .watchdog import Watchdog
from .worker import (
    MAX_ABANDONED,
    STOP_SECONDS,
    EngineRecognizer,
    StepReport,
    Worker,
    delayed,
)

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 0.25  # between two of a child
STILL_SECONDS = 3.0  # without one, although it used, or could have had, a processor
AWAY_SECONDS = 1.0  # between two looks for one, from which it may have come unread
SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)

_encode = msgspec.msgpack.Encoder().encode
_decode_options = msgspec.msgpack.Decoder(StreamOptions).decode
_decode_events = msgspec.msgpack.Decoder(tuple[float, list[Event]]).decode  # when they left, what they are
_decode_reason = msgspec.msgpack.Decoder(Reason).decode
_decode_report = msgspec.msgpack.Decoder(StepReport).decode
_TAKEN = struct.Struct("<QQ")  # samples, requests
_HEARTBEAT = struct.Struct(
    "<II"
)  # threads that were replaced since the last, threads that stood still and are not back


class Kind(enum.IntEnum):
    """Of a message; the first five go to the worker."""

    OPEN = 0
    PUSH = 1
    FLUSH = 2
    MARK = 3
    CLOSE = 4
    EVENTS = 5
    REACHED = 6
    TAKEN = 7
    FAILED = 8
    GONE = 9
    STEP = 10
    HEARTBEAT = 11


def can_fork() -> bool:
    """Whether a forked process goes on with all libraries here, and /proc tells how it is."""
    return sys.platform == "linux"


def give_back_free_memory() -> None:
    """To the system, as what is free when a process forks is, once it is used again, there once for each process."""
    with contextlib.suppress(AttributeError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)


# --- in the server's process -----------------------------------------------------------------------------------------


class RemoteHandle:
    """One stream of a `WorkerProcess`, as its session sees it. To be used on the event loop; see `handle.Handle`."""

    def __init__(self, worker: WorkerProcess, number: int, callbacks: Callbacks) -> None:
        self._worker = worker
        self._number = number
        self._callbacks = callbacks
        self._has_capacity = asyncio.Event()
        self._closed = False
        self._pushed_samples = self._taken_samples = 0  # since the start
        self._num_requests = self._taken_requests = 0  # the same; flushes and marks

    @property
    def backlog_seconds(self) -> float:
        """Audio pushed and not yet begun, and up to `TELL_SAMPLES` of what was."""
        return 0.0 if self._closed else (self._pushed_samples - self._taken_samples) / SAMPLE_RATE

    @property
    def has_capacity(self) -> bool:
        """Whether the backlog is below its limits."""
        too_long = self.backlog_seconds >= self._worker.max_waiting_seconds
        return not too_long and self._num_requests - self._taken_requests < MAX_REQUESTS

    def push(self, samples: Samples) -> None:
        """Appends audio: float32 [N], 16 kHz mono. Never blocks; see `wait_capacity`."""
        if not self._closed:
            self._pushed_samples += len(samples)
            self._worker.send(Kind.PUSH, self._number, samples.astype(np.float32, copy=False).tobytes())

    def flush(self, reason: Reason) -> None:
        """Settles everything pushed so far into one `Final` with this reason."""
        self._request(Kind.FLUSH, _encode(reason))

    def mark(self) -> None:
        """Has ``reached`` called when everything pushed so far was recognized as far as it can be."""
        self._request(Kind.MARK)

    def _request(self, kind: Kind, payload: bytes = b"") -> None:
        if not self._closed:
            self._num_requests += 1
            self._worker.send(kind, self._number, payload)

    def close(self) -> None:
        """Gives the stream back; nothing is delivered any more."""
        if not self._closed:
            self._closed = True
            self._worker.send(Kind.CLOSE, self._number)
            self._has_capacity.set()

    async def wait_capacity(self) -> bool:
        """Waits until the backlog is below its limits, or the handle closed; says whether it had to."""
        if self._closed or self.has_capacity:
            return False
        self._has_capacity.clear()
        await self._has_capacity.wait()
        return True

    # --- from the worker ---

    def on_events(self, told_at: float, events: list[Event]) -> None:
        """What a step found; `told_at` on the monotonic clock, which all processes share."""
        if not self._closed:
            on_the_way = time.monotonic() - told_at
            self._callbacks.deliver([delayed(event, on_the_way) for event in events])

    def on_reached(self) -> None:
        """The oldest mark that was not reached yet is."""
        if not self._closed:
            self._callbacks.reached()

    def on_taken(self, num_samples: int, num_requests: int) -> None:
        """So much waits no longer, of all since the start."""
        self._taken_samples, self._taken_requests = num_samples, num_requests
        if self.has_capacity:
            self._has_capacity.set()

    def on_failure(self) -> None:
        """The stream is lost."""
        if not self._closed:
            self.close()
            self._callbacks.fail()


@dataclass(frozen=True)
class Usage:
    """Of a child, or of several: processor time so far, and memory now, with what it shares with the server."""

    cpu_seconds: float = 0.0
    resident_bytes: int = 0


def _look_at(pid: int) -> tuple[Usage, bool]:
    """What a process uses, and whether any of its threads runs or waits for nothing but a processor."""
    folder = PROC / str(pid)
    whole = read_stat(folder)
    is_runnable = any(read_stat(thread).state == "R" for thread in (folder / "task").iterdir())
    return Usage(whole.cpu_seconds, whole.resident_bytes), is_runnable


def _has_ended(pid: int, options: int) -> bool:
    """Whether `os.waitpid` says so, or that others, or nobody, are told: whoever started us may have wanted that."""
    try:
        return os.waitpid(pid, options) != (0, 0)
    except ChildProcessError:
        return True


class WorkerProcess:
    """A worker in a child of this process. All methods are to be called on the event loop."""

    def __init__(
        self,
        recognizer: EngineRecognizer,
        max_batch: int,
        max_backlog_seconds: float,
        stall_seconds: float,
        on_step: Callable[[StepReport], None],
    ) -> None:
        self._serve = functools.partial(_serve, recognizer, max_batch, max_backlog_seconds, stall_seconds)
        taken_unawares = TELL_SAMPLES / SAMPLE_RATE + recognizer.chunk_ms / 1000  # taken, or less than a step needs
        self.max_waiting_seconds = max_backlog_seconds + taken_unawares
        self._still_seconds = max(STILL_SECONDS, stall_seconds)
        self._on_step = on_step
        self._handles: dict[int, RemoteHandle] = {}
        self._numbers = itertools.count()
        self._channel: Channel | None = None  # None: there is no child, or it is on its way out
        self._pid = 0
        self._ending: list[int] = []  # children that are on their way out
        self._num_heartbeats = self._num_replaced = self._num_abandoned = 0
        self._watchdog = Watchdog(self._still_seconds)
        self._looked_at = 0.0
        self._usage = Usage()
        self._cpu_seconds_before = 0.0  # of children that there were

    @property
    def usage(self) -> Usage:
        """Of its children, as far as was seen at the last look."""
        return Usage(self._cpu_seconds_before + self._usage.cpu_seconds, self._usage.resident_bytes)

    @property
    def num_streams(self) -> int:
        """Streams that are open, or closed but not yet given back."""
        return len(self._handles)

    @property
    def num_abandoned(self) -> int:
        """Threads of the child that stood still and have not come back."""
        return self._num_abandoned

    def start(self) -> None:
        """Forks the child, unless a stream was opened before; events will be delivered on the running event loop.

        Raises `OSError` if it cannot.
        """
        if self._channel is not None:
            return
        ours, its = socket.socketpair()
        try:
            pid = os.fork()
        except OSError:
            ours.close()
            its.close()
            raise
        if pid == 0:
            _become_worker(its, self._serve)
        its.close()
        self._pid = pid
        self._cpu_seconds_before += self._usage.cpu_seconds
        self._usage = Usage()
        self._num_abandoned = 0
        self._watchdog = Watchdog(self._still_seconds)
        self._channel = Channel(ours, self._on_message, self._on_end)

    async def stop(self) -> None:
        """Ends the child after the step under way."""
        if self._channel is not None:
            self._channel.close()  # which it takes for the end
            self._channel = None
            self._ending.append(self._pid)
        self._handles.clear()
        waits = {asyncio.create_task(asyncio.to_thread(_has_ended, pid, 0)): pid for pid in self._ending}
        self._ending.clear()
        if not waits:
            return
        _, late = await asyncio.wait(waits, timeout=2 * STOP_SECONDS)
        for wait in late:
            logger.error("a worker process does not end; it is killed")
            os.kill(waits[wait], signal.SIGKILL)
        await asyncio.gather(*late)

    def open(self, options: StreamOptions, callbacks: Callbacks) -> RemoteHandle:
        """A new stream. Where there is no child, as it has just ended, one is forked, which `supervise` tells."""
        number = next(self._numbers)
        handle = RemoteHandle(self, number, callbacks)
        if self._channel is None:
            try:
                self.start()
            except OSError:  # as `supervise` will find, too
                asyncio.get_running_loop().call_soon(handle.on_failure)
                return handle
            self._num_replaced += 1
        self._handles[number] = handle
        self.send(Kind.OPEN, number, _encode(options))
        return handle

    def send(self, kind: Kind, stream: int, payload: bytes = b"") -> None:
        """Tells the child, if there is one."""
        if self._channel is not None:
            self._channel.send(kind, stream, payload)

    def supervise(self) -> bool:
        """Replaces the child if it ended, or it or too many of its threads do not get on.

        Says whether it had to, or the child a thread of its own.

        To be called a few times a second. Raises `OSError` if none can be forked; the next call tries again.
        """
        is_used_up = self._num_abandoned >= MAX_ABANDONED
        if self._channel is not None and (is_used_up or self._is_stalled()):
            self._lose("has too many threads that stand still" if is_used_up else "stood still")
            os.kill(self._pid, signal.SIGKILL)
        self._ending = [pid for pid in self._ending if not _has_ended(pid, os.WNOHANG)]
        replaced, self._num_replaced = self._num_replaced, 0
        if self._channel is None:
            self.start()
            return True
        return replaced > 0

    def _is_stalled(self) -> bool:
        try:
            usage, is_runnable = _look_at(self._pid)
        except OSError:  # it ended just now
            return False
        self._usage = usage
        now = time.monotonic()
        if now - self._looked_at > AWAY_SECONDS:
            self._num_heartbeats += 1  # as it may have told meanwhile
        self._looked_at = now
        return self._watchdog.is_stalled(now, self._num_heartbeats, usage.cpu_seconds, is_runnable)

    def _on_end(self) -> None:
        self._lose("ended")

    def _lose(self, what: str) -> None:
        assert self._channel is not None
        self._channel.close()
        self._channel = None
        self._ending.append(self._pid)
        handles, self._handles = list(self._handles.values()), {}
        logger.error("a worker process %s; it is replaced, and its %d streams are lost", what, len(handles))
        for handle in handles:
            tell(handle.on_failure, handle.on_failure)

    def _on_message(self, kind: int, stream: int, payload: bytes) -> None:
        if kind == Kind.STEP:
            self._on_step(_decode_report(payload))
            return
        if kind == Kind.HEARTBEAT:
            num_replaced, self._num_abandoned = _HEARTBEAT.unpack(payload)
            self._num_replaced += num_replaced
            self._num_heartbeats += 1
            return
        handle = self._handles.get(stream)
        if handle is None:
            return  # lost
        match kind:
            case Kind.EVENTS:
                tell(functools.partial(handle.on_events, *_decode_events(payload)), handle.on_failure)
            case Kind.REACHED:
                tell(handle.on_reached, handle.on_failure)
            case Kind.TAKEN:
                handle.on_taken(*_TAKEN.unpack(payload))
            case Kind.FAILED:
                del self._handles[stream]
                tell(handle.on_failure, handle.on_failure)
            case Kind.GONE:
                del self._handles[stream]


# --- in the child ----------------------------------------------------------------------------------------------------


def _become_worker(end: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Never returns. What was the server's is left alone: nothing of it is closed, finalized or run once more."""
    status = 1
    try:
        gc.freeze()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # they are the server's, which tells us to end by going
        ctypes.CDLL(None).prctl(SET_DEATH_SIGNAL, signal.SIGKILL)  # even if we could not hear of it
        for fd in map(int, os.listdir(PROC / "self" / "fd")):
            if fd > 2 and fd != end.fileno():  # an open socket or file of the server's would outlive it
                with contextlib.suppress(OSError):
                    os.close(fd)
        serve(end)
        status = 0
    except BaseException as error:
        log_failure(logger, "a worker process", error)
    finally:
        os._exit(status)


def _serve(
    recognizer: EngineRecognizer,
    max_batch: int,
    max_backlog_seconds: float,
    stall_seconds: float,
    end: socket.socket,
) -> None:
    asyncio.run(WorkerHost(end, recognizer, max_batch, max_backlog_seconds, stall_seconds).run())


class WorkerHost:
    """Does with a worker what comes over a channel, and tells what becomes of it, until the other end is gone."""

    def __init__(
        self,
        end: socket.socket,
        recognizer: EngineRecognizer,
        max_batch: int,
        max_backlog_seconds: float,
        stall_seconds: float,
    ) -> None:
        watchdog = Watchdog(stall_seconds)
        self._end = end
        self._worker = Worker(recognizer, max_batch, max_backlog_seconds, time.monotonic, watchdog, self._on_step)
        self._handles: dict[int, Handle] = {}

    async def run(self) -> None:
        """Returns when the channel has ended and all streams were given back."""
        ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._channel = Channel(self._end, self._on_message, ended.set)
        self._worker.start()
        while not ended.is_set():
            num_replaced = self._worker.supervise()
            self._tell(Kind.HEARTBEAT, 0, _HEARTBEAT.pack(num_replaced, self._worker.num_abandoned))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await ended.wait()
        await self._worker.stop()

    def _tell(self, kind: Kind, stream: int, payload: bytes = b"") -> None:
        self._channel.send(kind, stream, payload)

    def _on_step(self, report: StepReport) -> None:
        self._loop.call_soon_threadsafe(self._tell, Kind.STEP, 0, _encode(report))

    def _on_message(self, kind: int, stream: int, payload: bytes) -> None:
        if kind == Kind.OPEN:
            self._open(stream, _decode_options(payload))
            return
        handle = self._handles.get(stream)
        if handle is None:
            return  # it failed, and who tells us this has not heard of it
        match kind:
            case Kind.PUSH:
                handle.push(np.frombuffer(payload, np.float32))
            case Kind.FLUSH:
                handle.flush(_decode_reason(payload))
            case Kind.MARK:
                handle.mark()
            case Kind.CLOSE:
                del self._handles[stream]
                handle.close()

    def _open(self, stream: int, options: StreamOptions) -> None:
        def deliver(events: list[Event]) -> None:
            self._tell(Kind.EVENTS, stream, _encode((time.monotonic(), events)))

        def fail() -> None:
            del self._handles[stream]
            self._tell(Kind.FAILED, stream)

        def taken(num_samples: int, num_requests: int) -> None:
            self._tell(Kind.TAKEN, stream, _TAKEN.pack(num_samples, num_requests))

        def gone() -> None:
            if stream not in self._handles:  # or else it failed, which is told next
                self._tell(Kind.GONE, stream)

        reached = functools.partial(self._tell, Kind.REACHED, stream)
        self._handles[stream] = self._worker.open(options, Callbacks(deliver, fail, reached, taken, gone))
