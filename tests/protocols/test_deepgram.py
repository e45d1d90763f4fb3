"""Deepgram's protocol: the adapter by table, then the official SDK on real sockets."""

import asyncio
import hashlib
import io
import json
import wave
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from streaming_asr.errors import ClientError
from streaming_asr.messages import Endpointing, SpeechStarted
from streaming_asr.protocols.adapter import Adapter, Handshake, Note
from streaming_asr.protocols.deepgram import DeepgramAdapter
from streaming_asr.session import Close, Flush, ModelInfo
from tests.fakes import words
from tests.protocols.machine import JSON, close_code, final, new, opened, partial, sent, settled
from tests.test_server import run, serving

PCM = "encoding=linear16&sample_rate=16000"
MODEL = ModelInfo("en-test", 80, 95, "en")


def streaming(query: str = PCM, **limits: Any) -> Adapter:
    adapter = new(DeepgramAdapter, query, **limits)
    opened(adapter.open())
    return adapter


@pytest.mark.parametrize(
    ("query", "endpointing"),
    [
        (PCM, Endpointing()),
        (PCM + "&endpointing=true", Endpointing()),
        (PCM + "&endpointing=500", Endpointing(trailing_silence_ms=500)),
        (PCM + "&endpointing=10", Endpointing(trailing_silence_ms=100)),
        (PCM + "&endpointing=99999", Endpointing(trailing_silence_ms=10_000)),
        (PCM + "&endpointing=false", Endpointing(enabled=False)),
        (PCM + "&endpointing=false&utterance_end_ms=1200", Endpointing(trailing_silence_ms=1200)),
        ("encoding=mulaw&sample_rate=8000&channels=2&language=en-US&interim_results=true", Endpointing()),
        ("", Endpointing()),  # a container
        ("encoding=ogg-opus&endpointing=500", Endpointing(trailing_silence_ms=500)),
    ],
)
def test_the_query_opens_the_session(query: str, endpointing: Endpointing) -> None:
    options = opened(new(DeepgramAdapter, query).open()).options
    assert options.endpointing == endpointing
    assert options.partials == ("interim_results" in query)
    DeepgramAdapter.check(Handshake(query), MODEL)


@pytest.mark.parametrize(
    "query",
    [
        "encoding=linear16",
        "encoding=speex&sample_rate=16000",
        "encoding=linear16&sample_rate=fast",
        "encoding=linear16&sample_rate=96000",
        PCM + "&channels=9",
        PCM + "&language=de",
        PCM + "&endpointing=soon",
        PCM + "&interim_results=maybe",
        PCM + "&tag=%ff",
    ],
)
def test_what_is_not_served_is_refused_before_the_connection_opens(query: str) -> None:
    with pytest.raises(ClientError) as caught:
        DeepgramAdapter.check(Handshake(query), MODEL)
    assert json.loads(DeepgramAdapter.refusal(caught.value))["err_msg"]


def test_keyterms_and_keywords_are_hotwords() -> None:
    query = PCM + "&keyterm=Magna%20Carta&keyterm=Runnymede&keywords=barons:2.5"
    assert opened(new(DeepgramAdapter, query).open()).options.hotwords == ("Magna Carta", "Runnymede", "barons")
    with pytest.raises(ClientError, match="hotwords"):
        DeepgramAdapter.check(Handshake(PCM + "&keyterm=a" * 101), MODEL)
    with pytest.raises(ClientError, match="hotwords"):
        DeepgramAdapter.check(Handshake(PCM + "&keywords=" + "a" * 101), MODEL)


def test_options_that_are_not_served_are_named_but_never_quoted() -> None:
    outputs = new(DeepgramAdapter, PCM + "&diarize=true&redact=secret&my_secret=1").open()
    notes = [output.words for output in outputs if isinstance(output, Note)]
    assert notes[:2] == ["option diarize is not served", "option redact is not served"]
    assert "secret" not in str(notes)
    outputs = new(DeepgramAdapter, PCM + "&token=secret&filler_words=true&no_delay=true").open()
    notes = [output.words for output in outputs if isinstance(output, Note)]
    assert notes == ["option filler_words is not served", "option no_delay is not served"]


