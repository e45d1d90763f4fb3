"""Owns how much one client may take, as plain numbers, and the two ways of holding to them: budgets and a lobby.

Nothing here is heavy to import, and the clock is injected.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

from .errors import InputError

BURST_MESSAGE_SECONDS = 1.0  # of `max_messages_per_second` that may come at once
MIN_WAIT_SECONDS = 0.02  # of who sends too much: waiting for each message alone costs more than the message
MAX_BACKLOG_SECONDS = 10.0  # of one stream's audio, from which its sender is to wait
BURST_AUDIO_SECONDS = 60.0  # that may come at once, before `max_audio_speed` counts


def _limit(default: Any, help: str) -> Any:
    words = "no limit" if default is None else "%(default)s"
    return field(default=default, metadata={"help": f"{help} (default: {words})", "metavar": "N"})


@dataclass(frozen=True)
class Limits:
    """What is refused, waited for or given up on; `None` sets no limit. Each is an option of ``serve``."""

    # 1 MiB: 32 s of 16-bit audio at 16 kHz
    max_frame_bytes: int = _limit(1 << 20, "of one frame, before anything of it is kept")
    max_messages_per_second: float = _limit(1000.0, "who sends more waits")
    max_audio_speed: float = _limit(100.0, "times real time; who sends faster for longer waits")
    max_session_seconds: float | None = _limit(None, "a longer session is settled and closed")
    idle_timeout_seconds: float = _limit(60.0, "in which a client neither sends nor, if there is something, reads")
    max_sessions_per_address: int | None = _limit(None, "at once; a proxy is one address, as is a /64 of IPv6")
    handshake_timeout_seconds: float = _limit(10.0, "for a client to say what it wants, and for TLS before it")
    max_header_bytes: int = _limit(16384, "of a request")
    max_handshakes: int = _limit(256, "under way at once, of TLS too; the oldest gives way")

    def validate(self) -> None:
        """Raises `InputError` for a limit that lets nothing through."""
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None and not value > 0:
                raise InputError(f"{limit.name} must be above 0, not {value}")


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
        if self._left >= 0:
            return 0.0
        self._refill()
        return max(0.0, -self._left / self._rate)

    def _refill(self) -> None:
        now = self._clock()
        self._left = min(self._capacity, self._left + (now - self._updated) * self._rate)
        self._updated = now


K = TypeVar("K", bound=Hashable)


class Lobby(Generic[K]):
    """Those who came and have not said yet what they want. There is always room: the one who waited longest goes.

    So who opens connections and says nothing keeps nobody out who speaks at once.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._guests: dict[K, None] = {}

    def __len__(self) -> int:
        return len(self._guests)

    def enter(self, guest: K) -> K | None:
        """Lets `guest` in; returns who has to go for it."""
        self._guests[guest] = None
        if len(self._guests) <= self._room:
            return None
        oldest = next(iter(self._guests))
        del self._guests[oldest]
        return oldest

    def leave(self, guest: K) -> None:
        """`guest` has spoken, or gone; one who is not there is none."""
        self._guests.pop(guest, None)
