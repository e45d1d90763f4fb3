"""Owns the connection: moves frames between a WebSocket and the `ClientProtocol`. Knows no audio devices, no terminal.

async with connect("ws://127.0.0.1:8765", sample_rate=16000) as session:
    async for event in session.transcribe(blocks_of_pcm):
        print(event)
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import random
import socket
import ssl
import tempfile
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from typing import BinaryIO, NoReturn
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
from websockets.http11 import Response

from .errors import (
    ClientError,
    ConnectionFailed,
    ConnectionLost,
    RemoteProtocolError,
    ServerError,
    ServerFull,
    UsageError,
)
from .events import Ack, Error, Event, Final, GoingAway, Ready
from .protocol import ClientProtocol, Encoding, Endpointing, Options, Request, Resume, State
from .steps import Steps
from .unacknowledged import SAMPLE_BYTES, Unacknowledged

DEFAULT_PORT = 8765
PATH = "/v1/stream"
DEFAULT_URL = f"ws://127.0.0.1:{DEFAULT_PORT}{PATH}"
MAX_KEPT_BYTES = 32 << 20  # of audio that is not acknowledged, in memory: 17 minutes of 16-bit mono at 16 kHz
MAX_SPOOLED_BYTES = 1 << 30  # of it on disk: 9 hours
# A final is as long as its utterance, which some servers let go on for hours without endpointing: 1 MiB is 78 minutes
# of speech with the times of words, 64 MiB three days. A server that errs should still not take all memory.
MAX_MESSAGE_BYTES = 64 << 20
QUIET_SECONDS = 10.0  # without a word from the server until it is asked for one, and from then on until it is lost
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.25, 5.0
MAX_REASON_BYTES = 300  # of what a server says about a refusal; a proxy may send a page
_NO_ANSWER = "the server does not answer any more"
_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


def normalize_url(url: str) -> str:
    """A full WebSocket URL from what people type: ``host:port``, ``http://…``, with or without the path."""
    wrong = UsageError(f"{url!r} is no server address; one looks like {DEFAULT_URL}")
    try:
        parts = urlsplit(url if "://" in url else f"ws://{url}")
        if "://" not in url and parts.hostname and parts.port is None:
            parts = parts._replace(netloc=f"{parts.netloc}:{DEFAULT_PORT}")
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


def _first_line(response: Response) -> str:
    """Of what the server says about a refusal; nothing of what is no line for people."""
    line = bytes(response.body or b"")[:MAX_REASON_BYTES].decode(errors="replace").strip().partition("\n")[0]
    return line if line.isprintable() else ""


def explain_connect_failure(url: str, failure: Exception) -> ClientError:
    """What to tell people about an exception from connecting to `url`."""
    match failure:
        case InvalidURI():
            return UsageError(f"{url!r} is no server address; one looks like {DEFAULT_URL}")
        case InvalidStatus() if failure.response.status_code in (429, 503):
            return ServerFull(url, _first_line(failure.response))
        case InvalidStatus() if failure.response.status_code == 404:
            return ConnectionFailed(f"there is a server, but nothing at {url} (HTTP 404); the path should be {PATH}")
        case InvalidStatus() if failure.response.status_code == 401:
            return ConnectionFailed(f"the server at {url} asks for an API key, and was given none that is good")
        case InvalidStatus():
            reason = _first_line(failure.response)
            status = f"HTTP {failure.response.status_code}{f', {reason}' if reason else ''}"
            return ConnectionFailed(f"the server at {url} refuses: {status}")
        case InvalidMessage() | EOFError():
            hint = "; does it listen at wss:// instead?" if url.startswith("ws:") else ""
            return ConnectionFailed(f"something answers at {url}, but it is no WebSocket server{hint}")
        case InvalidHandshake():
            return ConnectionFailed(f"cannot open {url}: {failure}")
        case TimeoutError():
            return ConnectionFailed(f"the server at {url} does not answer")
        case ConnectionRefusedError():
            return ConnectionFailed(f"no server at {url} — start one with `streaming-asr serve`")
        case socket.gaierror():
            return ConnectionFailed(f"no server at {url}: the host {urlsplit(url).hostname!r} is not known")
        case ssl.SSLCertVerificationError():
            return ConnectionFailed(
                f"the certificate of {url} is not trusted here ({failure}); "
                "the variable SSL_CERT_FILE may name that of your own authority"
            )
        case ssl.SSLError():
            return ConnectionFailed(f"no secure connection to {url}: {failure}")
        case ConnectionResetError() if url.startswith("wss:"):
            return ConnectionFailed(f"something answers at {url}, but not with TLS; does it listen at ws:// instead?")
        case _:
            return ConnectionFailed(
                f"no server at {url} — start one with `streaming-asr serve` ({str(failure) or type(failure).__name__})"
            )


