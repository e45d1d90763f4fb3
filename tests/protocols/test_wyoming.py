"""Wyoming: events out of bytes, the adapter by table, then the official client, used as Home Assistant does."""

import asyncio
import itertools
import json
import socket
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong

from streaming_asr.errors import ClientError
from streaming_asr.limits import Limits
from streaming_asr.protocols.adapter import Output, Write
from streaming_asr.protocols.wyoming import EventReader, WyomingAdapter, WyomingEvent
from streaming_asr.server import Server
from streaming_asr.session import Close, Flush, Push
from tests.fakes import FakeRecognizer, words
from tests.protocols.machine import close_code, final, new, opened, partial, settled
from tests.test_server import eventually, run, serving
from tests.test_server_limits import seconds_of

FORMAT: dict[str, Any] = {"rate": 16000, "width": 2, "channels": 1}


def event(kind: str, payload: bytes = b"", **data: Any) -> bytes:
    """As the official client writes it."""
    body = json.dumps(data).encode() if data else b""
    header = {"type": kind, "version": "1.10.2"}
    lengths = {"data_length": len(body), "payload_length": len(payload)}
    return json.dumps(header | lengths).encode() + b"\n" + body + payload


def told(outputs: list[Output]) -> list[tuple[str, dict[str, Any]]]:
    reader = EventReader(10_000, 10_000)
    written = b"".join(
        output.data for output in outputs if isinstance(output, Write) and isinstance(output.data, bytes)
    )
    return [(heard.type, heard.data) for heard in reader.accept(written)]


# --- events ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 60), min_size=1))
def test_events_are_the_same_however_they_are_cut(sizes: list[int]) -> None:
    events = [
        WyomingEvent("a"),
        WyomingEvent("b\n", {"c": "\n"}),
        WyomingEvent("", {}, b'{"'),
        WyomingEvent("d", {"e": 1}, b"f"),
    ]
    stream = b"".join(event(sent.type, sent.payload, **sent.data) for sent in events)
    reader, at = EventReader(1000, 1000), 0
    heard: list[WyomingEvent] = []
    for size in itertools.cycle(sizes):
        heard += reader.accept(stream[at : at + size])
        at += size
        if at >= len(stream):
            break
    assert heard == events


def test_data_may_be_in_the_line_itself() -> None:
    line = b'{"type":"transcribe","data":{"language":"en","name":"x"},"data_length":12,"payload_length":null}\n'
    [heard] = EventReader(1000, 1000).accept(line + b'{"name":"y"}')
    assert heard == WyomingEvent("transcribe", {"language": "en", "name": "y"})


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET / HTTP/1.1\r\n", "bad_json"),
        (b"\xff\n", "bad_json"),
        (b'{"data":{"a":' + b"[" * 150 + b"\n", "bad_json"),
        (b"[]\n", "bad_message"),
        (b'{"data":{}}\n', "bad_message"),
        (b'{"type":"ping","data_length":-1}\n', "bad_message"),
        (b'{"type":"ping","data_length":2}\n[]', "bad_message"),
        (b'{"type":"ping","data_length":60,"payload_length":41}\n', "too_big"),
        (b" " * 201, "too_big"),
    ],
)
def test_what_is_no_event(sent: bytes, code: str) -> None:
    reader = EventReader(200, 100)
    with pytest.raises(ClientError) as error:
        list(reader.accept(sent))
    assert error.value.code == code


# --- the adapter -------------------------------------------------------------------------------------------------


