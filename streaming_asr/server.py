"""Owns the server: who comes in, and the sessions of all clients from start to shutdown.

One client is `conversation`'s business, everything slow `engine`'s. What clients send and what they are told is never
logged. Whatever one client does, the others notice nothing: each has its own bounded queues, and whoever fills one
waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import astuple
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from . import __version__, messages
from .access import is_loopback
from .admission import Punctuality
from .conversation import Conversation, Services, handshake_of, split_target
from .engine import MAX_WORKERS, Engine, num_usable_cores
from .errors import ClientError, InputError
from .gate import Gate, Visitor, http_headers, http_status
from .journal import Journal
from .keys import KeyRing
from .limits import Lobby
from .logs import Format, configure, log_failure, log_loop_error
from .metrics import CONTENT_TYPE, Metrics
from .origins import Origins
from .page import Page
from .ports import CLOSE_SECONDS, PATHS, Ports
from .protocols.adapter import Adapter, Frame
from .protocols.native import NativeAdapter
from .protocols.sherpa_onnx import SherpaOnnxAdapter
from .protocols.vosk import VoskAdapter
from .protocols.wyoming import WyomingAdapter
from .server_options import ServerOptions
from .session import ModelInfo
from .state import StateFolder
from .tcp import TcpConnection
from .tls import ServerTls
from .waiting import Waiting
from .websocket import Connection, WebSocketConnection
from .worker import MAX_BATCH, EngineRecognizer, StepReport

logger = logging.getLogger(__name__)

HEALTH_PATH, READY_PATH, METRICS_PATH = "/healthz", "/readyz", "/metrics"
HTTP_METHODS = ("GET", "HEAD")
HOUSEKEEPING_SECONDS = 0.25  # between two looks at the worker and the key file
LATE = "the sessions that are open are served late already"
UNREADY_SECONDS = 10.0  # after the worker was replaced
FLUSH_SECONDS = 5.0  # for the last finals, after the time that sessions had to end by themselves
SWITCH_SECONDS = 0.0001  # between threads: a worker waits as long for the lock after each compiled call; default 5 ms


class Server:
    """Serves one recognizer, on the running event loop: all protocols that have a path on one address, and others on
    ports of their own. Raises `InputError` for options that cannot be.
    """

    def __init__(self, recognizer: EngineRecognizer, options: ServerOptions) -> None:
        self._options = options
        self._origins = Origins(options.host, options.allow_origin)
        self._page = Page()
        self._model = ModelInfo(recognizer.name, recognizer.chunk_ms, recognizer.first_chunk_ms, recognizer.language)
        num_workers = options.workers or min(MAX_WORKERS, num_usable_cores())
        cost = recognizer.step_cost(options.calibration)
        self._engine = Engine(
            recognizer,
            num_workers,
            options.max_batch or cost.batch(options.max_latency_seconds, MAX_BATCH),
            options.max_backlog_seconds,
            stall_seconds=options.stall_seconds,
            on_step=self._on_step,
        )
        self._metrics = Metrics(
            __version__,
            recognizer.name,
            lambda: self.unready is None,
            lambda: self.num_streams,
            lambda: astuple(self._engine.usage),
        )
        self._max_sessions = (
            options.max_sessions
            if options.max_sessions is not None
            else cost.capacity(options.max_latency_seconds, num_workers)
        )
        self._metrics.max_sessions.set(self._max_sessions)
        self._punctuality = Punctuality(options.max_latency_seconds, time.monotonic)
        self._unready_until = -math.inf
        self._draining = False
        self._conversations: dict[Conversation, asyncio.Task[Any]] = {}
        self._welcomes: set[asyncio.Task[Any]] = set()  # of clients on plain TCP
        self._keys = KeyRing(options.keys, time.monotonic) if options.keys is not None else None
        self._journal = Journal(options.journal) if options.journal is not None else None
        self._state = StateFolder(options.state_dir) if options.state_dir is not None else None
        self._waiting = Waiting(options.resume_seconds, self._state)
        self._gate = Gate(self._keys, options.limits.max_sessions_per_address)
        self._services = Services(
            self._gate,
            self._engine,
            self._model,
            options.limits,
            options.resume_seconds,
            self._metrics,
            self._journal,
            self._state,
            self._claim,
        )
        self._lobby: Lobby[Connection] = Lobby(options.limits.max_handshakes)
        self._returning: Lobby[Connection] = Lobby(options.limits.max_handshakes)  # beyond the limits
        certificate = options.tls_cert
        self._tls = ServerTls(certificate, options.tls_key) if certificate is not None else None
        self.ports = Ports(options.host, options.limits, self._tls, self._lobby)
        self._housekeeping: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens, ``ws://HOST:PORT``, or ``wss``."""
        return self.ports.url_of(NativeAdapter.name)

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
        return self._engine.is_hopeless

    @property
    def unready(self) -> str | None:
        """Why no new session should come here now; `None`: it may."""
        if self._draining:
            return "the server is shutting down"
        if self.is_hopeless:
            return "the recognizer does not get on; start the server anew"
        if time.monotonic() < self._unready_until:
            return "the recognizer did not get on and had to be restarted"
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
        options, ports = self._options, self.ports
        by_websocket: list[tuple[int | None, type[Adapter] | None]] = [
            (options.port, None),
            (options.vosk_port, VoskAdapter),
            (options.sherpa_port, SherpaOnnxAdapter),
        ]
        try:
            for port, adapter in by_websocket:
                if port is not None:
                    await ports.open(port, adapter, self._converse, self._answer_request)
            if options.wyoming_port is not None:
                await ports.open_tcp(options.wyoming_port, WyomingAdapter, self._welcome)
        except InputError:
            ports.stop_listening()
            raise
        try:
            self._engine.start()
        except OSError as error:
            ports.stop_listening()
            await self._engine.stop()  # those that were
            raise InputError(f"cannot start a worker: {error.strerror or error}") from error
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
        failures: set[tuple[str, str]] = set()  # that were told
        while True:
            began = time.monotonic()
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            self._metrics.lag_seconds.observe(max(0.0, time.monotonic() - began - HOUSEKEEPING_SECONDS))
            ticks = [conversation.tick for conversation in self._conversations]
            expiries = self._waiting.expire_suspended, self._expire_beyond_limits, self._waiting.expire_saved
            for chore in (self._supervise, self._reread_keys, *ticks, *expiries):
                try:
                    chore()
                except Exception as error:  # the others are done all the same, and this one is tried again
                    failure = chore.__qualname__, type(error).__name__
                    if failure not in failures:
                        failures.add(failure)
                        log_failure(logger, chore.__qualname__, error)  # once: it comes four times a second

    def _supervise(self) -> None:
        needs_worker = True  # also if none can be started, which raises
        try:
            needs_worker = self._engine.supervise()
            self._metrics.worker_restarts.inc(needs_worker)
        finally:
            if needs_worker:
                self._unready_until = time.monotonic() + UNREADY_SECONDS

    def _reread_keys(self) -> None:
        if self._keys is not None and self._keys.has_changed():
            self.reload()

    def _expire_beyond_limits(self) -> None:
        begun = [each for each in self._conversations if not each.is_waiting_for_start]  # others may want one back
        self._waiting.expire_beyond_limits(self._gate, [each.visitor for each in begun])

    async def _claim(self, resume: messages.Resume, newcomer: Conversation) -> Conversation | None:
        """The session that a client wants back, also from a connection of which only the client knows that it broke."""
        snapshot = self._waiting.saved(resume)
        if snapshot is not None and newcomer.can_give_way:
            restored = Conversation(newcomer.connection, NativeAdapter, self._services, (snapshot, resume.token))
            self._waiting.leave(resume.session_id)  # only now: one that is not served any more is still to be removed
            return restored
        found = self._waiting.suspended(resume.session_id) or next(
            (each for each in self._conversations if each.session_id == resume.session_id), None
        )
        if found is None or not found.holds(resume.token) or not await found.detach(newcomer):
            return None
        self._waiting.leave(resume.session_id)
        return found

    async def drain(self, hurry: asyncio.Event | None = None) -> None:
        """Stops listening, lets open sessions end for a bounded time, settles the others, frees everything.

        `hurry` cuts the first wait short.
        """
        self._draining = True
        self.ports.stop_listening()
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
        self._waiting.leave_saved()
        if self._welcomes:
            for task in self._welcomes:
                task.cancel()
            await asyncio.wait(self._welcomes)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):  # what is left is in the middle of a handshake
                await self.ports.wait_closed()
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
        path, query = split_target(request)
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
        assert isinstance(connection, WebSocketConnection)
        try:
            connection.visitor = self._gate.identify(request.headers, query, address)
            if not self._may_go_on(adapter):
                self._check_limits(connection.visitor)
            adapter.check(handshake_of(request), self._model)
        except ClientError as error:
            return self._refuse(connection, error, adapter.refusal(error), adapter.refusal_type)
        if request.method == "HEAD":
            response = connection.respond(HTTPStatus.UPGRADE_REQUIRED, "")
            response.headers["Upgrade"] = "websocket"
            return response
        return None

    def _answer_metrics(self, connection: ServerConnection, request: Request, query: str, address: str) -> Response:
        try:
            self._gate.identify(request.headers, query, address)
        except ClientError as error:
            return self._refuse(connection, error, error.message + "\n")
        response = connection.respond(HTTPStatus.OK, self._metrics.exposition().decode())
        _set_header(response, "Content-Type", CONTENT_TYPE)
        return response

    def _refuse(
        self, connection: ServerConnection, error: ClientError, words: str, content_type: str | None = None
    ) -> Response:
        self._metrics.refusals.labels(error.code).inc()
        response = connection.respond(http_status(error), words)
        response.headers.update(http_headers(error))
        if content_type is not None:
            _set_header(response, "Content-Type", content_type)
        return response

    def _may_go_on(self, adapter: type[Adapter]) -> bool:
        """Whether who comes may want a session back that counts, suspended or as only its client knows that its
        connection broke. Then it is for the first message to say.
        """
        return adapter is NativeAdapter and (
            len(self._waiting) > 0 or any(each.may_be_lost for each in self._conversations)
        )

    def _check_limits(self, visitor: Visitor) -> None:
        self._gate.check(visitor)
        if self.num_sessions + len(self._waiting) >= self._max_sessions:
            words = f"the server carries {self._max_sessions} sessions already; try again later"
            raise ClientError("server_full", words, 1013)
        if self._punctuality.is_late:
            raise ClientError("server_full", f"{LATE}; try again later", 1013)

    async def _converse(self, connection: ServerConnection, adapter: type[Adapter] | None) -> None:
        assert connection.request is not None
        assert isinstance(connection, WebSocketConnection)
        adapter = adapter or PATHS[split_target(connection.request)[0]]
        conversation = Conversation(connection, adapter, self._services)
        connection.write = conversation.write
        await self._carry(conversation, adapter)

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
                await self._carry(Conversation(connection, adapter, self._services), adapter)
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

    async def _begin(
        self, newcomer: Conversation, adapter: type[Adapter]
    ) -> tuple[Conversation, messages.Resume | None]:
        """What a connection begins with: its own conversation, or, if that is one too many, one that counts already and
        is to go on here. Raises `ClientError` if it can be neither.
        """
        connection = newcomer.connection
        try:
            self._check_limits(connection.visitor)  # anew: several handshakes were under way at once
        except ClientError as error:
            if not self._may_go_on(adapter):
                raise
            refusal = error
        else:
            return newcomer, None
        longest = self._returning.enter(connection)
        if longest is not None:
            longest.transport.abort()
        try:
            async with asyncio.timeout(self._options.limits.handshake_timeout_seconds):
                resume = _resume_in(await connection.recv())
                if resume is not None and self._has_place(resume.session_id, refusal):
                    found = await self._claim(resume, newcomer)
                    if found is not None:
                        return found, resume
        except (ConnectionClosed, TimeoutError):
            pass
        finally:
            self._returning.leave(connection)
        raise refusal

    def _has_place(self, session_id: str, refusal: ClientError) -> bool:
        """Whether this session counts already in what `refusal` says there is too much of."""
        if any(each.session_id == session_id for each in self._conversations):
            return True
        return refusal.code == "server_full" and self._waiting.suspended(session_id) is not None

    async def _carry(self, conversation: Conversation, adapter: type[Adapter]) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = conversation.connection
        carried: Conversation | None
        try:
            carried, resume = await self._begin(conversation, adapter)
            with self._gate.session(connection.visitor):
                while carried is not None:
                    self._conversations[carried] = task
                    try:
                        successor = await carried.run(connection, resume)
                    finally:
                        del self._conversations[carried]
                        if carried.suspended_at < math.inf:
                            self._waiting.suspend(carried)
                    resume, carried = carried.wanted, successor
        except ClientError as error:
            self._metrics.refusals.labels(error.code).inc()
            with contextlib.suppress(ConnectionClosed):
                for written in conversation.write(messages.Error(error.code, error.message)):
                    await connection.send(written.data)
                await connection.close(error.close_code, error.code)


def _set_header(response: Response, name: str, value: str) -> None:
    del response.headers[name]  # what is set is added otherwise
    response.headers[name] = value


def _resume_in(frame: Frame) -> messages.Resume | None:
    """Which session this message wants back. Raises `ClientError` if it is none."""
    message = messages.parse_message(frame) if isinstance(frame, str) else None
    return message.resume if isinstance(message, messages.Start) else None


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
    gc.disable()  # nothing is garbage yet
    recognizer = load()
    sys.setswitchinterval(SWITCH_SECONDS)
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
                f"also {name} on {server.ports.url_of(name)}"
                for name in server.ports.protocols
                if name != NativeAdapter.name
            ]
            print("\n".join([f"listening on {server.url}", *others]), flush=True)

        await serve(recognizer, options, stop, hurry, announce)

    asyncio.run(main())
    return 0
