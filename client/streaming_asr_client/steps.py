"""Owns where sound is cut into messages: at the end of a step of the server's model, which makes nothing of less.

Sent earlier, the rest of it would wait at the server and cost it a message; sent later, the whole step would wait.
"""

from __future__ import annotations

LONGEST_MS = 1000  # that sound is held back for, whatever a server says of its steps


class Steps:
    """Sound on its way. A step is `step_ms` long; the first, after a start or a `finalize`, `first_ms`."""

    def __init__(self, first_ms: int, step_ms: int, sample_rate: int, frame_bytes: int) -> None:
        """`frame_bytes`: of one sample of all channels."""
        first_ms, step_ms = (min(max(1, milliseconds), LONGEST_MS) for milliseconds in (first_ms, step_ms))
        self._first, self._step = first_ms * sample_rate, step_ms * sample_rate  # in thousandths of a frame
        self._frame_bytes = frame_bytes
        self._rest = b""
        self._sent_bytes = 0  # since the start or the last `end`

    def add(self, data: bytes) -> bytes:
        """What can leave: all that came up to the end of the last step that is whole."""
        self._rest += data
        heard = 1000 * ((self._sent_bytes + len(self._rest)) // self._frame_bytes)
        if heard < self._first:
            return b""
        whole = self._first + (heard - self._first) // self._step * self._step
        return self._take(-(-whole // 1000) * self._frame_bytes - self._sent_bytes)

    def end(self) -> bytes:
        """What is left, when nothing more comes before a `finalize` or the end."""
        rest = self._take(len(self._rest))
        self._sent_bytes = 0
        return rest

    def _take(self, size: int) -> bytes:
        taken, self._rest = self._rest[:size], self._rest[size:]
        self._sent_bytes += size
        return taken