def test_chunks_are_committed_text_and_joined_they_are_the_transcript() -> None:
    adapter = new(WyomingAdapter)
    adapter.open()
    assert told(adapter.receive(event("transcribe", language="en"))) == []
    outputs = adapter.receive(event("audio-start", **FORMAT))
    assert not opened(outputs).options.words
    assert told(outputs) == [("transcript-start", {"language": "en"})]
    assert isinstance(adapter.receive(event("audio-chunk", bytes(4), **FORMAT))[0], Push)
    heard = told(
        adapter.receive_events(
            [
                partial("", "turn"),
                partial("turn", "of"),
                partial("turn off", ""),
                final("turn off the"),
                final("", utterance=1),
                partial("light", "", 2),
                final("light now", utterance=2),
            ]
        )
    )
    assert [kind for kind, _ in heard] == ["transcript-chunk"] * 5
    assert [data["text"] for _, data in heard] == ["turn", " off", " the", " light", " now"]
    assert adapter.receive(event("audio-stop")) == [Flush("stop")]
    *last, close = adapter.receive_events([final("please", "stop", 3)])
    assert told(last) == [
        ("transcript-chunk", {"text": " please"}),
        ("transcript", {"text": "turn off the light now please", "language": "en"}),
        ("transcript-stop", {}),
    ]
    assert close == Close(1000)


def test_a_transcript_comes_also_if_there_was_nothing() -> None:
    adapter = new(WyomingAdapter)
    assert adapter.receive(event("audio-stop"))[-1] == Flush("stop")
    assert ("transcript", {"text": "", "language": "en"}) in told(adapter.receive_events([final("", "stop")]))


def test_audio_after_its_end_is_ignored_and_questions_are_answered() -> None:
    adapter = new(WyomingAdapter)
    late = [event("audio-chunk", bytes(2), **FORMAT), event("audio-stop"), event("transcribe"), event("ping", text="a")]
    assert told(adapter.receive(b"".join([event("audio-stop"), *late])))[1:] == [("pong", {"text": "a"})]
    assert ("transcript", {"text": "yes", "language": "en"}) in told(adapter.receive_events([final("yes", "stop")]))


def test_of_a_clients_own_text_at_most_200_characters_are_repeated() -> None:
    adapter = new(WyomingAdapter)
    assert told(adapter.receive(event("ping", text="a" * 10_000))) == [("pong", {"text": "a" * 200})]
    adapter.receive(event("transcribe", language="en-" + "x" * 9_000))
    language = "en-" + "x" * 197
    assert told(adapter.receive(event("audio-stop"))) == [("transcript-start", {"language": language})]
    outputs = adapter.receive_events([final("", "stop")])
    assert ("transcript", {"text": "", "language": language}) in told(outputs)


def test_half_a_sample_at_the_end_is_no_error() -> None:
    adapter = new(WyomingAdapter)
    adapter.receive(event("audio-chunk", bytes(5), **FORMAT))
    adapter.receive(event("audio-stop"))
    assert told(adapter.receive_events([final("yes", "stop")]))[-2][0] == "transcript"


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([event("audio-start", rate=16000, width=4, channels=1)], "bad_encoding"),
        ([event("audio-start", rate=4000, width=2, channels=1)], "bad_sample_rate"),
        ([event("audio-start", rate=16000, width=2, channels=6)], "bad_channels"),
        ([event("audio-start", rate=True, width=2, channels=1)], "bad_message"),
        ([event("audio-start", rate=10**400, width=2, channels=1)], "bad_message"),
        ([event("audio-start", channels="1")], "bad_message"),
        ([event("transcribe", language=7)], "bad_message"),
        ([event("transcribe", language="de"), event("audio-start", **FORMAT)], "bad_language"),
        ([event("audio-start", **FORMAT), event("audio-chunk", bytes(2), **FORMAT | {"rate": 8000})], "bad_audio"),
    ],
)
def test_what_is_refused(events: list[bytes], code: str) -> None:
    adapter = new(WyomingAdapter)
    outputs = adapter.receive(b"".join(events))
    if outputs[-1] == Flush("stop"):
        outputs = settled(adapter, outputs)
    [heard] = [data for kind, data in told(outputs) if kind == "error"]
    assert heard["code"] == code
    assert heard["text"]
    assert close_code(outputs) in (1003, 1007, 1008)


