"""Owns budgets: how much of something one may do a second, with a reserve for bursts. The clock is injected."""

from __future__ import annotations

from collections.abc import Callable


class Budget:
    """Fills at `rate` a second up to `capacity`, full at first. Spending may overdraw it: who did waits.

    (A token bucket: RFC 2697, 1. The whole of a message is known only when it is there, so it is paid for afterwards.)
    """

    def __init__(self, rate: float, capacity: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._capacity = capacity
        self._clock = clock
        self._left = capacity
        self._updated = clock()

    def spend(self, amount: float) -> None:
        """Takes `amount`, also if less is left."""
        self._refill()
        self._left -= amount

    @property
    def wait_seconds(self) -> float:
        """Until the budget is no longer overdrawn; 0 if it is not."""
        self._refill()
        return max(0.0, -self._left / self._rate)

    def _refill(self) -> None:
        now = self._clock()
        self._left = min(self._capacity, self._left + (now - self._updated) * self._rate)
        self._updated = now
