"""Owns a worker: a thread that moves its streams on, in the fair order that `scheduling` says.

Everything that costs time (features, network, decoder) runs on that thread, which alone touches its streams. Callers
hold `Handle`s and never wait, unless they ask to with `Handle.wait_capacity`. Events come back on the event loop. A
thread that dies or stands still is replaced (`Worker.supervise`): the streams that it had in hand are lost, all others
go on. Knows nothing of sockets, of other processes, or of messages beyond the events it carries.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec
import numpy as np

from .admission import StepCost
from .audio import SAMPLE_RATE, Samples
from .logs import log_failure
from .messages import Event, Final, Partial, Reason, StreamOptions, Timings
from .proc import PROC, read_stat
from .scheduling import Backlog, Marker, Scheduler
from .watchdog import Watchdog

logger = logging.getLogger(__name__)

MAX_BATCH = 64  # streams in one model step
MAX_BACKLOG_SECONDS = 10.0  # of one stream's audio, from which its sender is to wait
MAX_REQUESTS = (
    64  # flushes and markers of one stream that wait, from which its sender is to: each may cost a block or some steps
)
MAX_ABANDONED = 4  # threads that stood still: from here on only another process helps
STOP_SECONDS = 5.0  # for the worker to end the step under way
TELL_SAMPLES = 4000  # 0.25 s: how much may have been taken in hand before `Callbacks.taken` says so
FEED_SAMPLES = 8000  # 0.5 s: at most so much of one stream goes through the front end at a turn


Stepped = list[Event] | Exception  # what a step made of one stream


class EngineStream(Protocol):
    """What the engine needs of `stream.Stream`."""

    @property
    def ready(self) -> bool:
        """Whether a step can be taken."""

    @property
    def missing_samples(self) -> int:
        """How much audio it takes at least until a step can be taken."""

    def push(self, samples: Samples) -> None:
        """Appends audio."""

    def flush(self, reason: Reason) -> None:
        """Settles what was pushed into one final."""

    def close(self) -> None:
        """Gives up the stream."""


class EngineRecognizer(Protocol):
    """What the engine and the server need of `recognizer.Recognizer`."""

    name: str
    chunk_ms: int  # of audio in a step
    first_chunk_ms: int  # in the first step, after a start or a flush
    language: str

    @property
    def can_fork(self) -> bool:
        """Whether a process that is forked from this one can go on with it, where processes are forked."""

    @property
    def search_seconds(self) -> float:
        """What the search took of the calling thread's last step, on the wall clock."""

    def stream(self, options: Any, /) -> EngineStream:
        """A new stream."""

    def step(self, streams: Sequence[Any], /) -> list[Stepped]:
        """One step for streams that are all ready: the events of each, or what ended it alone.

        If it raises, no stream has moved on. Several threads may step at once, each streams of its own.
        """

    def step_cost(self, kept_in: Path | None = None, /) -> StepCost:
        """What steps cost on this machine, measured now, or before and kept in a file."""


def is_runnable(thread: threading.Thread) -> bool:
    """Whether a thread runs or waits for nothing but a processor; false where the system does not say (see proc(5))."""
    try:
        return read_stat(PROC / "self" / "task" / str(thread.native_id)).state == "R"
    except OSError:
        return False


T = TypeVar("T")

# --- the worker ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepReport:
    """What a step cost."""

    queue_seconds: list[float]  # that each of its streams was ready and waited
    compute_seconds: float
    late_seconds: list[float]  # that it ended after it was due for each of them


class _Superseded(BaseException):
    """The worker that meets this was given up on: another has gone on with all streams but those it had in hand."""


@dataclass(frozen=True)
class Callbacks:
    """What a stream's owner is told, on the event loop."""

    deliver: Callable[[list[Event]], None]  # what a step found
    fail: Callable[[], None] = lambda: None  # once, if it broke
    reached: Callable[[], None] = lambda: None  # once for each `Handle.mark`, after the events that came before it
    # For an owner that does not see the handle itself:
    taken: Callable[[int, int], None] | None = None  # so many samples and requests wait no longer, of all so far; …
    gone: Callable[[], None] = lambda: None  # … and the stream was given back


