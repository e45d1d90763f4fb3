from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.limits import Budget


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_budget_is_full_at_first_and_fills_up_no_further() -> None:
    clock = Clock()
    budget = Budget(2.0, 10.0, clock)
    budget.spend(10.0)
    assert budget.wait_seconds == 0.0
    budget.spend(4.0)
    assert budget.wait_seconds == 2.0
    clock.now += 1.5
    assert budget.wait_seconds == 0.5
    clock.now += 1000.0
    budget.spend(12.0)
    assert budget.wait_seconds == 1.0


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 10)), max_size=30))
def test_who_waits_as_told_spends_no_more_than_the_rate_allows(steps: list[tuple[float, float]]) -> None:
    clock = Clock()
    budget = Budget(3.0, 7.0, clock)
    spent = 0.0
    for amount, pause in steps:
        clock.now += max(pause, budget.wait_seconds)
        budget.spend(amount)
        spent += amount
        assert spent - amount <= 7.0 + 3.0 * (clock.now - 100.0) + 1e-6