def test_what_came_before_a_mistake_holds() -> None:
    adapter = new(WyomingAdapter)
    outputs = adapter.receive(event("ping", text="a") + event("audio-start", **FORMAT) + b"no\n")
    assert [kind for kind, _ in told(outputs)] == ["pong", "transcript-start"]
    assert opened(outputs)
    assert [kind for kind, _ in told(settled(adapter, outputs))][-1] == "error"


def test_names_and_terms_are_hotwords() -> None:
    adapter = new(WyomingAdapter)
    adapter.receive(event("transcribe", transcript_names=["Magna Carta"], transcript_terms=["barons", 7]))
    outputs = adapter.receive(event("audio-start", **FORMAT))
    assert opened(outputs).options.hotwords == ("Magna Carta", "barons")


def test_what_is_not_served_is_noted() -> None:
    adapter = new(WyomingAdapter)
    outputs = adapter.receive(event("transcribe", name="base", context={"a": 1}) + event("select-program", name="x"))
    assert len(outputs) == 3
    assert not told(outputs)


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=40) | st.builds(event, st.sampled_from(["transcribe", "audio-start", "x"])), max_size=5)
)
def test_no_bytes_make_the_adapter_raise(chunks: list[bytes]) -> None:
    adapter = new(WyomingAdapter)
    adapter.open()
    for chunk in chunks:
        adapter.receive(chunk)


# --- the official client -----------------------------------------------------------------------------------------


def official(server: Server) -> AsyncTcpClient:
    client = AsyncTcpClient.from_uri(server.ports.url_of("wyoming"))
    assert isinstance(client, AsyncTcpClient)
    return client


async def next_event(client: AsyncTcpClient) -> Event:
    heard = await client.read_event()
    assert heard is not None
    return heard


async def transcribe(server: Server, audio: bytes, packet: int = 1000) -> tuple[list[str], str]:
    """Chunks and transcript, as Home Assistant asks for them, and nothing after `transcript-stop`."""
    async with official(server) as client:
        await client.write_event(Transcribe(language="en").event())
        await client.write_event(AudioStart(16000, 2, 1).event())
        for at in range(0, len(audio), packet):
            await client.write_event(AudioChunk(16000, 2, 1, audio[at : at + packet]).event())
        await client.write_event(AudioStop().event())
        assert TranscriptStart.is_type((await next_event(client)).type)
        chunks = []
        while TranscriptChunk.is_type((heard := await next_event(client)).type):
            chunks.append(TranscriptChunk.from_event(heard).text)
        transcript = Transcript.from_event(heard)
        assert TranscriptStop.is_type((await next_event(client)).type)
        assert await client.read_event() is None
        return chunks, transcript.text


def test_home_assistants_sequence() -> None:
    async def test() -> None:
        async with serving(wyoming_port=0) as server:
            async with official(server) as client:
                await client.write_event(Describe().event())
                [program] = Info.from_event(await next_event(client)).asr
                await client.write_event(Ping("hello").event())
                assert Pong.from_event(await next_event(client)).text == "hello"
            [model] = program.models
            assert (model.name, model.languages, program.supports_transcript_streaming) == ("en-fake", ["en"], True)
            chunks, transcript = await transcribe(server, words(1, 2, 0, 3))
            assert transcript == "".join(chunks) == "w1 w2 w3"
            assert len(chunks) > 1
            assert await transcribe(server, b"") == ([], "")
            await eventually(lambda: server.num_sessions == 0)

    run(test)


def test_limits_hold_and_say_so() -> None:
    async def test() -> None:
        limits = Limits(max_frame_bytes=2000, handshake_timeout_seconds=0.05)
        async with serving(wyoming_port=0, max_sessions=1, limits=limits) as server:
            async with official(server) as silent:
                assert await silent.read_event() is None  # and is no session
            async with official(server) as first:
                await first.write_event(AudioStart(16000, 2, 1).event())
                await next_event(first)
                async with official(server) as second:
                    await second.write_event(Describe().event())
                    assert Error.from_event(await next_event(second)).code == "server_full"
                    assert await second.read_event() is None
                await first.write_event(AudioChunk(16000, 2, 1, bytes(3000)).event())
                assert Error.from_event(await next_event(first)).code == "too_big"
            await eventually(lambda: server.num_sessions == 0)

    run(test)


