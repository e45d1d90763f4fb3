"""Owns the way of sound from a thread (PortAudio's, a blocking reader's) into the event loop. Knows no devices."""

from __future__ import annotations

import asyncio
import threading
from collections import deque


class BlockQueue:
    """Blocks of bytes, bounded: a thread that must not wait offers, one that may wait puts. Made on the event loop."""

    def __init__(self, limit_bytes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit_bytes = limit_bytes
        self._room = threading.Condition()  # also guards all below
        self._blocks: deque[bytes] = deque()
        self._bytes = 0
        self._closed = False
        self._failure: Exception | None = None
        self._changed = asyncio.Event()

    def offer(self, block: bytes) -> bool:
        """From any thread; never waits. False when the block was dropped, for want of room or after `close`."""
        with self._room:
            if self._closed or not self._fits(block):
                return False
            self._append(block)
            return True

    def put(self, block: bytes) -> bool:
        """From any thread but the event loop's; waits for room. False after `close`."""
        with self._room:
            while not self._closed and not self._fits(block):
                self._room.wait()
            if self._closed:
                return False
            self._append(block)
            return True

    def _fits(self, block: bytes) -> bool:
        return not self._blocks or self._bytes + len(block) <= self._limit_bytes

    def _append(self, block: bytes) -> None:
        self._blocks.append(block)
        self._bytes += len(block)
        self._loop.call_soon_threadsafe(self._changed.set)

    def close(self, failure: Exception | None = None) -> None:
        """From any thread: nothing more comes. What is there can still be had; then `get` raises `failure`, if any."""
        with self._room:
            if not self._closed:
                self._closed = True
                self._failure = failure
                self._room.notify_all()
                self._loop.call_soon_threadsafe(self._changed.set)

    async def get(self) -> bytes | None:
        """The next block; `None` when closed and empty."""
        while True:
            with self._room:
                if self._blocks:
                    block = self._blocks.popleft()
                    self._bytes -= len(block)
                    self._room.notify_all()
                    return block
                if self._closed:
                    if self._failure is not None:
                        raise self._failure
                    return None
                self._changed.clear()
            await self._changed.wait()
