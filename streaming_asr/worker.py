"""Owns a worker: a thread that moves its streams on, in the fair order that `scheduling` says.

Everything that costs time (features, network, decoder) runs on that thread, which alone touches its streams; callers
hold their `Handle`s. A thread that dies or stands still is replaced (`Worker.supervise`): the streams that it had in
hand are lost, all others go on. Knows nothing of sockets, of other processes, or of messages beyond the events it
carries.
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

from .admission import StepCost
from .audio import SAMPLE_RATE, Samples
from .handle import Callbacks, Handle, tell
from .logs import log_failure
from .messages import Event, Final, Partial, Reason, StreamOptions, Timings
from .proc import PROC, read_stat
from .scheduling import Marker, Scheduler
from .watchdog import Watchdog

logger = logging.getLogger(__name__)

MAX_BATCH = 64  # streams in one model step
MAX_ABANDONED = 4  # threads that stood still: from here on only another process helps
STOP_SECONDS = 5.0  # for the worker to end the step under way
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
        self._streams: dict[Handle, EngineStream] = {}  # of handles that have theirs; the same
        self.wake = threading.Condition()  # guards the handles' backlogs and what follows
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
        with self.wake:
            self._stopping = True
            self.wake.notify()
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
        with self.wake:
            thread = self._thread
            if thread is None or self._stopping:
                return False
            is_alive = thread.is_alive()
            if is_alive and not self._is_stalled(thread):
                return False
            lost, self._in_hand = self._in_hand or [], None
            streams = self._take_streams(lost)
            self._open.difference_update(lost)
            self._scheduler = self._new_scheduler()
            self._nudged = dict.fromkeys(self._open)
            if is_alive:
                self._abandoned[thread] = streams
            successor = self._new_thread()
        if not is_alive:
            self._close(streams)
        for handle in lost:
            handle.on_failure()
            handle.on_gone()
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
        with self.wake:
            self._open.add(handle)
            self.nudge(handle)
        return handle

    def nudge(self, handle: Handle) -> None:
        """Has the thread look at a handle. To be called with ``wake`` held."""
        self._nudged[handle] = None
        self.wake.notify()

    def on_loop(self, call: Callable[..., None], *args: Any) -> None:
        """Makes a call on the event loop that the worker was started from."""
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
            with self.wake:
                streams = self._abandoned.pop(threading.current_thread())
            self._close(streams)
        except BaseException as error:
            log_failure(logger, "the worker", error)  # `supervise` finds it dead

    def _work(self) -> None:
        while True:
            with self.wake:
                while not (self._nudged or self._scheduler or self._stopping):
                    self.wake.wait()
                if self._stopping:
                    break
                nudged, self._nudged = self._nudged, {}
                # One new stream at a time: to guess how a session's hotwords sound takes a while, and the others wait.
                for handle in [handle for handle in nudged if handle not in self._streams][1:]:
                    del nudged[handle]
                    self.nudge(handle)
            if nudged:
                ready = self._held(list(nudged), functools.partial(self._fed, list(nudged)))
                for handle in ready:  # only now: a thread that was given up on meanwhile is not here any more
                    self._scheduler.offer(handle, self._clock())
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
        with self.wake:
            return bool(self._nudged or self._stopping) or self.wake.wait(seconds)

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
            self.on_loop(handle.on_failure)

    def _held(self, handles: list[Handle], work: Callable[[], T]) -> T:
        """Does one piece of work under the eyes of `supervise`."""
        with self.wake:
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
        with self.wake:
            if thread is self._thread:
                self._in_hand = None
                self._watchdog.finished(time.thread_time() - began)
                return
            self._abandoned[thread] += self._take_streams(handles)  # what was opened since
        raise _Superseded

    def _give_back(self, handle: Handle) -> None:
        streams = self._take_streams([handle])
        self._scheduler.forget(handle)
        with self.wake:
            self._open.discard(handle)
            self._nudged.pop(handle, None)
        self._close(streams)
        self.on_loop(handle.on_gone)

    def _take_streams(self, handles: Iterable[Handle]) -> list[EngineStream]:
        """From those of the handles that have theirs."""
        taken = [self._streams.pop(handle, None) for handle in handles]
        return [stream for stream in taken if stream is not None]

    def _close(self, streams: list[EngineStream]) -> None:
        for stream in streams:
            try:
                stream.close()
            except Exception as error:
                log_failure(logger, "closing a stream", error)

    def _feed(self, handle: Handle) -> bool:
        """Moves a stream's backlog into it until it is ready, for one turn's worth at most; says whether it is."""
        if handle.is_closed:
            self._give_back(handle)
            return False
        if handle not in self._open:
            return False
        stream = self._streams.get(handle)
        if stream is None:
            stream = self._streams[handle] = self._recognizer.stream(handle.options)
        fed = 0
        while not stream.ready:
            if fed >= FEED_SAMPLES:
                with self.wake:
                    self.nudge(handle)  # again after the others
                return False
            item = handle.take(stream.missing_samples)
            if item is None:
                return False
            if isinstance(item, Marker):  # not ready: every step that what came before it allows was taken
                self.on_loop(tell, handle.on_reached, handle.on_failure)
            elif isinstance(item, str):
                stream.flush(item)
            else:
                stream.push(item)
                fed += len(item)
        return True

    def _step(self, batch: list[Handle]) -> None:
        began = self._clock()
        due = [self._scheduler.due(handle) for handle in batch]
        queue_seconds = [began - self._scheduler.offered(handle) for handle in batch]
        try:
            results = self._held(batch, lambda: self._recognizer.step([self._streams[handle] for handle in batch]))
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
        self._on_step(StepReport(queue_seconds, ended - began, late_seconds))
        for at, (handle, waited, stepped) in enumerate(zip(batch, queue_seconds, results, strict=True)):
            if handle.options.timings and not isinstance(stepped, Exception):
                results[at] = timed(stepped, waited, ended - began, self._recognizer.search_seconds)
        self._after_step(batch, results, ended)

    def _step_alone(self, handle: Handle) -> list[Stepped] | None:
        stream = self._streams[handle]
        return self._recognizer.step([stream]) if stream.ready else None

    def _after_step(self, batch: list[Handle], results: list[Stepped], ended: float) -> None:
        stepped = list(zip(batch, results, strict=True))
        deliveries = [(handle, events) for handle, events in stepped if events and not isinstance(events, Exception)]
        if deliveries:
            self.on_loop(self._deliver, deliveries, ended)
        for handle, error in stepped:
            if isinstance(error, Exception):
                self._fail(handle, error)
        with self.wake:
            for handle, events in stepped:
                if not isinstance(events, Exception):
                    self.nudge(handle)  # it may be ready again

    def _deliver(self, deliveries: list[tuple[Handle, list[Event]]], ended: float) -> None:
        """On the event loop: hands each stream what its step found."""
        waited = self._clock() - ended
        for handle, events in deliveries:
            news = [delayed(event, waited) for event in events]
            tell(functools.partial(handle.on_events, news), handle.on_failure)


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
