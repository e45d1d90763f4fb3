"""Owns the connection: moves frames between a WebSocket and the `ClientProtocol`. Knows no audio devices, no terminal.

async with connect("ws://127.0.0.1:8765", sample_rate=16000) as session:
    async for event in session.transcribe(blocks_of_pcm):
        print(event)
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket_connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)

from .errors import (
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    RemoteProtocolError,
    ServerError,
    ServerFull,
    UsageError,
)
from .events import Error, Event, Ready
from .protocol import ClientProtocol, Encoding, Endpointing, Options, State

DEFAULT_URL = "ws://127.0.0.1:8765/v1/stream"
PATH = "/v1/stream"
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


def normalize_url(url: str) -> str:
    """A full WebSocket URL from what people type: ``host:port``, ``http://…``, with or without the path."""
    wrong = UsageError(f"{url!r} is no server address; one looks like {DEFAULT_URL}")
    try:
        parts = urlsplit(url if "://" in url else f"ws://{url}")
        port = parts.port
    except ValueError:  # an unclosed bracket, a port that is no number
        raise wrong from None
    if parts.scheme not in _SCHEMES or not parts.hostname or port == 0 or parts.fragment:
        raise wrong
    path = PATH if parts.path in ("", "/") else parts.path
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, path, parts.query, ""))


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def explain_connect_failure(url: str, failure: Exception) -> ClientError:
    """What to tell people about an exception from connecting to `url`."""
    match failure:
        case InvalidURI():
            return UsageError(f"{url!r} is no server address; one looks like {DEFAULT_URL}")
        case InvalidStatus() if failure.response.status_code == 503:
            return ServerFull(url)
        case InvalidStatus() if failure.response.status_code == 404:
            return ConnectionFailed(f"there is a server, but nothing at {url} (HTTP 404); the path should be {PATH}")
        case InvalidStatus() if failure.response.status_code == 401:
            return ConnectionFailed(f"the server at {url} asks for an API key, and was given none that is good")
        case InvalidStatus():
            return ConnectionFailed(f"the server at {url} refuses: HTTP {failure.response.status_code}")
        case InvalidMessage() | EOFError():
            return ConnectionFailed(f"something answers at {url}, but it is no WebSocket server")
        case InvalidHandshake():
            return ConnectionFailed(f"cannot open {url}: {failure}")
        case TimeoutError():
            return ConnectionFailed(f"the server at {url} does not answer")
        case ConnectionRefusedError():
            return ConnectionFailed(f"no server at {url} — start one with `streaming-asr serve`")
        case socket.gaierror():
            return ConnectionFailed(f"no server at {url}: the host {urlsplit(url).hostname!r} is not known")
        case ssl.SSLError():
            return ConnectionFailed(f"no secure connection to {url}: {failure}")
        case _:
            return ConnectionFailed(f"no server at {url} — start one with `streaming-asr serve` ({failure})")


class StreamingClient:
    """An open session; made by `connect`. Iterate it for events while audio is sent: both sides push back.

    The iteration ends after `Done`. It raises `ServerError` when the server says no and `ConnectionLost` when the
    connection ends early. One task may send while another iterates.
    """

    def __init__(self, websocket: ClientConnection, protocol: ClientProtocol, ready: Ready) -> None:
        self._websocket = websocket
        self._protocol = protocol
        self._stop_was_sent = False
        self.ready = ready

    @property
    def url(self) -> str:
        """Where the server is."""
        return self._protocol.url

    async def send_audio(self, data: bytes) -> None:
        """Sends audio in the encoding that was announced; any length. Waits when the server is behind."""
        for frame in self._protocol.audio(data):
            await self._send(frame)

    async def finalize(self) -> None:
        """Asks for a final of what was sent so far, now."""
        await self._send(self._protocol.finalize())

    async def keepalive(self) -> None:
        """Tells the server that the session is alive though no audio comes."""
        await self._send(self._protocol.keepalive())

    async def stop(self) -> None:
        """Ends the audio; go on iterating for the last final and `Done`. A second call does nothing."""
        if self._protocol.state is State.STREAMING:
            await self._send(self._protocol.stop())
            self._stop_was_sent = True

    async def _send(self, frame: str | bytes) -> None:
        try:
            await self._websocket.send(frame)
        except ConnectionClosed as closed:
            raise _explain_close(self._protocol, closed) from closed

    def __aiter__(self) -> StreamingClient:
        return self

    async def __anext__(self) -> Event:
        if self._protocol.state is State.DONE:
            raise StopAsyncIteration
        return await _receive(self._websocket, self._protocol)

    async def transcribe(self, audio: AsyncIterable[bytes]) -> AsyncGenerator[Event, None]:
        """Sends all of `audio`, then stops; yields every event, as it comes, to the end.

        When `audio` raises, what was sent before is still finished and yielded; the exception follows.
        """
        sender = asyncio.create_task(self._send_all(audio))
        try:
            async for event in self:
                yield event
            if self._stop_was_sent:
                await sender
        finally:
            sender.cancel()
            await asyncio.wait([sender])
            if not sender.cancelled():
                sender.exception()  # seen: if the connection failed, the receiving side has said so

    async def _send_all(self, audio: AsyncIterable[bytes]) -> None:
        try:
            async for data in audio:
                if self._protocol.state is not State.STREAMING:
                    return  # the server is done, or failed: the receiving side tells
                await self.send_audio(data)
        except (ConnectionLost, ServerError):
            raise
        except Exception:  # the audio's own trouble: what came before it is still worth its final
            await self.stop()
            raise
        await self.stop()


