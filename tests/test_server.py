"""The server on real sockets, with a fake recognizer: what a client gets, and what its neighbours do not notice."""

import asyncio
import contextlib
import io
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streaming_asr import server as server_module
from streaming_asr.limits import Limits
from streaming_asr.server import Server
from streaming_asr.server_options import ServerOptions
from streaming_asr.websocket import WebSocketConnection
from tests.fakes import POISON, SECRET, FakeRecognizer, word, words

START = '{"type": "start"}'
STOP = '{"type": "stop"}'
FINALIZE = '{"type": "finalize"}'
Message = dict[str, Any]


@asynccontextmanager
async def serving(recognizer: FakeRecognizer | None = None, **options: Any) -> AsyncIterator[Server]:
    """A server that must have given back everything by the end."""
    recognizer = recognizer or FakeRecognizer()
    server = Server(recognizer, ServerOptions(**({"port": 0, "drain_seconds": 0.0, "stall_seconds": 60.0} | options)))
    await server.start()
    try:
        yield server
    finally:
        recognizer.gate.set()
        await server.drain()
        assert (server.num_sessions, server.num_streams, recognizer.open_streams) == (0, 0, 0)


def client(server: Server, **options: Any) -> connect:
    return connect(server.url + "/v1/stream", proxy=None, compression=None, **options)


async def receive(connection: ClientConnection) -> Message:
    message = json.loads(await connection.recv())
    assert isinstance(message, dict)
    return message


async def receive_until(connection: ClientConnection, kind: str) -> list[Message]:
    received = [await receive(connection)]
    while received[-1]["type"] != kind:
        received.append(await receive(connection))
    return received


async def receive_all(connection: ClientConnection) -> tuple[list[Message], int | None, str | None]:
    """Everything until the close, and how it closed."""
    received = []
    try:
        while True:
            received.append(await receive(connection))
    except ConnectionClosed:
        return received, connection.close_code, connection.close_reason


async def transcribe(server: Server, audio: bytes, packet: int = 1000) -> list[str]:
    async with client(server) as connection:
        await connection.send(START)
        for at in range(0, len(audio), packet):
            await connection.send(audio[at : at + packet])
        await connection.send(STOP)
        received, code, _ = await receive_all(connection)
        assert (received[-1]["type"], code) == ("done", 1000)
        return [message["text"] for message in received if message["type"] == "final"]