def test_results_and_what_goes_with_them() -> None:
    adapter = streaming(PCM + "&interim_results=true&vad_events=true&utterance_end_ms=1000")
    heard = adapter.receive_events([SpeechStarted(0.1), partial("turn", "of"), final("turn off")])
    started, interim, settled, end = sent(heard)
    assert started == {"type": "SpeechStarted", "channel": [0], "timestamp": 0.1}
    assert interim["channel"]["alternatives"] == [{"transcript": "turn of", "confidence": 0.0, "words": []}]
    assert not interim["is_final"]
    assert (settled["is_final"], settled["speech_final"], settled["from_finalize"]) == (True, True, False)
    assert (settled["start"], settled["duration"]) == (0.5, 1.0)
    [best] = settled["channel"]["alternatives"]
    word = {"word": "off", "start": 0.5, "end": 0.9, "confidence": 0.9, "punctuated_word": "off"}
    assert (best["transcript"], best["confidence"], best["words"][1]) == ("turn off", 0.8, word)
    assert end == {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 0.9}
    adapter = streaming()
    [settled] = sent(adapter.receive_events([SpeechStarted(0.1), final("turn off")]))
    assert settled["is_final"]


@pytest.mark.parametrize("query", ["", "&utterance_end_ms=1200"])
def test_who_wants_no_pauses_found_is_told_of_none(query: str) -> None:
    adapter = streaming(PCM + "&endpointing=false" + query)
    settled, *end = sent(adapter.receive_events([final("turn off")]))
    assert (settled["is_final"], settled["speech_final"], settled["from_finalize"]) == (True, False, False)
    assert [message["type"] for message in end] == (["UtteranceEnd"] if query else [])
    adapter.receive('{"type": "Finalize"}')
    [settled] = sent(adapter.receive_events([final("yes", "finalize", 1)]))
    assert (settled["is_final"], settled["speech_final"], settled["from_finalize"]) == (True, False, True)


@pytest.mark.parametrize("option", ["punctuate", "smart_format"])
def test_text_is_formatted_for_who_asks(option: str) -> None:
    assert not opened(new(DeepgramAdapter, PCM).open()).options.formatted
    adapter = new(DeepgramAdapter, f"{PCM}&{option}=true")
    assert opened(adapter.open()).options.formatted
    heard = final("twenty one men")
    written = zip(heard.words, ("21", "", "men."), strict=True)
    words = [structs.replace(word, written=text) for word, text in written]
    [settled] = sent(adapter.receive_events([structs.replace(heard, words=words, formatted="21 men.")]))
    [best] = settled["channel"]["alternatives"]
    assert best["transcript"] == "21 men."
    assert [(word["word"], word["punctuated_word"]) for word in best["words"]] == [
        ("twenty one", "21"),
        ("men", "men."),
    ]


def test_finalize_and_close_stream() -> None:
    adapter = streaming()
    audio = bytes(32000)
    adapter.receive(audio)
    assert adapter.receive('{"type": "KeepAlive"}') == []
    [failure] = sent(adapter.receive('{"type": "Configure", "keyterms": ["x"]}'))
    assert failure["type"] == "ConfigureFailure"
    assert adapter.receive('{"type": "Finalize"}') == [Flush("finalize")]
    [empty] = sent(adapter.receive_events([final("", "finalize")]))
    assert (empty["from_finalize"], empty["speech_final"]) == (True, False)
    assert adapter.receive('{"type": "CloseStream"}') == [Flush("stop")]
    outputs = adapter.receive_events([final("", "stop", 1)])
    [metadata] = sent(outputs)
    assert (metadata["type"], metadata["duration"], metadata["channels"]) == ("Metadata", 1.0, 1)
    assert metadata["sha256"] == hashlib.sha256(audio).hexdigest()
    assert metadata["created"].endswith("Z")
    assert close_code(outputs) == 1000


@pytest.mark.parametrize("late", [bytes(320), b"", *(f'{{"type": "{t}"}}' for t in ("CloseStream", "Finalize", "x"))])
def test_what_comes_after_close_stream_is_ignored_and_the_rest_is_told(late: str | bytes) -> None:
    adapter = streaming()
    adapter.receive('{"type": "CloseStream"}')
    assert adapter.receive(late) == []
    outputs = adapter.receive_events([final("yes", "stop")])
    assert [message["type"] for message in sent(outputs)] == ["Results", "Metadata"]
    assert close_code(outputs) == 1000


def test_half_a_sample_at_the_end_is_no_mistake_here() -> None:
    adapter = streaming()
    adapter.receive(b"\0\0\0")
    assert adapter.receive(b"") == [Flush("stop")]
    outputs = adapter.receive_events([final("", "stop")])
    assert ([message["type"] for message in sent(outputs)], close_code(outputs)) == (["Metadata"], 1000)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"type": "Begin"}', '{"type": []}'])
def test_what_is_not_understood_is_an_error(text: str) -> None:
    adapter = streaming()
    outputs = settled(adapter, adapter.receive(text))
    error = sent(outputs)[-1]
    assert (error["type"], error["variant"]) == ("Error", "SchemaError")
    assert close_code(outputs) in (1007, 1008)


