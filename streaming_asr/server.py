"""Owns the sockets: moves frames between clients and their sessions, and performs what sessions decide.

Everything about a protocol is decided in `session` and `protocols`, everything slow happens in `engine`. What clients
send and what they are told is never logged. Whatever one client does, the others notice nothing: each has its own
bounded queues, and whoever fills one waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import logging
import math
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from . import __version__, messages
from .access import is_loopback
from .admission import Punctuality
from .engine import (
    MAX_BACKLOG_SECONDS,
    MAX_BATCH,
    MAX_WORKERS,
    Engine,
    EngineRecognizer,
    Handle,
    StepReport,
    num_usable_cores,
)
from .errors import ClientError, InputError
from .gate import Gate, Visitor, http_headers, http_status
from .journal import Journal
from .keys import KeyRing
from .limits import BURST_AUDIO_SECONDS, BURST_MESSAGE_SECONDS, Budget, Limits, Lobby
from .logs import Format, configure, log_loop_error, session_logger
from .messages import Event, Final, Partial, ServerMessage
from .metrics import CONTENT_TYPE, Metrics, WordLatency
from .origins import Origins
from .page import Page
from .protocols.adapter import Adapter, Frame, Handshake, Mark, Note, Output, Write
from .protocols.deepgram import DeepgramAdapter
from .protocols.native import NativeAdapter, write_message
from .protocols.openai_realtime import OpenAIAdapter
from .protocols.sherpa_onnx import SherpaOnnxAdapter
from .protocols.vosk import VoskAdapter
from .protocols.wyoming import WyomingAdapter
from .session import Close, Flush, ModelInfo, Open, Push, Save, Session, Snapshot, State, TakeUp
from .state import StateFolder
from .tcp import READ_BYTES, TcpConnection
from .tls import ServerTls
from .watchdog import STALL_SECONDS

logger = logging.getLogger(__name__)
# At debug level websockets writes frames out; this keeps it from doing so whatever the root logger's level is.
_wire_logger = logging.getLogger(f"{__name__}.wire")
_wire_logger.setLevel(logging.WARNING)

PATHS: dict[str, type[Adapter]] = {
    "/v1/stream": NativeAdapter,
    "/vosk": VoskAdapter,
    "/v1/listen": DeepgramAdapter,
    "/v1/realtime": OpenAIAdapter,
}
HEALTH_PATH, READY_PATH, METRICS_PATH = "/healthz", "/readyz", "/metrics"
HTTP_METHODS = ("GET", "HEAD")
MAX_REQUEST_READ_BYTES = 8 << 10  # at a time: what is refused is read first, or else the client would not hear why
MAX_READ_BYTES = 2 << 10  # at a time, of frames: 40 ms of sound; of one byte each they take milliseconds to tell apart
MIN_WAIT_SECONDS = 0.02  # of who sends too much: waiting for each message alone costs more than the message
MAX_QUEUED_FRAMES = 8  # received and not yet looked at, a session
MAX_QUEUED_MESSAGES = 256  # recognized and not yet sent, a session: from here on its audio waits
CLOSE_SECONDS = 5.0  # for a client to answer a close
HOUSEKEEPING_SECONDS = 0.25  # between two looks at the worker and the key file
LATE = "the sessions that are open are served late already"
UNREADY_SECONDS = 10.0  # after the worker was replaced
MAX_ABANDONED_WORKERS = 4  # that stood still: from here on only a new process helps
FLUSH_SECONDS = 5.0  # for the last finals, after the time that sessions had to end by themselves
MAX_SUSPENDED = 256  # sessions that wait for their clients; the one that waited longest gives way
LEFT = 1000, 1001  # how a client closes, or is closed, that does not come back
SWITCH_SECONDS = 0.0001  # between threads: a worker waits as long for the lock after each compiled call; default 5 ms
MAX_PORT = 65535
MAX_CLOSE_REASON_BYTES = 123  # RFC 6455, 5.5: 125 with the code


@dataclass(frozen=True)
class ServerOptions:
    """Where to listen and what to allow."""

    host: str = "127.0.0.1"
    port: int = 8765  # 0 picks a free one
    max_sessions: int | None = None  # None: as many as were measured at start to be carried within the promise
    max_latency_seconds: float = 0.3  # the promise: for a step to end after its audio came
    workers: int | None = None  # threads that recognize; None: one a core, 4 at most
    max_batch: int = MAX_BATCH
    max_backlog_seconds: float = MAX_BACKLOG_SECONDS  # audio of one session that waits, before it is read no further
    stall_seconds: float = STALL_SECONDS  # from which the recognizer is taken to stand still, and restarted
    limits: Limits = field(default_factory=Limits)  # of one client
    drain_seconds: float = 10.0  # at shutdown, for sessions to end by themselves
    resume_seconds: float = 60.0  # that a session waits for its client, if that asked for it; 0: none does
    allow_origins: tuple[str, ...] = ()  # web pages from elsewhere that may connect; "*" for all
    vosk_port: int | None = None  # its clients by convention ask for no path; None keeps it closed
    sherpa_port: int | None = None  # the same
    wyoming_port: int | None = None  # plain TCP, without keys or TLS: its clients know neither; None keeps it closed
    keys: Path | None = None  # key file; None asks nobody for a key
    insecure: bool = False  # whether anybody may come in from beyond this machine
    tls_certificate: Path | None = None  # PEM
    journal: Path | None = None  # folder for finals, each on disk before it is sent; None: nothing is kept
    state_dir: Path | None = None  # folder for open sessions, so that they outlive a restart; None: nothing is kept
    tls_key: Path | None = None  # PEM; None: in the certificate's file

    def __post_init__(self) -> None:
        self.limits.validate()
        for port in (self.port, self.vosk_port, self.sherpa_port, self.wyoming_port):
            if port is not None and not 0 <= port <= MAX_PORT:
                raise InputError(f"a port must be 0 to {MAX_PORT}, not {port}")
        for name in ("drain_seconds", "resume_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be 0 or more, not {getattr(self, name)}")
        if not self.max_latency_seconds > 0:
            raise InputError("the latency promised must be above 0")
        if self.workers is not None and self.workers < 1:
            raise InputError("there must be at least one worker")
        if self.max_sessions is not None and self.max_sessions < 0:
            raise InputError("max_sessions must not be negative")
        if not (self.insecure or self.keys is not None or is_loopback(self.host)):
            raise InputError(
                f"anybody who reaches {self.host or 'any address'} could come in: give a key file "
                "(`streaming-asr keys add`), or say that they may (`--insecure`)"
            )
        is_guarded = self.keys is not None or self.tls_certificate is not None or not is_loopback(self.host)
        if self.wyoming_port is not None and is_guarded and not self.insecure:
            raise InputError(
                "Wyoming's clients know neither keys nor TLS: leave its port closed, or say that anybody who reaches "
                "it may come in (`--insecure`)"
            )
        if self.tls_key is not None and self.tls_certificate is None:
            raise InputError("a TLS key needs its certificate")


# --- what waits to be sent -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Duty:
    """Stands before messages that must not go out before it is done."""

    do: Callable[[], Awaitable[None]]
    is_partial: bool = False
    replaces_partial: bool = False


class Outbox:
    """One session's messages on their way out. A partial gives way to what is newer; all others are kept, in order."""

    def __init__(self) -> None:
        self._messages: deque[Write | Duty] = deque()
        self._has_partial = False
        self._is_abandoned = False
        self._close: Close | None = None
        self._changed = asyncio.Event()
        self._below_limit = asyncio.Event()
        self._below_limit.set()

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Write | Duty) -> None:
        """Appends a message; never blocks, see `wait_capacity`."""
        if message.replaces_partial and self._has_partial:
            self._messages = deque(m for m in self._messages if not m.is_partial)
            self._has_partial = False
        self._has_partial |= message.is_partial
        self._messages.append(message)
        if len(self._messages) >= MAX_QUEUED_MESSAGES and not self._is_abandoned:
            self._below_limit.clear()
        self._changed.set()

    def finish(self, close: Close) -> None:
        """Nothing will be put any more; `close` comes after everything."""
        self._close = close
        self._below_limit.set()
        self._changed.set()

    def abandon(self) -> None:
        """Nobody gets messages any more: nobody shall wait for room."""
        self._is_abandoned = True
        self._below_limit.set()

    async def get(self) -> Write | Duty | Close:
        """Waits for the next message, or the close."""
        while not self._messages and self._close is None:
            self._changed.clear()
            await self._changed.wait()
        if not self._messages:
            assert self._close is not None
            return self._close
        message = self._messages.popleft()
        if message.is_partial:
            self._has_partial = False
        if len(self._messages) < MAX_QUEUED_MESSAGES:
            self._below_limit.set()
        return message

    @property
    def has_capacity(self) -> bool:
        """Whether fewer messages than the limit are queued."""
        return self._below_limit.is_set()

    async def wait_capacity(self) -> bool:
        """Waits until fewer messages than the limit are queued; says whether it had to."""
        if self._below_limit.is_set():
            return False
        await self._below_limit.wait()
        return True


