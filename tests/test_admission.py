import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.admission import MAX_LOAD, MIN_STEPS, WINDOW_SECONDS, Punctuality, StepCost


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_as_many_are_carried_as_leave_some_time() -> None:
    cost = StepCost(fixed=0.005, per_stream=0.001, audio_seconds=0.06)
    assert cost.capacity(0.3) == int((MAX_LOAD * 0.06 - 0.005) / 0.001)
    assert cost.capacity(0.3, num_workers=3) == 3 * cost.capacity(0.3)


def test_a_tight_promise_allows_fewer() -> None:
    cost = StepCost(fixed=0.005, per_stream=0.001, audio_seconds=0.06)
    assert cost.capacity(0.02) == 5


def test_a_step_is_never_so_large_that_it_alone_breaks_the_promise() -> None:
    assert StepCost(fixed=0.01, per_stream=0.0045, audio_seconds=0.06).batch(0.3, 64) == 31  # in 0.15 s
    assert StepCost(fixed=0.01, per_stream=0.001, audio_seconds=0.06).batch(0.3, 64) == 64
    assert StepCost(fixed=0.2, per_stream=0.001, audio_seconds=0.06).batch(0.3, 64) == 1


@given(st.floats(0, 1), st.floats(1e-5, 1), st.floats(0.01, 1))
def test_at_least_one_is_carried_and_a_slower_machine_carries_no_more(
    fixed: float, per_stream: float, latency: float
) -> None:
    capacity = StepCost(fixed, per_stream, 0.06).capacity(latency)
    assert capacity >= 1
    assert StepCost(fixed, 2 * per_stream, 0.06).capacity(latency) <= capacity


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_one_late_step_is_no_reason(clock: Clock) -> None:
    punctuality = Punctuality(0.3, clock)
    punctuality.note([0.01] * 100)
    punctuality.note([0.4])
    assert not punctuality.is_late


def test_nothing_is_concluded_from_a_few_steps(clock: Clock) -> None:
    punctuality = Punctuality(0.3, clock)
    punctuality.note([0.4] * (MIN_STEPS - 1))
    assert not punctuality.is_late
    punctuality.note([0.4])
    assert punctuality.is_late


def test_who_is_late_must_be_on_time_for_a_while_to_be_trusted_again(clock: Clock) -> None:
    punctuality = Punctuality(0.3, clock)
    punctuality.note([0.2] * 10 + [0.01] * 90)  # half of the promise is already too late
    assert punctuality.is_late
    clock.now += 2
    punctuality.note([0.01] * 200)  # 10 of 300 were late: too few to begin with, too many to end with
    assert punctuality.is_late
    clock.now += WINDOW_SECONDS - 1
    punctuality.note([0.01])
    assert not punctuality.is_late


def test_who_has_nothing_to_do_is_not_late(clock: Clock) -> None:
    punctuality = Punctuality(0.3, clock)
    punctuality.note([0.4] * 100)
    assert punctuality.is_late
    clock.now += WINDOW_SECONDS + 1
    assert not punctuality.is_late