async def _receive(websocket: ClientConnection, protocol: ClientProtocol) -> Event:
    """The next event that this version knows; an `Error` is raised, once the close code says what kind it is."""
    while True:
        try:
            frame = await websocket.recv()
        except ConnectionClosed as closed:
            raise _explain_close(protocol, closed) from closed
        event = protocol.receive(frame)
        if isinstance(event, Error):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.0):
                    await websocket.wait_closed()
            raise protocol.closed(websocket.close_code or 1006, "") or ServerError(event.code, event.message)
        if event is not None:
            return event


def _explain_close(protocol: ClientProtocol, closed: ConnectionClosed) -> ClientError:
    frame = closed.rcvd or closed.sent
    error = protocol.closed(frame.code if frame else 1006, frame.reason if frame else "")
    return error or ConnectionLost(f"the session with {protocol.url} is over")


@contextlib.asynccontextmanager
async def connect(
    url: str = DEFAULT_URL,
    *,
    sample_rate: int = 16000,
    encoding: Encoding = "pcm_s16le",
    channels: int = 1,
    language: str | None = None,
    partials: bool = True,
    words: bool = True,
    nbest: int = 1,
    endpointing: Endpointing | None = None,
    key: str | None = None,
    open_timeout_seconds: float = 10.0,
) -> AsyncIterator[StreamingClient]:
    """Opens a session and waits until the server is ready; closes it at the end, whatever happened.

    `key`: an API key, for a server that asks for one.

    Raises `UsageError` for a malformed URL, `ConnectionFailed`, `ServerFull` or `ServerError` when there is no session.
    """
    url = normalize_url(url)
    options = Options(sample_rate, encoding, channels, language, partials, words, nbest, endpointing or Endpointing())
    protocol = ClientProtocol(url, options)
    try:
        websocket = await websocket_connect(
            url,
            additional_headers={} if key is None else {"Authorization": f"Bearer {key}"},
            compression=None,  # PCM does not deflate; it would only cost both sides CPU
            proxy=None if _is_loopback(url) else True,
            open_timeout=open_timeout_seconds,
            # A ping waits behind the audio that a busy server has not read yet: its answer says nothing about life.
            ping_timeout=None,
            close_timeout=2.0,
        )
    except (OSError, EOFError, WebSocketException) as failure:
        raise explain_connect_failure(url, failure) from failure
    async with websocket:
        try:
            async with asyncio.timeout(open_timeout_seconds):
                await websocket.send(protocol.start())
                ready = await _receive(websocket, protocol)
        except TimeoutError:
            raise ConnectionFailed(f"the server at {url} took the connection but does not answer") from None
        except ConnectionClosed as closed:
            raise _explain_close(protocol, closed) from closed
        if not isinstance(ready, Ready):  # the protocol's table lets nothing else through here
            raise RemoteProtocolError(f"the server sent {ready!r} before it was ready")
        yield StreamingClient(websocket, protocol, ready)
