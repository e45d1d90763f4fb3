"""Owns the sessions that wait for their clients: suspended here, or saved by the process before this one.

None waits longer than was promised, and only so many are suspended. Must not know connections.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from .conversation import Conversation
from .gate import Gate, Visitor
from .messages import Resume
from .session import Snapshot
from .state import StateFolder

MAX_SUSPENDED = 256  # then one gives way of who has most of them


class Waiting:
    """Those whose clients have ``seconds`` to come back. Raises `InputError` for a ``state`` that cannot be read."""

    def __init__(self, seconds: float, state: StateFolder | None) -> None:
        self._seconds = seconds
        self._state = state
        self._suspended: dict[str, Conversation] = {}  # by session id; the one that waits longest first
        self._saved = state.load() if state is not None else {}  # by session id
        self._saved_until = time.monotonic() + seconds

    def __len__(self) -> int:
        """How many are suspended here."""
        return len(self._suspended)

    def suspend(self, conversation: Conversation) -> None:
        """Lets a session wait."""
        self._suspended[conversation.session_id] = conversation
        if len(self._suspended) > MAX_SUSPENDED:
            owners = Counter(each.visitor.owner for each in self._suspended.values())
            longest = max(self._suspended.values(), key=lambda each: owners[each.visitor.owner])  # of who has most
            self._expire([longest])

    def suspended(self, session_id: str) -> Conversation | None:
        """Who waits here under this name."""
        return self._suspended.get(session_id)

    def saved(self, resume: Resume) -> Snapshot | None:
        """What was saved of the session that a client wants back, if it knows its token."""
        snapshot = self._saved.get(resume.session_id)
        return snapshot if snapshot is not None and snapshot.holds(resume.token) else None

    def leave(self, session_id: str) -> None:
        """The session goes on; one that did not wait is none."""
        self._suspended.pop(session_id, None)
        self._saved.pop(session_id, None)

    def expire_suspended(self) -> None:
        """Ends those that waited too long."""
        latest = time.monotonic() - self._seconds
        self._expire([each for each in self._suspended.values() if each.suspended_at <= latest])

    def expire_beyond_limits(self, gate: Gate, active: Sequence[Visitor]) -> None:
        """Ends those that are too many beside their owners' active sessions: who waited longest gives way."""
        waiting = list(reversed(self._suspended.values()))
        beyond = gate.too_many([*active, *(each.visitor for each in waiting)])
        self._expire([each for each, is_beyond in zip(waiting, beyond[len(active) :], strict=True) if is_beyond])

    def expire_saved(self) -> None:
        """Forgets those that waited too long."""
        if self._state is not None and self._saved and time.monotonic() > self._saved_until:
            for session_id in self._saved:
                self._state.remove(session_id)
            self._saved.clear()

    def leave_saved(self) -> None:
        """This process ends: what is on disk stays there, for the next one."""
        for conversation in self._suspended.values():
            conversation.leave_saved()
        self._suspended.clear()

    def _expire(self, conversations: list[Conversation]) -> None:
        for conversation in conversations:
            del self._suspended[conversation.session_id]
            conversation.expire()
