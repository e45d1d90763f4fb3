"""The workers on a fake recognizer."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

from streaming_asr.audio import AudioDecoder, Samples
from streaming_asr.engine import Engine, StreamHandle
from streaming_asr.handle import MAX_REQUESTS, Handle
from streaming_asr.messages import Event, Final, Partial, SpeechStarted, StreamOptions, Timings
from streaming_asr.worker import StepReport, Worker, delayed, is_runnable, timed
from tests.fakes import (
    BROKEN,
    CHUNK_SAMPLES,
    DEATH,
    POISON,
    SECRET,
    STALL,
    STALL_PUSH,
    FakeRecognizer,
    FakeStream,
    word,
    words,
)

# --- engine --------------------------------------------------------------------------------------------------------


def samples(data: bytes) -> Samples:
    return AudioDecoder("pcm_s16le", 16000, 1).accept(data)


@asynccontextmanager
async def running(recognizer: FakeRecognizer, **options: Any) -> AsyncIterator[Engine]:
    engine = Engine(recognizer, **options)
    engine.start()
    try:
        yield engine
    finally:
        recognizer.gate.set()
        await engine.stop()
    assert recognizer.open_streams == engine.num_streams == 0


class Listener:
    """One stream's session: its events, and a way to wait for them."""

    def __init__(self, engine: Engine, is_broken: bool = False) -> None:
        """A broken one raises on its events."""
        self.events: list[Event] = []
        self.failed = asyncio.Event()
        self.changed = asyncio.Event()
        self.is_marked = asyncio.Event()
        self.threads: set[int] = set()
        self.is_broken = is_broken
        self.handle = engine.open(StreamOptions(), self._deliver, self.failed.set, self.is_marked.set)

    def _deliver(self, events: list[Event]) -> None:
        if self.is_broken:
            raise ValueError(SECRET)
        self.threads.add(threading.get_ident())
        self.events += events
        self.changed.set()

    @property
    def finals(self) -> list[tuple[str, str]]:
        return [(event.text, event.reason) for event in self.events if isinstance(event, Final)]

    async def stopped(self) -> list[tuple[str, str]]:
        while not (self.finals and self.finals[-1][1] == "stop"):
            self.changed.clear()
            await self.changed.wait()
        return self.finals


def workers_of(engine: Engine) -> list[Worker]:
    """Each a thread: none is a process here."""
    workers = [worker for worker in engine._workers if isinstance(worker, Worker)]
    assert len(workers) == len(engine._workers)
    return workers


def num_abandoned(engine: Engine) -> int:
    """Threads that stood still and have not come back."""
    return sum(worker.num_abandoned for worker in engine._workers)