class Handle:
    """One stream, as its session sees it. All methods may be called from any thread, except `wait_capacity`."""

    def __init__(self, worker: Worker, options: StreamOptions, callbacks: Callbacks) -> None:
        self._worker = worker
        self._options = options
        self._callbacks = callbacks
        self._taken_samples = self._taken_requests = 0  # out of the backlog; the worker's alone
        self._told_samples = 0  # of them, by the last `taken`; the same
        self._backlog = Backlog(worker.block_samples)
        self._has_capacity: asyncio.Event | None = None  # set by the worker for who waits
        self._closed = False
        self._missing_samples = 0  # less than this need not wake the worker; what it found at its last look
        self._stream: EngineStream | None = None  # the worker's alone
        self._ready_at = 0.0  # the same: since when it waits for its step

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
        with self._worker._wake:
            if not self._closed:
                self._backlog.append(samples)
                if self._backlog.holds(self._missing_samples):
                    self._worker._nudge(self)

    def flush(self, reason: Reason) -> None:
        """Settles everything pushed so far into one `Final` with this reason."""
        with self._worker._wake:
            if not self._closed:
                self._backlog.append_flush(reason)
                self._worker._nudge(self)

    def mark(self) -> None:
        """Has ``reached`` called when everything pushed so far was recognized as far as it can be."""
        with self._worker._wake:
            if not self._closed:
                self._backlog.append_marker()
                self._worker._nudge(self)

    def close(self) -> None:
        """Gives the stream back; nothing is delivered any more once this was called on the event loop."""
        with self._worker._wake:
            self._closed = True
            self._backlog.clear()
            self._worker._nudge(self)
        if self._has_capacity is not None:
            self._worker._on_loop(self._has_capacity.set)

    async def wait_capacity(self) -> bool:
        """Waits until the backlog is below its limits, or the handle closed; says whether it had to."""
        if self._closed or self.has_capacity:
            return False
        with self._worker._wake:
            self._has_capacity = asyncio.Event()
            if self._closed or self.has_capacity:
                self._has_capacity.set()
        await self._has_capacity.wait()
        self._has_capacity = None
        return True

    def _on_events(self, events: list[Event]) -> None:
        if not self._closed:
            self._callbacks.deliver(events)

    def _on_marker(self) -> None:
        if self._closed:
            return
        try:
            self._callbacks.reached()
        except Exception as error:
            log_failure(logger, "answering a marker", error)
            self._on_failure()

    def _on_failure(self) -> None:
        if not self._closed:
            self.close()
            self._callbacks.fail()


