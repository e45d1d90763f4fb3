"""Workers in processes of their own, on a fake recognizer."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streaming_asr import worker_process
from streaming_asr.channel import Channel
from streaming_asr.engine import Engine
from streaming_asr.errors import InputError
from streaming_asr.handle import MAX_REQUESTS, TELL_SAMPLES, Callbacks
from streaming_asr.messages import Event, Final, Partial, StreamOptions, Timings
from streaming_asr.server import Server
from streaming_asr.server_options import ServerOptions
from streaming_asr.worker import StepReport
from streaming_asr.worker_process import RemoteHandle, Usage, WorkerHost, WorkerProcess
from tests.fakes import BROKEN, POISON, SECRET, STALL, FakeRecognizer, FakeStream, word, words
from tests.test_worker import Listener, eventually, num_abandoned, run, samples

pytestmark = pytest.mark.skipif(not worker_process.can_fork(), reason="no processes are forked here")


BROKEN_NBEST = 9  # a stream that asks for so many hypotheses cannot be opened


class ForkedRecognizer(FakeRecognizer):
    can_fork = True

    def stream(self, options: StreamOptions, /) -> FakeStream:
        if options.nbest == BROKEN_NBEST:
            raise ValueError(SECRET)
        return super().stream(options)


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Engine]:
    engine = Engine(ForkedRecognizer(), **options)
    engine.start()
    try:
        yield engine
    finally:
        await engine.stop()
    assert engine.num_streams == 0


def pid_of(worker: Any) -> int:
    assert isinstance(worker, WorkerProcess)
    return worker._pid


async def opened(listener: Listener) -> None:
    """Until the child has heard of it, so that what befalls the child befalls it."""
    listener.handle.mark()
    await listener.is_marked.wait()


def test_audio_flushes_and_marks_keep_their_order() -> None:
    async def test() -> None:
        async with running() as engine:
            told: list[Any] = []
            ended = asyncio.Event()

            def deliver(events: list[Event]) -> None:
                told.extend(event for event in events if isinstance(event, Final))
                if told and isinstance(told[-1], Final) and told[-1].reason == "stop":
                    ended.set()

            handle = engine.open(StreamOptions(), deliver, reached=lambda: told.append("mark"))
            handle.mark()
            handle.push(samples(words(1, 2)))
            handle.flush("finalize")
            handle.push(samples(words(3, 0, 4)))
            handle.mark()
            handle.push(samples(word(5))[:100])
            handle.flush("stop")
            await ended.wait()
            assert [item if item == "mark" else (item.text, item.reason) for item in told] == [
                "mark",
                ("w1 w2", "finalize"),
                ("w3", "endpoint"),
                "mark",
                ("w4 w5", "stop"),
            ]
            assert engine.num_streams == 1
            handle.close()
            await eventually(lambda: engine.num_streams == 0)

    run(test)


def test_many_streams_share_the_processes_and_get_what_each_gets_alone() -> None:
    async def test() -> None:
        reports: list[StepReport] = []
        async with running(num_workers=3, max_batch=8, on_step=reports.append) as engine:
            listeners = [Listener(engine) for _ in range(12)]
            assert [worker.num_streams for worker in engine._workers] == [4, 4, 4]
            for number, listener in enumerate(listeners, start=1):
                for packet in np.array_split(samples(words(number, number + 1, 0, number)), 7):
                    listener.handle.push(packet)
                listener.handle.flush("stop")
            for number, listener in enumerate(listeners, start=1):
                expected = [(f"w{number} w{number + 1}", "endpoint"), (f"w{number}", "stop")]
                assert await listener.stopped() == expected
            assert len({pid_of(worker) for worker in engine._workers} | {os.getpid()}) == 4
            assert sum(len(report.queue_seconds) for report in reports) == 12 * 5  # four chunks and the flush

    run(test)


def test_what_all_processes_say_of_a_message_adds_up() -> None:
    async def test() -> None:
        async with running() as engine:
            events: list[Event] = []
            handle = engine.open(StreamOptions(timings=True), events.extend)
            handle.push(samples(words(1, 0)))
            await eventually(lambda: any(isinstance(event, Final) for event in events))
            timings = [event.timings for event in events if isinstance(event, Partial | Final)]
            assert all(isinstance(each, Timings) and 0.0 <= each.emission < 10_000 for each in timings)

    now = time.monotonic()
    partial = Partial(0, "", "a", 0.0, 0.0, Timings(0.0, 0.0, 0.0, 2.0))
    delivered: list[Event] = []

    async def later() -> None:
        worker = WorkerProcess(ForkedRecognizer(), 8, 10.0, 1.0, lambda report: None)
        handle = RemoteHandle(worker, 0, Callbacks(delivered.extend))
        handle.on_events(now - 1.0, [partial, Final(0, "", 0.0, 0.0, 0.0, "stop")])

    run(test)
    run(later)
    assert isinstance(delivered[0], Partial)
    assert delivered[0].timings is not None
    assert 1002.0 <= delivered[0].timings.emission < 20_000


def test_a_full_backlog_holds_its_sender_back_until_it_drains() -> None:
    async def test() -> None:
        async with running(max_backlog_seconds=0.5) as engine:
            listener = Listener(engine)
            assert not await listener.handle.wait_capacity()
            await opened(listener)
            pid = pid_of(engine._workers[0])
            os.kill(pid, signal.SIGSTOP)
            listener.handle.push(samples(words(*[1] * 20)))
            assert not listener.handle.has_capacity
            waiting = asyncio.create_task(listener.handle.wait_capacity())
            await asyncio.sleep(0.02)
            assert not waiting.done()
            os.kill(pid, signal.SIGCONT)
            assert await waiting
            await eventually(lambda: listener.handle.backlog_seconds <= TELL_SAMPLES / 16000)
            for _ in range(100):  # many times what may wait, and it is never stuck
                listener.handle.push(samples(word(1))[:1000])
                await listener.handle.wait_capacity()

            os.kill(pid, signal.SIGSTOP)
            for _ in range(MAX_REQUESTS):
                assert listener.handle.has_capacity
                listener.handle.flush("finalize")
            assert not listener.handle.has_capacity
            waiting = asyncio.create_task(listener.handle.wait_capacity())
            await asyncio.sleep(0.02)
            assert not waiting.done()
            listener.handle.close()
            assert await waiting  # whoever closes it frees who waits for it
            assert listener.handle.backlog_seconds == 0
            assert not await listener.handle.wait_capacity()
            os.kill(pid, signal.SIGCONT)

    run(test)


@pytest.mark.parametrize("fault", [POISON, BROKEN])
def test_a_broken_step_ends_its_stream_and_no_other(fault: int, capfd: pytest.CaptureFixture[str]) -> None:
    async def test() -> None:
        async with running() as engine:
            good, bad = Listener(engine), Listener(engine)
            good.handle.push(samples(words(1, 2)))
            bad.handle.push(samples(words(fault, 2)))
            await bad.failed.wait()
            assert engine.num_streams == 1
            bad.handle.push(samples(word(1)))  # too late, and harmless
            bad.handle.close()
            good.handle.flush("stop")
            assert await good.stopped() == [("w1 w2", "stop")]
            assert not good.failed.is_set()
            assert not bad.events

    run(test)
    said = capfd.readouterr().err
    assert SECRET not in said


def raise_something() -> None:
    raise ValueError(SECRET)


def test_a_stream_that_cannot_be_opened_and_a_session_that_raises_fail_alone() -> None:
    async def test() -> None:
        async with running() as engine:
            deaf, fine = Listener(engine, is_broken=True), Listener(engine)
            failed, cannot_mark = asyncio.Event(), asyncio.Event()
            engine.open(StreamOptions(nbest=BROKEN_NBEST), lambda events: None, failed.set)
            marked = engine.open(StreamOptions(), lambda events: None, cannot_mark.set, raise_something)
            marked.mark()
            for listener in (deaf, fine):
                listener.handle.push(samples(word(1)))
                listener.handle.flush("stop")
            assert await fine.stopped() == [("w1", "stop")]
            for event in (deaf.failed, failed, cannot_mark):
                await event.wait()
            await eventually(lambda: engine.num_streams == 1)

    run(test)


# --- a worker that does not get on ---------------------------------------------------------------------------------


def test_a_thread_that_stands_still_is_replaced_in_its_process_and_other_streams_go_on() -> None:
    async def test() -> None:
        async with running(max_batch=1, stall_seconds=0.05) as engine:
            good, bad = Listener(engine), Listener(engine)
            pid = pid_of(engine._workers[0])
            bad.handle.push(samples(word(STALL)))
            await eventually(engine.supervise)
            await bad.failed.wait()
            good.handle.push(samples(words(1, 2)))
            good.handle.flush("stop")
            assert await good.stopped() == [("w1 w2", "stop")]
            assert pid_of(engine._workers[0]) == pid
            assert (engine.num_streams, num_abandoned(engine)) == (1, 1)

    run(test)


def test_a_process_with_too_many_threads_that_stand_still_is_replaced(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with running(max_batch=1, stall_seconds=0.05) as engine:
            pid = pid_of(engine._workers[0])

            def is_another() -> bool:
                engine.supervise()
                return pid_of(engine._workers[0]) != pid

            for _ in range(2):
                assert not is_another()
                bad = Listener(engine)
                bad.handle.push(samples(word(STALL)))
                await bad.failed.wait()
            await eventually(is_another)
            assert not engine.is_hopeless
            late = Listener(engine)
            late.handle.push(samples(word(2)))
            late.handle.flush("stop")
            assert await late.stopped() == [("w2", "stop")]
            assert num_abandoned(engine) == 0

    monkeypatch.setattr(worker_process, "MAX_ABANDONED", 2)
    run(test)
    assert "has too many threads that stand still" in caplog.text


def test_who_was_away_reads_first_what_a_process_told_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    cpu_ticks = 0

    def looks(*times: float) -> bool:
        """Whether it is taken to stand still at one of these times, having used all of a processor since."""
        nonlocal now, cpu_ticks
        worker = WorkerProcess(ForkedRecognizer(), 8, 10.0, 1.0, lambda report: None)
        for now in times:
            cpu_ticks = round(now * ticks)
            if worker._is_stalled():
                return True
        return False

    monkeypatch.setattr(time, "monotonic", lambda: now)
    ticks = os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(worker_process, "_look_at", lambda pid: (Usage(cpu_ticks / ticks), False))
    assert not looks(0.0, 0.25, 60.0, 60.25)
    assert looks(0.0, *np.arange(60.0, 64.0, 0.25))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_ends_or_stands_still_is_replaced_and_others_go_on(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with running(num_workers=2) as engine:
            lost, good = Listener(engine), Listener(engine)
            first, second = engine._workers
            await opened(lost)
            waiting = asyncio.create_task(good.handle.wait_capacity())
            before = pid_of(first)
            os.kill(before, number)
            lost.handle.push(samples(word(1)))
            await eventually(engine.supervise)
            assert lost.failed.is_set()
            assert not await waiting
            assert pid_of(first) != before
            assert not engine.supervise()
            late = Listener(engine)
            for listener in (good, late):
                listener.handle.push(samples(word(2)))
                listener.handle.flush("stop")
                assert await listener.stopped() == [("w2", "stop")]
            assert (first.num_streams, second.num_streams) == (1, 1)
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)

    monkeypatch.setattr(worker_process, "STILL_SECONDS", 0.6)
    run(test)
    assert "its 1 streams are lost" in caplog.text


def test_a_process_whose_end_is_told_to_nobody_is_replaced_too() -> None:
    async def test() -> None:
        async with running() as engine:
            os.kill(pid_of(engine._workers[0]), signal.SIGKILL)
            await eventually(engine.supervise)
            await eventually(lambda: not engine.supervise())
            late = Listener(engine)
            late.handle.flush("stop")
            assert await late.stopped() == [("", "stop")]

    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as some parents leave it
    try:
        run(test)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_who_opens_a_stream_where_a_process_has_just_ended_waits_for_no_look_at_it() -> None:
    async def test() -> None:
        async with running() as engine:
            lost = Listener(engine)
            await opened(lost)
            os.kill(pid_of(engine._workers[0]), signal.SIGKILL)
            await lost.failed.wait()
            early = Listener(engine)
            early.handle.push(samples(word(1)))
            early.handle.flush("stop")
            assert await early.stopped() == [("w1", "stop")]
            assert engine.supervise()  # tells it once
            assert not engine.supervise()

    run(test)


def test_a_stream_that_is_opened_before_the_start_is_served_and_its_process_the_only_one() -> None:
    async def test() -> None:
        engine = Engine(ForkedRecognizer())
        early = Listener(engine)
        before = pid_of(engine._workers[0])
        engine.start()
        assert pid_of(engine._workers[0]) == before
        early.handle.push(samples(word(1)))
        early.handle.flush("stop")
        assert await early.stopped() == [("w1", "stop")]
        await engine.stop()
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)

    run(test)


def test_streams_hear_that_they_are_lost_also_when_no_process_can_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more() -> int:
        raise BlockingIOError("no more processes")

    async def test() -> None:
        async with running() as engine:
            lost = Listener(engine)
            await opened(lost)
            with monkeypatch.context() as patch:
                patch.setattr(os, "fork", no_more)
                os.kill(pid_of(engine._workers[0]), signal.SIGKILL)
                await lost.failed.wait()
                with pytest.raises(BlockingIOError):
                    engine.supervise()
                early = Listener(engine)
                await early.failed.wait()
            assert engine.supervise()  # there is room for one again
            late = Listener(engine)
            late.handle.flush("stop")
            assert await late.stopped() == [("", "stop")]

    run(test)


def test_a_server_that_cannot_fork_all_its_workers_says_so_and_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    forked: list[int] = []
    fork = os.fork

    def fork_once() -> int:
        if forked:
            raise BlockingIOError(11, "no more processes")
        pid = fork()
        forked.append(pid)
        return pid

    async def test() -> None:
        server = Server(ForkedRecognizer(), ServerOptions(port=0, workers=2))
        with pytest.raises(InputError, match="cannot start a worker: no more processes"):
            await server.start()

    monkeypatch.setattr(os, "fork", fork_once)
    run(test)
    with pytest.raises(ProcessLookupError):
        os.kill(forked[0], 0)


def test_a_process_that_does_not_end_is_killed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with running() as engine:
            os.kill(pid_of(engine._workers[0]), signal.SIGSTOP)

    monkeypatch.setattr(worker_process, "STOP_SECONDS", 0.05)
    with caplog.at_level(logging.ERROR):
        run(test)
    assert "it is killed" in caplog.text


def test_what_the_processes_use_is_told_and_adds_up_when_one_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with running(num_workers=2) as engine:
            assert engine.usage == Usage()
            engine.supervise()
            assert engine.usage.resident_bytes > 2e6
            first, second = (pid_of(worker) for worker in engine._workers)
            uses = {first: Usage(7.0, 10), second: Usage(2.0, 20)}
            monkeypatch.setattr(worker_process, "_look_at", lambda pid: (uses.get(pid, Usage(1.0, 30)), True))
            engine.supervise()
            assert engine.usage == Usage(9.0, 30)
            os.kill(first, signal.SIGKILL)
            await eventually(engine.supervise)
            assert engine.usage == Usage(9.0, 20)
            engine.supervise()
            assert engine.usage == Usage(10.0, 50)

    monkeypatch.setattr(worker_process, "STILL_SECONDS", 1000.0)  # they use much and say little
    run(test)


def test_a_process_of_which_no_thread_gets_a_processor_is_not_taken_to_stand_still() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        give_up = time.monotonic() + 20
        while not worker_process._look_at(busy.pid)[1]:
            assert time.monotonic() < give_up
        busy.send_signal(signal.SIGSTOP)
        while worker_process._look_at(busy.pid)[1]:
            assert time.monotonic() < give_up
        busy.kill()


def test_signals_to_all_processes_are_the_servers_and_its_sockets_its_own() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            async with running() as engine:
                listener = Listener(engine)
                await opened(listener)
                pid = pid_of(engine._workers[0])
                links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
                assert f"socket:[{os.fstat(listening.fileno()).st_ino}]" not in links
                assert any(link.startswith("socket:") for link in links)  # its channel
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    os.kill(pid, number)
                listener.handle.push(samples(word(1)))
                listener.handle.flush("stop")
                assert await listener.stopped() == [("w1", "stop")]

    run(test)


SERVE_FOREVER = """
import asyncio
from tests.fakes import FakeRecognizer
from streaming_asr.engine import Engine

