"""Owns a plain TCP connection, and makes it look to whoever drives it as a WebSocket's does: `recv`, `send`, `close`.

Knows no protocol: frames are whatever bytes have come. Nobody has been let in yet when one opens.
"""

from __future__ import annotations

import asyncio
import contextlib

from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

from .gate import Visitor

READ_BYTES = 2 << 10  # at a time, as of a WebSocket: the shortest events in it take less than a millisecond
BUFFERED_BYTES = 65536  # that wait in the reader before the sender has to


class TcpConnection:
    """One client. `recv` and `send` raise `websockets.exceptions.ConnectionClosed` when it is over."""

    request = None  # there is no handshake

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, close_seconds: float) -> None:
        self._reader = reader
        self._writer = writer
        self._close_seconds = close_seconds  # for the client to end its side
        self._unread = b""
        self._ended = asyncio.Event()
        self.close_code: int | None = None  # as a WebSocket's: 1006 if the connection broke
        self.is_half_closed = False  # the client sends no more, and may still read
        self.visitor = Visitor((writer.get_extra_info("peername") or ("",))[0])

    @property
    def transport(self) -> asyncio.WriteTransport:
        """To be aborted."""
        return self._writer.transport

    @property
    def is_open(self) -> bool:
        """Whether neither side has ended it."""
        return self.close_code is None

    async def wait_readable(self) -> None:
        """Waits until the client has said something; `recv` returns it."""
        self._unread = await self.recv()

    async def recv(self) -> bytes:
        """What has come, at least one byte."""
        data, self._unread = self._unread, b""
        try:
            data = data or await self._reader.read(READ_BYTES)
        except OSError:
            self._end(1006)
            raise ConnectionClosedError(None, None) from None
        if not data:
            self.is_half_closed = True
            self._end(1000)
            raise ConnectionClosedOK(None, None)
        return data

    async def send(self, data: str | bytes) -> None:
        """Waits while the client reads too slowly."""
        try:
            self._writer.write(data.encode() if isinstance(data, str) else data)
            await self._writer.drain()
        except OSError:
            self._end(1006)
            raise ConnectionClosedError(None, None) from None

    async def close(self, code: int, reason: str) -> None:
        """Nothing more will be sent. What the client still sends must be read until it ends, or is cut.

        Closing while bytes of the client are unread would reset the connection, and lose what was sent last.
        """
        self.close_code = self.close_code or code
        with contextlib.suppress(OSError):
            self._writer.write_eof()
        asyncio.get_running_loop().call_later(self._close_seconds, self.transport.abort)

    async def linger(self) -> None:
        """Reads and forgets until the client ends the connection and has what was sent, or `close` cuts it."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.recv()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def wait_closed(self) -> None:
        """Returns when nothing more will come."""
        await self._ended.wait()

    def _end(self, code: int) -> None:
        self.close_code = self.close_code or code
        self._ended.set()
