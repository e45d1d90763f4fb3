"""What one client may take of a server on real sockets, and that the limit holds before anything was spent on it."""

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import InvalidStatus
from websockets.server import ServerProtocol

from streaming_asr import conversation
from streaming_asr.audio import AudioDecoder
from streaming_asr.limits import Limits
from streaming_asr.protocols.native import NativeAdapter
from streaming_asr.server import Server
from tests.fakes import words
from tests.test_server import START, STOP, client, eventually, receive, receive_all, run, serving, transcribe
from tests.test_server_access import trusting, write_certificate

Door = tuple[dict[str, Any], ssl.SSLContext | None]  # options of a server, and what its clients need
KEEPALIVE = '{"type": "keepalive"}'


@contextlib.asynccontextmanager
async def raw(
    server: Server, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = server.url.rpartition("/")[2].split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=tls)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture(params=["plain", "TLS"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> Door:
    if request.param == "plain":
        return {}, None
    authority = trustme.CA()
    certificate, key = write_certificate(authority, tmp_path)
    return {"tls_cert": certificate, "tls_key": key}, trusting(authority)


HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
MASK = bytes(4)  # of a client's frames; zeros leave the payload as it is
PING = b"\x89\x80" + MASK


async def opened(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, extra: bytes = b"") -> bytes:
    writer.write(HANDSHAKE + extra + b"\r\n")
    return await reader.readuntil(b"\r\n\r\n")


def test_a_huge_frame_is_refused_by_its_header_alone() -> None:
    async def test() -> None:
        async with serving() as server, raw(server) as (reader, writer):
            await opened(reader, writer)
            writer.write(b"\x82\xff" + (64 << 20).to_bytes(8, "big") + MASK)  # and nothing of its 64 MB
            answer = await reader.read()
            assert b"too_big" in answer
            assert b"\x88" in answer
            assert (1009).to_bytes(2, "big") in answer

    run(test)


def test_compression_is_not_negotiated_so_that_no_small_frame_becomes_a_huge_one() -> None:
    async def test() -> None:
        async with serving() as server, raw(server) as (reader, writer):
            answer = await opened(reader, writer, b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
            assert b"101" in answer
            assert b"permessage-deflate" not in answer
            writer.write(b"\xc2\x82" + MASK + b"\x4b\x04")  # compressed: RSV1 is set
            assert b"bad_frame" in await reader.read()

    run(test)


def seconds_of(test: Any) -> float:
    began = time.monotonic()
    run(test)
    return time.monotonic() - began


def test_a_flood_of_messages_is_slowed_down_and_not_refused() -> None:
    async def test() -> None:
        async with serving(limits=Limits(max_messages_per_second=500)) as server, client(server) as connection:
            await connection.send(START)
            for _ in range(800):
                await connection.send(KEEPALIVE)
            await connection.send(STOP)
            assert (await receive_all(connection))[1] == 1000

    assert seconds_of(test) >= 0.6  # 500 at once, 302 more at 500 a second


def test_a_flood_of_pings_is_slowed_down_as_well() -> None:
    async def test() -> None:
        limits = Limits(max_messages_per_second=500)
        async with serving(limits=limits) as server, raw(server) as (reader, writer):
            await opened(reader, writer)
            writer.write(800 * PING + b"\x81" + bytes([0x80 | len(START)]) + MASK + START.encode())
            while b'"ready"' not in await reader.read(1000):
                pass

    assert seconds_of(test) >= 0.3  # 500 at once, most of the others at 500 a second


def test_who_sends_pings_and_does_not_read_the_answers_is_cut() -> None:
    async def ping(client: socket.socket) -> None:
        while True:
            await asyncio.get_running_loop().sock_sendall(client, 100 * (b"\x89\xfd" + MASK + bytes(125)))

    async def test() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            async with serving(limits=Limits(max_messages_per_second=1e9)) as server:
                host, port = server.url.removeprefix("ws://").split(":")
                await loop.sock_connect(client, (host, int(port)))
                await loop.sock_sendall(client, HANDSHAKE + b"\r\n")
                await eventually(lambda: server.num_sessions == 1)
                with pytest.raises(ConnectionError):
                    await ping(client)
                await eventually(lambda: server.num_sessions == 0)

    run(test)


def test_audio_much_faster_than_real_time_is_slowed_down_and_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(limits=Limits(max_audio_speed=2.0)) as server:
            assert await transcribe(server, words(*range(1, 11))) == [" ".join(f"w{i}" for i in range(1, 11))]

    monkeypatch.setattr(conversation, "BURST_AUDIO_SECONDS", 0.1)
    assert seconds_of(test) >= 0.3  # 0.1 s at once, 0.7 s at twice real time


def test_who_is_slowed_down_and_leaves_is_gone_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(limits=Limits(max_audio_speed=0.001)) as server:
            connection = await client(server)
            await connection.send(START)
            await connection.send(words(1, 2))
            await connection.send(words(1, 2))
            await receive(connection)
            await eventually(lambda: server.num_streams == 1)
            connection.transport.abort()
            await eventually(lambda: server.num_sessions == 0)

    monkeypatch.setattr(conversation, "BURST_AUDIO_SECONDS", 0.1)
    run(test)


def test_a_session_may_last_only_so_long() -> None:
    async def test() -> None:
        async with serving(limits=Limits(max_session_seconds=0.1)) as server, client(server) as connection:
            await connection.send(START)
            await connection.send(words(1, 2))
            received, code, reason = await receive_all(connection)
            assert [message["type"] for message in received[-2:]] == ["final", "error"]
            assert (received[-2]["text"], code, reason) == ("w1 w2", 1008, "too_long")

    run(test)


def test_also_one_whose_client_always_has_more_to_say() -> None:
    async def test() -> None:
        limits = Limits(max_session_seconds=0.1, max_messages_per_second=100)
        async with serving(limits=limits) as server, client(server) as connection:
            await connection.send(START)
            await connection.send(words(1, 2))
            for _ in range(400):  # of which the last is read after three seconds
                await connection.send(KEEPALIVE)
            await connection.send(STOP)
            received, code, reason = await receive_all(connection)
            assert [message["type"] for message in received[-2:]] == ["final", "error"]
            assert (received[-2]["text"], code, reason) == ("w1 w2", 1008, "too_long")

    run(test)


def test_headers_may_have_only_so_many_bytes() -> None:
    async def test() -> None:
        async with serving(limits=Limits(max_header_bytes=2000)) as server:
            async with raw(server) as (reader, writer):
                for _ in range(100):  # each line is short, and none is the last
                    writer.write(b"X: " + b"x" * 95 + b"\r\n")
                assert (await reader.readline()).startswith(b"HTTP/1.1 431")
            assert await transcribe(server, words(1)) == ["w1"]
            with pytest.raises(InvalidStatus) as caught:
                await connect(f"{server.url}/v1/stream?{'x' * 3000}", proxy=None)
            assert caught.value.response.status_code == 431

    run(test)


def test_a_handshake_may_take_only_so_long() -> None:
    async def test() -> None:
        async with serving(limits=Limits(handshake_timeout_seconds=0.1)) as server:
            async with raw(server) as (reader, writer):
                writer.write(HANDSHAKE)  # the empty line is missing
                assert await reader.read() == b""
            assert await transcribe(server, words(1)) == ["w1"]

    run(test)


def test_connections_that_say_nothing_keep_nobody_out(door: Door) -> None:
    options, tls = door

    async def test() -> None:
        limits = Limits(max_handshakes=3)
        async with serving(limits=limits, **options) as server, contextlib.AsyncExitStack() as silent:
            streams = [await silent.enter_async_context(raw(server)) for _ in range(10)]
            for reader, _ in streams[:7]:
                assert await reader.read() == b""
            assert len(server._lobby) == 3
            async with client(server, ssl=tls) as connection:
                await connection.send(STOP)
                assert (await receive_all(connection))[0][-1]["code"] == "wrong_order"
        assert len(server._lobby) == 0

    run(test)


def test_a_tls_handshake_that_fails_or_takes_too_long_is_over(tmp_path: Path) -> None:
    async def test() -> None:
        limits = Limits(handshake_timeout_seconds=0.1)
        async with serving(limits=limits, tls_cert=certificate, tls_key=key) as server:
            for sent in (b"", b"GET / HTTP/1.1\r\n\r\n"):
                async with raw(server) as (reader, writer):
                    writer.write(sent)
                    assert await reader.read() == b""
                    await eventually(lambda: len(server._lobby) == 0)

    certificate, key = write_certificate(trustme.CA(), tmp_path)
    run(test)


def test_an_address_may_have_only_so_many_sessions() -> None:
    async def test() -> None:
        async with serving(limits=Limits(max_sessions_per_address=1)) as server, client(server) as connection:
            await connection.send(START)
            await receive(connection)
            with pytest.raises(InvalidStatus) as caught:
                await client(server)
            assert caught.value.response.status_code == 429

    run(test)


@pytest.mark.parametrize("opening", ["[" * 100_000, '{"a":' * 100_000, json.dumps({"type": "start", "x": [[[[]]]]})])
def test_depth_is_no_way_in(opening: str) -> None:
    async def test() -> None:
        async with serving() as server, client(server) as connection:
            await connection.send(opening)
            received, code, _ = await receive_all(connection)
            assert (received[-1]["type"], code) == ("error", 1007)

    run(test)


class Turns:
    """In which run of the event loop a method was called, each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.of_calls: list[int] = []
        self._runs = 0
        method = getattr(owner, name)

        def noting(*arguments: Any) -> Any:
            self.of_calls.append(self._runs)
            return method(*arguments)

        monkeypatch.setattr(owner, name, noting)

    async def until(self, calls: int) -> None:
        while len(self.of_calls) < calls:
            self._runs += 1
            await asyncio.sleep(0)


def test_frames_of_a_byte_are_taken_in_turns_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [b"\x82\x81" + MASK + bytes([byte]) for byte in words(1)[:600]]
    received = Turns(monkeypatch, NativeAdapter, "read_bytes")

    async def test() -> None:
        async with serving() as server, raw(server) as (reader, writer):
            await opened(reader, writer)
            writer.write(b"\x81" + bytes([0x80 | len(START)]) + MASK + START.encode() + b"".join(frames))
            await received.until(len(frames))
        assert max(received.of_calls.count(turn) for turn in set(received.of_calls)) <= 2

    run(test)


def test_much_that_comes_at_once_is_looked_at_in_turns_with_others(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    options, tls = door
    turns: list[int] = []  # bytes of each
    texts = [START, STOP]
    start, stop = (b"\x81" + bytes([0x80 | len(text)]) + MASK + text.encode() for text in texts)
    frames = b"".join(b"\x82\x81" + MASK + bytes([byte]) for byte in words(1, 2))
    receive_data = ServerProtocol.receive_data

    def note_turn(self: ServerProtocol, data: bytes) -> None:
        turns.append(len(data))
        receive_data(self, data)

    async def test() -> None:
        limits = Limits(max_messages_per_second=1e6)
        async with serving(limits=limits, **options) as server, raw(server, tls) as (reader, writer):
            await opened(reader, writer)
            writer.write(start + frames + stop)
            answer = await reader.read()
            assert b'"text":"w1 w2"' in answer
            assert b'"audio_seconds":0.16' in answer

    monkeypatch.setattr(ServerProtocol, "receive_data", note_turn)
    run(test)
    assert sum(turns) >= len(frames)
    assert max(turns) <= 2048


def test_much_audio_in_one_frame_is_decoded_in_turns_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = Turns(monkeypatch, AudioDecoder, "accept")

    async def test() -> None:
        async with serving(max_backlog_seconds=20.0) as server, client(server) as connection:
            await connection.send('{"type": "start", "encoding": "mulaw", "sample_rate": 8000}')
            await connection.send(b"\xff" * 80_000)  # 10 s
            await decoded.until(10)
        assert len(set(decoded.of_calls)) == 10

    run(test)


def test_who_has_to_wait_is_not_woken_for_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = 0
    wait_closed = ServerConnection.wait_closed

    async def count(self: ServerConnection) -> None:
        nonlocal waits
        waits += 1
        await wait_closed(self)

    async def test() -> None:
        async with serving(limits=Limits(max_messages_per_second=500)) as server, client(server) as connection:
            await connection.send(START)
            for _ in range(700):
                await connection.send(KEEPALIVE)
            await connection.send(STOP)
            assert (await receive_all(connection))[1] == 1000

    monkeypatch.setattr(ServerConnection, "wait_closed", count)
    run(test)
    assert waits <= 30  # for 202 messages beyond the 500 that may come at once
