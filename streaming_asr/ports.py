"""Owns the ports that a server listens on: one for all protocols that have a path, and others of one protocol each.

Who comes, and what becomes of them, is the caller's business.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from .conversation import split_target
from .errors import InputError
from .limits import Limits, Lobby
from .protocols.adapter import Adapter
from .protocols.deepgram import DeepgramAdapter
from .protocols.native import NativeAdapter
from .protocols.openai_realtime import OpenAIAdapter
from .protocols.vosk import VoskAdapter
from .tcp import BUFFERED_BYTES
from .tls import ServerTls
from .websocket import Connection, WebSocketConnection

# At debug level websockets writes frames out; this keeps it from doing so whatever the root logger's level is.
_wire_logger = logging.getLogger(f"{__name__}.wire")
_wire_logger.setLevel(logging.WARNING)

PATHS: dict[str, type[Adapter]] = {
    "/v1/stream": NativeAdapter,
    "/vosk": VoskAdapter,
    "/v1/listen": DeepgramAdapter,
    "/v1/realtime": OpenAIAdapter,
}
MAX_QUEUED_FRAMES = 8  # received and not yet looked at, a session
CLOSE_SECONDS = 5.0  # for a client to answer a close

Converse = Callable[[ServerConnection, type[Adapter] | None], Awaitable[None]]
AnswerRequest = Callable[[ServerConnection, Request, type[Adapter] | None], Response | None]
Welcome = Callable[[type[Adapter], asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _select_subprotocol(
    adapter: type[Adapter] | None, connection: ServerConnection, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """Browsers carry keys in further subprotocols, and want to hear the one that is none."""
    if adapter is None and connection.request is not None:
        adapter = PATHS.get(split_target(connection.request)[0])
    known = adapter.subprotocols if adapter is not None else ()
    return next((subprotocol for subprotocol in offered if subprotocol in known), None)


class Ports:
    """All ports of one server, on one host."""

    def __init__(self, host: str, limits: Limits, tls: ServerTls | None, lobby: Lobby[Connection]) -> None:
        """`lobby` is where clients are in whose handshake is under way."""
        self._host, self._limits, self._tls, self._lobby = host, limits, tls, lobby
        # By the protocol's name; "native" is the port with paths.
        self._servers: dict[str, WebSocketServer | asyncio.Server] = {}

    @property
    def protocols(self) -> list[str]:
        """Those that have a port of their own, and first the one whose port is everybody's."""
        return list(self._servers)

    def url_of(self, protocol: str) -> str:
        """Where the port of this protocol's own listens."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        server = self._servers[protocol]
        scheme = "tcp" if isinstance(server, asyncio.Server) else "ws" if self._tls is None else "wss"
        return f"{scheme}://{host}:{next(iter(server.sockets)).getsockname()[1]}"

    async def open(
        self, port: int, adapter: type[Adapter] | None, converse: Converse, answer_request: AnswerRequest
    ) -> None:
        """On this port every path leads to `adapter`; `None`: as `PATHS` says.

        `answer_request` is asked about each request, and `converse` has those that become WebSocket connections.
        Raises `InputError` when the port cannot be listened on.
        """
        lobby, limits, tls = self._lobby, self._limits, self._tls.context if self._tls is not None else None

        class Incoming(WebSocketConnection):
            """The library makes each from a class, which has to know this server's lobby, limits and certificate."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, lobby=lobby, limits=limits, tls=tls, **kwargs)

        try:
            server = await serve_websockets(
                lambda connection: converse(connection, adapter),
                self._host,
                port,
                process_request=lambda connection, request: answer_request(connection, request, adapter),
                select_subprotocol=functools.partial(_select_subprotocol, adapter),
                create_connection=Incoming,
                compression=None,  # audio does not compress, and a small frame could become a huge one
                max_size=limits.max_frame_bytes,
                max_queue=MAX_QUEUED_FRAMES,
                # Pings go out to keep routers awake. Their answers queue behind audio that the server has not read
                # yet, so that a late one proves nothing: sessions time out by the clock of `Session.deadline`.
                ping_timeout=None,
                open_timeout=limits.handshake_timeout_seconds,
                close_timeout=CLOSE_SECONDS,
                server_header=None,
                logger=_wire_logger,
            )
        except OSError as error:
            raise self._cannot_listen(port, error) from error
        self._servers[(adapter or NativeAdapter).name] = server

    async def open_tcp(self, port: int, adapter: type[Adapter], welcome: Welcome) -> None:
        """On this port clients speak `adapter`'s protocol without WebSocket around it, and `welcome` has them.

        Raises `InputError` when the port cannot be listened on.
        """
        try:
            server = await asyncio.start_server(
                functools.partial(welcome, adapter), self._host, port, limit=BUFFERED_BYTES
            )
        except OSError as error:
            raise self._cannot_listen(port, error) from error
        self._servers[adapter.name] = server

    def _cannot_listen(self, port: int, error: OSError) -> InputError:
        return InputError(f"cannot listen on {self._host}:{port}: {error.strerror or error}")

    def stop_listening(self) -> None:
        """Lets nobody in any more; who is in stays."""
        for server in self._servers.values():
            if isinstance(server, asyncio.Server):
                server.close()
            else:
                server.close(close_connections=False)

    async def wait_closed(self) -> None:
        """Until the last connection has ended."""
        for server in self._servers.values():
            await server.wait_closed()
