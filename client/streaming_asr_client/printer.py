"""Owns the way of text out of the event loop: a thread writes it, so that a reader may stand still (Ctrl-S, `less`).

Knows no views and no events.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

MAX_WAITING_BYTES = 16 << 20  # JSON with the times of words: more than ten hours of speech
STANDS_STILL_BYTES = 256 << 10  # waiting: the reader is not just slow


class _Piece(NamedTuple):
    write: Callable[[], None]
    num_bytes: int
    is_passing: bool


class Printer:
    """Writes pieces one after another, on a thread of its own that ends with the program, wherever it stands."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # also guards all below
        self._waiting: deque[_Piece] = deque()
        self._num_bytes = 0  # of what waits
        threading.Thread(target=self._write_all, name="printer", daemon=True).start()

    def put(self, write: Callable[[], None], num_bytes: int = 0, *, is_passing: bool = False) -> None:
        """Has `write` called, which raises nothing. Waits when `MAX_WAITING_BYTES` wait already.

        `is_passing`: while the reader stands still, it takes the place of such a piece that nothing has followed yet.
        """
        with self._changed:
            if is_passing and self._num_bytes > STANDS_STILL_BYTES and self._waiting[-1].is_passing:
                self._num_bytes -= self._waiting.pop().num_bytes
            while self._waiting and self._num_bytes + num_bytes > MAX_WAITING_BYTES:
                self._changed.wait()
            self._waiting.append(_Piece(write, num_bytes, is_passing))
            self._num_bytes += num_bytes
            self._changed.notify_all()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                piece = self._waiting.popleft()
                self._num_bytes -= piece.num_bytes
                self._changed.notify_all()
            piece.write()

    async def flush(self) -> None:
        """Waits until everything is written that was put before."""
        written = asyncio.Event()
        self.put(functools.partial(tell, asyncio.get_running_loop(), written.set))
        await written.wait()


def tell(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> None:
    """From any thread: has the loop call `action`, unless it is closed and nobody waits any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(action)
