"""Owns a WebSocket connection: TLS, what is looked at in one turn of the loop, and limits before a session hears of it.

Knows no protocol and no session: what it says when it fails is written as whoever drives it says.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidMessage
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Event
from websockets.server import ServerProtocol

from . import messages
from .gate import Visitor
from .limits import BURST_MESSAGE_SECONDS, MIN_WAIT_SECONDS, Budget, Limits, Lobby
from .messages import ServerMessage
from .protocols.adapter import Write
from .protocols.native import write_message
from .tcp import TcpConnection

PIECE_BYTES = 2 << 10  # looked at in one turn, 64 ms of sound: frames of one byte take milliseconds to tell apart
MAX_UNSENT_BYTES = 1 << 20  # the library answers pings at once: who reads no answers is cut
FRAME_ERRORS = {1002: "bad_frame", 1007: "bad_utf8", 1009: "too_big"}  # that the library finds, by close code


class WebSocketConnection(ServerConnection):
    """Keeps requests small and soon, and tells the client why before it fails the connection for a frame that never
    reaches the session.
    """

    is_half_closed = False  # who closes a WebSocket reads no more

    def __init__(
        self,
        protocol: ServerProtocol,
        *args: Any,
        lobby: Lobby[Connection],
        limits: Limits,
        tls: ssl.SSLContext | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(protocol, *args, **kwargs)
        self._tls = tls
        self._tls_seconds = limits.handshake_timeout_seconds
        self._is_made = False  # with TLS, if there is any
        self._unread = memoryview(b"")  # came, and is still to be looked at
        self._lobby = lobby
        self._header_bytes_left = limits.max_header_bytes
        rate = limits.max_messages_per_second
        self._frames_left = Budget(rate, rate * BURST_MESSAGE_SECONDS, time.monotonic)
        self.write: Callable[[ServerMessage], list[Write]] = lambda message: [write_message(message)]
        self.visitor = Visitor("")
        self._is_explained = False  # why it closes

    @property
    def is_open(self) -> bool:
        """Whether neither side has begun to close it."""
        return self.protocol.state is OPEN

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Closes it; whoever does has said why."""
        self._is_explained = True
        await super().close(code, reason)

    def send_data(self) -> None:
        """What is to be sent; before the library fails the connection by itself, what is wrong."""
        wrong = self.protocol.handshake_exc
        if isinstance(wrong, InvalidMessage) and not (self._is_explained or isinstance(wrong.__cause__, EOFError)):
            self._is_explained = True  # the library would close without a word
            self.transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        close = self.protocol.close_sent
        if close is not None and not self._is_explained and close.code in FRAME_ERRORS:
            self._is_explained = True
            for written in self.write(messages.Error(FRAME_ERRORS[close.code], close.reason)):
                self.transport.write(Frame(Opcode.TEXT, _as_bytes(written.data)).serialize(mask=False))
        super().send_data()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has a connection; what it wants it has not said yet."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport  # from now on it can be cut, which asyncio's own way to TLS would put off
        oldest = self._lobby.enter(self)
        if oldest is not None:
            oldest.transport.abort()
        if self._tls is None:
            self._begin(transport)
        else:
            transport.pause_reading()
            self._handshake = self.loop.create_task(self._shake_hands(transport, self._tls))

    async def _shake_hands(self, transport: asyncio.Transport, tls: ssl.SSLContext) -> None:
        secured = None  # also what comes of a connection that is cut meanwhile
        with contextlib.suppress(OSError):
            secured = await self.loop.start_tls(
                transport,
                self,
                tls,
                server_side=True,
                ssl_handshake_timeout=self._tls_seconds,
                ssl_shutdown_timeout=self.close_timeout,
            )
        if secured is None:
            self._lobby.leave(self)
        else:
            self._begin(secured)

    def _begin(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self.recv_messages.resume = self._look_on  # not the transport's own: first comes what is unread
        self._is_made = True
        self._look_at_piece()  # which came with the end of the TLS handshake

    def data_received(self, data: bytes) -> None:
        """Bytes of the request, which must end soon, or of frames.

        They are looked at a piece in each turn of the loop: a socket has up to 256 KiB at once, and TLS 512.
        """
        self._unread = memoryview(data)
        if self._is_made:
            self._look_at_piece()

    def _look_at_piece(self) -> None:
        piece = bytes(self._unread[:PIECE_BYTES])
        self._unread = self._unread[PIECE_BYTES:] or memoryview(b"")  # not a view of nothing, which would keep all
        if piece and not self.transport.is_closing():
            self._look_at(piece)
        if not self.recv_messages.paused:  # or else it resumes
            self._look_on()

    def _look_at(self, piece: bytes) -> None:
        if self.request is None:
            self._header_bytes_left -= len(piece)
            if self._header_bytes_left < 0:
                self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n")
                self.transport.close()
                return
        super().data_received(piece)
        if self.request is not None:
            self._lobby.leave(self)
        if self.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.transport.abort()

    def process_event(self, event: Event) -> None:
        """The request, or a frame of any kind: pings and parts of a message cost as much as messages."""
        self._frames_left.spend(1)
        super().process_event(event)

    def _look_on(self) -> None:
        if self.transport.is_closing():
            return
        seconds = self._frames_left.wait_seconds
        if self._unread or seconds:
            self.transport.pause_reading()
            self.loop.call_later(max(seconds, MIN_WAIT_SECONDS) if seconds else 0, self._look_at_piece)
        else:
            self.transport.resume_reading()

    def eof_received(self) -> None:
        """The client sends nothing more. What TLS delivers with its end is dropped: nobody hears an answer any more."""
        self._unread = memoryview(b"")
        if self._is_made:
            super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._unread = memoryview(b"")
        self._lobby.leave(self)
        if self._is_made:
            super().connection_lost(exc)


Connection = WebSocketConnection | TcpConnection


def _as_bytes(frame: str | bytes) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame
