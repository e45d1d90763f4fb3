"""Vosk's protocol: the adapter by table, then clients in lock-step on real sockets."""

import asyncio
import json
from typing import Any

import pytest
import websocket
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect

from streaming_asr.messages import Alternative, Final
from streaming_asr.protocols.adapter import Mark, Note
from streaming_asr.protocols.vosk import VoskAdapter
from streaming_asr.session import Flush, Push
from tests.fakes import words
from tests.protocols.machine import JSON, close_code, final, new, opened, partial, sent
from tests.test_server import run, serving

AUDIO = bytes(320)


def test_each_frame_is_marked_and_answered_once_in_order() -> None:
    adapter = new(VoskAdapter)
    outputs = adapter.receive(AUDIO)
    opened(outputs)
    assert outputs[-1] == Mark()
    assert adapter.receive(AUDIO)[-1] == Mark()
    assert sent(adapter.reached()) == [{"partial": ""}]
    assert adapter.receive_events([partial("turn", "of the")]) == []
    assert sent(adapter.reached()) == [{"partial": "turn of the"}]
    assert adapter.receive_events([final("turn off"), partial("", "and", 2)]) == []
    first = {"conf": 0.9, "start": 0.0, "end": 0.4, "word": "turn"}
    second = {"conf": 0.9, "start": 0.5, "end": 0.9, "word": "off"}
    assert sent(adapter.reached()) == [{"result": [first, second], "text": "turn off"}]
    assert adapter.receive_events([final("yes", utterance=1)]) == []
    assert adapter.receive('{"eof" : 1}')[-1] == Flush("stop")
    outputs = adapter.receive_events([final("no", "stop", 2)])
    [answer] = sent(outputs)
    assert answer["text"] == "yes no"  # what ended and could not be told before is not lost
    assert [word["word"] for word in answer["result"]] == ["yes", "no"]
    assert close_code(outputs) == 1000


def test_all_that_ended_in_a_frame_is_in_its_reply() -> None:
    adapter = new(VoskAdapter)
    adapter.receive(AUDIO)
    adapter.receive_events([final("one"), final("", utterance=1), final("two", utterance=2), partial("", "three", 3)])
    [answer] = sent(adapter.reached())
    assert (answer["text"], [word["word"] for word in answer["result"]]) == ("one two", ["one", "two"])
    assert sent(adapter.reached()) == [{"partial": "three"}]


def test_reset_answers_with_the_final_and_goes_on() -> None:
    adapter = new(VoskAdapter)
    assert Flush("finalize") in adapter.receive('{"reset": 1}')
    assert sent(adapter.receive_events([final("", "finalize")])) == [{"text": ""}]
    adapter.receive(AUDIO)
    assert sent(adapter.reached()) == [{"partial": ""}]


@pytest.mark.parametrize("late", [AUDIO, '{"eof": 1}', '{"reset": 1}', "{"])
def test_what_comes_after_eof_is_ignored_and_the_last_result_comes(late: str | bytes) -> None:
    adapter = new(VoskAdapter)
    adapter.receive(AUDIO)
    adapter.receive('{"eof": 1}')
    assert adapter.receive(late) == []
    outputs = adapter.receive_events([final("yes", "stop")])
    assert ([answer["text"] for answer in sent(outputs)], close_code(outputs)) == (["yes"], 1000)


def test_eof_without_audio_is_an_empty_result() -> None:
    adapter = new(VoskAdapter)
    adapter.receive('{"eof": 1}')
    assert sent(adapter.receive_events([final("", "stop")])) == [{"text": ""}]


def test_config_sets_rate_words_and_alternatives_until_audio_comes() -> None:
    adapter = new(VoskAdapter)
    config = {"sample_rate": 16000.0, "words": False, "max_alternatives": 99, "phrase_list": ["secret"], "new": 1}
    assert adapter.receive(json.dumps({"config": config})) == []
    outputs = adapter.receive(AUDIO)
    options = opened(outputs).options
    assert (options.words, options.nbest, options.hotwords) == (False, 10, ("secret",))
    assert [len(output.samples) for output in outputs if isinstance(output, Push)] == [160]
    [note] = adapter.receive('{"config": {"sample_rate": 8000}}')
    assert isinstance(note, Note)
    adapter.receive_events([Final(0, "a", 0, 1, 0.7, "endpoint", [], [Alternative("b", 0.2)])])
    alternatives = [{"text": "a", "confidence": 0.7}, {"text": "b", "confidence": 0.2}]
    assert sent(adapter.reached()) == [{"alternatives": alternatives}]


@pytest.mark.parametrize(
    ("phrases", "hotwords", "only"),
    [
        (["lights on", "[unk]"], ("lights", "on"), True),
        (["oh one two", "two oh", "[unk]"], ("oh", "one", "two"), True),
        (["stop"], ("stop",), False),
        (["oh one two"], ("oh one two",), False),
        (["[unk]"], (), False),
        (["-", "[unk]"], ("-",), False),
        ([" ".join(f"w{number}" for number in range(101)), "two", "[unk]"], ("two",), False),  # more than are served
    ],
)
def test_the_words_of_phrases_are_wanted_alone_where_all_else_has_a_name(
    phrases: list[str], hotwords: tuple[str, ...], only: bool
) -> None:
    adapter = new(VoskAdapter)
    adapter.receive(json.dumps({"config": {"phrase_list": phrases}}))
    options = opened(adapter.receive(AUDIO)).options
    assert (options.hotwords, options.only_hotwords) == (hotwords, only)