class Worker:
    """Runs its streams of one recognizer on one thread, batched."""

    def __init__(
        self,
        recognizer: EngineRecognizer,
        max_batch: int,
        max_backlog_seconds: float,
        clock: Callable[[], float],
        watchdog: Watchdog,
        on_step: Callable[[StepReport], None],
    ) -> None:
        """`on_step` is called on the worker's thread."""
        self.max_backlog_seconds = max(max_backlog_seconds, recognizer.chunk_ms / 1000)  # less may wait for the rest
        self.block_samples = recognizer.chunk_ms * SAMPLE_RATE // 1000
        self._recognizer = recognizer
        self._max_batch = max_batch
        self._clock = clock
        self._on_step = on_step
        self._scheduler = self._new_scheduler()  # the worker's alone
        self._wake = threading.Condition()  # guards the handles' backlogs and what follows
        self._nudged: dict[Handle, None] = {}  # handles with news, in order
        self._open: set[Handle] = set()
        self._stopping = False
        self._in_hand: list[Handle] | None = None  # what the worker works on now
        self._num_works = 0  # pieces of work taken in hand so far
        self._watchdog = watchdog
        self._abandoned: dict[threading.Thread, list[EngineStream]] = {}  # with streams that they may yet return with
        self._thread: threading.Thread | None = None
        # Asked for by each thread itself: for a thread that has ended there is no safe way to.
        self._cpu_clocks: weakref.WeakKeyDictionary[threading.Thread, int] = weakref.WeakKeyDictionary()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def num_streams(self) -> int:
        """Streams that are open, or closed but not yet given back."""
        return len(self._open)

    def start(self) -> None:
        """Starts the thread; events will be delivered on the event loop that this is called from."""
        self._loop = asyncio.get_running_loop()
        self._new_thread().start()

    async def stop(self) -> None:
        """Ends the thread after the step under way and gives all streams back."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, STOP_SECONDS)
            if self._thread.is_alive():
                logger.error("the worker does not end; its streams are left to it")

    @property
    def num_abandoned(self) -> int:
        """Threads that stood still and have not come back."""
        return len(self._abandoned)

    def supervise(self) -> bool:
        """Replaces the thread if it died or does not get on, and says whether it had to.

        To be called on the event loop, a few times a second. Raises `RuntimeError` if no thread can be started; the
        next call tries again.
        """
        with self._wake:
            thread = self._thread
            if thread is None or self._stopping:
                return False
            is_alive = thread.is_alive()
            if is_alive and not self._is_stalled(thread):
                return False
            lost, self._in_hand = self._in_hand or [], None
            streams = [handle._stream for handle in lost if handle._stream is not None]
            for handle in lost:
                handle._stream = None
                self._open.discard(handle)
            self._scheduler = self._new_scheduler()
            self._nudged = dict.fromkeys(self._open)
            if is_alive:
                self._abandoned[thread] = streams
            successor = self._new_thread()
        if not is_alive:
            self._close(streams)
        for handle in lost:
            handle._on_failure()
            handle._callbacks.gone()
        successor.start()
        logger.error(
            "the worker %s; it was replaced, and of %d streams %d are lost",
            "stood still" if is_alive else "died",
            len(lost) + len(self._open),
            len(lost),
        )
        return True

    def _is_stalled(self, thread: threading.Thread) -> bool:
        clock = self._cpu_clocks.get(thread)
        if clock is None:  # it has not begun yet
            return False
        try:
            cpu_seconds = time.clock_gettime(clock)
        except OSError:  # it died just now
            return False
        work = None if self._in_hand is None else self._num_works
        return self._watchdog.is_stalled(self._clock(), work, cpu_seconds, is_runnable(thread))

    def _new_thread(self) -> threading.Thread:
        """The worker's thread from now on, to be started."""
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        return self._thread

    def _new_scheduler(self) -> Scheduler[Handle]:
        return Scheduler(self._recognizer.chunk_ms / 1000)

    def open(self, options: StreamOptions, callbacks: Callbacks) -> Handle:
        """A new stream."""
        handle = Handle(self, options, callbacks)
        with self._wake:
            self._open.add(handle)
            self._nudge(handle)
        return handle

    def _nudge(self, handle: Handle) -> None:
        self._nudged[handle] = None
        self._wake.notify()

    def _on_loop(self, call: Callable[..., None], *args: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call, *args)
        except RuntimeError:  # the loop is closed: nobody is left to hear it
            logger.debug("event loop closed before its events came")

    # --- on the worker's thread ---

    def _run(self) -> None:
        self._cpu_clocks[threading.current_thread()] = time.pthread_getcpuclockid(threading.get_ident())
        try:
            self._work()
        except _Superseded:
            with self._wake:
                streams = self._abandoned.pop(threading.current_thread())
            self._close(streams)
        except BaseException as error:
            log_failure(logger, "the worker", error)  # `supervise` finds it dead

    def _work(self) -> None:
        while True:
            with self._wake:
                while not (self._nudged or self._scheduler or self._stopping):
                    self._wake.wait()
                if self._stopping:
                    break
                nudged, self._nudged = self._nudged, {}
                # One new stream at a time: to guess how a session's hotwords sound takes a while, and the others wait.
                for handle in [handle for handle in nudged if handle._stream is None][1:]:
                    del nudged[handle]
                    self._nudge(handle)
            if nudged:
                ready = self._held(list(nudged), functools.partial(self._fed, list(nudged)))
                for handle in ready:  # only now: a thread that was given up on meanwhile is not here any more
                    now = self._clock()
                    if self._scheduler.offer(handle, now):
                        handle._ready_at = now
            if not self._must_wait():
                batch = self._scheduler.take(self._max_batch)
                if batch:
                    self._step(batch)
        for handle in list(self._open):
            self._give_back(handle)

    def _must_wait(self) -> bool:
        """Waits for others that the next step should have in it, and says whether some may have come."""
        seconds = self._scheduler.wait_seconds(self._clock())
        if not seconds:
            return False
        with self._wake:
            return bool(self._nudged or self._stopping) or self._wake.wait(seconds)

    def _fed(self, handles: Iterable[Handle]) -> list[Handle]:
        """Those of the handles that are ready after what could be done for them."""
        return [handle for handle in handles if self._guarded(handle, self._feed)]

    def _guarded(self, handle: Handle, work: Callable[[Handle], T]) -> T | None:
        """Does work for one stream; if it raises, that stream ends and no other."""
        try:
            return work(handle)
        except Exception as error:
            self._fail(handle, error)
            return None

    def _fail(self, handle: Handle, error: Exception) -> None:
        log_failure(logger, "a stream's step", error)
        if threading.current_thread() is self._thread:  # or else all that it had in hand was given back before
            self._give_back(handle)
            self._on_loop(handle._on_failure)

    def _held(self, handles: list[Handle], work: Callable[[], T]) -> T:
        """Does one piece of work under the eyes of `supervise`."""
        with self._wake:
            self._in_hand = handles
            self._num_works += 1
        began = time.thread_time()
        try:
            result = work()
        except Exception:
            self._put_down(handles, began)
            raise
        self._put_down(handles, began)
        return result

    def _put_down(self, handles: list[Handle], began: float) -> None:
        thread = threading.current_thread()
        with self._wake:
            if thread is self._thread:
                self._in_hand = None
                self._watchdog.finished(time.thread_time() - began)
                return
            for handle in handles:  # what was opened since
                if handle._stream is not None:
                    self._abandoned[thread].append(handle._stream)
        raise _Superseded

    def _give_back(self, handle: Handle) -> None:
        stream, handle._stream = handle._stream, None
        self._scheduler.forget(handle)
        with self._wake:
            self._open.discard(handle)
            self._nudged.pop(handle, None)
        if stream is not None:
            self._close([stream])
        self._on_loop(handle._callbacks.gone)

    def _close(self, streams: list[EngineStream]) -> None:
        for stream in streams:
            try:
                stream.close()
            except Exception as error:
                log_failure(logger, "closing a stream", error)

    def _feed(self, handle: Handle) -> bool:
        """Moves a stream's backlog into it until it is ready, for one turn's worth at most; says whether it is."""
        if handle._closed:
            self._give_back(handle)
            return False
        if handle not in self._open:
            return False
        if handle._stream is None:
            handle._stream = self._recognizer.stream(handle._options)
        stream = handle._stream
        fed = 0
        while not stream.ready:
            with self._wake:
                handle._missing_samples = min(stream.missing_samples, self.block_samples)
                if not handle._backlog.holds(handle._missing_samples):
                    return False
                if fed >= FEED_SAMPLES:
                    self._nudge(handle)  # again after the others
                    return False
                item = handle._backlog.take()
                waiting = handle._has_capacity  # who was woken takes it back at any time
                if waiting is not None and handle.has_capacity:
                    self._on_loop(waiting.set)
            self._tell_taken(handle, item)
            if isinstance(item, Marker):  # not ready: every step that what came before it allows was taken
                self._on_loop(handle._on_marker)
            elif isinstance(item, str):
                stream.flush(item)
            else:
                stream.push(item)
                fed += len(item)
        return True

    def _tell_taken(self, handle: Handle, item: Samples | Reason | Marker) -> None:
        taken = handle._callbacks.taken
        if taken is None:
            return
        if isinstance(item, np.ndarray):
            handle._taken_samples += len(item)
            if handle._taken_samples - handle._told_samples < TELL_SAMPLES:
                return
        else:
            handle._taken_requests += 1
        handle._told_samples = handle._taken_samples
        self._on_loop(taken, handle._taken_samples, handle._taken_requests)

    def _step(self, batch: list[Handle]) -> None:
        began = self._clock()
        due = [self._scheduler.due(handle) for handle in batch]
        try:
            results = self._held(batch, lambda: self._recognizer.step([handle._stream for handle in batch]))
        except Exception:
            if len(batch) > 1:
                logger.warning("a step of %d streams failed; taking it one by one", len(batch))
            for handle in batch:
                alone = self._held([handle], functools.partial(self._guarded, handle, self._step_alone))
                if alone is not None:
                    self._after_step([handle], alone, self._clock())
            return
        ended = self._clock()
        late_seconds = [max(0.0, ended - time_due) for time_due in due]
        queue_seconds = [began - handle._ready_at for handle in batch]
        self._on_step(StepReport(queue_seconds, ended - began, late_seconds))
        for at, (handle, waited, stepped) in enumerate(zip(batch, queue_seconds, results, strict=True)):
            if handle._options.timings and not isinstance(stepped, Exception):
                results[at] = timed(stepped, waited, ended - began, self._recognizer.search_seconds)
        self._after_step(batch, results, ended)

    def _step_alone(self, handle: Handle) -> list[Stepped] | None:
        assert handle._stream is not None
        return self._recognizer.step([handle._stream]) if handle._stream.ready else None

    def _after_step(self, batch: list[Handle], results: list[Stepped], ended: float) -> None:
        stepped = list(zip(batch, results, strict=True))
        deliveries = [(handle, events) for handle, events in stepped if events and not isinstance(events, Exception)]
        if deliveries:
            self._on_loop(self._deliver, deliveries, ended)
        for handle, error in stepped:
            if isinstance(error, Exception):
                self._fail(handle, error)
        with self._wake:
            for handle, events in stepped:
                if not isinstance(events, Exception):
                    self._nudge(handle)  # it may be ready again

    def _deliver(self, deliveries: list[tuple[Handle, list[Event]]], ended: float) -> None:
        """On the event loop: hands each stream what its step found."""
        waited = self._clock() - ended
        for handle, events in deliveries:
            try:
                handle._on_events([delayed(event, waited) for event in events])
            except Exception as error:
                log_failure(logger, "taking events", error)
                asyncio.get_running_loop().call_soon(handle._on_failure)  # which may raise too


def timed(events: list[Event], queue_seconds: float, step_seconds: float, search_seconds: float) -> list[Event]:
    """Events of a step with what they waited for: until it began, and in it, of which the search took a part."""
    search_seconds = min(search_seconds, step_seconds)
    timings = Timings(_ms(queue_seconds), _ms(step_seconds - search_seconds), _ms(search_seconds), 0.0)
    return [
        msgspec.structs.replace(event, timings=timings) if isinstance(event, Partial | Final) else event
        for event in events
    ]


def delayed(event: Event, seconds: float) -> Event:
    """An event with timings, if it has any, that was on its way for so much longer."""
    if not isinstance(event, Partial | Final) or event.timings is None:
        return event
    emission = round(event.timings.emission + _ms(seconds), 1)
    return msgspec.structs.replace(event, timings=msgspec.structs.replace(event.timings, emission=emission))


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