class StreamingClient:
    """An open session; made by `connect`. Iterate it for events while audio is sent: both sides push back.

    The iteration ends after `Done`. It raises `ServerError` when the server says no and `ConnectionLost` when the
    connection ends early, or after a `Done` that came before the server had everything. One task may send while another
    iterates.
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
        if self._is_over():
            raise StopAsyncIteration
        return await _receive(self._websocket, self._protocol)

    def _is_over(self) -> bool:
        """Raises `ConnectionLost` when the server has ended the session by itself."""
        if self._protocol.state is State.ENDED:
            raise self._protocol.ended_early()
        return self._protocol.state is State.DONE

    async def transcribe(self, audio: AsyncIterable[bytes | Request]) -> AsyncGenerator[Event, None]:
        """Sends all of `audio`, and what it requests, then stops; yields every event, as it comes, to the end.

        Audio leaves as soon as it completes a step of the server's model (`ready.chunk_ms`), in blocks of any length.
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

    async def _send_all(self, audio: AsyncIterable[bytes | Request]) -> None:
        ready, options = self.ready, self._protocol.options
        frame_bytes = SAMPLE_BYTES[options.encoding] * options.channels
        steps = Steps(ready.first_chunk_ms or ready.chunk_ms, ready.chunk_ms, options.sample_rate, frame_bytes)
        try:
            async for data in audio:
                if self._protocol.state is not State.STREAMING:
                    return  # the server is done, or failed: the receiving side tells
                if data is Request.FINALIZE:
                    await self.send_audio(steps.end())
                    await self.finalize()
                elif data is Request.KEEPALIVE:
                    await self.keepalive()
                else:
                    await self.send_audio(steps.add(data))
                await asyncio.sleep(0)  # or else what comes would wait until no more can be sent
        except (ConnectionLost, ServerError):
            raise
        except Exception:  # the audio's own trouble: what came before it is still worth its final
            await self._end(steps.end())
            raise
        await self._end(steps.end())

    async def _end(self, rest: bytes) -> None:
        if self._protocol.state is State.STREAMING:
            await self.send_audio(rest)
        await self.stop()


