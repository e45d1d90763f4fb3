"""Owns one client: moves frames between its connection and its session, and performs what the session decides.

A conversation outlives its connection while its session waits for the client. Everything about a protocol is decided in
`session` and `protocols`, everything slow happens in `engine`; who may come in, and how many, is `server`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import math
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request

from . import messages
from .engine import Engine, StreamHandle
from .errors import ClientError
from .gate import Gate, Visitor
from .journal import Journal
from .limits import BURST_AUDIO_SECONDS, BURST_MESSAGE_SECONDS, MIN_WAIT_SECONDS, Budget, Limits
from .logs import session_logger
from .messages import Event, Final, Partial, ServerMessage
from .metrics import Metrics, WordLatency
from .outbox import Duty, Outbox
from .protocols.adapter import Adapter, Handshake, Mark, Note, Output, Write
from .session import Close, Flush, ModelInfo, Open, Push, Save, Session, Snapshot, State, TakeUp
from .state import StateFolder
from .websocket import FRAME_ERRORS, Connection

logger = logging.getLogger(__name__)

LOST_SECONDS = 1.0  # without a sign of life, from which only the client may know that its connection broke
LEFT = 1000, 1001  # how a client closes, or is closed, that does not come back
MAX_CLOSE_REASON_BYTES = 123  # RFC 6455, 5.5: 125 with the code


_ERRORS = FRAME_ERRORS | {1006: "connection_lost"}  # of which the session never hears


@dataclasses.dataclass(frozen=True)
class Services:
    """What all conversations of a server share."""

    gate: Gate
    engine: Engine
    model: ModelInfo
    limits: Limits
    resume_seconds: float
    metrics: Metrics
    journal: Journal | None
    state: StateFolder | None
    claim: Callable[[messages.Resume, Conversation], Awaitable[Conversation | None]]  # another session, for this one


class Conversation:
    """One connection and its session, from the handshake to the end."""

    def __init__(
        self,
        connection: Connection,
        adapter: type[Adapter],
        services: Services,
        saved: tuple[Snapshot, str] | None = None,
    ) -> None:
        """`saved`: with its token, the session that is to go on in place of a new one."""
        self._connection = connection
        self._services = services
        self._wanted: messages.Resume | None = None  # another session, which the client asks for
        self._suspended_at = math.inf
        self._is_detached = asyncio.Event()
        self._is_listening = False
        self._unjournaled: deque[Final] = deque()  # settled, and not yet on its way to the journal
        limits = services.limits
        if adapter.idle_timeout_seconds is not None:
            idle_seconds = min(limits.idle_timeout_seconds, adapter.idle_timeout_seconds)
            limits = dataclasses.replace(limits, idle_timeout_seconds=idle_seconds)
        rate = limits.max_messages_per_second
        self._messages_left = Budget(rate, rate * BURST_MESSAGE_SECONDS, time.monotonic)
        self._audio_left = Budget(limits.max_audio_speed, BURST_AUDIO_SECONDS, time.monotonic)
        token = secrets.token_urlsafe(16) if services.resume_seconds > 0 else ""
        saves = services.state is not None
        self._session = (
            Session.restored(*saved, services.model, limits, time.monotonic)
            if saved
            else Session(secrets.token_hex(8), services.model, limits, time.monotonic, token, saves)
        )
        self._adapter = adapter(self._session, handshake_of(connection.request))
        self._outbox = Outbox()
        self._handle: StreamHandle | None = None
        self._log = session_logger(logger, self._session.session_id)
        self._word_latency = WordLatency()
        self._audio_counter = services.metrics.audio_seconds.labels(self._adapter.name)

    @property
    def is_waiting_for_start(self) -> bool:
        """Whether the client has not said yet what it wants."""
        return self._session.state is State.OPENING

    @property
    def connection(self) -> Connection:
        """The client's, or the last that there was."""
        return self._connection

    @property
    def visitor(self) -> Visitor:
        """Whose it is."""
        return self._connection.visitor

    @property
    def may_be_lost(self) -> bool:
        """Whether its client may want the session back on another connection: nothing comes, or it waits to be read."""
        is_full = self._handle is not None and not self._handle.has_capacity
        return self._session.is_resumable and (is_full or self._session.silent_seconds >= LOST_SECONDS)

    @property
    def can_give_way(self) -> bool:
        """Whether its connection is open for another session, which its client wants in place of this one."""
        return self.is_waiting_for_start and self._connection.is_open

    def write(self, message: ServerMessage) -> list[Write]:
        """This message in the client's protocol."""
        return self._adapter.write(message)

    def announce_end(self, seconds: float) -> None:
        """Tells the client that `go_away` comes in so many seconds."""
        self._perform(self._adapter.announce_end(seconds))

    def go_away(self) -> None:
        """Settles what was said and closes with 1001, or 1012 if it is to go on in another process."""
        self._perform(self._adapter.go_away(self._services.state is not None and not self._services.state.is_failing))

    def check_key(self) -> None:
        """Ends the session if its key is no longer good."""
        self._spend(0.0)

    def tick(self) -> None:
        """Ends the session if its time has come. To be called a few times a second."""
        if not self._is_listening:
            self._session.keep_alive()  # it is the client that waits for the server
        self._perform(self._adapter.tick())

    def abort(self) -> None:
        """Cuts the connection."""
        self._connection.transport.abort()

    # --- without a connection for a while ---

    @property
    def session_id(self) -> str:
        """The session's, as its client knows it."""
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

    async def detach(self, newcomer: Conversation) -> bool:
        """Cuts the connection, if there is one still, and takes the session for the newcomer's; false: one ended."""
        while not self._is_detached.is_set():
            self.abort()
            await self._is_detached.wait()
        if self._suspended_at == math.inf or not newcomer.can_give_way:
            return False
        self._is_detached.clear()
        self._suspended_at = math.inf
        self._connection = newcomer.connection  # already: who else waited for the session must cut this one
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
        while forget and self._unjournaled:
            self._write_down()
        if forget and self._services.state is not None and self._session.is_saved:
            self._services.state.remove(self.session_id)
        self._adapter.connection_lost()
        if self._handle is not None:
            self._handle.close()

    # --- with one ---

    async def run(self, connection: Connection, resume: messages.Resume | None = None) -> Conversation | None:
        """Carries the session over this connection, from the start or from where `resume` says.

        Returns when the connection is gone; then either everything was given back, or the session is suspended. What
        it returns is the conversation that is to have the connection in place of this one.
        """
        self._connection = connection
        self._outbox = Outbox()
        self._wanted = None
        self._log.info("connected, %s" if resume is None else "resumed, %s", self._adapter.name)
        self._services.metrics.sessions.labels(self._adapter.name).inc()
        writer = asyncio.create_task(self._write())
        try:
            for _ in self._unjournaled:  # what was settled while nobody was there, or read
                self._outbox.put(Duty(self._write_down))
            self._perform(self._adapter.open() if resume is None else self._adapter.resume(resume.utterance))
            while True:
                if self._wanted is not None:
                    successor = await self._services.claim(self._wanted, self)
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
                await self._take(functools.partial(self._adapter.receive, frame))
                while self._adapter.has_more:
                    await self._take(self._adapter.go_on)
        except ConnectionClosed:
            if connection.is_half_closed and self._session.state not in (State.OPENING, State.STREAMING):
                await asyncio.wait([writer])  # the client has said all, and waits for what it is still to be told
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
            self._services.metrics.sessions.labels(self._adapter.name).dec()
            self._services.metrics.sessions_ended.labels(self._adapter.name, error).inc()
            self._log.info(
                "closed with %s after %.1f s of audio, %d utterances, error: %s",
                self._connection.close_code,
                self._session.audio_seconds,
                self._session.utterances,
                error,
            )
        return None

    async def _take(self, read: Callable[[], list[Output]]) -> None:
        """As much of a frame as is read at once; then others have their turn."""
        before = self._session.audio_seconds
        self._perform(read())
        self._messages_left.spend(self._adapter.more_messages)
        self._account(self._session.audio_seconds - before)
        if await self._wait_capacity():
            self._session.keep_alive()  # it was not the client that was idle
        await asyncio.sleep(0)  # a hundred frames may wait

    def _account(self, audio_seconds: float) -> None:
        if audio_seconds:
            self._word_latency.heard(self._session.audio_seconds, time.monotonic())
            self._audio_left.spend(audio_seconds)
            self._audio_counter.inc(audio_seconds)
        self._spend(audio_seconds)

    def _spend(self, audio_seconds: float) -> None:
        try:
            self._services.gate.spend(self._connection.visitor, audio_seconds)
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
                async with asyncio.timeout(self._services.limits.idle_timeout_seconds):
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

    def _write_down(self) -> Awaitable[None]:
        assert self._services.journal is not None
        final = self._unjournaled.popleft()
        return self._services.journal.append(self._session.session_id, self._adapter.name, final)

    def _perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Open(options):
                    self._handle = self._services.engine.open(
                        options, self._on_events, self._on_failure, self._on_reached
                    )
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
                    assert self._services.state is not None
                    self._outbox.put(Duty(functools.partial(self._services.state.save, snapshot)))
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
                    self._services.metrics.word_seconds.observe(seconds)
            if self._services.journal is not None and isinstance(event, Final) and event.text:
                self._unjournaled.append(event)
                self._outbox.put(Duty(self._write_down))
        self._perform(self._adapter.receive_events(events))

    def _on_reached(self) -> None:
        self._perform(self._adapter.reached())

    def _on_failure(self) -> None:
        self._perform(self._adapter.break_off())


def split_target(request: Request) -> tuple[str, str]:
    """Path and query of a request."""
    path, _, query = request.path.partition("?")
    return path, query


def handshake_of(request: Request | None) -> Handshake:
    """What a request tells an adapter; `None`: there was none, as on plain TCP."""
    return Handshake(split_target(request)[1] if request is not None else "")
