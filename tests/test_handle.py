"""A handle on a fake worker: what waits, who is nudged for it, and what its session is told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from streaming_asr.audio import Samples
from streaming_asr.handle import TELL_SAMPLES, Callbacks, Handle, tell
from streaming_asr.messages import StreamOptions
from streaming_asr.scheduling import Marker

BLOCK_SAMPLES = 960


class FakeWorker:
    max_backlog_seconds = 10.0
    block_samples = BLOCK_SAMPLES

    def __init__(self) -> None:
        self.wake = threading.Condition()
        self.num_nudges = 0

    def nudge(self, handle: Handle) -> None:
        self.wake.notify()  # raises unless it is held
        self.num_nudges += 1

    def on_loop(self, call: Callable[..., None], *args: Any) -> None:
        call(*args)


def handle_of(worker: FakeWorker, **callbacks: Any) -> Handle:
    return Handle(worker, StreamOptions(), Callbacks(**({"deliver": lambda events: None} | callbacks)))


def sound(num_samples: int) -> Samples:
    return np.zeros(num_samples, np.float32)


def test_what_waits_is_taken_in_order_block_by_block() -> None:
    handle = handle_of(FakeWorker())
    handle.push(sound(BLOCK_SAMPLES + 60))
    handle.mark()
    handle.push(sound(40))
    handle.flush("stop")
    taken = [handle.take(1) for _ in range(6)]
    assert [len(item) if isinstance(item, np.ndarray) else item for item in taken[:2]] == [BLOCK_SAMPLES, 60]
    assert isinstance(taken[2], Marker)
    assert isinstance(taken[3], np.ndarray)
    assert taken[4:] == ["stop", None]


def test_less_than_a_step_needs_neither_is_taken_nor_wakes_the_worker() -> None:
    worker = FakeWorker()
    handle = handle_of(worker)
    handle.push(sound(1))  # nobody has looked yet what is missing
    assert worker.num_nudges == 1
    assert handle.take(500) is None
    handle.push(sound(498))
    assert worker.num_nudges == 1
    handle.push(sound(1))
    assert worker.num_nudges == 2
    item = handle.take(500)
    assert isinstance(item, np.ndarray)
    assert len(item) == 500
    assert handle.take(2 * BLOCK_SAMPLES) is None
    handle.push(sound(BLOCK_SAMPLES))  # a whole block is always taken
    assert worker.num_nudges == 3
    handle.take(2 * BLOCK_SAMPLES)
    handle.take(500)
    handle.push(sound(1))
    handle.mark()  # is to be answered, however little there is
    assert worker.num_nudges == 4
    assert isinstance(handle.take(500), np.ndarray)
    assert isinstance(handle.take(500), Marker)


def test_an_owner_beside_the_handle_is_told_in_portions_what_was_taken() -> None:
    told: list[tuple[int, int]] = []
    handle = handle_of(FakeWorker(), taken=lambda *so_far: told.append(so_far))
    handle.push(sound(2 * TELL_SAMPLES))
    for _ in range(2 * TELL_SAMPLES // BLOCK_SAMPLES):
        handle.take(BLOCK_SAMPLES)
    assert told == [(5 * BLOCK_SAMPLES, 0)]
    handle.flush("stop")
    handle.take(1)
    handle.take(1)
    assert told[1:] == [(2 * TELL_SAMPLES, 1)]


def test_a_closed_handle_takes_nothing_and_tells_only_that_it_is_gone() -> None:
    told: list[str] = []
    worker = FakeWorker()
    handle = handle_of(
        worker,
        deliver=lambda events: told.append("events"),
        fail=lambda: told.append("failed"),
        reached=lambda: told.append("reached"),
        gone=lambda: told.append("gone"),
    )
    handle.push(sound(BLOCK_SAMPLES))
    handle.close()
    handle.push(sound(BLOCK_SAMPLES))
    handle.flush("stop")
    handle.mark()
    assert handle.is_closed
    assert (handle.take(1), handle.backlog_seconds) == (None, 0.0)
    handle.on_events([])
    handle.on_reached()
    handle.on_failure()
    handle.on_gone()
    assert told == ["gone"]


def test_who_raises_on_its_news_has_lost_its_stream(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    handle = handle_of(FakeWorker(), reached=lambda: 1 / 0, fail=lambda: told.append("failed"))

    async def test() -> None:
        tell(handle.on_reached, handle.on_failure)
        await asyncio.sleep(0)
        tell(handle.on_reached, handle.on_failure)
        await asyncio.sleep(0)

    asyncio.run(test())
    assert told == ["failed"]
    assert handle.is_closed
    assert caplog.text.count("ZeroDivisionError") == 1
