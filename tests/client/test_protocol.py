"""The client's half of the protocol as a table of states, and what an end means."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streaming_asr_client.errors import (
    ClientError,
    ConnectionLost,
    LocalProtocolError,
    RemoteProtocolError,
    ServerError,
    ServerFull,
)
from streaming_asr_client.protocol import (
    MAX_FRAME_BYTES,
    ClientProtocol,
    Endpointing,
    Options,
    State,
    start_message,
)

FRAMES = {
    "ready": '{"type": "ready", "session_id": "s", "protocol": 1, "model": "m", "chunk_ms": 80}',
    "speech_started": '{"type": "speech_started", "time": 0}',
    "partial": '{"type": "partial", "utterance": 0, "committed": "", "unstable": "a", "start": 0, "end": 1}',
    "final": '{"type":"final","utterance":0,"text":"a","start":0,"end":1,"confidence":1,"reason":"stop"}',
    "done": '{"type": "done", "audio_seconds": 1, "utterances": 1}',
    "error": '{"type": "error", "code": "c", "message": "went wrong"}',
}
WAY_TO = {
    State.NEW: [],
    State.STARTING: ["start"],
    State.STREAMING: ["start", "ready"],
    State.STOPPING: ["start", "ready", "stop"],
    State.DONE: ["start", "ready", "stop", "done"],
    State.ENDED: ["start", "ready", "done"],
    State.FAILED: ["start", "error"],
}
LOCAL = {
    State.NEW: {"start": State.STARTING},
    State.STREAMING: {
        "audio": State.STREAMING,
        "finalize": State.STREAMING,
        "keepalive": State.STREAMING,
        "stop": State.STOPPING,
    },
}
SPEECH = ("speech_started", "partial", "final")
REMOTE = {
    State.STARTING: {"ready": State.STREAMING, "error": State.FAILED},
    State.STREAMING: dict.fromkeys(SPEECH, State.STREAMING) | {"done": State.ENDED, "error": State.FAILED},
    State.STOPPING: dict.fromkeys(SPEECH, State.STOPPING) | {"done": State.DONE, "error": State.FAILED},
}


def act(protocol: ClientProtocol, action: str) -> object:
    if action in FRAMES:
        return protocol.receive(FRAMES[action])
    return protocol.audio(b"ab") if action == "audio" else getattr(protocol, action)()


def in_state(state: State) -> ClientProtocol:
    protocol = ClientProtocol("ws://h/v1/stream", Options())
    for action in WAY_TO[state]:
        act(protocol, action)
    assert protocol.state is state
    return protocol


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("action", ["start", "audio", "finalize", "keepalive", "stop"])
def test_what_we_may_send(state: State, action: str) -> None:
    protocol = in_state(state)
    following = LOCAL.get(state, {}).get(action)
    if following is None:
        with pytest.raises(LocalProtocolError, match=f"cannot send {action}: the session is {state}"):
            act(protocol, action)
        assert protocol.state is state
    else:
        act(protocol, action)
        assert protocol.state is following


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("message", FRAMES)
def test_what_the_server_may_send(state: State, message: str) -> None:
    protocol = in_state(state)
    following = REMOTE.get(state, {}).get(message)
    if following is None:
        with pytest.raises(RemoteProtocolError, match=f"{message}.* while the session was {state}"):
            act(protocol, message)
        assert protocol.state is state
    else:
        act(protocol, message)
        assert protocol.state is following


@pytest.mark.parametrize(("version", "advice"), [(0, "update the server"), (2, "update this client")])
def test_another_version_of_the_protocol_is_told(version: int, advice: str) -> None:
    ready = {"type": "ready", "session_id": "s", "protocol": version, "model": "m", "chunk_ms": 60}
    with pytest.raises(RemoteProtocolError, match=f"speaks version {version} .* {advice}"):
        in_state(State.STARTING).receive(json.dumps(ready))


@pytest.mark.parametrize("state", State)
def test_a_newer_servers_message_changes_nothing(state: State) -> None:
    protocol = in_state(state)
    assert protocol.receive('{"type": "mood", "sunny": true}') is None
    assert protocol.state is state


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (Options(), {}),
        (Options(sample_rate=44100, channels=2), {"sample_rate": 44100, "channels": 2}),
        (
            Options(encoding="mulaw", language="en", partials=False, words=False, nbest=3),
            {"encoding": "mulaw", "language": "en", "partials": False, "words": False, "nbest": 3},
        ),
        (
            Options(endpointing=Endpointing(trailing_silence_ms=300)),
            {"endpointing": {"trailing_silence_ms": 300}},
        ),
        (Options(endpointing=Endpointing(enabled=False)), {"endpointing": {"enabled": False}}),
    ],
)
def test_start_says_only_what_is_asked_for(options: Options, more: dict[str, object]) -> None:
    default = {"type": "start", "sample_rate": 16000, "encoding": "pcm_s16le", "channels": 1}
    assert json.loads(start_message(options)) == default | more


@given(st.binary(max_size=100), st.integers(0, 3 * MAX_FRAME_BYTES))
def test_audio_is_cut_into_frames_and_nothing_is_lost(beginning: bytes, length: int) -> None:
    data = beginning + bytes(length)
    frames = in_state(State.STREAMING).audio(data)
    assert b"".join(frames) == data
    assert all(0 < len(frame) <= MAX_FRAME_BYTES for frame in frames)


@pytest.mark.parametrize(
    ("state", "code", "reason", "kind", "says"),
    [
        (State.DONE, 1000, "", None, ""),
        (State.DONE, 1006, "", None, ""),
        (State.ENDED, 1001, "", ConnectionLost, "the server ended the session early, after 1 s of audio"),
        (State.STARTING, 1013, "8 sessions", ServerFull, "the server at ws://h/v1/stream has no room (8 sessions)"),
        (State.FAILED, 1013, "", ServerFull, "has no room (went wrong)"),
        (State.FAILED, 1008, "", ServerError, "the server says: went wrong (c)"),
        (State.STREAMING, 1000, "", ConnectionLost, "the server ended the session early"),
        (State.STREAMING, 1001, "bye", ConnectionLost, "the server is shutting down (close code 1001: bye"),
        (State.STOPPING, 1006, "", ConnectionLost, "the connection broke off"),
        (State.STOPPING, 1011, "", ConnectionLost, "the server failed or stopped answering"),
        (State.STREAMING, 4000, "", ConnectionLost, "the server closed the connection (close code 4000"),
    ],
)
def test_what_an_end_means(state: State, code: int, reason: str, kind: type[ClientError] | None, says: str) -> None:
    error = in_state(state).closed(code, reason)
    assert type(error) is (kind or type(None))
    assert says in str(error)


@pytest.mark.parametrize(
    ("options", "num_bytes", "state"),
    [
        (Options(), 32000 + 16, State.DONE),  # half a millisecond
        (Options(), 32000 + 64, State.ENDED),
        (Options(sample_rate=8000, encoding="pcm_f32le", channels=2), 64000 + 4, State.DONE),
        (Options(sample_rate=8000, encoding="mulaw"), 9000, State.ENDED),
    ],
)
def test_a_server_that_was_asked_to_stop_may_not_have_received_everything(
    options: Options, num_bytes: int, state: State
) -> None:
    protocol = ClientProtocol("ws://h/v1/stream", options)
    for action in WAY_TO[State.STREAMING]:
        act(protocol, action)
    protocol.audio(bytes(num_bytes))
    protocol.stop()
    act(protocol, "done")
    assert protocol.state is state


def test_a_servers_error_is_for_programs_too() -> None:
    error = in_state(State.FAILED).closed(1008, "")
    assert isinstance(error, ServerError)
    assert (error.code, error.message) == ("c", "went wrong")
