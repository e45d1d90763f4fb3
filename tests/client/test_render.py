"""Looks that are lines: events in, characters out."""

from __future__ import annotations

import dataclasses
import json
import os
import re

from hypothesis import given
from hypothesis import strategies as st
from streaming_asr_client.clean import clean
from streaming_asr_client.dictation import Dictation, line
from streaming_asr_client.events import Done, Event, Final, Partial, SpeechStarted
from streaming_asr_client.render import JsonView, LinesView

SIZE = os.terminal_size((3, 2))


def final(text: str) -> Final:
    return Final(0, text, 0.0, 1.0, 0.9, "endpoint")


def test_lines() -> None:
    view = LinesView()
    events: list[Event] = [SpeechStarted(0.0), Partial(0, "a", "b", 0.0, 1.0), Done(1.0, 1)]
    assert "".join(view.show(event, SIZE) for event in events) + view.close() == ""
    assert "".join(view.settle(line(final(text)), SIZE) for text in ("a  b\nc", " ", "d")) == "a b c\nd\n"


def test_lines_when_commands_are_obeyed() -> None:
    view, dictation = LinesView(), Dictation()
    said = ["one new line two", "three", "scratch that", "four comma"]
    written = [view.settle(dictation.accept(final(text)), SIZE) for text in said]
    assert written == ["one\ntwo\n", "three\n", "", "four,\n"]


def test_json() -> None:
    view = JsonView()
    lines = view.show(SpeechStarted(0.5), SIZE) + view.settle(line(final('say "é"')), SIZE) + view.close()
    assert [json.loads(line) for line in lines.splitlines()] == [
        {"type": "speech_started", "time": 0.5},
        {
            "type": "final",
            "utterance": 0,
            "text": 'say "é"',
            "start": 0.0,
            "end": 1.0,
            "confidence": 0.9,
            "reason": "endpoint",
            "words": [],
            "alternatives": [],
            "formatted": "",
        },
    ]


def test_people_see_what_is_formatted() -> None:
    settled = dataclasses.replace(final("at five p m"), formatted="At 5 p.m.")
    assert LinesView().settle(line(settled), SIZE) == "At 5 p.m.\n"


@given(st.text())
def test_what_the_server_says_cannot_steer_the_terminal(text: str) -> None:
    for edit in (line(final(text)), Dictation().accept(final(text))):
        written = LinesView().settle(edit, SIZE)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", written)
        assert written.count("\n") <= 1 or "new" in text
    assert "\n" not in clean(text)