async def eventually(condition: Callable[[], bool]) -> None:
    """For what a server does when a client is gone, of which nobody is told."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(100):  # only what hangs takes that long, however busy the machine
            await test()

    asyncio.run(bounded())


# --- one client ----------------------------------------------------------------------------------------------------


def test_a_session_from_start_to_done() -> None:
    async def test() -> None:
        async with serving() as server, client(server) as connection:
            await connection.send(START)
            ready = await receive(connection)
            assert ready.pop("session_id")
            assert ready == {"type": "ready", "protocol": 1, "model": "en-fake", "chunk_ms": 80, "first_chunk_ms": 80}
            await connection.send(words(1, 2, 0))
            received = await receive_until(connection, "final")
            assert received[0] == {"type": "speech_started", "time": 0.0}
            assert received[-1] | {"text": "w1 w2", "reason": "endpoint", "utterance": 0} == received[-1]
            partials = [message for message in received if message["type"] == "partial"]
            assert all("w1 w2".startswith(message["committed"]) for message in partials)
            await connection.send(word(3)[:1001])  # and half a sample
            await connection.send(FINALIZE)
            final = (await receive_until(connection, "final"))[-1]
            assert (final["text"], final["reason"], final["utterance"]) == ("w3", "finalize", 1)
            await connection.send(word(3)[1001:])  # and its other half
            await connection.send('{"type": "keepalive"}')
            await connection.send(STOP)
            received, code, reason = await receive_all(connection)
            assert [message["type"] for message in received[-2:]] == ["final", "done"]
            assert (received[-2]["text"], received[-2]["reason"]) == ("w3", "stop")
            assert received[-1] == {"type": "done", "audio_seconds": 0.32, "utterances": 3}
            assert (code, reason) == (1000, "")

    run(test)


def test_options_reach_the_recognizer() -> None:
    async def test() -> None:
        async with serving() as server, client(server) as connection:
            await connection.send('{"type": "start", "partials": false, "sample_rate": 48000, "channels": 2}')
            await connection.send(word(5) * 6)
            await connection.send(STOP)
            received, _, _ = await receive_all(connection)
            assert [message["type"] for message in received] == ["ready", "speech_started", "final", "done"]

    run(test)


@pytest.mark.parametrize("wanted", [True, False])
def test_messages_say_what_they_waited_for_if_asked(wanted: bool) -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        recognizer.search_seconds = 1e-6
        async with serving(recognizer) as server, client(server) as connection:
            await connection.send(json.dumps({"type": "start", "timings": wanted}))
            await connection.send(words(1, 2))
            received = await receive_until(connection, "partial")
            await connection.send(STOP)
            received += (await receive_all(connection))[0]
        results = [message for message in received if message["type"] in ("partial", "final")]
        assert {message["type"] for message in results} == {"partial", "final"}
        for message in results:
            timings: dict[str, float] | None = message.get("timings")
            assert (timings is not None) == wanted
            if timings is not None:
                assert set(timings) == {"queue", "compute", "decode", "emission"}
                assert all(0 <= milliseconds < 20_000 for milliseconds in timings.values())

    run(test)


def test_many_clients_at_once_get_what_each_gets_alone() -> None:
    async def test() -> None:
        async with serving() as server:
            audio = [words(*range(1, n + 2), 0, n) for n in range(10)]
            alone = [await transcribe(server, one) for one in audio]
            assert alone[3] == ["w1 w2 w3 w4", "w3"]
            together = await asyncio.gather(*(transcribe(server, one, 100 + 7 * i) for i, one in enumerate(audio)))
            assert together == alone

    run(test)


def test_pings_are_answered_while_the_model_computes() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with serving(recognizer) as server, client(server) as connection:
            recognizer.gate.clear()
            await connection.send(START)
            await connection.send(word(1))
            await (await connection.ping())
            recognizer.gate.set()

    run(test)


def test_a_container_is_decoded_as_it_comes() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(words(1, 2, 0, 3), "<i2"), 16000, format="FLAC")

    async def test() -> None:
        async with serving() as server, client(server) as connection:
            await connection.send('{"type": "start", "encoding": "container"}')
            await connection.send(file.getvalue())  # in one frame, which is handled in pieces
            await connection.send(STOP)
            received, code, _ = await receive_all(connection)
            assert [message["text"] for message in received if message["type"] == "final"] == ["w1 w2", "w3"]
            assert (received[-1]["audio_seconds"], code) == (0.32, 1000)

    run(test)


def test_bytes_that_were_looked_at_are_not_kept() -> None:
    async def test() -> None:
        async with serving() as server, client(server) as connection:
            await connection.send(START)
            await receive(connection)
            await connection.send(words(*range(1, 20)))  # more than is looked at in one turn
            await receive_until(connection, "partial")
            [conversation] = server._conversations
            held = conversation.connection
            assert isinstance(held, WebSocketConnection)
            await eventually(lambda: not held._unread.obj)

    run(test)


def test_a_recording_that_is_cut_off_is_recognized_as_far_as_it_goes() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(words(1, 2), "<i2"), 16000, format="WAV")

    async def test() -> None:
        async with serving() as server, client(server) as connection:
            await connection.send('{"type": "start", "encoding": "container"}')
            await connection.send(file.getvalue()[:-1])
            await connection.send(STOP)
            received, code, reason = await receive_all(connection)
            assert received[-2]["text"] == "w1 w2"
            assert (received[-1]["code"], code, reason) == ("odd_audio", 1007, "odd_audio")

    run(test)


# --- what is refused -----------------------------------------------------------------------------------------------

Frame = str | bytes
MISTAKES: list[tuple[list[Frame], str, int]] = [
    (["{"], "bad_json", 1007),
    (["\u0000"], "bad_json", 1007),
    (['{"type": "hello"}'], "unknown_type", 1003),
    ([b"\0\0"], "wrong_order", 1008),
    ([STOP], "wrong_order", 1008),
    ([START, START], "wrong_order", 1008),
    ([START, STOP, b"\0\0"], "wrong_order", 1008),
    (['{"type": "start", "sample_rate": 4000}'], "bad_sample_rate", 1003),
    (['{"type": "start", "encoding": "mp3"}'], "bad_message", 1007),
    (['{"type": "start", "encoding": "pcm_f32le"}', b"\x00\x00\xc0\x7f"], "bad_audio", 1007),
    ([START, b"\0\0\0", STOP], "odd_audio", 1007),
    ([START, bytes((1 << 20) + 1)], "too_big", 1009),
    (["x" * (3 << 20)], "too_big", 1009),
]


@pytest.mark.parametrize(("frames", "code", "close_code"), MISTAKES)
def test_mistakes_get_a_reason_and_neighbours_notice_nothing(frames: list[Frame], code: str, close_code: int) -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with serving(recognizer) as server, client(server) as neighbour:
            await neighbour.send(START)
            await neighbour.send(words(1, 2))
            if frames[1:2] == [STOP]:
                recognizer.gate.clear()  # so that the mistake comes before the end
            async with client(server) as connection:
                for frame in frames:
                    await connection.send(frame)
                if not recognizer.gate.is_set():
                    await eventually(lambda: any(each._session.error for each in server._conversations))
                    recognizer.gate.set()
                received, got_code, _ = await receive_all(connection)
            assert received[-1]["type"] == "error"
            assert (received[-1]["code"], got_code) == (code, close_code)
            assert received[-1]["message"]
            await neighbour.send(STOP)
            finals = [m["text"] for m in (await receive_all(neighbour))[0] if m["type"] == "final"]
            assert finals == ["w1 w2"]

    run(test)


def test_a_text_frame_that_is_not_utf8_is_named() -> None:
    async def test() -> None:
        async with serving() as server, client(server) as connection:
            await connection.send(b"\xff\xfe", text=True)
            received, code, _ = await receive_all(connection)
            assert ([message["code"] for message in received], code) == (["bad_utf8"], 1007)

    run(test)


QUIET = bytes(byte & 0x3F for byte in range(256))  # at most half as loud as POISON
FRAMES = st.one_of(
    st.sampled_from([START, STOP, FINALIZE, '{"type": "keepalive"}']),
    st.text(max_size=30),
    st.binary(max_size=3000).map(lambda audio: audio.translate(QUIET)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.lists(FRAMES, max_size=6), min_size=1, max_size=4))
def test_any_frames_in_any_order_end_in_an_error_or_in_done(sessions: list[list[Frame]]) -> None:
    async def one(server: Server, frames: list[Frame]) -> None:
        async with client(server) as connection:
            try:
                for frame in [*frames, STOP]:
                    await connection.send(frame)
            except ConnectionClosed:
                pass
            received, code, _ = await receive_all(connection)
            assert (received[-1]["type"], code) in [
                ("done", 1000),
                *[("error", c) for c in (1003, 1007, 1008)],
            ]

    async def test() -> None:
        async with serving() as server:
            await asyncio.gather(*(one(server, frames) for frames in sessions))

    run(test)


def test_plain_http() -> None:
    async def get(server: Server, path: str, extra: str = "", method: str = "GET") -> bytes:
        host, port = server.url.removeprefix("ws://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{extra}\r\n".encode())
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def test() -> None:
        async with serving() as server:
            health = await get(server, "/healthz?deep=1")
            assert health.startswith(b"HTTP/1.1 200 OK")
            assert health.endswith(b"ok\n")
            assert (await get(server, "/nowhere")).startswith(b"HTTP/1.1 404")
            page = await get(server, "/?from=elsewhere")
            assert page.startswith(b"HTTP/1.1 200 OK")
            assert page.endswith(b"</html>\n")
            for path in ("/", "/healthz", "/nowhere"):
                head = await get(server, path, method="HEAD")
                assert head.startswith((await get(server, path)).partition(b"\r\n")[0])
                assert head.endswith(b"\r\n\r\n")
                assert (await get(server, path, method="OPTIONS")).startswith(b"HTTP/1.1 405")
                with_body = await get(server, path, "Content-Length: 1\r\n", method="POST")
                assert with_body.startswith(b"HTTP/1.1 400")
            for path in ("/web/../page.py", "//[", "/web/%2e%2e/page.py"):
                assert (await get(server, path)).startswith(b"HTTP/1.1 404")
            assert (await get(server, "/", "Origin: https://evil.example\r\n")).startswith(b"HTTP/1.1 403")
            assert (await get(server, "/v1/stream")).startswith(b"HTTP/1.1 426")
            head = await get(server, "/v1/stream", method="HEAD")
            assert head.startswith(b"HTTP/1.1 426")
            assert head.endswith(b"\r\n\r\n")
            assert (await get(server, "/v1/stream", "Origin: https://evil.example\r\n")).startswith(b"HTTP/1.1 403")

    run(test)


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        (None, (), None),
        ("same", (), None),
        ("https://evil.example", (), 403),
        ("null", (), 403),
        ("https://app.example", ("https://app.example",), None),
        ("https://other.example", ("https://app.example",), 403),
        ("https://other.example", ("*",), None),
        ("http://[", (), 403),
    ],
)
def test_web_pages_from_elsewhere_are_kept_out(
    origin: str | None, allowed: tuple[str, ...], status: int | None
) -> None:
    async def test() -> None:
        async with serving(allow_origin=allowed) as server:
            sent = server.url.replace("ws:", "http:") if origin == "same" else origin
            if status is not None:
                with pytest.raises(InvalidStatus) as caught:
                    await client(server, origin=sent)
                assert caught.value.response.status_code == status
                return
            async with client(server, origin=sent) as connection:
                await connection.send(START)
                assert (await receive(connection))["type"] == "ready"

    run(test)


def test_a_page_whose_name_was_made_to_resolve_to_this_machine_is_kept_out() -> None:
    async def test() -> None:
        async with serving() as server:
            port = server.url.rpartition(":")[2]
            with pytest.raises(InvalidStatus) as caught:
                await client(server, origin=f"http://evil.example:{port}", additional_headers={"Host": "evil.example"})
            assert caught.value.response.status_code == 403
            assert b"--allow-origin" in (caught.value.response.body or b"")

    run(test)


def test_a_full_server_refuses_and_has_room_again_later() -> None:
    async def test() -> None:
        async with serving(max_sessions=1) as server:
            async with client(server) as first:
                await first.send(START)
                await receive(first)
                with pytest.raises(InvalidStatus) as caught:
                    await client(server)
                assert caught.value.response.status_code == 503
                assert b"1 sessions" in (caught.value.response.body or b"")
                await first.send(STOP)
                assert (await receive_all(first))[1] == 1000
            await eventually(lambda: server.num_sessions == 0)
            assert await transcribe(server, word(1)) == ["w1"]

    run(test)


def test_handshakes_under_way_at_once_cannot_overfill_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(Server, "_answer_request", lambda *_: None)  # each is asked before any is in
        async with serving(max_sessions=2) as server:

            async def one() -> int | None:
                try:
                    async with client(server) as connection:
                        await connection.send(START)
                        first = await receive(connection)
                        if first["type"] == "error":
                            assert first["code"] == "server_full"
                            return (await receive_all(connection))[1]
                        most.append(server.num_sessions)
                        await everyone.wait()
                        return 1000
                except ConnectionClosed as closed:
                    return closed.rcvd.code if closed.rcvd else None

            most: list[int] = []
            everyone = asyncio.Event()
            tasks = [asyncio.create_task(one()) for _ in range(8)]
            await eventually(lambda: sum(task.done() for task in tasks) == 6)
            everyone.set()
            outcomes = await asyncio.gather(*tasks)
            assert outcomes.count(1000) == 2
            assert outcomes.count(1013) == 6
            assert max(most) == 2

    run(test)


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_a_client_that_vanishes_in_a_word_leaves_nothing_behind() -> None:
    async def test() -> None:
        async with serving() as server:
            connection = await client(server)
            await connection.send(START)
            await connection.send(words(1, 2)[:-7])
            await receive_until(connection, "partial")
            assert server.num_streams == 1
            connection.transport.abort()
            await eventually(lambda: server.num_sessions == server.num_streams == 0)
            assert await transcribe(server, words(1, 2)) == ["w1 w2"]

    run(test)


def test_a_failing_recognizer_ends_its_session_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving() as server, client(server) as neighbour, client(server) as connection:
            await neighbour.send(START)
            await neighbour.send(word(1))
            await connection.send(START)
            await connection.send(word(POISON))
            received, code, _ = await receive_all(connection)
            assert (received[-1]["code"], code) == ("internal", 1011)
            await neighbour.send(STOP)
            assert (await receive_all(neighbour))[1] == 1000

    with caplog.at_level(logging.DEBUG):
        run(test)
    assert SECRET not in caplog.text


def test_idle_clients_are_let_go() -> None:
    async def test() -> None:
        async with serving(limits=Limits(idle_timeout_seconds=0.05)) as server:
            async with client(server) as silent:
                assert [m["code"] for m in (await receive_all(silent))[0]] == ["idle"]
            async with client(server) as connection:
                await connection.send(START)
                await connection.send(word(1))
                received, code, _ = await receive_all(connection)
                assert [message["type"] for message in received[-2:]] == ["final", "error"]
                assert (received[-2]["text"], code) == ("w1", 1008)

    run(test)


def test_a_sender_faster_than_the_model_is_held_back_and_loses_nothing() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        packets = 3000  # 240 s of audio: 7.7 MB, more than sockets hold
        async with serving(recognizer, max_backlog_seconds=1.0) as server, client(server) as connection:
            recognizer.gate.clear()
            await connection.send('{"type": "start", "partials": false}')
            await receive(connection)
            sent = 0

            async def send() -> None:
                nonlocal sent
                for _ in range(packets):
                    await connection.send(word(1))
                    sent += 1
                await connection.send(STOP)

            sender = asyncio.create_task(send())
            [conversation] = server._conversations
            handle = conversation._handle
            assert handle is not None
            await eventually(lambda: sender.done() or handle.backlog_seconds >= 1.0)
            await asyncio.sleep(0.2)  # in which a server that does not push back would take much more
            assert handle.backlog_seconds < 1.0 + 0.08 + 1e-6
            assert sent < packets
            recognizer.gate.set()
            received, _, _ = await receive_all(connection)
            await sender
            assert received[-1] == {"type": "done", "audio_seconds": packets * 0.08, "utterances": 1}
            assert received[-2]["text"].count("w1") == packets

    run(test)


def test_a_client_that_never_reads_is_held_back_then_cut() -> None:
    async def test() -> None:
        async with serving(limits=Limits(idle_timeout_seconds=0.3)) as server:
            connection = await client(server, max_queue=1)
            await connection.send(START)
            connection.transport.pause_reading()

            async def flood() -> None:
                with contextlib.suppress(ConnectionClosed):
                    while True:  # one growing utterance: every partial is longer
                        await connection.send(words(*[1] * 50))

            flooding = asyncio.create_task(flood())
            await eventually(lambda: server.num_sessions == 0)
            connection.transport.abort()
            await flooding

    run(test)


def test_logs_hold_no_words_and_no_audio(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with serving() as server:
            assert await transcribe(server, words(71, 72, 73)) == ["w71 w72 w73"]
            async with client(server) as connection:
                await connection.send('{"type": "my secret"}')
                await receive_all(connection)

    with caplog.at_level(logging.WARNING, "websockets.client"), caplog.at_level(logging.DEBUG):
        run(test)
    assert "closed with 1000 after 0.2 s of audio, 1 utterances" in caplog.text
    assert "w71" not in caplog.text
    assert "w72" not in caplog.text
    assert "secret" not in caplog.text


def accepts(url: str) -> bool:
    host, port = url.removeprefix("ws://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


# --- shutting down -------------------------------------------------------------------------------------------------


def test_shutdown_settles_what_is_open_and_waits_for_who_is_finishing() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        server = Server(recognizer, ServerOptions(port=0, drain_seconds=30))
        await server.start()
        hurry = asyncio.Event()
        async with client(server) as opening, client(server) as streaming, client(server) as finishing:
            for connection in (streaming, finishing):
                await connection.send(START)
                await connection.send(words(1, 2))
                await receive_until(connection, "partial")
            await eventually(lambda: server.num_sessions == 3)
            url = server.url
            draining = asyncio.create_task(server.drain(hurry))
            assert (await receive_all(opening))[1] == 1001
            await eventually(lambda: not accepts(url))
            await finishing.send(word(3))
            await finishing.send(STOP)
            received, code, _ = await receive_all(finishing)
            assert ([m["text"] for m in received if m["type"] == "final"], code) == (["w1 w2 w3"], 1000)
            assert not draining.done()
            hurry.set()
            received, code, _ = await receive_all(streaming)
            assert [message["type"] for message in received[-2:]] == ["final", "done"]
            assert (received[-2]["text"], received[-2]["reason"], code) == ("w1 w2", "stop", 1001)
            await draining
        assert (server.num_sessions, server.num_streams, recognizer.open_streams) == (0, 0, 0)

    run(test)


def test_a_stuck_session_cannot_hold_up_the_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(server_module, "FLUSH_SECONDS", 0.05)
        monkeypatch.setattr(server_module, "CLOSE_SECONDS", 0.05)
        recognizer = FakeRecognizer()
        async with serving(recognizer) as server, client(server) as connection:
            recognizer.gate.clear()
            await connection.send(START)
            await connection.send(word(1))
            await receive(connection)
            draining = asyncio.create_task(server.drain())
            received, code, _ = await receive_all(connection)
            assert (received, code) == ([], 1006)
            recognizer.gate.set()
            await draining

    run(test)


SERVE = """
import sys
from tests.fakes import FakeRecognizer
from streaming_asr.server import run_server
from streaming_asr.server_options import ServerOptions
sys.exit(run_server(FakeRecognizer, ServerOptions(port=0, drain_seconds=60)))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_in_order(number: signal.Signals) -> None:
    async def test(process: subprocess.Popen[str], url: str) -> None:
        async with connect(url + "/v1/stream", proxy=None) as connection:
            await connection.send(START)
            await connection.send(words(1, 2))
            await receive_until(connection, "partial")
            process.send_signal(number)
            await eventually(lambda: not accepts(url))
            process.send_signal(number)  # do not wait for the client
            received, code, _ = await receive_all(connection)
            assert (received[-2]["text"], received[-1]["type"], code) == ("w1 w2", "done", 1001)

    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", SERVE],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on ws://127.0.0.1:")
            run(lambda: test(process, line.split()[-1]))
            assert process.wait(20) == 0
            assert process.stdout.read() == ""
            assert process.stderr.read() == ""
        finally:
            process.kill()
