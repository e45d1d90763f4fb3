"""Owns what waits to be sent to one client: bounded, in order, with partials that give way to what is newer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .protocols.adapter import Write
from .session import Close

MAX_QUEUED_MESSAGES = 256  # recognized and not yet sent, a session: from here on its audio waits


@dataclass(frozen=True)
class Duty:
    """Stands before messages that must not go out before it is done."""

    do: Callable[[], Awaitable[None]]
    is_partial: bool = False
    replaces_partial: bool = False


class Outbox:
    """One session's messages on their way out. A partial gives way to what is newer; all others are kept, in order."""

    def __init__(self) -> None:
        self._messages: deque[Write | Duty] = deque()
        self._has_partial = False
        self._is_abandoned = False
        self._close: Close | None = None
        self._changed = asyncio.Event()
        self._below_limit = asyncio.Event()
        self._below_limit.set()

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Write | Duty) -> None:
        """Appends a message; never blocks, see `wait_capacity`."""
        if message.replaces_partial and self._has_partial:
            self._messages = deque(m for m in self._messages if not m.is_partial)
            self._has_partial = False
        self._has_partial |= message.is_partial
        self._messages.append(message)
        if len(self._messages) >= MAX_QUEUED_MESSAGES and not self._is_abandoned:
            self._below_limit.clear()
        self._changed.set()

    def finish(self, close: Close) -> None:
        """Nothing will be put any more; `close` comes after everything."""
        self._close = close
        self._below_limit.set()
        self._changed.set()

    def abandon(self) -> None:
        """Nobody gets messages any more: nobody shall wait for room."""
        self._is_abandoned = True
        self._below_limit.set()

    async def get(self) -> Write | Duty | Close:
        """Waits for the next message, or the close."""
        while not self._messages and self._close is None:
            self._changed.clear()
            await self._changed.wait()
        if not self._messages:
            assert self._close is not None
            return self._close
        message = self._messages.popleft()
        if message.is_partial:
            self._has_partial = False
        if len(self._messages) < MAX_QUEUED_MESSAGES:
            self._below_limit.set()
        return message

    @property
    def has_capacity(self) -> bool:
        """Whether fewer messages than the limit are queued."""
        return self._below_limit.is_set()

    async def wait_capacity(self) -> bool:
        """Waits until fewer messages than the limit are queued; says whether it had to."""
        if self._below_limit.is_set():
            return False
        await self._below_limit.wait()
        return True