class ResumingClient(StreamingClient):
    """The same, but it outlives its connection: what the server has not acknowledged is kept, and sent again.

    Needs `send_all` to run beside it, and iteration, which is what reconnects.
    """

    def __init__(
        self,
        websocket: ClientConnection,
        protocol: ClientProtocol,
        ready: Ready,
        open_again: Callable[[ClientProtocol, Resume], Awaitable[tuple[ClientConnection, Ready]]],
        resume_seconds: float,
        notice: Callable[[str], None],
        spool: BinaryIO | None = None,
    ) -> None:
        super().__init__(websocket, protocol, ready)
        self._open_again = open_again
        self._resume_seconds = resume_seconds
        self._notice = notice
        encoding, channels = protocol.options.encoding, protocol.options.channels
        self._kept = Unacknowledged(encoding, channels, MAX_KEPT_BYTES, spool, MAX_SPOOLED_BYTES)
        self._changed = asyncio.Condition()  # frames to send, room for more, or the connection
        self._num_finals = 0
        self._failure: ClientError | None = None
        self._give_up_at: float | None = None  # `None`: something came, if only a pong, since the last loss
        self._retry_seconds = 0.0  # how long to wait before the next attempt

    async def keepalive(self) -> None:
        """Tells the server that the session is alive though no audio comes."""
        frame = self._protocol.keepalive()
        with contextlib.suppress(ConnectionClosed):  # a new connection is a sign of life, too
            await self._websocket.send(frame)

    async def _send(self, frame: str | bytes) -> None:
        async with self._changed:
            while True:
                while not self._kept.has_room and self._failure is None:
                    await self._changed.wait()
                if self._failure is not None:
                    raise self._failure
                try:
                    self._kept.append(frame)
                    break
                except OSError as error:
                    self._notice(f"no more audio can be kept on disk ({error.strerror}); it waits until there is room")
            self._changed.notify_all()

    async def send_all(self) -> None:
        """Sends what is kept, on whatever connection there is; returns only if that cannot be read again."""
        try:
            await self._send_kept()
        except OSError as error:
            await self._give_up(UsageError(f"audio that was kept on disk cannot be read again: {error.strerror}"))
            self._websocket.transport.abort()  # so that who iterates hears of it

    async def _send_kept(self) -> NoReturn:
        while True:
            async with self._changed:
                while (frame := self._kept.next()) is None:
                    await self._changed.wait()
                websocket = self._websocket
            try:
                await websocket.send(frame)
                await asyncio.sleep(0)  # or else what comes would wait until no more can be sent
            except ConnectionClosed:
                async with self._changed:
                    while self._websocket is websocket:
                        await self._changed.wait()

    async def __anext__(self) -> Event:
        try:
            return await self._next()
        except ClientError as failure:
            await self._give_up(failure)
            raise

    async def _next(self) -> Event:
        while not self._is_over():
            if self._failure is not None:
                raise self._failure
            try:
                event = await self._receive_alive()
            except (ConnectionLost, TimeoutError) as lost:
                if self._failure is None:
                    await self._reconnect(lost if isinstance(lost, ConnectionLost) else ConnectionLost(_NO_ANSWER))
                continue
            if isinstance(event, Ack):
                if await self._acknowledge(event):
                    self._give_up_at = None
                continue
            self._give_up_at = None
            if isinstance(event, Final):
                self._num_finals = event.utterance + 1
            elif isinstance(event, GoingAway):
                self._notice(f"the server shuts down in {event.seconds:g} s")
            return event
        raise StopAsyncIteration

    async def _receive_alive(self) -> Event:
        """The next event. Raises `TimeoutError` when not even a ping is answered."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUIET_SECONDS):
                    return await _receive(self._websocket, self._protocol)
            event = asyncio.create_task(_receive(self._websocket, self._protocol))
            pong = asyncio.create_task(self._ping())
            try:
                done, _ = await asyncio.wait([event, pong], timeout=QUIET_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if event.done():
                    return event.result()
                if not done:
                    raise TimeoutError
                self._give_up_at = None
            finally:
                event.cancel()
                pong.cancel()
                await asyncio.gather(event, pong, return_exceptions=True)  # else two would receive at once

    async def _ping(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            await (await self._websocket.ping())

    async def _acknowledge(self, ack: Ack) -> bool:
        """Whether that is more than was known."""
        async with self._changed:
            self._changed.notify_all()
            return self._kept.acknowledge(ack.received_samples, ack.received_requests)

    async def _reconnect(self, lost: ConnectionLost) -> None:
        """Tries until there is a connection. Raises what is in the way when that takes too long.

        A connection that brings nothing new is one more attempt: what breaks it may do so again, for ever.
        """
        self._notice(f"{lost}; trying to go on where it was")
        self._websocket.transport.abort()
        loop = asyncio.get_running_loop()
        if self._give_up_at is None:
            self._give_up_at, self._retry_seconds = loop.time() + self._resume_seconds, 0.0
        resume = Resume(self.ready.session_id, self.ready.token, self._num_finals)
        failure: ClientError = lost
        while True:
            if loop.time() + self._retry_seconds > self._give_up_at:
                raise failure
            await asyncio.sleep(self._retry_seconds * random.uniform(0.5, 1.0))  # nosec B311  # spreads clients; nobody is to be kept from guessing it
            self._retry_seconds = min(max(2 * self._retry_seconds, FIRST_RETRY_SECONDS), LAST_RETRY_SECONDS)
            try:
                protocol = ClientProtocol(self.url, self._protocol.options)
                websocket, ready = await self._open_again(protocol, resume)
                break
            except (ConnectionFailed, ConnectionLost, ServerFull) as refused:
                failure = refused
        self._notice("goes on")
        async with self._changed:
            self._websocket = websocket
            self._kept.acknowledge(ready.received_samples, ready.received_requests)
            self._kept.rewind()
            self._changed.notify_all()

    async def _give_up(self, failure: ClientError) -> None:
        """Nobody is left waiting for room."""
        async with self._changed:
            self._failure = failure
            self._changed.notify_all()

    async def close(self) -> None:
        """Tells the server that nobody comes back."""
        await self._websocket.close()


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
    hotwords: Sequence[str] = (),
    only_hotwords: bool = False,
    timings: bool = False,
    formatted: bool = True,
    key: str | None = None,
    open_timeout_seconds: float = 10.0,
    resume_seconds: float = 0.0,
    spool: str | None = None,
    notice: Callable[[str], None] = lambda words: None,
) -> AsyncIterator[StreamingClient]:
    """Opens a session and waits until the server is ready; closes it at the end, whatever happened.

    `hotwords`: words and phrases that are likely; with `only_hotwords` nothing else is told.
    `timings`: whether partials and finals say what they waited for. `key`: an API key, for a server that asks for one.
    `resume_seconds`: how long to try to go on with the session when its connection drops, which `notice` is told;
    nothing is lost then, and nothing comes twice. Servers that cannot do that refuse, or say so in `Ready.token`, which
    is empty. `spool`: a folder for audio that the server has not acknowledged, beyond 32 MB in memory, up to 1 GB, in a
    file that has no name (where the system can do that) and ends with the session.

    Raises `UsageError` for a malformed URL or a folder that cannot be written to, `ConnectionFailed`, `ServerFull` or
    `ServerError` when there is no session.
    """
    url = normalize_url(url)
    options = Options(
        sample_rate,
        encoding,
        channels,
        language,
        partials,
        words,
        nbest,
        endpointing or Endpointing(),
        tuple(hotwords),
        only_hotwords,
        timings,
        formatted,
        resumable=resume_seconds > 0,
    )
    if key is not None and not (key.isascii() and key.isprintable() and key.split() == [key]):
        raise UsageError(
            "the API key is not one word of letters, digits and signs, as `streaming-asr keys add` prints it"
        )
    protocol = ClientProtocol(url, options)
    open_again = functools.partial(_open, url, key, open_timeout_seconds)
    with _spool_file(spool) as file:
        websocket, ready = await open_again(protocol)
        if not ready.token:
            async with websocket:
                yield StreamingClient(websocket, protocol, ready)
            return
        client = ResumingClient(websocket, protocol, ready, open_again, resume_seconds, notice, file)
        sender = asyncio.create_task(client.send_all())
        try:
            yield client
        finally:
            sender.cancel()
            await asyncio.wait([sender])
            await client.close()


def _spool_file(folder: str | None) -> contextlib.AbstractContextManager[BinaryIO | None]:
    if folder is None:
        return contextlib.nullcontext()
    try:
        return tempfile.TemporaryFile(dir=folder, buffering=0)
    except OSError as error:
        raise UsageError(f"audio cannot be kept in {folder}: {error.strerror}") from error


async def _open(
    url: str, key: str | None, timeout_seconds: float, protocol: ClientProtocol, resume: Resume | None = None
) -> tuple[ClientConnection, Ready]:
    """A connection on which the server is ready, for a new session or one that goes on."""
    try:
        websocket = await websocket_connect(
            url,
            additional_headers={} if key is None else {"Authorization": f"Bearer {key}"},
            max_size=MAX_MESSAGE_BYTES,
            compression=None,  # PCM does not deflate; it would only cost both sides CPU
            proxy=None if _is_loopback(url) else True,
            open_timeout=timeout_seconds,
            # A ping waits behind the audio that a busy server has not read yet: its answer says nothing about life.
            ping_timeout=None,
            close_timeout=2.0,
        )
    except (OSError, EOFError, WebSocketException) as failure:
        raise explain_connect_failure(url, failure) from failure
    try:
        async with asyncio.timeout(timeout_seconds):
            await websocket.send(protocol.start(resume))
            ready = await _receive(websocket, protocol)
        if not isinstance(ready, Ready):  # the protocol's table lets nothing else through here
            raise RemoteProtocolError(f"the server sent {ready!r} before it was ready")
    except BaseException as failure:
        if resume is None:
            await websocket.close()
        else:
            websocket.transport.abort()  # to close would say that nobody comes back, if the server has just answered
        if isinstance(failure, TimeoutError):
            raise ConnectionFailed(f"the server at {url} took the connection but does not answer") from None
        if isinstance(failure, ConnectionClosed):
            raise _explain_close(protocol, failure) from failure
        raise
    return websocket, ready