async def eventually(condition: Callable[[], bool]) -> None:
    """For what happens on the worker thread and tells nobody."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


def test_audio_and_flushes_keep_their_order() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer) as engine:
            listener = Listener(engine)
            listener.handle.push(samples(words(1, 2)))
            listener.handle.flush("finalize")
            listener.handle.push(samples(words(3, 0, 4)))
            listener.handle.push(samples(word(5))[:100])
            listener.handle.flush("stop")
            assert await listener.stopped() == [("w1 w2", "finalize"), ("w3", "endpoint"), ("w4 w5", "stop")]
            assert listener.threads == {threading.get_ident()}
            assert recognizer.threads.isdisjoint(listener.threads)
            listener.handle.close()
            await eventually(lambda: engine.num_streams == 0)

    run(test)


def test_many_streams_are_batched_and_get_what_each_gets_alone() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer, max_batch=8) as engine:
            recognizer.gate.clear()
            listeners = [Listener(engine) for _ in range(12)]
            await eventually(lambda: len(recognizer.streams) == 12)
            for number, listener in enumerate(listeners, start=1):
                for packet in np.array_split(samples(words(number, number + 1, 0, number)), 7):
                    listener.handle.push(packet)
                listener.handle.flush("stop")
            recognizer.gate.set()
            for number, listener in enumerate(listeners, start=1):
                expected = [(f"w{number} w{number + 1}", "endpoint"), (f"w{number}", "stop")]
                assert await listener.stopped() == expected
            assert max(recognizer.batches) == 8

    run(test)


def test_workers_share_the_streams_and_step_at_the_same_time() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer, num_workers=3) as engine:
            recognizer.gate.clear()
            listeners = [Listener(engine) for _ in range(6)]
            for number, listener in enumerate(listeners, start=1):
                listener.handle.push(samples(words(number, 0, number)))
                listener.handle.flush("stop")
            await eventually(lambda: all(worker._in_hand for worker in workers_of(engine)))
            assert [worker.num_streams for worker in engine._workers] == [2, 2, 2]
            recognizer.gate.set()
            for number, listener in enumerate(listeners, start=1):
                assert await listener.stopped() == [(f"w{number}", "endpoint"), (f"w{number}", "stop")]
            assert len(recognizer.threads) == 3

    run(test)


def test_a_stream_goes_to_the_worker_that_has_fewest() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer, num_workers=2) as engine:
            first, second = Listener(engine), Listener(engine)
            assert first.handle._worker is not second.handle._worker
            second.handle.close()
            await eventually(lambda: engine.num_streams == 1)
            assert Listener(engine).handle._worker is second.handle._worker

    run(test)


@pytest.mark.parametrize("fault", [POISON, BROKEN])
def test_a_broken_step_ends_its_stream_and_no_other(fault: int, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer) as engine:
            recognizer.gate.clear()
            first = Listener(engine)
            first.handle.push(samples(word(7)))
            await eventually(lambda: not first.handle.backlog_seconds)  # the worker is inside a step now
            good, bad = Listener(engine), Listener(engine)
            good.handle.push(samples(words(1, 2)))
            bad.handle.push(samples(words(fault, 2)))
            recognizer.gate.set()
            await bad.failed.wait()
            good.handle.push(samples(word(3)))
            for listener in (good, first):
                listener.handle.flush("stop")
            assert await good.stopped() == [("w1 w2 w3", "stop")]
            assert await first.stopped() == [("w7", "stop")]
            assert not good.failed.is_set()
            assert not bad.events
            bad.handle.push(samples(word(1)))  # too late, and harmless
            bad.handle.close()
            await eventually(lambda: recognizer.open_streams == 2)

    with caplog.at_level(logging.DEBUG):
        run(test)
    assert "ValueError" in caplog.text
    assert SECRET not in caplog.text


def test_a_stream_that_cannot_be_opened_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer) as engine:
            with monkeypatch.context() as patch:
                patch.setattr(recognizer, "stream", lambda options: 1 / 0)
                broken = Listener(engine)
                await broken.failed.wait()
            fine = Listener(engine)
            fine.handle.flush("stop")
            assert await fine.stopped() == [("", "stop")]

    run(test)


def test_streams_are_opened_one_at_a_time_so_that_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        opened_in: list[int] = []  # which piece of work
        async with running(recognizer) as engine:
            (worker,) = workers_of(engine)
            stream = recognizer.stream

            def watched(options: StreamOptions) -> FakeStream:
                opened_in.append(worker._num_works)
                return stream(options)

            monkeypatch.setattr(recognizer, "stream", watched)
            live = Listener(engine)
            recognizer.gate.clear()
            live.handle.push(samples(words(1, 2, 3, 4, 5, 6, 7, 8, 9)))
            live.handle.flush("stop")
            await eventually(lambda: worker._in_hand is not None and len(opened_in) == 1)
            new = [Listener(engine) for _ in range(5)]
            for listener in new:
                listener.handle.push(samples(word(1)))
                listener.handle.flush("stop")
            recognizer.gate.set()
            for listener in (live, *new):
                assert await listener.stopped()
            assert len(opened_in) == len(set(opened_in)) == 6
            assert opened_in[-1] - opened_in[1] >= 8  # with a step of those that are ready between any two

    run(test)


def test_a_session_that_raises_on_its_events_fails_alone() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer) as engine:
            recognizer.gate.clear()
            broken, fine = Listener(engine, is_broken=True), Listener(engine)
            for listener in (broken, fine):
                listener.handle.push(samples(words(1, 2)))
                listener.handle.flush("stop")
            recognizer.gate.set()
            assert await fine.stopped() == [("w1 w2", "stop")]
            await broken.failed.wait()

    run(test)


def test_a_full_backlog_holds_its_sender_back_until_it_drains() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer, max_backlog_seconds=0.5) as engine:
            recognizer.gate.clear()
            listener = Listener(engine)
            assert not await listener.handle.wait_capacity()
            listener.handle.push(samples(words(*[1] * 20)))
            assert listener.handle.backlog_seconds > 0.5
            waiting = asyncio.create_task(listener.handle.wait_capacity())
            await asyncio.sleep(0.02)
            assert not waiting.done()
            recognizer.gate.set()
            assert await waiting
            assert listener.handle.backlog_seconds < 0.5

            recognizer.gate.clear()
            listener.handle.push(samples(words(*[1] * 20)))
            waiting = asyncio.create_task(listener.handle.wait_capacity())
            await asyncio.sleep(0.02)
            listener.handle.close()
            assert await waiting  # whoever closes it frees who waits for it
            assert listener.handle.backlog_seconds == 0
            assert not await listener.handle.wait_capacity()

    run(test)


def test_who_is_woken_while_the_worker_looks_whom_to_wake_breaks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()
    has_capacity: Callable[[Handle], bool] = vars(Handle)["has_capacity"].fget

    def wake_meanwhile(handle: Handle) -> bool:
        if not (has := has_capacity(handle)) or threading.current_thread().name != "engine":
            return has
        assert handle._has_capacity is not None
        handle._worker.on_loop(handle._has_capacity.set)  # as it did for the block before
        assert gone.wait(30)
        return has

    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer, max_backlog_seconds=0.5) as engine:
            recognizer.gate.clear()
            listener = Listener(engine)
            listener.handle.push(samples(words(*[1] * 20)))
            waiting = asyncio.create_task(listener.handle.wait_capacity())
            await asyncio.sleep(0)
            recognizer.gate.set()
            assert await waiting
            gone.set()
            listener.handle.flush("stop")
            assert await listener.stopped() == [(" ".join(["w1"] * 20), "stop")]

    monkeypatch.setattr(Handle, "has_capacity", property(wake_meanwhile))
    run(test)


def test_a_closed_stream_delivers_nothing_more() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer) as engine:
            recognizer.gate.clear()
            listener = Listener(engine)
            listener.handle.push(samples(words(1, 2, 3)))
            await eventually(lambda: listener.handle.backlog_seconds < 0.2)
            listener.handle.close()
            recognizer.gate.set()
            await eventually(lambda: engine.num_streams == 0)
            assert listener.events == []
            assert recognizer.batches == [1]

    run(test)


def test_a_live_stream_is_served_beside_uploads() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer, max_batch=1) as engine:
            recognizer.gate.clear()
            uploads = [Listener(engine) for _ in range(3)]
            for upload in uploads:
                upload.handle.push(samples(words(*[1] * 400)))
            live = Listener(engine)
            live.handle.push(samples(word(5)))
            live.handle.flush("stop")
            recognizer.gate.set()
            assert await live.stopped() == [("w5", "stop")]
            # Counted by the worker when it takes the step, not when this loop hears of it on a busy machine.
            stream = recognizer.streams[-1]
            turns = [turn for turn, streams in enumerate(recognizer.stepped) if stream in streams]
            assert len(turns) == 2  # the word, and the end
            assert turns[-1] < 12  # of the 1200 that were sent before

    run(test)


def test_silence_sent_at_once_shares_the_front_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asleep:
        """A stream that takes audio, but hears nothing that needs a step."""

        ready = False
        missing_samples = 0

        def __init__(self, name: int) -> None:
            self.name = name

        def push(self, samples: Samples) -> None:
            pushes.append((self.name, len(samples)))

        def flush(self, reason: str) -> None:
            pushes.append((self.name, 0))

        def close(self) -> None:
            pass

    async def test() -> None:
        recognizer = FakeRecognizer()
        names = iter(range(2))
        monkeypatch.setattr(recognizer, "stream", lambda options: Asleep(next(names)))
        async with running(recognizer) as engine:
            with workers_of(engine)[0].wake:  # so that the worker finds both at once
                for _ in range(2):
                    listener = Listener(engine)
                    listener.handle.push(np.zeros(16000 * 10, np.float32))
                    listener.handle.flush("stop")
            await eventually(lambda: sum(length == 0 for _, length in pushes) == 2)
        assert sum(length for _, length in pushes) == 2 * 160_000
        second = [name for name, _ in pushes].index(1)
        assert sum(length for _, length in pushes[:second]) <= 16_000  # of the first one's ten seconds

    pushes: list[tuple[int, int]] = []
    run(test)


def test_the_fake_is_not_ready_before_a_chunk() -> None:
    stream = FakeRecognizer().stream(StreamOptions())
    stream.push(np.zeros(CHUNK_SAMPLES - 1, np.float32))
    assert not stream.ready
    stream.push(np.zeros(1, np.float32))
    assert stream.ready


def test_a_mark_is_reached_when_all_steps_before_it_are_taken() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer) as engine:
            told: list[Any] = []
            done = asyncio.Event()

            def reached() -> None:
                told.append("mark")
                if told.count("mark") == MAX_REQUESTS:
                    done.set()

            recognizer.gate.clear()
            handle = engine.open(StreamOptions(partials=False), told.extend, reached=reached)
            handle.mark()
            handle.push(samples(words(1, 0)))
            handle.mark()
            handle.push(samples(word(2)[:-2]))  # no whole chunk: no step
            for _ in range(MAX_REQUESTS - 2):
                handle.mark()
            recognizer.gate.set()
            await done.wait()
            assert [item if item == "mark" else type(item).__name__ for item in told[:4]] == [
                "mark",
                "SpeechStarted",
                "Final",
                "mark",
            ]
            handle.close()

    run(test)


def test_who_asks_for_finals_without_end_has_to_wait() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer) as engine:
            listener = Listener(engine)
            recognizer.gate.clear()
            listener.handle.push(samples(words(1, 2)))  # the worker waits in its first step
            await eventually(lambda: listener.handle.backlog_seconds < 0.1)
            for _ in range(MAX_REQUESTS):
                assert listener.handle.has_capacity
                listener.handle.flush("finalize")
            assert not listener.handle.has_capacity
            recognizer.gate.set()
            assert await listener.handle.wait_capacity()
            listener.handle.close()

    run(test)


def test_audio_is_fed_once_it_makes_a_step() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer) as engine:
            listener = Listener(engine)
            audio = samples(words(1, 2, 3))
            for at in range(0, len(audio), CHUNK_SAMPLES * 2 // 3):
                listener.handle.push(audio[at : at + CHUNK_SAMPLES * 2 // 3])
                await asyncio.sleep(0)
            await eventually(lambda: len(listener.events) == 4)
            listener.handle.push(audio[: CHUNK_SAMPLES - 1])
            listener.handle.mark()
            await eventually(lambda: listener.handle.backlog_seconds == 0)
            assert len(listener.events) == 4
            listener.handle.push(audio[:1])
            await eventually(lambda: len(listener.events) == 5)
            listener.handle.push(audio[: CHUNK_SAMPLES - 1])
            assert listener.handle.backlog_seconds == (CHUNK_SAMPLES - 1) / 16000
            listener.handle.flush("stop")
            await eventually(lambda: isinstance(listener.events[-1], Final))
            listener.handle.close()

    run(test)


# --- a worker that does not get on ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [STALL, STALL_PUSH, DEATH])
def test_a_worker_that_stands_still_or_dies_is_replaced_and_other_streams_go_on(
    fault: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer, max_batch=1, stall_seconds=0.05) as engine:
            good, bad = Listener(engine), Listener(engine)
            [worker] = workers_of(engine)
            await eventually(lambda: recognizer.open_streams == 2 and worker._in_hand is None)
            assert not engine.supervise()
            bad.handle.push(samples(word(fault)))
            await eventually(lambda: not bad.handle.backlog_seconds)
            good.handle.push(samples(words(1, 2, 3)))
            await eventually(engine.supervise)
            assert bad.failed.is_set()
            good.handle.flush("stop")
            assert await good.stopped() == [("w1 w2 w3", "stop")]
            assert engine.num_streams == 1
            assert num_abandoned(engine) == (fault != DEATH)
            recognizer.released.set()
            await eventually(lambda: num_abandoned(engine) == 0 and recognizer.open_streams == 1)
            assert not engine.supervise()
            late = Listener(engine)
            late.handle.flush("stop")
            assert await late.stopped() == [("", "stop")]
            assert ("failed" in caplog.text) == (fault == DEATH)  # what the old thread had in hand is nobody's any more

    run(test)
    assert "of 2 streams 1 are lost" in caplog.text
    assert SECRET not in caplog.text


def test_streams_hear_that_they_are_lost_also_when_no_other_worker_can_be_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def test() -> None:
        recognizer = FakeRecognizer()
        async with running(recognizer) as engine:
            bad, good = Listener(engine), Listener(engine)
            [worker] = workers_of(engine)
            await eventually(lambda: recognizer.open_streams == 2 and worker._in_hand is None)
            thread = worker._thread
            assert thread is not None
            bad.handle.push(samples(word(DEATH)))
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", no_more)
                await eventually(lambda: not thread.is_alive())
                with pytest.raises(RuntimeError, match="new thread"):
                    engine.supervise()
            assert bad.failed.is_set()
            assert engine.supervise()  # there is room for one again
            good.handle.flush("stop")
            assert await good.stopped() == [("", "stop")]

    run(test)


def test_a_step_says_what_it_cost() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        times = iter(range(1000))
        reports: list[StepReport] = []
        async with running(recognizer, clock=lambda: float(next(times)), on_step=reports.append) as engine:
            listener = Listener(engine)
            listener.handle.push(samples(word(1)))
            await eventually(lambda: bool(listener.events))
        # The clock was asked when it was ready, whether others are to be waited for, before and after.
        assert reports == [StepReport([2.0], 1.0, [3.0])]

    run(test)


def test_a_stream_waits_from_when_it_was_ready_whatever_comes_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        now = 0.0
        waiting: list[StreamHandle] = []
        step = recognizer.step
        reports: list[StepReport] = []

        def step_for_a_second(streams: Any) -> Any:
            nonlocal now
            results = step(streams)
            now += 1.0
            for handle in waiting:
                handle.push(samples(word(2)))  # so that it is looked at again
            return results

        monkeypatch.setattr(recognizer, "step", step_for_a_second)
        async with running(recognizer, max_batch=1, clock=lambda: now, on_step=reports.append) as engine:
            first, second, third = (Listener(engine) for _ in range(3))
            await eventually(lambda: len(recognizer.streams) == 3)
            recognizer.gate.clear()
            first.handle.push(samples(word(1)))
            await eventually(lambda: not first.handle.backlog_seconds)  # the worker is inside a step now
            for listener in (second, third):
                listener.handle.push(samples(word(1)))
            waiting.append(third.handle)
            recognizer.gate.set()
            await eventually(lambda: bool(third.events))
        assert [report.queue_seconds for report in reports[:3]] == [[0.0], [0.0], [1.0]]

    run(test)


def test_a_thread_that_waits_is_told_from_one_that_could_run() -> None:
    end, is_busy = threading.Event(), True

    def spin() -> None:
        while is_busy:
            pass

    waits, spins = threading.Thread(target=end.wait), threading.Thread(target=spin)
    for thread in (waits, spins):
        thread.start()
    try:
        assert any(not is_runnable(waits) for _ in range(1000))  # once it has got so far
        assert sum(is_runnable(spins) for _ in range(100)) > 0  # but for when it waits for Python's lock
    finally:
        end.set()
        is_busy = False
        waits.join()
        spins.join()
    assert any(not is_runnable(waits) for _ in range(1000))  # once the system, too, has seen it end


def test_timings_tell_what_an_event_waited_for() -> None:
    partial, started = Partial(0, "", "a", 0.0, 0.1), SpeechStarted(0.0)
    event, untimed = timed([partial, started], queue_seconds=0.0123, step_seconds=0.02, search_seconds=0.0045)
    assert isinstance(event, Partial)
    assert event.timings == Timings(queue=12.3, compute=15.5, decode=4.5, emission=0.0)
    assert untimed is started
    later = delayed(delayed(event, 0.001), 0.0026)
    assert isinstance(later, Partial)
    assert later.timings == Timings(queue=12.3, compute=15.5, decode=4.5, emission=3.6)
    assert delayed(partial, 1.0) is partial
    [whole] = timed([partial], 0.0, 0.002, search_seconds=0.003)  # by a clock of its own
    assert isinstance(whole, Partial)
    assert whole.timings == Timings(0.0, 0.0, 2.0, 0.0)