def test_a_flood_of_events_is_slowed_down_and_taken_in_turns_with_others(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []  # bytes of each
    read_bytes = WyomingAdapter.read_bytes

    def note_turn(self: WyomingAdapter, data: bytes) -> Any:
        turns.append(len(data))
        return read_bytes(self, data)

    async def test() -> None:
        limits = Limits(max_messages_per_second=500)
        async with serving(wyoming_port=0, limits=limits) as server:
            reader, writer = await asyncio.open_connection(
                *server.ports.url_of("wyoming").removeprefix("tcp://").split(":")
            )
            writer.write(800 * b'{"type":"ping"}\n')
            answers, num_pongs = EventReader(1000, 1000), 0
            while num_pongs < 800:
                num_pongs += len(list(answers.accept(await reader.read(1000))))
            writer.close()
            await writer.wait_closed()

    monkeypatch.setattr(WyomingAdapter, "read_bytes", note_turn)
    assert seconds_of(test) >= 0.5  # 500 at once, most of the others at 500 a second
    assert max(turns) <= 2048


def test_who_has_said_all_may_end_that_direction_and_is_told_the_transcript() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with serving(recognizer, wyoming_port=0) as server:
            reader, writer = await asyncio.open_connection(
                *server.ports.url_of("wyoming").removeprefix("tcp://").split(":")
            )
            recognizer.gate.clear()
            writer.write(event("audio-chunk", words(1, 2), **FORMAT) + event("audio-stop"))
            writer.write_eof()
            await reader.readline()  # of transcript-start
            [conversation] = server._conversations
            await eventually(lambda: conversation._connection.close_code == 1000)
            recognizer.gate.set()
            assert b'"text":"w1 w2"' in await reader.read()
            writer.close()
            await writer.wait_closed()

    run(test)


def test_an_error_arrives_although_the_client_goes_on_sending() -> None:
    async def test() -> None:
        async with serving(wyoming_port=0) as server, official(server) as client:
            await client.write_event(Transcribe(language="de").event())
            await client.write_event(AudioStart(16000, 2, 1).event())
            for _ in range(100):
                await client.write_event(AudioChunk(16000, 2, 1, bytes(4000)).event())
            assert Error.from_event(await next_event(client)).code == "bad_language"
            assert await client.read_event() is None

    run(test)


def test_a_client_that_vanishes_leaves_nothing() -> None:
    async def test() -> None:
        recognizer = FakeRecognizer()
        async with serving(recognizer, wyoming_port=0) as server:
            host, port = server.ports.url_of("wyoming").removeprefix("tcp://").split(":")
            with socket.create_connection((host, int(port))) as broken:
                broken.sendall(event("audio-start", **FORMAT))
                await eventually(lambda: recognizer.open_streams == 1)
                broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset
            await eventually(lambda: recognizer.open_streams == 0)

    run(test)


def test_a_shutdown_settles_what_was_said() -> None:
    async def test() -> None:
        async with serving(wyoming_port=0) as server, official(server) as client, official(server):
            await client.write_event(AudioStart(16000, 2, 1).event())
            await client.write_event(AudioChunk(16000, 2, 1, words(1, 2)).event())
            while not TranscriptChunk.is_type((await next_event(client)).type):
                pass
            draining = asyncio.create_task(server.drain())
            while not Transcript.is_type((heard := await next_event(client)).type):
                pass
            assert Transcript.from_event(heard).text == "w1 w2"
            await client.disconnect()
            await draining

    run(test)