@pytest.mark.parametrize(("words", "expected"), [(None, False), (0, False), ("", False), ("true", True), ([1], True)])
def test_config_is_read_as_python_would(words: Any, expected: bool) -> None:
    adapter = new(VoskAdapter)
    config = {"sample_rate": "16000", "words": words, "max_alternatives": "2"}
    assert adapter.receive(json.dumps({"config": config})) == []
    outputs = adapter.receive(AUDIO)
    options = opened(outputs).options
    assert (options.words, options.nbest) == (expected, 2)
    assert [len(output.samples) for output in outputs if isinstance(output, Push)] == [160]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", 1007),
        ("[]", 1007),
        ("{}", 1003),
        ('{"eof": 0}', 1003),
        ('{"config": 5}', 1007),
        ('{"config": {"sample_rate": "fast"}}', 1007),
        ('{"config": {"sample_rate": 1e300}}', 1007),
        ('{"config": {"sample_rate": %s}}' % ("9" * 400), 1007),
        ('{"config": {"sample_rate": "%s"}}' % ("9" * 400), 1007),
        ('{"config": {"sample_rate": "nan"}}', 1007),
        ('{"config": {"sample_rate": [16000]}}', 1007),
        ('{"config": {"max_alternatives": null}}', 1007),
    ],
)
def test_what_is_not_understood_closes_without_a_word(text: str, code: int) -> None:
    outputs = new(VoskAdapter).receive(text)
    assert (sent(outputs), close_code(outputs)) == ([], code)


def test_a_rate_that_is_not_served_closes_with_the_first_audio() -> None:
    adapter = new(VoskAdapter)
    assert adapter.receive('{"config": {"sample_rate": 96000}}') == []
    assert close_code(adapter.receive(AUDIO)) == 1003


def test_how_many_hotwords_are_not_served_is_said_in_the_log() -> None:
    adapter = new(VoskAdapter)
    phrases = ["secret"] * 101 + [7, ""]
    assert adapter.receive(json.dumps({"config": {"phrase_list": phrases}})) == [
        Note("3 of 103 hotwords are not served")
    ]


KEYS = st.sampled_from(["config", "eof", "reset", "sample_rate", "words", "max_alternatives", "phrase_list"])
OBJECTS = st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON, max_size=3), max_size=3).map(json.dumps)


@settings(deadline=None)
@given(st.lists(OBJECTS | JSON.map(json.dumps) | st.text() | st.binary(max_size=40), max_size=5))
def test_no_frame_makes_the_adapter_raise(frames: list[str | bytes]) -> None:
    adapter = new(VoskAdapter)
    for frame in frames:
        adapter.receive(frame)


# --- on real sockets -----------------------------------------------------------------------------------------------

SPEECH = words(1, 2, 0, 3, 4)
FRAME_BYTES = 2560  # a chunk of the fake recognizer's: each reply is known exactly


def lock_step(url: str, audio: bytes) -> list[Any]:
    """As vosk-server's own example for `websocket-client`: send a frame, wait for its reply."""
    socket = websocket.create_connection(url, timeout=20)
    replies = []
    socket.send('{ "config" : { "sample_rate" : 16000 } }')
    for start in range(0, len(audio), FRAME_BYTES):
        socket.send_binary(audio[start : start + FRAME_BYTES])
        replies.append(json.loads(socket.recv()))
    socket.send('{"eof" : 1}')
    replies.append(json.loads(socket.recv()))
    socket.close()
    return replies


async def lock_step_asyncio(url: str, audio: bytes) -> list[Any]:
    """As vosk-server's ``test.py``."""
    async with connect(url, proxy=None) as socket:
        replies = []
        await socket.send('{ "config" : { "sample_rate" : 16000 } }')
        for start in range(0, len(audio), FRAME_BYTES):
            await socket.send(audio[start : start + FRAME_BYTES])
            replies.append(json.loads(await socket.recv()))
        await socket.send('{"eof" : 1}')
        replies.append(json.loads(await socket.recv()))
        return replies


def test_clients_in_lock_step_get_each_word_with_its_frame() -> None:
    expected = [
        {"partial": "w1"},
        {"partial": "w1 w2"},
        {"text": "w1 w2"},
        {"partial": "w3"},
        {"partial": "w3 w4"},
        {"text": "w3 w4"},
    ]

    async def test() -> None:
        async with serving(vosk_port=0) as server:
            for url in (server.url + "/vosk", server.ports.url_of("vosk"), server.ports.url_of("vosk") + "/any/path"):
                assert await lock_step_asyncio(url, SPEECH) == expected
            assert await asyncio.to_thread(lock_step, server.ports.url_of("vosk"), SPEECH) == expected

    run(test)


def test_a_client_that_does_not_wait_gets_the_same_number_of_replies() -> None:
    async def test() -> None:
        async with serving() as server, connect(server.url + "/vosk", proxy=None) as socket:
            await socket.send('{"config": {"sample_rate": 16000}}')
            for start in range(0, len(SPEECH), 100):
                await socket.send(SPEECH[start : start + 100])
            await socket.send(b"")
            await socket.send('{"eof": 1}')
            replies = [json.loads(frame) async for frame in socket]
            assert len(replies) == len(SPEECH) // 100 + 1 + 1
            assert [reply["text"] for reply in replies if "text" in reply] == ["w1 w2", "w3 w4"]
            assert socket.close_code == 1000

    run(test)
