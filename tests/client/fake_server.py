"""A server that speaks the native protocol and hears nothing: one word a quarter of a second, an utterance every two.

It runs in a thread of its own, so that tests may use asyncio, subprocesses, or neither.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self

from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

WORD_SECONDS = 0.25
UTTERANCE_WORDS = 8


@dataclass
class Recorded:
    """What one client did."""

    authorization: str | None = None
    start: dict[str, Any] = field(default_factory=dict)
    audio: bytearray = field(default_factory=bytearray)
    sizes: list[int] = field(default_factory=list)  # of the messages that it came in
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def bytes_per_second(self) -> int:
        return 2 * int(self.start["sample_rate"]) * int(self.start["channels"])

    @property
    def seconds(self) -> float:
        return len(self.audio) / self.bytes_per_second if self.start else 0.0


Behaviour = Callable[["FakeServer", ServerConnection, Recorded], Awaitable[None]]


READY = {
    "type": "ready",
    "session_id": "s1",
    "protocol": 1,
    "model": "fake",
    "chunk_ms": 80,
    "first_chunk_ms": 95,
    "mood": "sunny",
}


async def ready(connection: ServerConnection, recorded: Recorded) -> None:
    """Takes `start`, answers `ready`, with what only a newer server would send."""
    recorded.start = json.loads(await connection.recv())
    assert recorded.start["type"] == "start"
    await connection.send(json.dumps(READY))
    await connection.send('{"type": "weather", "forecast": ["rain"]}')


async def recognize(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
    """The whole protocol, to the end."""
    await ready(connection, recorded)
    utterance, first, words = 0, 0, 0  # the utterance's number, its first word's number, words so far

    async def final(reason: str) -> None:
        nonlocal utterance, first
        if words > first:
            message = {
                "type": "final",
                "utterance": utterance,
                "text": " ".join(f"word{number}" for number in range(first, words)),
                "start": first * WORD_SECONDS,
                "end": words * WORD_SECONDS,
                "confidence": 0.9,
                "reason": reason,
            }
            await connection.send(json.dumps(message))
            utterance, first = utterance + 1, words

    async for frame in connection:
        if isinstance(frame, bytes):
            with server.changed:
                recorded.audio += frame
                recorded.sizes.append(len(frame))
                server.changed.notify_all()
            while words < int(recorded.seconds / WORD_SECONDS):
                if words == first:
                    await connection.send(json.dumps({"type": "speech_started", "time": words * WORD_SECONDS}))
                words += 1
                so_far = [f"word{number}" for number in range(first, words)]
                message = {
                    "type": "partial",
                    "utterance": utterance,
                    "committed": " ".join(so_far[:-1]),
                    "unstable": so_far[-1],
                    "start": first * WORD_SECONDS,
                    "end": words * WORD_SECONDS,
                }
                await connection.send(json.dumps(message))
                if words - first == UTTERANCE_WORDS:
                    await final("endpoint")
            continue
        message = json.loads(frame)
        with server.changed:
            recorded.messages.append(message)
            server.changed.notify_all()
        if message["type"] in ("finalize", "stop"):
            await final(message["type"])
        if message["type"] == "stop":
            await connection.send(
                json.dumps({"type": "done", "audio_seconds": recorded.seconds, "utterances": utterance})
            )
            await connection.close()
            return


class FakeServer:
    """``with FakeServer() as server`` listens on ``server.url``; every client is in ``server.clients``."""

    def __init__(self, behaviour: Behaviour = recognize, *, http_status: HTTPStatus | None = None) -> None:
        self._behaviour = behaviour
        self._http_status = http_status
        self.clients: list[Recorded] = []
        self.changed = threading.Condition()
        self.url = ""
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(20)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)
        assert not self._thread.is_alive()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        async with serve(self._handle, "127.0.0.1", 0, process_request=self._request, close_timeout=1) as server:
            self.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/v1/stream"
            self._listening.set()
            await self._end.wait()

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        if self._http_status is not None:
            return connection.respond(self._http_status, "")
        return None if request.path == "/v1/stream" else connection.respond(HTTPStatus.NOT_FOUND, "")

    async def _handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        recorded = Recorded(connection.request.headers.get("Authorization"))
        with self.changed:
            self.clients.append(recorded)
            self.changed.notify_all()
        await self._behaviour(self, connection, recorded)

    def wait_for_audio(self, seconds: float, timeout_seconds: float = 30) -> Recorded:
        """The first client, once it has sent so much sound."""
        with self.changed:
            heard = self.changed.wait_for(
                lambda: bool(self.clients) and self.clients[0].seconds >= seconds, timeout_seconds
            )
            assert heard, f"no client sent {seconds} s of sound: {[client.seconds for client in self.clients]}"
            return self.clients[0]
