"""The library against the fake server, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator

import pytest
from streaming_asr_client import (
    ConnectionFailed,
    ConnectionLost,
    Done,
    Event,
    Final,
    LocalProtocolError,
    Partial,
    Request,
    ServerError,
    ServerFull,
    UsageError,
    connect,
)
from streaming_asr_client.client import explain_connect_failure, normalize_url
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Response

from tests.client.fake_server import READY, FakeServer, Recorded, ready, recognize

SECOND = bytes(32000)
URL = "ws://h:1/v1/stream"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ws://h:1/v1/stream", URL),
        ("h:1", URL),
        ("ws://h:1", URL),
        ("http://h:1/", URL),
        ("https://h", "wss://h/v1/stream"),
        ("wss://h/asr/v1/stream?key=1", "wss://h/asr/v1/stream?key=1"),
        ("ws://[::1]:8765", "ws://[::1]:8765/v1/stream"),
        ("192.168.1.5", "ws://192.168.1.5:8765/v1/stream"),
        ("[::1]/asr", "ws://[::1]:8765/asr"),
        ("http://h", "ws://h/v1/stream"),
    ],
)
def test_addresses_as_people_type_them(typed: str, meant: str) -> None:
    assert normalize_url(typed) == meant


@pytest.mark.parametrize(
    "typed", ["", "ws://", "ftp://h", "ws://h:port", "ws://h:99999", "ws://h:0", "ws://[", "ws://h/#f"]
)
def test_what_is_no_address(typed: str) -> None:
    with pytest.raises(UsageError, match="is no server address"):
        normalize_url(typed)


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (ConnectionRefusedError(111, "refused"), f"no server at {URL} — start one with `streaming-asr serve`"),
        (OSError("Multiple exceptions: refused"), f"no server at {URL} — start one"),
        (socket.gaierror(-2, "unknown"), "the host 'h' is not known"),
        (TimeoutError(), "does not answer"),
        (EOFError(), "no WebSocket server; does it listen at wss:// instead?"),
        (ssl.SSLCertVerificationError("bad certificate"), "SSL_CERT_FILE"),
        (ssl.SSLError("no shared cipher"), "no secure connection"),
        (ConnectionResetError(), "(ConnectionResetError)"),
    ],
)
def test_why_there_is_no_connection(failure: Exception, says: str) -> None:
    error = explain_connect_failure(URL, failure)
    assert isinstance(error, ConnectionFailed)
    assert says in str(error)


@pytest.mark.parametrize("status", [429, 503])
def test_no_room_is_told_with_the_servers_reason(status: int) -> None:
    response = Response(status, "", Headers(), b"the key has 1 session already\nmore\n")
    error = explain_connect_failure(URL, InvalidStatus(response))
    assert isinstance(error, ServerFull)
    assert "(the key has 1 session already)" in str(error)


@pytest.mark.parametrize("key", ["sesame\nopen", "sesame open", "sésame", ""])
def test_a_key_that_is_none_is_not_repeated(key: str) -> None:
    async def body() -> None:
        async with connect(URL, key=key):
            pass

    with pytest.raises(UsageError, match="API key") as caught:
        asyncio.run(body())
    assert "same" not in str(caught.value)


def test_a_server_without_tls_is_not_called_absent() -> None:
    async def body(url: str) -> None:
        with pytest.raises(ConnectionFailed, match="not with TLS"):
            async with connect(url):
                pass

    with FakeServer() as server:
        asyncio.run(body(server.url.replace("ws:", "wss:")))


async def blocks(seconds: float, block_bytes: int = 1280) -> AsyncIterator[bytes]:
    sound = bytes(int(seconds * 32000))
    for at in range(0, len(sound), block_bytes):
        yield sound[at : at + block_bytes]


def test_transcribe_yields_everything_to_the_end() -> None:
    async def body(url: str) -> list[Event]:
        async with connect(url) as session:
            assert (session.ready.model, session.url) == ("fake", url)
            return [event async for event in session.transcribe(blocks(3))]

    with FakeServer() as server:
        events = asyncio.run(body(server.url))
    assert [event.text for event in events if isinstance(event, Final)] == [
        "word0 word1 word2 word3 word4 word5 word6 word7",
        "word8 word9 word10 word11",
    ]
    assert events[-1] == Done(3.0, 2)
    assert events[1] == Partial(0, "", "word0", 0.0, 0.25)


def test_sound_leaves_in_steps_of_the_model_and_all_of_it_before_a_finalize() -> None:
    async def sound() -> AsyncIterator[bytes | Request]:
        async for block in blocks(0.3, 480):  # of 15 ms
            yield block
        yield Request.FINALIZE
        async for block in blocks(0.2, 6400):  # at once
            yield block

    async def body(url: str) -> None:
        async with connect(url) as session:
            async for _ in session.transcribe(sound()):
                pass

    with FakeServer() as server:
        asyncio.run(body(server.url))
    assert [size // 32 for size in server.clients[0].sizes] == [95, 80, 80, 45, 175, 25]


def test_by_hand() -> None:
    async def body(url: str) -> None:
        async with connect(url, sample_rate=8000, channels=2, words=False) as session:
            await session.send_audio(SECOND)
            await session.send_audio(b"")
            await session.finalize()
            async for event in session:
                if isinstance(event, Final):
                    assert event.reason == "finalize"
                    break
            await session.keepalive()
            await session.stop()
            await session.stop()
            with pytest.raises(LocalProtocolError, match="the session is stopping"):
                await session.send_audio(SECOND)
            assert [event async for event in session] == [Done(1.0, 1)]
            assert [event async for event in session] == []

    with FakeServer() as server:
        asyncio.run(body(server.url))
    assert [message["type"] for message in server.clients[0].messages] == ["finalize", "keepalive", "stop"]
    assert server.clients[0].start["words"] is False


def test_audio_that_fails_is_finished_first() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield SECOND
        raise UsageError("unplugged")

    async def body(url: str) -> list[Event]:
        events: list[Event] = []
        async with connect(url) as session:
            with contextlib.suppress(UsageError):
                async for event in session.transcribe(failing()):
                    events.append(event)
                pytest.fail("the failure was swallowed")
        return events

    with FakeServer() as server:
        events = asyncio.run(body(server.url))
    assert events[-1] == Done(1.0, 1)


def test_leaving_early_leaves_nothing_running() -> None:
    async def body(url: str) -> None:
        async with connect(url) as session:
            events = session.transcribe(blocks(600))
            async for event in events:
                if isinstance(event, Partial):
                    break
            await events.aclose()
        assert len(asyncio.all_tasks()) == 1

    with FakeServer() as server:
        asyncio.run(body(server.url))


def test_a_server_that_ends_the_session_itself() -> None:
    async def shut_down(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
        await ready(connection, recorded)
        await connection.recv()
        await connection.send('{"type": "done", "audio_seconds": 0.04, "utterances": 0}')
        closing = asyncio.create_task(connection.close(1001))
        async for _ in connection:  # what a client sends until it hears; unread, it would reset the connection
            pass
        await closing

    num_blocks = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal num_blocks
        async for block in blocks(600):
            num_blocks += 1
            yield block

    events: list[Event] = []

    async def body(url: str) -> None:
        async with connect(url) as session:
            async for event in session.transcribe(counted()):
                events.append(event)

    early = r"ended the session early, after 0\.04 s of audio"
    with FakeServer(shut_down) as server, pytest.raises(ConnectionLost, match=early):
        asyncio.run(body(server.url))
    assert events == [Done(0.04, 0)]
    assert num_blocks < 5000  # of 15,000: who sends as fast as it goes hears what comes meanwhile


def test_a_final_may_be_longer_than_a_mebibyte() -> None:
    text = "w" * (1 << 20)

    async def long_winded(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
        await ready(connection, recorded)
        final = {"type": "final", "utterance": 0, "text": text, "start": 0, "end": 1, "confidence": 1, "reason": "stop"}
        await connection.send(json.dumps(final))
        await connection.send('{"type": "done", "audio_seconds": 1, "utterances": 1}')

    async def talk(url: str) -> list[Event]:
        async with connect(url) as session:
            await session.stop()
            return [event async for event in session]

    with FakeServer(long_winded) as server:
        final, _ = asyncio.run(talk(server.url))
    assert isinstance(final, Final)
    assert final.text == text


@pytest.mark.parametrize(
    ("frames", "code", "kind", "says"),
    [
        (['{"type": "error", "code": "busy", "message": "8 sessions"}'], 1013, ServerFull, "has no room"),
        (['{"type": "error", "code": "oops", "message": "broke"}'], 1011, ServerError, "broke"),
        ([], 1013, ServerFull, "has no room"),
        ([], 1000, ConnectionLost, "the server ended the session early"),
    ],
)
@pytest.mark.parametrize("greets", [True, False])
def test_a_server_that_says_no(frames: list[str], code: int, kind: type[Exception], says: str, greets: bool) -> None:
    async def refuse(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
        if greets:
            await ready(connection, recorded)
        await connection.recv()
        for frame in frames:
            await connection.send(frame)
        await connection.close(code)

    async def body(url: str) -> None:
        async with connect(url) as session:
            async for _ in session.transcribe(blocks(600)):
                pass

    with FakeServer(refuse) as server, pytest.raises(kind, match=says) as raised:
        asyncio.run(body(server.url))
    assert type(raised.value) is kind


def test_a_server_that_takes_the_connection_and_is_silent() -> None:
    async def silent(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
        await connection.wait_closed()

    async def body(url: str) -> None:
        async with connect(url, open_timeout_seconds=0.3):
            pass

    with FakeServer(silent) as server, pytest.raises(ConnectionFailed, match="does not answer"):
        asyncio.run(body(server.url))


def test_an_attempt_to_go_on_that_is_given_up_leaves_the_session_on_the_server() -> None:
    closed_with: list[int | None] = []

    async def answers_once(server: FakeServer, connection: ServerConnection, recorded: Recorded) -> None:
        with contextlib.suppress(ConnectionClosed):  # given up before its first message was read: that counts, too
            start = json.loads(await connection.recv())
            if "resume" not in start:
                await connection.send(json.dumps(READY | {"token": "t"}))
                connection.transport.abort()
        await connection.wait_closed()
        closed_with.append(connection.close_code)

    async def body(url: str) -> None:
        async with connect(url, open_timeout_seconds=0.3, resume_seconds=1) as session:
            async for _ in session.transcribe(blocks(600)):
                pass

    with FakeServer(answers_once) as server, pytest.raises(ConnectionFailed, match="does not answer"):
        asyncio.run(body(server.url))
    assert len(closed_with) >= 2
    assert set(closed_with) == {1006}  # 1000 would end it


def test_a_wrong_path() -> None:
    async def body(url: str) -> None:
        async with connect(url):
            pass

    with FakeServer(recognize) as server, pytest.raises(ConnectionFailed, match="the path should be /v1/stream"):
        asyncio.run(body(server.url.replace("/v1/stream", "/v2")))


def test_something_that_is_no_websocket_server() -> None:
    async def body() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.write(b"220 mail.example ESMTP\r\n")
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(ConnectionFailed, match="no WebSocket server"):
                async with connect(f"127.0.0.1:{port}"):
                    pass

    asyncio.run(body())
