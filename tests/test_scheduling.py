"""The order of work on a fake clock, and what waits for it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.scheduling import Backlog, Marker, Scheduler


def test_the_earliest_due_go_first_and_one_step_each() -> None:
    scheduler: Scheduler[str] = Scheduler(0.08)
    scheduler.offer("late", 2.0)
    assert scheduler.offer("early", 1.0)
    assert not scheduler.offer("early", 1.5)  # already waits,
    assert scheduler.offered("early") == 1.0  # since then
    scheduler.offer("tie", 2.0)
    assert scheduler.take(2) == ["early", "late"]
    assert scheduler.take(2) == ["tie"]
    assert scheduler.take(2) == []


@settings(deadline=None)
@given(
    files=st.integers(0, 20),
    live=st.integers(1, 6),
    most=st.integers(1, 8),
    load=st.floats(0.1, 1.0),
)
def test_live_streams_are_on_time_whatever_else_is_sent(files: int, live: int, most: int, load: float) -> None:
    """On a machine that can carry all streams in real time, a live one waits for one round of the others at most."""
    chunk = 0.08
    rounds = -(-(live + files) // most)
    step_seconds = load * chunk / rounds
    scheduler: Scheduler[tuple[str, int]] = Scheduler(chunk)
    next_chunk = {("live", i): chunk * (1 + i / live) for i in range(live)}
    offered: dict[tuple[str, int], float] = {}
    now, worst, file_steps = 0.0, 0.0, 0
    for file in range(files):
        scheduler.offer(("file", file), 0.0)
    while now < 2.0:
        for key, at in next_chunk.items():
            if at <= now and key not in offered:
                scheduler.offer(key, now)
                offered[key] = at
                next_chunk[key] = at + chunk
        batch = scheduler.take(most)
        now += step_seconds
        for key in batch:
            if key[0] == "file":
                file_steps += 1
                scheduler.offer(key, now)
            else:
                worst = max(worst, now - offered.pop(key))
    assert worst <= (rounds + 1) * step_seconds + 1e-9
    assert file_steps >= files * (2.0 / chunk - 2)  # and the files go at real time or faster


def test_a_step_waits_for_a_quarter_of_the_live_streams_a_quarter_of_a_chunk_at_most() -> None:
    scheduler: Scheduler[int] = Scheduler(0.08)
    assert scheduler.wait_seconds(0.0) == 0.0  # for nobody
    for stream in range(12):  # all take a step in each chunk, one after the other
        scheduler.offer(stream, stream / 150)
    scheduler.take(12)
    assert scheduler.wait_seconds(0.075) == 0.0  # the same, while many are live
    scheduler.offer(0, 0.08)
    assert scheduler.wait_seconds(0.08) == pytest.approx(0.02)
    scheduler.offer(1, 0.085)
    assert scheduler.wait_seconds(0.085) == pytest.approx(0.015)
    assert scheduler.wait_seconds(0.11) == 0.0  # two, but the first has waited for long enough
    scheduler.offer(2, 0.09)
    assert scheduler.wait_seconds(0.09) == 0.0  # a quarter of them


def test_who_is_alone_or_one_of_a_few_waits_for_nobody() -> None:
    scheduler: Scheduler[int] = Scheduler(0.08)
    for stream in range(50):
        scheduler.offer(stream, 0.0)
    scheduler.take(50)
    for turn in range(1, 20):  # a file sent at once, long after: many steps, but one stream
        scheduler.offer(50, 1.0 + turn / 1000)
        assert scheduler.wait_seconds(1.0 + turn / 1000) == 0.0
        scheduler.take(1)
    for stream in (51, 52):
        scheduler.offer(stream, 1.02)
        scheduler.take(1)
    scheduler.offer(50, 1.03)
    assert scheduler.wait_seconds(1.03) == 0.0
    for stream in range(10):
        scheduler.offer(stream, 1.04)
    scheduler.take(11)
    for stream in range(10):
        scheduler.forget(stream)
    scheduler.offer(50, 1.05)
    assert scheduler.wait_seconds(1.05) == 0.0


def test_a_file_far_ahead_lets_live_streams_go_first() -> None:
    scheduler: Scheduler[str] = Scheduler(0.08)
    for step in range(100):
        scheduler.offer("file", step / 1000)
        assert scheduler.take(1) == ["file"]
    scheduler.offer("file", 0.1)
    for step in range(4):  # live chunks in the next 0.25 s
        scheduler.offer("live", 0.101 + step * 0.08)
        expected = "live" if step < 4 else "file"
        assert scheduler.take(1) == [expected]
    scheduler.offer("live", 0.421)
    assert scheduler.take(1) == ["file"]  # its patience is over


def test_a_file_gets_all_the_time_that_nobody_else_needs() -> None:
    scheduler: Scheduler[str] = Scheduler(0.08)
    for _ in range(1000):  # on a machine of any speed
        scheduler.offer("file", 0.0)
        assert scheduler.take(4) == ["file"]


def test_what_is_forgotten_is_gone() -> None:
    scheduler: Scheduler[str] = Scheduler(0.08)
    scheduler.offer("a", 5.0)
    scheduler.forget("a")
    scheduler.forget("never seen")
    assert len(scheduler) == 0
    scheduler.offer("a", 1.0)
    scheduler.offer("b", 1.01)
    assert scheduler.take(2) == ["a", "b"]  # its earlier due time is forgotten too


# --- backlog -------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(0, 40), st.sampled_from(["finalize", "stop"])), max_size=30))
def test_a_backlog_keeps_the_order_of_audio_and_flushes(pushes: list[Any]) -> None:
    backlog = Backlog(16)
    expected: list[Any] = []
    count = 0
    for pushed in pushes:
        if isinstance(pushed, str):
            backlog.append_flush("stop" if pushed == "stop" else "finalize")
            expected.append(pushed)
        else:
            backlog.append(np.arange(count, count + pushed, dtype=np.float32))
            expected += range(count, count + pushed)
            count += pushed
    assert backlog.num_samples == count
    got: list[Any] = []
    while backlog:
        item = backlog.take()
        if isinstance(item, str):
            got.append(item)
        else:
            assert not isinstance(item, Marker)
            assert 0 < len(item) <= 16
            got += item.tolist()
    assert got == expected
    assert backlog.num_samples == 0


def test_tiny_packets_share_blocks() -> None:
    backlog = Backlog(16)
    for _ in range(64):
        backlog.append(np.zeros(1, np.float32))
    taken = 0
    while backlog:
        backlog.take()
        taken += 1
    assert taken == 4


def test_a_backlog_says_whether_it_is_worth_a_look() -> None:
    backlog = Backlog(16)
    assert not backlog.holds(0)
    backlog.append(np.zeros(10, np.float32))
    assert backlog.holds(10)
    assert not backlog.holds(11)
    backlog.append_marker()
    assert backlog.holds(11)
    backlog.take()
    backlog.take()
    backlog.append_flush("stop")
    assert backlog.holds(11)
    backlog.take()
    assert not backlog.holds(0)


def test_a_backlog_counts_its_marks() -> None:
    backlog = Backlog(10)
    for _ in range(3):
        backlog.append_marker()
    backlog.take()
    assert backlog.num_requests == 2
    backlog.clear()
    assert backlog.num_requests == 0