# --- one client ----------------------------------------------------------------------------------------------------


_FRAME_ERRORS = {1002: "bad_frame", 1007: "bad_utf8", 1009: "too_big"}  # by close code
_ERRORS = _FRAME_ERRORS | {1006: "connection_lost"}  # of which the session never hears


class _Connection(ServerConnection):
    """Keeps requests small and soon, and tells the client why before it fails the connection for a frame that never
    reaches the session.
    """

    def __init__(
        self, protocol: ServerProtocol, *args: Any, lobby: Lobby[Connection], max_header_bytes: int, **kwargs: Any
    ) -> None:
        super().__init__(protocol, *args, **kwargs)
        self._lobby = lobby
        self._header_bytes_left = max_header_bytes
        self.write: Callable[[ServerMessage], list[Write]] = lambda message: [write_message(message)]
        self.visitor = Visitor("")
        fail = protocol.fail

        def explain_and_fail(code: int, reason: str = "") -> None:
            if protocol.state is OPEN and code in _FRAME_ERRORS:
                for written in self.write(messages.Error(_FRAME_ERRORS[code], reason)):
                    protocol.send_text(_as_bytes(written.data))
            fail(code, reason)

        protocol.fail = explain_and_fail  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has a connection; what it wants it has not said yet."""
        super().connection_made(transport)
        transport.max_size = MAX_REQUEST_READ_BYTES  # type: ignore[attr-defined]  # of asyncio's socket transports
        oldest = self._lobby.enter(self)
        if oldest is not None:
            oldest.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Bytes of the request, which must end soon, or of frames."""
        if self.request is None:
            self._header_bytes_left -= len(data)
            if self._header_bytes_left < 0:
                self.transport.write(b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n")
                self.transport.close()
                return
        super().data_received(data)
        if self.request is not None:
            self.transport.max_size = MAX_READ_BYTES  # type: ignore[attr-defined]
            self._lobby.leave(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._lobby.leave(self)
        super().connection_lost(exc)


Connection = _Connection | TcpConnection


class _Conversation:
    """One connection and its session, from the handshake to the end."""

    def __init__(
        self,
        connection: Connection,
        adapter: type[Adapter],
        gate: Gate,
        engine: Engine,
        model: ModelInfo,
        options: ServerOptions,
        metrics: Metrics,
        journal: Journal | None,
        claim: Callable[[messages.Resume, Connection], Awaitable[_Conversation | None]],
        state: StateFolder | None = None,
        saved: tuple[Snapshot, str] | None = None,
    ) -> None:
        """`saved`: with its token, the session that is to go on in place of a new one."""
        self._connection = connection
        self._claim = claim
        self._wanted: messages.Resume | None = None  # another session, which the client asks for
        self._suspended_at = math.inf
        self._is_detached = asyncio.Event()
        self._is_listening = False
        self._journal = journal
        self._num_journaled = saved[0].num_finals if saved else 0  # finals, told or being told
        self._state = state
        self._metrics = metrics
        self._gate = gate
        self._engine = engine
        self._options = options
        limits = options.limits
        if adapter.idle_timeout_seconds is not None:
            idle_seconds = min(limits.idle_timeout_seconds, adapter.idle_timeout_seconds)
            limits = dataclasses.replace(limits, idle_timeout_seconds=idle_seconds)
        rate = limits.max_messages_per_second
        self._messages_left = Budget(rate, rate * BURST_MESSAGE_SECONDS, time.monotonic)
        self._audio_left = Budget(limits.max_audio_speed, BURST_AUDIO_SECONDS, time.monotonic)
        token = secrets.token_urlsafe(16) if options.resume_seconds > 0 else ""
        self._session = (
            Session.restored(*saved, model, limits, time.monotonic)
            if saved
            else Session(secrets.token_hex(8), model, limits, time.monotonic, token, saves=state is not None)
        )
        self._adapter = adapter(self._session, _handshake(connection.request))
        self._outbox = Outbox()
        self._handle: Handle | None = None
        self._log = session_logger(logger, self._session.session_id)
        self._word_latency = WordLatency()
        self._audio_counter = metrics.audio_seconds.labels(self._adapter.name)

    @property
    def is_waiting_for_start(self) -> bool:
        return self._session.state is State.OPENING

    def write(self, message: ServerMessage) -> list[Write]:
        """This message in the client's protocol."""
        return self._adapter.write(message)

    def announce_end(self, seconds: float) -> None:
        """Tells the client that `go_away` comes in so many seconds."""
        self._perform(self._adapter.announce_end(seconds))

    def go_away(self) -> None:
        """Settles what was said and closes with 1001, or 1012 if it is to go on in another process."""
        self._perform(self._adapter.go_away())

    def check_key(self) -> None:
        """Ends the session if its key is no longer good."""
        self._spend(0.0)

    def tick(self) -> None:
        """Ends the session if its time has come. To be called a few times a second."""
        if self._is_listening:  # or else it is the client that waits for the server
            self._perform(self._adapter.tick())

    def abort(self) -> None:
        """Cuts the connection."""
        self._connection.transport.abort()

    # --- without a connection for a while ---

    @property
    def session_id(self) -> str:
        return self._session.session_id

    @property
    def wanted(self) -> messages.Resume | None:
        """How the client asked for the conversation that `run` returned."""
        return self._wanted

    @property
    def suspended_at(self) -> float:
        """Since when the session waits for its client, on the monotonic clock; `inf`: it does not."""
        return self._suspended_at

    def holds(self, token: str) -> bool:
        """Whether the session is this token's."""
        return self._session.holds(token)

    async def detach(self) -> bool:
        """Cuts the connection, if there is one still, and takes the session for the caller's own; false: it ended."""
        while not self._is_detached.is_set():
            self.abort()
            await self._is_detached.wait()
        if self._suspended_at == math.inf:
            return False
        self._is_detached.clear()
        self._suspended_at = math.inf
        return True

    def expire(self) -> None:
        """The client did not come back."""
        self._log.info("was not resumed")
        self._suspended_at = math.inf
        self._give_back()

    def leave_saved(self) -> None:
        """The client did not come back to this process; it may find its session in another one."""
        self._suspended_at = math.inf
        self._give_back(forget=not self._session.is_saved)

    def _give_back(self, forget: bool = True) -> None:
        if forget and self._journal is not None:
            for final in self._unjournaled_finals:
                self._journal.append_soon(self._session.session_id, self._adapter.name, final)
        if forget and self._state is not None and self._session.is_saved:
            self._state.remove(self.session_id)
        self._adapter.connection_lost()
        if self._handle is not None:
            self._handle.close()

    # --- with one ---

    async def run(self, connection: Connection, resume: messages.Resume | None = None) -> _Conversation | None:
        """Carries the session over this connection, from the start or from where `resume` says.

        Returns when the connection is gone; then either everything was given back, or the session is suspended. What
        it returns is the conversation that is to have the connection in place of this one.
        """
        self._connection = connection
        self._outbox = Outbox()
        self._wanted = None
        self._log.info("connected, %s" if resume is None else "resumed, %s", self._adapter.name)
        self._metrics.sessions.labels(self._adapter.name).inc()
        writer = asyncio.create_task(self._write())
        try:
            if self._journal is not None:  # what was settled while nobody was there
                for final in self._unjournaled_finals:
                    self._outbox.put(Duty(functools.partial(self._write_down, final)))
            self._perform(self._adapter.open() if resume is None else self._adapter.resume(resume.utterance))
            while True:
                if self._wanted is not None:
                    successor = await self._claim(self._wanted, connection)
                    if successor is not None:
                        return successor
                    self._wanted = None
                    words = "no such session, or not with this token; it may have waited for too long"
                    self._perform(self._adapter.end(ClientError("unknown_session", words, 1008)))
                self._is_listening = True
                frame = await connection.recv()
                self._is_listening = False
                self._log.debug("received %s of %d bytes", "text" if isinstance(frame, str) else "audio", len(frame))
                self._messages_left.spend(1)
                for piece in _pieces(frame, self._session.piece_bytes):
                    before = self._session.audio_seconds
                    self._perform(self._adapter.receive(piece))
                    self._account(self._session.audio_seconds - before)
                    if await self._wait_capacity():
                        self._session.keep_alive()  # it was not the client that was idle
                    await asyncio.sleep(0)  # others' turn: a hundred frames may wait
        except ConnectionClosed:
            pass
        finally:
            self._is_listening = False
            code = connection.close_code
            was_told = self._session.state is State.CLOSED and code != 1006
            if not self._session.is_resumable or was_told or code in LEFT:
                self._give_back()
            else:
                self._session.suspend()
                self._suspended_at = time.monotonic()
            writer.cancel()
            await asyncio.wait([writer])
            self._is_detached.set()
            error = self._session.error or ("none" if self._wanted else _ERRORS.get(code or 1006, "none"))
            self._metrics.sessions.labels(self._adapter.name).dec()
            self._metrics.sessions_ended.labels(self._adapter.name, error).inc()
            self._log.info(
                "closed with %s after %.1f s of audio, %d utterances, error: %s",
                self._connection.close_code,
                self._session.audio_seconds,
                self._session.utterances,
                error,
            )
        return None

    def _account(self, audio_seconds: float) -> None:
        if audio_seconds:
            self._word_latency.heard(self._session.audio_seconds, time.monotonic())
            self._audio_left.spend(audio_seconds)
            self._audio_counter.inc(audio_seconds)
        self._spend(audio_seconds)

    def _spend(self, audio_seconds: float) -> None:
        try:
            self._gate.spend(self._connection.visitor, audio_seconds)
        except ClientError as error:
            self._perform(self._adapter.end(error))

    async def _wait_capacity(self) -> bool:
        """Waits until more may come; says whether it had to."""
        waited = False
        if self._handle is not None and not self._handle.has_capacity:
            waited = await self._handle.wait_capacity()
        if not self._outbox.has_capacity:
            waited = await self._outbox.wait_capacity() or waited
        seconds = max(self._messages_left.wait_seconds, self._audio_left.wait_seconds)
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(seconds, MIN_WAIT_SECONDS)):
                    await self._connection.wait_closed()
        return waited or seconds > 0

    async def _write(self) -> None:
        try:
            while not isinstance(message := await self._outbox.get(), Close):
                if isinstance(message, Duty):
                    await asyncio.shield(message.do())  # to its end, also if the connection goes meanwhile
                    continue
                async with asyncio.timeout(self._options.limits.idle_timeout_seconds):
                    await self._connection.send(message.data)
                self._log.debug("sent %d characters%s", len(message.data), ", partial" if message.is_partial else "")
            reason = message.reason.encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")
            await self._connection.close(message.code, reason)
        except ConnectionClosed:
            pass
        except TimeoutError:
            self._log.info("does not read")
            self.abort()
        finally:
            self._outbox.abandon()

    @property
    def _unjournaled_finals(self) -> list[Final]:
        """What was settled while there was no client."""
        return [each for each in self._session.kept_finals if each.text and each.utterance >= self._num_journaled]

    def _write_down(self, final: Final) -> Awaitable[None]:
        assert self._journal is not None
        self._num_journaled = final.utterance + 1
        return self._journal.append(self._session.session_id, self._adapter.name, final)

    def _perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Open(options):
                    self._handle = self._engine.open(options, self._on_events, self._on_failure, self._on_reached)
                case Push(samples):
                    assert self._handle is not None
                    self._handle.push(samples)
                case Flush(reason):
                    assert self._handle is not None
                    self._handle.flush(reason)
                case Mark():
                    assert self._handle is not None
                    self._handle.mark()
                case Write():
                    self._outbox.put(output)
                case Save(snapshot):
                    assert self._state is not None
                    self._outbox.put(Duty(functools.partial(self._state.save, snapshot)))
                case Note(words):
                    self._log.info("%s", words)
                case TakeUp(resume):
                    self._wanted = resume
                case Close():
                    if self._handle is not None:
                        self._handle.close()
                    self._outbox.finish(output)

    def _on_events(self, events: list[Event]) -> None:
        now = time.monotonic()
        for event in events:
            if isinstance(event, Partial) or (isinstance(event, Final) and event.text):
                seconds = self._word_latency.said(event.end, now)
                if seconds is not None:
                    self._metrics.word_seconds.observe(seconds)
            if self._journal is not None and isinstance(event, Final) and event.text:
                self._outbox.put(Duty(functools.partial(self._write_down, event)))
        self._perform(self._adapter.receive_events(events))

    def _on_reached(self) -> None:
        self._perform(self._adapter.reached())

    def _on_failure(self) -> None:
        self._perform(self._adapter.fail("internal", "the recognizer failed on this session"))


def _pieces(frame: Frame, piece_bytes: int | None) -> Iterator[Frame]:
    """A binary frame in parts of at most `piece_bytes`; everything else as it is."""
    if isinstance(frame, str) or piece_bytes is None or len(frame) <= piece_bytes:
        yield frame
    else:
        yield from (frame[at : at + piece_bytes] for at in range(0, len(frame), piece_bytes))


def _split_target(request: Request) -> tuple[str, str]:
    """Path and query of a request."""
    path, _, query = request.path.partition("?")
    return path, query


def _handshake(request: Request | None) -> Handshake:
    return Handshake(_split_target(request)[1] if request is not None else "")


def _select_subprotocol(
    adapter: type[Adapter] | None, connection: ServerConnection, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """Browsers carry keys in further subprotocols, and want to hear the one that is none."""
    if adapter is None and connection.request is not None:
        adapter = PATHS.get(_split_target(connection.request)[0])
    known = adapter.subprotocols if adapter is not None else ()
    return next((subprotocol for subprotocol in offered if subprotocol in known), None)


def _as_bytes(frame: Frame) -> bytes:
    return frame.encode() if isinstance(frame, str) else frame


# --- all clients ---------------------------------------------------------------------------------------------------


class Server:
    """Serves one recognizer, on the running event loop: all protocols that have a path on one address, and others on
    ports of their own. Raises `InputError` for options that cannot be.
    """

    def __init__(self, recognizer: EngineRecognizer, options: ServerOptions) -> None:
        self._options = options
        self._origins = Origins(options.host, options.allow_origins)
        self._page = Page()
        self._model = ModelInfo(recognizer.name, recognizer.chunk_ms, recognizer.language)
        num_workers = options.workers or min(MAX_WORKERS, num_usable_cores())
        self._engine = Engine(
            recognizer,
            num_workers,
            options.max_batch,
            options.max_backlog_seconds,
            stall_seconds=options.stall_seconds,
            on_step=self._on_step,
        )
        self._metrics = Metrics(__version__, recognizer.name, lambda: self.unready is None, lambda: self.num_streams)
        self._max_sessions = (
            options.max_sessions
            if options.max_sessions is not None
            else recognizer.step_cost().capacity(options.max_latency_seconds, num_workers)
        )
        self._metrics.max_sessions.set(self._max_sessions)
        self._punctuality = Punctuality(options.max_latency_seconds, time.monotonic)
        self._unready_until = -math.inf
        self._draining = False
        self._conversations: dict[_Conversation, asyncio.Task[Any]] = {}
        self._suspended: dict[str, _Conversation] = {}  # by session id; the one that waits longest first
        self._servers: dict[
            str, WebSocketServer | asyncio.Server
        ] = {}  # by the protocol's name; "native" is the address with paths
        self._welcomes: set[asyncio.Task[Any]] = set()  # of clients on plain TCP
        self._keys = KeyRing(options.keys, time.monotonic) if options.keys is not None else None
        self._journal = Journal(options.journal) if options.journal is not None else None
        self._state = StateFolder(options.state_dir) if options.state_dir is not None else None
        self._saved = self._state.load() if self._state is not None else {}  # by session id; another process's
        self._saved_until = time.monotonic() + options.resume_seconds
        self._gate = Gate(self._keys, options.limits.max_sessions_per_address)
        self._lobby: Lobby[Connection] = Lobby(options.limits.max_handshakes)
        certificate = options.tls_certificate
        self._tls = ServerTls(certificate, options.tls_key) if certificate is not None else None
        self._housekeeping: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens, ``ws://HOST:PORT``, or ``wss``."""
        return self.url_of(NativeAdapter.name)

    @property
    def protocols(self) -> list[str]:
        """Those that have a port of their own, and first the one whose port is everybody's."""
        return list(self._servers)

    def url_of(self, protocol: str) -> str:
        """Where the port of this protocol's own listens."""
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        server = self._servers[protocol]
        scheme = "tcp" if isinstance(server, asyncio.Server) else "ws" if self._tls is None else "wss"
        return f"{scheme}://{host}:{next(iter(server.sockets)).getsockname()[1]}"

    @property
    def num_sessions(self) -> int:
        """Connections that are open."""
        return len(self._conversations)

    @property
    def num_streams(self) -> int:
        """Recognizer streams that are held."""
        return self._engine.num_streams

    @property
    def is_hopeless(self) -> bool:
        """Whether only a new process helps."""
        return self._engine.num_abandoned >= MAX_ABANDONED_WORKERS

    @property
    def unready(self) -> str | None:
        """Why no new session should come here now; `None`: it may."""
        if self._draining:
            return "the server is shutting down"
        if self.is_hopeless:
            return "the recognizer does not get on; start the server anew"
        if time.monotonic() < self._unready_until:
            return "the recognizer did not get on and was restarted"
        if self._punctuality.is_late:
            return LATE
        return None

    def _on_step(self, report: StepReport) -> None:
        self._metrics.steps.inc()
        self._metrics.step_streams.inc(len(report.queue_seconds))
        self._metrics.compute_seconds.inc(report.compute_seconds)
        self._punctuality.note(report.late_seconds)
        for seconds in report.queue_seconds:
            self._metrics.queue_seconds.observe(seconds)

    async def start(self) -> None:
        """Listens. Raises `InputError` when an address cannot be used."""
        options = self._options
        try:
            await self._listen(options.port, None)
            if options.vosk_port is not None:
                await self._listen(options.vosk_port, VoskAdapter)
            if options.sherpa_port is not None:
                await self._listen(options.sherpa_port, SherpaOnnxAdapter)
            if options.wyoming_port is not None:
                await self._listen_tcp(options.wyoming_port, WyomingAdapter)
        except InputError:
            self._stop_listening()
            raise
        self._engine.start()
        if self._keys is not None and self._tls is None and not is_loopback(options.host):
            logger.warning("keys and speech come without TLS: keep the way here private, or give a certificate")
        self._housekeeping = asyncio.create_task(self._keep_house())

    def reload(self) -> None:
        """Reads key file and certificate anew; what cannot be used is logged, and what was good before stays."""
        for source in (self._keys, self._tls):
            try:
                if source is not None:
                    source.reload()
            except InputError as error:
                logger.error("not reloaded: %s", error)
        for conversation in list(self._conversations):
            conversation.check_key()

    async def _keep_house(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            self._metrics.lag_seconds.observe(max(0.0, time.monotonic() - began - HOUSEKEEPING_SECONDS))
            if self._engine.supervise():
                self._metrics.worker_restarts.inc()
                self._unready_until = time.monotonic() + UNREADY_SECONDS
            if self._keys is not None and self._keys.has_changed():
                self.reload()
            for conversation in list(self._conversations):
                conversation.tick()
            latest = time.monotonic() - self._options.resume_seconds
            self._expire([each for each in self._suspended.values() if each.suspended_at <= latest])
            if self._state is not None and self._saved and time.monotonic() > self._saved_until:
                for session_id in self._saved:
                    self._state.remove(session_id)
                self._saved.clear()

    def _suspend(self, conversation: _Conversation) -> None:
        self._suspended[conversation.session_id] = conversation
        if len(self._suspended) > MAX_SUSPENDED:
            self._expire([next(iter(self._suspended.values()))])

    def _expire(self, conversations: list[_Conversation]) -> None:
        for conversation in conversations:
            del self._suspended[conversation.session_id]
            conversation.expire()

    async def _claim(self, resume: messages.Resume, connection: Connection) -> _Conversation | None:
        """The session that a client wants back, also from a connection of which only the client knows that it broke."""
        snapshot = self._saved.get(resume.session_id)
        if snapshot is not None and snapshot.holds(resume.token):
            del self._saved[resume.session_id]
            return self._conversation(connection, NativeAdapter, (snapshot, resume.token))
        found = self._suspended.get(resume.session_id) or next(
            (each for each in self._conversations if each.session_id == resume.session_id), None
        )
        if found is None or not found.holds(resume.token) or not await found.detach():
            return None
        self._suspended.pop(resume.session_id, None)
        return found

    async def _listen(self, port: int, adapter: type[Adapter] | None) -> None:
        """On this port every path leads to `adapter`; `None`: as `PATHS` says."""
        options, limits = self._options, self._options.limits
        answer_request = self._answer_request
        try:
            server = await serve_websockets(
                functools.partial(self._converse, adapter=adapter),
                options.host,
                port,
                process_request=lambda connection, request: answer_request(connection, request, adapter),
                select_subprotocol=functools.partial(_select_subprotocol, adapter),
                create_connection=functools.partial(  # type: ignore[arg-type]  # a factory is all that it needs
                    _Connection, lobby=self._lobby, max_header_bytes=limits.max_header_bytes
                ),
                compression=None,  # audio does not compress, and a small frame could become a huge one
                max_size=limits.max_frame_bytes,
                max_queue=MAX_QUEUED_FRAMES,
                # Pings go out to keep routers awake. Their answers queue behind audio that the server has not read
                # yet, so that a late one proves nothing: sessions time out by the clock of `Session.deadline`.
                ping_timeout=None,
                open_timeout=limits.handshake_timeout_seconds,
                close_timeout=CLOSE_SECONDS,
                server_header=None,
                ssl=self._tls.context if self._tls is not None else None,
                ssl_handshake_timeout=limits.handshake_timeout_seconds if self._tls is not None else None,
                logger=_wire_logger,
            )
        except OSError as error:
            raise self._cannot_listen(port, error) from error
        self._servers[(adapter or NativeAdapter).name] = server

    async def _listen_tcp(self, port: int, adapter: type[Adapter]) -> None:
        """On this port clients speak `adapter`'s protocol without WebSocket around it."""
        try:
            server = await asyncio.start_server(
                functools.partial(self._welcome, adapter), self._options.host, port, limit=READ_BYTES
            )
        except OSError as error:
            raise self._cannot_listen(port, error) from error
        self._servers[adapter.name] = server

    def _cannot_listen(self, port: int, error: OSError) -> InputError:
        return InputError(f"cannot listen on {self._options.host}:{port}: {error.strerror or error}")

    def _stop_listening(self) -> None:
        for server in self._servers.values():
            if isinstance(server, asyncio.Server):
                server.close()
            else:
                server.close(close_connections=False)

    async def drain(self, hurry: asyncio.Event | None = None) -> None:
        """Stops listening, lets open sessions end for a bounded time, settles the others, frees everything.

        `hurry` cuts the first wait short.
        """
        self._draining = True
        self._stop_listening()
        for conversation in list(self._conversations):
            if conversation.is_waiting_for_start:
                conversation.go_away()
            elif self._options.drain_seconds:
                conversation.announce_end(self._options.drain_seconds)
        await self._wait_for_conversations(self._options.drain_seconds, hurry)
        for conversation in list(self._conversations):
            conversation.go_away()
        await self._wait_for_conversations(FLUSH_SECONDS + CLOSE_SECONDS)
        for conversation in list(self._conversations):
            logger.warning("a session did not end in time and was cut")
            conversation.abort()
        await self._wait_for_conversations(CLOSE_SECONDS)
        for conversation in self._suspended.values():
            conversation.leave_saved()
        self._suspended.clear()
        if self._welcomes:
            for task in self._welcomes:
                task.cancel()
            await asyncio.wait(self._welcomes)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):  # what is left is in the middle of a handshake
                for server in self._servers.values():
                    await server.wait_closed()
        if self._housekeeping is not None:
            self._housekeeping.cancel()
            await asyncio.wait([self._housekeeping])
        await self._engine.stop()
        if self._journal is not None:
            self._journal.close()
        if self._state is not None:
            self._state.close()

    async def _wait_for_conversations(self, seconds: float, hurry: asyncio.Event | None = None) -> None:
        if not self._conversations:
            return
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(asyncio.wait(self._conversations.values()))]
        if hurry is not None:
            waits.append(asyncio.ensure_future(hurry.wait()))
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    def _answer_request(
        self, connection: ServerConnection, request: Request, adapter: type[Adapter] | None
    ) -> Response | None:
        """Answers a request that is not to become a session; `None` lets the handshake go on."""
        response = self._answer_http(connection, request, adapter)
        if response is not None and request.method == "HEAD":
            response.body = b""
        return response

    def _answer_http(
        self, connection: ServerConnection, request: Request, adapter: type[Adapter] | None
    ) -> Response | None:
        if request.method not in HTTP_METHODS:
            response = connection.respond(HTTPStatus.METHOD_NOT_ALLOWED, f"only {' and '.join(HTTP_METHODS)}\n")
            response.headers["Allow"] = ", ".join(HTTP_METHODS)
            return response
        refusal = self._origins.refusal(request.headers.get_all("Host"), request.headers.get_all("Origin"))
        if refusal is not None:
            return self._refuse(connection, ClientError("bad_origin", refusal), refusal + "\n")
        path, query = _split_target(request)
        if path in (HEALTH_PATH, READY_PATH):
            well = not self.is_hopeless if path == HEALTH_PATH else self.unready is None
            status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
            return connection.respond(status, "ok\n" if well else f"{self.unready}\n")
        address, *_ = connection.remote_address or ("",)
        if adapter is None and path == METRICS_PATH:
            return self._answer_metrics(connection, request, query, address)
        if adapter is None and (page := self._page.answer(path, request.headers)) is not None:
            return page
        adapter = adapter or PATHS.get(path)
        if adapter is None:
            return connection.respond(
                HTTPStatus.NOT_FOUND, f"nothing here; the page is at /, streams are at {', '.join(PATHS)}\n"
            )
        assert isinstance(connection, _Connection)
        try:
            connection.visitor = self._gate.admit(request.headers, query, address)
            self._check_room()
            adapter.check(_handshake(request), self._model)
        except ClientError as error:
            return self._refuse(connection, error, adapter.refusal(error))
        return None

    def _answer_metrics(self, connection: ServerConnection, request: Request, query: str, address: str) -> Response:
        try:
            self._gate.identify(request.headers, query, address)
        except ClientError as error:
            return self._refuse(connection, error, error.message + "\n")
        response = connection.respond(HTTPStatus.OK, self._metrics.exposition().decode())
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = CONTENT_TYPE
        return response

    def _refuse(self, connection: ServerConnection, error: ClientError, words: str) -> Response:
        self._metrics.refusals.labels(error.code).inc()
        response = connection.respond(http_status(error), words)
        response.headers.update(http_headers(error))
        return response

    def _check_room(self) -> None:
        if self.num_sessions >= self._max_sessions:
            words = f"the server carries {self._max_sessions} sessions already; try again later"
            raise ClientError("server_full", words, 1013)
        if self._punctuality.is_late:
            raise ClientError("server_full", f"{LATE}; try again later", 1013)

    async def _converse(self, connection: ServerConnection, adapter: type[Adapter] | None) -> None:
        assert connection.request is not None
        assert isinstance(connection, _Connection)
        adapter = adapter or PATHS[_split_target(connection.request)[0]]
        conversation = self._conversation(connection, adapter)
        connection.write = conversation.write
        await self._carry(conversation, connection)

    async def _welcome(
        self, adapter: type[Adapter], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """A client came without a handshake: it has a session as soon as it says something."""
        task = asyncio.current_task()
        assert task is not None
        self._welcomes.add(task)
        connection = TcpConnection(reader, writer, CLOSE_SECONDS)
        try:
            if await self._has_spoken(connection) and not self._draining:
                await self._carry(self._conversation(connection, adapter), connection)
                await connection.linger()
        finally:
            connection.transport.abort()
            self._welcomes.discard(task)

    async def _has_spoken(self, connection: TcpConnection) -> bool:
        oldest = self._lobby.enter(connection)
        if oldest is not None:
            oldest.transport.abort()
        try:
            async with asyncio.timeout(self._options.limits.handshake_timeout_seconds):
                await connection.wait_readable()
        except (ConnectionClosed, TimeoutError):
            return False
        finally:
            self._lobby.leave(connection)
        return True

    def _conversation(
        self, connection: Connection, adapter: type[Adapter], saved: tuple[Snapshot, str] | None = None
    ) -> _Conversation:
        return _Conversation(
            connection,
            adapter,
            self._gate,
            self._engine,
            self._model,
            self._options,
            self._metrics,
            self._journal,
            self._claim,
            self._state,
            saved,
        )

    async def _carry(self, conversation: _Conversation, connection: Connection) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            self._check_room()  # several handshakes were under way at once
            with self._gate.session(connection.visitor):
                carried: _Conversation | None = conversation
                resume = None
                while carried is not None:
                    self._conversations[carried] = task
                    try:
                        successor = await carried.run(connection, resume)
                    finally:
                        del self._conversations[carried]
                        if carried.suspended_at < math.inf:
                            self._suspend(carried)
                    resume, carried = carried.wanted, successor
        except ClientError as error:
            self._metrics.refusals.labels(error.code).inc()
            with contextlib.suppress(ConnectionClosed):
                for written in conversation.write(messages.Error(error.code, error.message)):
                    await connection.send(written.data)
                await connection.close(error.close_code, error.code)


async def serve(
    recognizer: EngineRecognizer,
    options: ServerOptions,
    stop: asyncio.Event,
    hurry: asyncio.Event | None = None,
    announce: Callable[[Server], None] = lambda server: None,
) -> None:
    """Serves until `stop` is set, then drains. Calls `announce` when clients can connect.

    `hurry` cuts the time short that sessions have to end by themselves. Raises `InputError` when the address cannot
    be used.
    """
    server = Server(recognizer, options)
    await server.start()
    announce(server)
    await stop.wait()
    await server.drain(hurry)


def run_server(
    load: Callable[[], EngineRecognizer],
    options: ServerOptions,
    log_level: str = "warning",
    log_format: Format = "text",
) -> int:
    """Loads, serves until SIGTERM or SIGINT, drains; the exit code. A second signal stops waiting for clients.

    Prints ``listening on ws://HOST:PORT`` on stdout, then ``also PROTOCOL on URL`` for each other port; logs go to
    stderr, sessions' comings and goings at level ``info``. SIGHUP rereads keys and certificate.
    """
    configure(log_level, log_format)
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.disable()  # nothing is garbage yet
    recognizer = load()
    gc.collect()
    gc.freeze()  # what is loaded stays: going through it again would hold up everybody for a tenth of a second
    gc.enable()

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(log_loop_error)
        stop, hurry = asyncio.Event(), asyncio.Event()

        def on_signal() -> None:
            (hurry if stop.is_set() else stop).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, on_signal)

        def announce(server: Server) -> None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.reload)
            others = [
                f"also {name} on {server.url_of(name)}" for name in server.protocols if name != NativeAdapter.name
            ]
            print("\n".join([f"listening on {server.url}", *others]), flush=True)

        await serve(recognizer, options, stop, hurry, announce)

    asyncio.run(main())
    return 0