class ForkedRecognizer(FakeRecognizer):
    can_fork = True

async def main():
    engine = Engine(ForkedRecognizer(), num_workers=2)
    engine.start()
    while not all(worker._num_heartbeats for worker in engine._workers):  # they are past what begins a worker
        await asyncio.sleep(0.01)
    print(*(worker._pid for worker in engine._workers), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


def test_no_process_outlives_a_server_that_is_killed() -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", SERVE_FOREVER], stdout=subprocess.PIPE, env=environment) as server:
        assert server.stdout is not None
        pids = [int(pid) for pid in server.stdout.readline().split()]
        assert len(pids) == 2
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
        os.kill(pids[0], signal.SIGSTOP)  # one that could not even hear of it
        server.kill()
    give_up = time.monotonic() + 20
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < give_up
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- the child's part, in this process ------------------------------------------------------------------------------


@asynccontextmanager
async def hosted(recognizer: FakeRecognizer, **options: Any) -> AsyncIterator[WorkerProcess]:
    """A worker whose child is played here, so that a test can look into it."""
    worker = WorkerProcess(recognizer, 8, 10.0, options.get("stall_seconds", 30.0), lambda report: None)
    ours, its = socket.socketpair()
    worker._channel = Channel(ours, worker._on_message, worker._on_end)
    host = WorkerHost(its, recognizer, 8, 10.0, options.get("stall_seconds", 30.0))
    child = asyncio.create_task(host.run())
    yield worker
    worker._channel.close()
    await child


def test_all_streams_are_given_back_when_the_server_is_gone() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with hosted(recognizer) as worker:
            told: list[Event] = []
            handles = [worker.open(StreamOptions(), Callbacks(told.extend)) for _ in range(3)]
            for handle in handles:
                handle.push(samples(words(1, 0)))
            await eventually(lambda: sum(isinstance(event, Final) for event in told) == 3)
            handles[0].close()
            await eventually(lambda: worker.num_streams == 2)
            assert recognizer.open_streams == 2
        assert recognizer.open_streams == 0

    run(test)


def test_a_stream_closed_while_its_thread_stands_still_is_given_back() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with hosted(recognizer, stall_seconds=0.2) as worker:
            failed: list[int] = []
            handle = worker.open(StreamOptions(), Callbacks(lambda events: None, lambda: failed.append(1)))
            handle.push(samples(word(STALL)))
            await eventually(lambda: len(recognizer.batches) == 1)
            handle.close()
            await eventually(lambda: worker.num_streams == 0)
            assert not failed  # who closes it hears nothing more
            recognizer.released.set()

    run(test)
