"""Reading the server's messages: by table, and anything at all."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streaming_asr_client.errors import RemoteProtocolError
from streaming_asr_client.events import (
    TYPE_NAMES,
    Alternative,
    Done,
    Error,
    Event,
    Final,
    GoingAway,
    Partial,
    Ready,
    SpeechStarted,
    Timings,
    Word,
    as_message,
    parse_event,
)
from streaming_asr_client.protocol import Endpointing, Options

READY = Ready("abc", 1, "en-lstm", 80)
FINAL = Final(2, "hello", 1.5, 2.0, 0.75, "endpoint", (Word("hello", 1.5, 2.0, 0.75),), (Alternative("hallo", 0.25),))
MESSAGES: list[tuple[str, Event]] = [
    ('{"type": "ready", "session_id": "abc", "protocol": 1, "model": "en-lstm", "chunk_ms": 80}', READY),
    ('{"type": "speech_started", "time": 1}', SpeechStarted(1.0)),
    (
        '{"type": "partial", "utterance": 0, "committed": "a b", "unstable": "", "start": 0, "end": 0.5}',
        Partial(0, "a b", "", 0.0, 0.5),
    ),
    (
        '{"type": "final", "utterance": 2, "text": "hello", "start": 1.5, "end": 2.0, "confidence": 0.75, '
        '"reason": "endpoint", "words": [{"word": "hello", "start": 1.5, "end": 2, "confidence": 0.75}], '
        '"alternatives": [{"text": "hallo", "confidence": 0.25}]}',
        FINAL,
    ),
    (
        '{"type": "final", "utterance": 0, "text": "", "start": 0, "end": 0, "confidence": 0, "reason": "new"}',
        Final(0, "", 0.0, 0.0, 0.0, "new"),
    ),
    (
        '{"type": "partial", "utterance": 0, "committed": "", "unstable": "a", "start": 0, "end": 1, '
        '"timings": {"queue": 0.5, "compute": 2, "decode": 1, "emission": 0.25}}',
        Partial(0, "", "a", 0.0, 1.0, Timings(0.5, 2.0, 1.0, 0.25)),
    ),
    (
        '{"type": "final", "utterance": 0, "text": "ten men", "start": 0, "end": 1, "confidence": 0.5, '
        '"reason": "stop", "formatted": "10 men.", '
        '"words": [{"word": "ten", "start": 0, "end": 1, "confidence": 0.5, "written": "10"}]}',
        Final(0, "ten men", 0, 1, 0.5, "stop", (Word("ten", 0, 1, 0.5, "10"),), formatted="10 men."),
    ),
    ('{"type": "going_away", "seconds": 10}', GoingAway(10.0)),
    ('{"type": "error", "code": "bad_rate", "message": "no"}', Error("bad_rate", "no")),
    ('{"type": "done", "audio_seconds": 3.5, "utterances": 2}', Done(3.5, 2)),
]


@pytest.mark.parametrize(("frame", "event"), MESSAGES)
def test_each_message(frame: str, event: Event) -> None:
    assert parse_event(frame) == event


@pytest.mark.parametrize(("frame", "event"), MESSAGES)
def test_what_a_newer_server_adds_is_ignored(frame: str, event: Event) -> None:
    assert parse_event(json.dumps(json.loads(frame) | {"speaker": {"id": 7}})) == event


def test_a_type_of_a_newer_server_is_no_event() -> None:
    assert parse_event('{"type": "punctuation", "at": 3}') is None


@pytest.mark.parametrize(("frame", "event"), MESSAGES)
def test_writing_is_the_inverse_of_reading(frame: str, event: Event) -> None:
    assert parse_event(json.dumps(as_message(event))) == event


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (b"\x00", "binary frame"),
        ("hello", "not JSON: 'hello'"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no message"),
        ('{"type": 3}', "no message"),
        ('{"type": "speech_started"}', "'speech_started' with 'time' = nothing where a number belongs"),
        ('{"type": "speech_started", "time": true}', "'time' = true where a number belongs"),
        ('{"type": "error", "code": 5, "message": ""}', "'code' = 5 where text belongs"),
        ('{"type": "done", "audio_seconds": 1, "utterances": 1.5}', "1.5 where a whole number belongs"),
    ],
)
def test_nonsense_is_the_servers_fault(frame: str | bytes, says: str) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        parse_event(frame)
    assert says in str(raised.value)


@pytest.mark.parametrize("words", ["x", [1], [{}], [{"word": "a", "start": 0, "end": 0, "confidence": "high"}]])
def test_nonsense_words_are_the_servers_fault(words: object) -> None:
    with pytest.raises(RemoteProtocolError, match="words"):
        parse_event(json.dumps(as_message(FINAL) | {"words": words}))


def test_client_and_server_mean_the_same_messages() -> None:
    """The client must not import the server; that the two cannot drift is held here."""
    messages = pytest.importorskip("streaming_asr.messages")
    for event in [*TYPE_NAMES, Word, Alternative, Timings]:
        fields = tuple(field.name for field in dataclasses.fields(event))
        assert fields == getattr(messages, event.__name__).__struct_fields__
    pairs: list[tuple[Options | Endpointing, Any]] = [
        (Options(), messages.Start()),
        (Endpointing(), messages.Endpointing()),
    ]
    for options, message in pairs:
        ours = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        theirs = {name: getattr(message, name) for name in message.__struct_fields__}
        theirs.pop("resume", None)  # of another session: no option of this one
        assert ours.keys() == theirs.keys()
        assert ours | {"endpointing": None} == theirs | {"endpointing": None}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(sorted({name for frame, _ in MESSAGES for name in json.loads(frame)}))


@given(st.text() | st.binary() | st.dictionaries(NAMES, JSON | NAMES).map(json.dumps))
def test_anything_is_an_event_or_nothing_or_the_servers_fault(frame: str | bytes) -> None:
    with contextlib.suppress(RemoteProtocolError):
        parse_event(frame)
