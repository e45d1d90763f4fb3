"""Owns the way between the server's process and those of its workers: whole messages, in order, and nobody waits.

A message is its kind, the number of the stream that it is about, and bytes. What they mean is not known here; how many
may be under way, their sender has to bound.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

HEADER = struct.Struct("<IBQ")  # bytes that follow it, kind, stream
READ_BYTES = 1 << 18


class Channel:
    """One end of a socket pair, on the running event loop. What is sent in one turn of the loop leaves together."""

    def __init__(
        self, end: socket.socket, receive: Callable[[int, int, bytes], None], ended: Callable[[], None]
    ) -> None:
        """`receive` is called with each message, `ended` once when the other end is gone."""
        end.setblocking(False)
        self._end = end
        self._receive = receive
        self._ended = ended
        self._unread = bytearray()
        self._unsent: list[bytes] = []
        self._is_leaving = False  # what is unsent does so at the end of this turn, …
        self._is_waiting = False  # … or when there is room
        self._is_open = True
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end, self._read)

    def send(self, kind: int, stream: int, payload: bytes = b"") -> None:
        """Puts one message on its way; after the end it goes nowhere."""
        if not self._is_open:
            return
        self._unsent += (HEADER.pack(len(payload), kind, stream), payload)
        if not self._is_leaving:
            self._is_leaving = True
            self._loop.call_soon(self._write)

    def close(self) -> None:
        """What was not sent is not."""
        if self._is_open:
            self._is_open = False
            self._unsent.clear()
            self._loop.remove_reader(self._end)
            self._loop.remove_writer(self._end)
            self._end.close()

    def _write(self) -> None:
        if not self._is_open:
            return
        if self._is_waiting:
            self._is_waiting = False
            self._loop.remove_writer(self._end)
        data = b"".join(self._unsent)
        try:
            num_sent = self._end.send(data)
        except BlockingIOError:
            num_sent = 0
        except OSError:
            self._give_up()
            return
        self._is_leaving = num_sent < len(data)
        self._unsent = [data[num_sent:]] if self._is_leaving else []
        if self._is_leaving:
            self._is_waiting = True
            self._loop.add_writer(self._end, self._write)

    def _read(self) -> None:
        try:
            data = self._end.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._give_up()
            return
        self._unread += data
        at = 0
        try:
            while self._is_open and len(self._unread) - at >= HEADER.size:
                length, kind, stream = HEADER.unpack_from(self._unread, at)
                begin, at = at + HEADER.size, at + HEADER.size + length
                if len(self._unread) < at:
                    at = begin - HEADER.size
                    break
                self._receive(kind, stream, bytes(self._unread[begin:at]))
        finally:
            del self._unread[:at]

    def _give_up(self) -> None:
        if self._is_open:
            self.close()
            self._ended()
