"""Where sound is cut into messages."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from streaming_asr_client.steps import LONGEST_MS, Steps

RATES = st.sampled_from([8000, 11025, 16000, 44100, 48000])


@given(
    st.lists(st.integers(0, 4000), min_size=1, max_size=30),
    st.integers(1, 120),
    st.integers(1, 120),
    RATES,
    st.sampled_from([1, 2, 4, 8]),
)
@example([8, 4000, 4000, 4000, 4000], 1, 1, 8000, 1)
def test_messages_end_where_steps_do_and_hold_all(
    blocks: list[int], first_ms: int, step_ms: int, rate: int, frame_bytes: int
) -> None:
    steps = Steps(first_ms, step_ms, rate, frame_bytes)
    data = bytes(range(251)) * (1 + sum(blocks) // 251)
    # Up to where the first step reaches, and each after it; a frame of which it has a part belongs to it whole.
    num_steps = 1 + 1000 * sum(blocks) // (step_ms * rate * frame_bytes)
    ends = [0, *(-(-(first_ms + number * step_ms) * rate // 1000) * frame_bytes for number in range(num_steps))]
    at, sent = 0, b""
    for size in blocks:
        sent += steps.add(data[at : at + size])
        at += size
        assert sent == data[: ends[bisect_right(ends, at) - 1]]
    assert sent + steps.end() == data[:at]


def test_after_an_end_the_first_step_comes_again() -> None:
    steps = Steps(75, 60, 1000, 2)
    assert [len(steps.add(bytes(30))) for _ in range(10)] == [0, 0, 0, 0, 150, 0, 0, 0, 120, 0]
    assert len(steps.end()) == 30
    assert [len(steps.add(bytes(50))) for _ in range(3)] == [0, 0, 150]
    assert steps.end() == b""


def test_no_step_drifts() -> None:
    """60 ms are 661.5 samples."""
    steps = Steps(75, 60, 11025, 2)
    sent = [0]
    for _ in range(60_000 // 15):
        sent.append(sent[-1] + len(steps.add(bytes(2 * 165))) // 2)
    assert {after - before for before, after in pairwise(sent) if sent[0] < before < after} == {661, 662}
    assert (sent[-1] - 827) % 661.5 in (0, 0.5)


@pytest.mark.parametrize("step_ms", [-5, 0, 10**9])
def test_what_no_server_means_holds_nothing_up_for_long(step_ms: int) -> None:
    steps = Steps(step_ms, step_ms, 1000, 2)
    held = 0
    for _ in range(5 * LONGEST_MS):
        held = held + 2 - len(steps.add(b"ab"))
        assert held <= 2 * LONGEST_MS
