import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.errors import InputError
from streaming_asr.limits import Budget, Limits, Lobby


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


def test_a_limit_that_lets_nothing_through_is_named() -> None:
    Limits().validate()
    with pytest.raises(InputError, match="max_audio_speed must be above 0, not nan"):
        Limits(max_audio_speed=float("nan")).validate()
    with pytest.raises(InputError, match="max_handshakes"):
        Limits(max_handshakes=0).validate()


def test_in_a_lobby_the_oldest_gives_way() -> None:
    lobby: Lobby[str] = Lobby(2)
    assert lobby.enter("a") is lobby.enter("b") is None
    assert lobby.enter("c") == "a"
    lobby.leave("a")
    lobby.leave("b")
    assert lobby.enter("d") is None
    assert lobby.enter("e") == "c"
    assert len(lobby) == 2