def test_an_idle_client_gets_deepgrams_own_close() -> None:
    adapter = streaming(idle_timeout_seconds=-1)
    assert adapter.tick() == [Flush("stop")]
    outputs = adapter.receive_events([final("yes", "stop")])
    assert [message["type"] for message in sent(outputs)] == ["Results"]
    assert isinstance(outputs[-1], Close)
    assert (outputs[-1].code, outputs[-1].reason[:8]) == (1011, "NET-0001")


@pytest.mark.parametrize(
    ("query", "audio"), [("", b"no container"), ("encoding=linear32&sample_rate=16000", b"\xff" * 4)]
)
def test_audio_that_is_none_gets_deepgrams_own_close(query: str, audio: bytes) -> None:
    adapter = streaming(query)
    outputs = settled(adapter, adapter.receive(audio))
    assert [message["type"] for message in sent(outputs)] == ["Error"]
    assert isinstance(outputs[-1], Close)
    assert (outputs[-1].code, outputs[-1].reason[:9]) == (1008, "DATA-0000")


OBJECTS = st.dictionaries(st.just("type") | st.text(max_size=4), JSON, max_size=3).map(json.dumps)
NAMES = st.sampled_from(["encoding", "sample_rate", "channels", "endpointing", "language", "utterance_end_ms"])


@settings(deadline=None)
@given(
    st.text(max_size=40) | st.lists(st.tuples(NAMES, st.text(max_size=9))).map(lambda q: "&".join(map("=".join, q))),
    st.lists(OBJECTS | st.text() | st.binary(max_size=40), max_size=5),
)
def test_no_query_and_no_frame_makes_the_adapter_raise(query: str, frames: list[str | bytes]) -> None:
    for one in (query, PCM + "&" + query):
        adapter = new(DeepgramAdapter, one)
        adapter.open()
        for frame in frames:
            adapter.receive(frame)


# --- on real sockets -----------------------------------------------------------------------------------------------


def stream_with_sdk(url: str, audio: bytes, **options: Any) -> list[Any]:
    """The official SDK, as its examples use it."""
    from deepgram import DeepgramClient
    from deepgram.environment import DeepgramClientEnvironment

    http = url.replace("ws:", "http:")
    environment = DeepgramClientEnvironment(base=http, production=url, agent=url, agent_rest=http)
    client = DeepgramClient(api_key="secret", environment=environment)
    with client.listen.v1.connect(
        model="nova-3",
        interim_results=True,
        vad_events=True,
        utterance_end_ms=1000,
        diarize=True,
        **options,
    ) as connection:
        for start in range(0, len(audio), 3000):
            connection.send_media(audio[start : start + 3000])
        connection.send_keep_alive()
        connection.send_finalize()
        connection.send_close_stream()
        return list(connection)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's own, as it is imported
def test_the_official_sdk_streams_and_gets_its_words() -> None:
    async def test() -> None:
        async with serving() as server:
            pcm = {"encoding": "linear16", "sample_rate": 16000}
            received = await asyncio.to_thread(stream_with_sdk, server.url, words(1, 2, 0, 3), **pcm)
            results = [message for message in received if message.type == "Results"]
            finals = [m.channel.alternatives[0].transcript for m in results if m.is_final]
            assert finals == ["w1 w2", "w3"]
            assert [m.from_finalize for m in results if m.is_final] == [False, True]
            kinds = [message.type for message in received if message.type != "Results"]
            assert kinds == ["SpeechStarted", "UtteranceEnd", "SpeechStarted", "Metadata"]
            assert received[-1].type == "Metadata"
            assert received[-1].duration == 0.32

    run(test)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's own, as it is imported
def test_the_official_sdk_streams_a_recording_with_its_header() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setparams((1, 2, 16000, 0, "NONE", ""))
        recording.writeframes(words(1, 2, 0, 3))

    async def test() -> None:
        async with serving() as server:
            received = await asyncio.to_thread(stream_with_sdk, server.url, file.getvalue())
            results = [message for message in received if message.type == "Results" and message.is_final]
            assert [m.channel.alternatives[0].transcript for m in results] == ["w1 w2", "w3"]
            assert received[-1].duration == 0.32

    run(test)


def test_a_refused_query_is_status_400_and_a_browsers_key_is_not_echoed() -> None:
    async def test() -> None:
        async with serving() as server:
            with pytest.raises(InvalidStatus) as caught:
                await connect(server.url + "/v1/listen?encoding=speex", proxy=None)
            assert caught.value.response.status_code == 400
            assert b"ogg-opus" in (caught.value.response.body or b"")
            offered = [Subprotocol("token"), Subprotocol("secret")]
            async with connect(f"{server.url}/v1/listen?{PCM}", proxy=None, subprotocols=offered) as connection:
                assert connection.subprotocol == "token"

    run(test)
