"""OpenAI's Realtime transcription protocol: the adapter by table, then the official SDK on real sockets."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import AsyncOpenAI
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from streaming_asr.messages import Endpointing, Event, Reason, SpeechStarted
from streaming_asr.protocols.adapter import Adapter, Note
from streaming_asr.protocols.openai_realtime import OpenAIAdapter
from streaming_asr.session import Flush, Push
from tests.fakes import CHUNK_SAMPLES
from tests.protocols.machine import JSON, close_code, final, new, opened, partial, sent
from tests.test_server import run, serving

DELTA = "conversation.item.input_audio_transcription.delta"
COMPLETED = "conversation.item.input_audio_transcription.completed"
COMMIT = '{"type": "input_audio_buffer.commit"}'
CLEAR = '{"type": "input_audio_buffer.clear"}'
BY_CLIENT = {"turn_detection": None}


def append(data: bytes) -> str:
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(data).decode()})


def update(**fields: Any) -> str:
    session = {"type": "transcription", "audio": {"input": fields}}
    return json.dumps({"type": "session.update", "event_id": "mine", "session": session})


def streaming(**fields: Any) -> Adapter:
    adapter = new(OpenAIAdapter)
    [created] = sent(adapter.open())
    assert created["type"] == "session.created"
    if fields:
        assert [event["type"] for event in sent(adapter.receive(update(**fields)))] == ["session.updated"]
    opened(adapter.receive(append(bytes(4800))))
    return adapter


def kinds(events: list[Any]) -> list[str]:
    return [event["type"].split(".")[-1] for event in events]


def transcripts(events: list[Any]) -> dict[str, str]:
    """By item; its deltas, joined, must be the same."""
    completed = {event["item_id"]: event["transcript"] for event in events if event["type"] == COMPLETED}
    for item, transcript in completed.items():
        deltas = [event["delta"] for event in events if event["type"] == DELTA and event["item_id"] == item]
        assert "".join(deltas) == transcript
        assert all(deltas)
    return completed


def test_an_utterance_is_an_item_and_its_deltas_only_grow() -> None:
    adapter = streaming()
    heard: list[Event] = [SpeechStarted(0.1), partial("", "turn"), partial("turn", "of the"), partial("turn off", "")]
    events = sent(adapter.receive_events(heard))
    assert kinds(events) == ["speech_started", "delta", "delta"]
    events += sent(adapter.receive_events([final("turn off the light")]))
    assert kinds(events)[3:] == ["speech_stopped", "committed", "added", "delta", "completed"]
    assert [event["delta"] for event in events if event["type"] == DELTA] == ["turn", " off", " the light"]
    assert list(transcripts(events).values()) == ["turn off the light"]
    assert (events[0]["audio_start_ms"], events[3]["audio_end_ms"]) == (100, 1500)
    assert (events[4]["previous_item_id"], events[-1]["usage"]["seconds"]) == (None, 1.0)
    events += (second := sent(adapter.receive_events([SpeechStarted(2.0), final("yes", utterance=1)])))
    assert second[2]["previous_item_id"] == events[0]["item_id"] != second[0]["item_id"]
    assert list(transcripts(events).values()) == ["turn off the light", "yes"]
    assert len({event["event_id"] for event in events}) == len(events)


def test_a_client_that_commits_gets_one_item_each_also_an_empty_one() -> None:
    adapter = streaming(**BY_CLIENT)
    outputs = adapter.receive(COMMIT)
    assert outputs[-1] == Flush("finalize")
    events = sent(outputs)
    assert kinds(events) == ["committed", "added"]
    adapter.receive(append(bytes(480)))
    events += sent(adapter.receive(COMMIT))  # before the first is answered
    heard: list[Event] = [SpeechStarted(0.1), final("one", "finalize"), final("", "finalize", 1)]
    events += sent(adapter.receive_events(heard))
    assert "speech_started" not in kinds(events)
    assert list(transcripts(events).values()) == ["one", ""]
    assert [event["item_id"] for event in events if event["type"].endswith("committed")] == list(transcripts(events))
    [error] = sent(adapter.receive(COMMIT))
    assert error["error"]["code"] == "input_audio_buffer_commit_empty"


def test_an_endpoint_may_come_before_the_answer_to_a_commit() -> None:
    adapter = streaming()
    adapter.receive_events([SpeechStarted(0.1), partial("one", "")])
    events = sent(adapter.receive(COMMIT))
    adapter.receive(append(bytes(480)))
    later = sent(adapter.receive(COMMIT))
    events += later
    events += sent(adapter.receive_events([final("one"), final("", "finalize", 1), final("two", "finalize", 2)]))
    completed = {event["item_id"]: event["transcript"] for event in events if event["type"] == COMPLETED}
    assert list(completed.values()) == ["one", "two"]
    assert list(completed)[1] == later[0]["item_id"]


def test_what_is_cleared_is_told_to_nobody() -> None:
    adapter = streaming(**BY_CLIENT)
    outputs = adapter.receive(CLEAR)
    assert (kinds(sent(outputs)), outputs[-1]) == (["cleared"], Flush("finalize"))
    assert adapter.receive_events([partial("secret", "x"), final("secret words", "finalize")]) == []
    assert kinds(sent(adapter.receive(CLEAR))) == ["cleared"]
    adapter.receive(append(bytes(480)))
    events = sent(adapter.receive(COMMIT) + adapter.receive_events([final("yes", "finalize", 1)]))
    assert list(transcripts(events).values()) == ["yes"]


@pytest.mark.parametrize(
    ("fields", "samples", "endpointing"),
    [
        ({"format": {"type": "audio/pcm", "rate": 16000}}, 4000, Endpointing(trailing_silence_ms=500)),
        ({"format": {"type": "audio/pcmu"}, **BY_CLIENT}, 16000, Endpointing(enabled=False)),
        ({"format": {"type": "audio/pcma"}, "new": {"field": 1}}, 16000, Endpointing(trailing_silence_ms=500)),
        (
            {"turn_detection": {"type": "server_vad", "silence_duration_ms": 50, "threshold": 0.9}},
            8000 // 3,
            Endpointing(trailing_silence_ms=100),
        ),
    ],
)
def test_an_update_sets_format_and_turns(fields: dict[str, Any], samples: int, endpointing: Endpointing) -> None:
    adapter = new(OpenAIAdapter)
    [updated] = sent(adapter.receive(update(**fields)))
    described = updated["session"]["audio"]["input"]
    assert described["format"]["type"] == fields.get("format", {"type": "audio/pcm"})["type"]
    outputs = adapter.receive(append(bytes(8000)))
    assert opened(outputs).options.endpointing == endpointing
    outputs += adapter.receive(COMMIT)
    pushed = sum(len(output.samples) for output in outputs if isinstance(output, Push))
    assert abs(pushed - samples) <= 1
    adapter.receive(update(**fields))  # the same again is no change
    [refused] = sent(adapter.receive(update(transcription={"language": "en-GB"})))
    assert refused["error"]["code"] == "session_started"


def test_of_a_long_prompt_no_more_is_read_than_may_hold_all_hotwords() -> None:
    outputs = new(OpenAIAdapter).receive(update(transcription={"prompt": "a; " * 330_000}))
    assert [output for output in outputs if isinstance(output, Note)] == [Note("3300 of 3400 hotwords are not served")]
    phrases = [f"{number:0100}" for number in range(100)]
    adapter = new(OpenAIAdapter)
    adapter.receive(update(transcription={"prompt": ", ".join(phrases)}))
    assert opened(adapter.receive(append(bytes(480)))).options.hotwords == tuple(phrases)


OLDER = {
    "input_audio_format": "g711_ulaw",
    "input_audio_transcription": {"model": "whisper-1", "prompt": "Runnymede", "language": ""},
    "turn_detection": {"type": "server_vad", "silence_duration_ms": 700},
    "input_audio_noise_reduction": {"type": "near_field"},
    "include": ["item.input_audio_transcription.logprobs"],
}


@pytest.mark.parametrize("fields", [{"session": OLDER}, OLDER])
def test_the_older_update_says_the_same_in_flat_fields(fields: dict[str, Any]) -> None:
    adapter = new(OpenAIAdapter)
    older = json.dumps({"type": "transcription_session.update"} | fields)
    outputs = adapter.receive(older)
    [updated] = sent(outputs)
    assert updated["type"] == "transcription_session.updated"
    assert updated["session"]["input_audio_format"] == "g711_ulaw"
    assert updated["session"]["turn_detection"]["silence_duration_ms"] == 700
    notes = [output.words for output in outputs if isinstance(output, Note)]
    assert notes == ["option noise_reduction is not served", "option include is not served"]
    outputs = adapter.receive(append(bytes(8000)))
    options = opened(outputs).options
    assert (options.endpointing, options.hotwords) == (Endpointing(trailing_silence_ms=700), ("Runnymede",))
    outputs += adapter.receive(COMMIT)
    assert abs(sum(len(output.samples) for output in outputs if isinstance(output, Push)) - 16000) <= 1
    assert kinds(sent(adapter.receive(older))) == ["updated"]  # the same again is no change
    [refused] = sent(adapter.receive('{"type": "transcription_session.update", "input_audio_format": "pcm16"}'))
    assert refused["error"]["code"] == "session_started"


def test_keywords_and_prompt_are_hotwords() -> None:
    adapter = new(OpenAIAdapter)
    adapter.receive(update(transcription={"keywords": ["Runnymede", 7], "prompt": "Magna Carta, barons"}))
    assert opened(adapter.receive(append(bytes(480)))).options.hotwords == ("Runnymede", "Magna Carta", "barons")


def test_of_a_clients_own_text_at_most_200_characters_are_repeated() -> None:
    adapter = new(OpenAIAdapter)
    long = {"model": "m" * 10_000, "language": "en-" + "x" * 10_000}
    [updated] = sent(adapter.receive(update(transcription=long)))
    transcription = updated["session"]["audio"]["input"]["transcription"]
    assert transcription == {"model": "m" * 200, "language": "en-" + "x" * 197}
    for more in ({"type": "x"}, {"type": "session.update", "session": {"audio": {"input": {"format": "9" * 400}}}}):
        [refused] = sent(adapter.receive(json.dumps({"event_id": "e" * 10_000} | more)))
        assert refused["error"]["event_id"] == "e" * 200
    for field in ({"format": {"rate": 10**400}}, {"turn_detection": {"prefix_padding_ms": 10**400}}):
        [refused] = sent(adapter.receive(update(**field)))
        assert "000" not in str(refused)


def test_options_that_are_not_served_are_named() -> None:
    outputs = new(OpenAIAdapter).receive(update(noise_reduction={"type": "secret"}))
    notes = [output.words for output in outputs if isinstance(output, Note)]
    assert notes == ["option noise_reduction is not served"]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"type": []}',
        '{"type": "response.create"}',
        '{"type": "session.update"}',
        '{"type": "session.update", "session": {"type": "realtime"}}',
        '{"type": "transcription_session.update", "session": null}',
        '{"type": "transcription_session.update", "session": {"input_audio_format": "mp3"}}',
        '{"type": "input_audio_buffer.append"}',
        '{"type": "input_audio_buffer.append", "audio": "???"}',
        '{"type": "input_audio_buffer.append", "audio": "\\u00e9"}',
        COMMIT,
        update(format={"type": "audio/mp3"}),
        update(format={"type": "audio/pcm", "rate": 96000}),
        update(transcription={"language": "de"}),
        update(turn_detection={"type": "psychic"}),
        update(turn_detection={"silence_duration_ms": "long"}),
    ],
)
def test_a_mistake_is_told_and_the_session_goes_on(text: str) -> None:
    adapter = new(OpenAIAdapter)
    [event] = sent(adapter.receive(text))
    assert (event["type"], event["error"]["type"]) == ("error", "invalid_request_error")
    assert event["error"]["event_id"] == ("mine" if "mine" in text else None)
    opened(adapter.receive(append(bytes(100))))


def test_binary_frames_end_the_session() -> None:
    outputs = new(OpenAIAdapter).receive(b"\0\0")
    assert (kinds(sent(outputs)), close_code(outputs)) == (["error"], 1003)


UPDATES = ["session.update", "transcription_session.update"]
NAMES = [*UPDATES, "input_audio_buffer.append", "input_audio_buffer.commit", "input_audio_buffer.clear"]
INPUT = st.dictionaries(st.sampled_from(["format", "transcription", *OLDER]), JSON, max_size=2)
EVENTS = st.builds(
    lambda kind, more: json.dumps({"type": kind} | more),
    st.sampled_from(NAMES) | JSON,
    st.builds(lambda i: {"session": {"audio": {"input": i}} | i}, INPUT)
    | st.dictionaries(st.sampled_from(["session", "audio", "event_id"]), JSON, max_size=2)
    | st.just({"audio": "AAAA"}),
)


@settings(deadline=None)
@given(st.lists(EVENTS | st.text() | st.binary(max_size=9), max_size=6))
def test_no_frame_makes_the_adapter_raise(frames: list[str | bytes]) -> None:
    adapter = new(OpenAIAdapter)
    adapter.open()
    for frame in frames:
        adapter.receive(frame)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["commit", "clear", "append", "endpoint", "final", "partial"]), max_size=12))
def test_deltas_joined_are_the_transcript_whatever_the_order(steps: list[str]) -> None:
    adapter = streaming()
    flushes = utterance = 0
    committed = ""
    events: list[Any] = []
    for step in [*steps, *["final"] * len(steps)]:
        outputs = []
        if step == "partial":
            committed = f"{committed} w{utterance}".strip()
            outputs = adapter.receive_events([partial(committed, "maybe", utterance)])
        elif step == "endpoint" or (step == "final" and flushes):
            flushes -= step == "final"
            reason: Reason = "finalize" if step == "final" else "endpoint"
            text = f"{committed} end".strip() if step == "endpoint" else committed
            outputs = adapter.receive_events([final(text, reason, utterance)])
            utterance, committed = utterance + 1, ""
        elif step != "final":
            text = {"commit": COMMIT, "clear": CLEAR, "append": append(b"\0\0")}[step]
            outputs = adapter.receive(text)
            flushes += sum(isinstance(output, Flush) for output in outputs)
        events += sent(outputs)
    transcripts(events)
    done = [event["item_id"] for event in events if event["type"] == COMPLETED]
    assert len(set(done)) == len(done)
    assert {event["item_id"] for event in events if event["type"].endswith("committed")} == set(done)


# --- on real sockets -----------------------------------------------------------------------------------------------


def loud(*levels: int) -> bytes:
    """24 kHz audio of one chunk of the fake recognizer's a level."""
    return b"".join(np.full(CHUNK_SAMPLES * 3 // 2, level * 327, "<i2").tobytes() for level in levels)


async def stream_with_sdk(url: str, audio: bytes) -> list[Any]:
    """The official SDK, as its examples use it."""
    base_url = url.replace("ws:", "http:") + "/v1"
    async with AsyncOpenAI(base_url=base_url, api_key="secret") as client:  # noqa: SIM117
        async with client.realtime.connect(extra_query={"intent": "transcription"}) as connection:
            created = await connection.recv()
            await connection.session.update(
                session={
                    "type": "transcription",
                    "audio": {
                        "input": {
                            "format": {"type": "audio/pcm", "rate": 24000},
                            "transcription": {"model": "gpt-4o-transcribe", "language": "en"},
                            "turn_detection": None,
                        }
                    },
                }
            )
            events: list[Any] = [created]
            for start in range(0, len(audio), 3000):
                chunk = base64.b64encode(audio[start : start + 3000]).decode()
                await connection.input_audio_buffer.append(audio=chunk)
            await connection.input_audio_buffer.commit()
            async for event in connection:
                events.append(event)
                if event.type == COMPLETED:
                    return events
    raise AssertionError("the connection closed")


def test_the_official_sdk_streams_and_gets_its_words() -> None:
    async def test() -> None:
        async with serving() as server:
            events = await stream_with_sdk(server.url, loud(10, 10, 20, 20))
            assert [event.type for event in events[:2]] == ["session.created", "session.updated"]
            assert events[1].session.audio.input.format.rate == 24000
            deltas = [event.delta for event in events if event.type == DELTA]
            assert "".join(deltas) == events[-1].transcript
            assert len(events[-1].transcript.split()) == 4

    run(test)


def test_a_browsers_key_is_not_echoed() -> None:
    async def test() -> None:
        async with serving() as server:
            offered = [Subprotocol("realtime"), Subprotocol("openai-insecure-api-key.secret")]
            url = server.url + "/v1/realtime?intent=transcription"
            async with connect(url, proxy=None, subprotocols=offered) as connection:
                assert connection.subprotocol == "realtime"
                assert json.loads(await connection.recv())["type"] == "session.created"

    run(test)
