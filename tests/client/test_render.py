"""Looks: events in, characters out; and what a terminal makes of the characters."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streaming_asr_client.events import Done, Event, Final, Partial, Ready, SpeechStarted
from streaming_asr_client.render import JsonView, LinesView, LiveView, char_columns, clean, tail, text_columns


def partial(committed: str, unstable: str) -> Partial:
    return Partial(0, committed, unstable, 0.0, 1.0)


def final(text: str) -> Final:
    return Final(0, text, 0.0, 1.0, 0.9, "endpoint")


class Screen:
    """As much of a terminal as the live view uses. Lines fold at the width, after a resize anew."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [""]
        self.line = self.offset = 0  # the cursor: in a line before it is folded into rows
        self.wraps = True

    def write(self, text: str) -> None:
        for token in re.findall(r"\x1b\[[?\d]*[A-Za-z]|.|\n", text):
            match token:
                case "\n":
                    self.line, self.offset = self.line + 1, 0
                    if self.line == len(self.lines):
                        self.lines.append("")
                case "\r":  # to the start of the row, not of the line
                    self.offset -= self.offset % self.columns
                case "\x1b[J":
                    self.lines[self.line :] = [self.lines[self.line][: self.offset]]
                case "\x1b[?7l" | "\x1b[?7h":
                    self.wraps = token.endswith("h")
                case "\x1b[2m" | "\x1b[0m":
                    pass
                case _:
                    assert not token.startswith("\x1b"), f"what is {token!r}?"
                    line = self.lines[self.line]
                    self.lines[self.line] = line[: self.offset] + token + line[self.offset + 1 :]
                    if self.wraps or self.offset % self.columns < self.columns - 1:
                        self.offset += 1

    def shown(self) -> list[str]:
        return [line.rstrip() for line in self.lines]


def live(styled: str) -> str:
    """The live line as it is written."""
    return f"\r\x1b[?7l{styled}\x1b[J\x1b[?7h\r"


CLEARED = "\r \x1b[J\r"


@pytest.mark.parametrize(
    ("events", "written"),
    [
        ([partial("", "hello")], live("\x1b[2mhello\x1b[0m")),
        ([partial("hello", "")], live("hello")),
        ([partial("hello", "wor")], live("hello \x1b[2mwor\x1b[0m")),
        ([partial("", "a"), partial("a", "b")], live("\x1b[2ma\x1b[0m") + live("a \x1b[2mb\x1b[0m")),
        ([partial("a", ""), final("a b")], live("a") + CLEARED + "a b\n"),
        ([partial("", "uh"), partial("", "")], live("\x1b[2muh\x1b[0m") + CLEARED),
        ([partial("", "uh"), final("")], live("\x1b[2muh\x1b[0m") + CLEARED),
        ([final("a")], "a\n"),
        ([SpeechStarted(1.0), Ready("s", 1, "m", 80), Done(1.0, 0)], ""),
    ],
)
def test_live(events: list[Event], written: str) -> None:
    view = LiveView()
    assert "".join(view.show(event, 80) for event in events) == written


@pytest.mark.parametrize(
    ("event", "columns", "written"),
    [
        (partial("committed", "unstable"), 19, live("committed \x1b[2munstable\x1b[0m")),
        (partial("committed", "unstable"), 18, live("…mmitted \x1b[2munstable\x1b[0m")),
        (partial("committed", "unstable"), 10, live("…\x1b[2munstable\x1b[0m")),
        (partial("committed", "unstable"), 6, live("\x1b[2m…able\x1b[0m")),
        (partial("committed", ""), 6, live("…tted")),
        (partial("日本語", "です"), 6, live("…\x1b[2mです\x1b[0m")),
        (partial("a", "b"), 1, ""),
        (
            final("a text that is longer than the line stays whole"),
            10,
            "a text that is longer than the line stays whole\n",
        ),
    ],
)
def test_a_long_line_shows_its_tail(event: Event, columns: int, written: str) -> None:
    assert LiveView().show(event, columns) == written


def test_without_style_nothing_is_dim() -> None:
    assert LiveView(style=False).show(partial("a", "b"), 80) == live("a b")


def test_the_end_keeps_what_was_never_settled() -> None:
    view = LiveView(style=False)
    assert view.close() == ""
    view.show(partial("longer than", "the line"), 8)
    assert view.close() == CLEARED + "longer than the line\n"
    assert view.close() == ""


def test_notices_go_above_the_live_line() -> None:
    view, screen = LiveView(), Screen(40)
    screen.write(view.show(final("one"), 40) + view.show(partial("two", "three"), 40))
    screen.write(view.hide() + "careful!\n" + view.redraw(40))
    assert screen.shown() == ["one", "careful!", "two three"]
    screen.write(view.show(final("two three four"), 40))
    assert screen.shown() == ["one", "careful!", "two three four", ""]


WORDS = st.text("abc é日", max_size=30)
EVENTS = st.builds(partial, WORDS, WORDS) | st.builds(final, WORDS)
WIDTHS = st.integers(2, 40)


@given(st.lists(st.tuples(EVENTS, WIDTHS, WIDTHS), max_size=12), WIDTHS)
def test_the_screen_is_the_finals_and_one_live_line(steps: list[tuple[Event, int, int]], columns: int) -> None:
    """Whatever the widths, and also when the terminal's is another than the one that we know of."""
    view, screen = LiveView(), Screen(40)
    for event, known, true in steps:
        screen.columns = true
        screen.write(view.show(event, known))
    screen.columns = columns
    screen.write(view.redraw(columns))
    events = [event for event, _, _ in steps]
    settled = [clean(event.text) for event in events if isinstance(event, Final) and clean(event.text)]
    last = events[-1] if events else final("")
    unsettled = clean(f"{last.committed} {last.unstable}") if isinstance(last, Partial) else ""
    assert screen.shown() == [*settled, tail(unsettled, columns - 1).rstrip()]


@given(st.text(), st.integers(0, 30))
def test_a_tail_fits(text: str, room: int) -> None:
    text = clean(text)
    shown = tail(text, room)
    assert text_columns(shown) <= room
    assert shown == text or text.endswith(shown.removeprefix("…"))


@given(st.text())
def test_what_the_server_says_cannot_steer_the_terminal(text: str) -> None:
    for view in (LinesView(), LiveView()):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", view.show(final(text), 80))
        assert view.show(final(text), 80).count("\n") <= 1
    assert not re.search(r"\x1b(?!\[2m|\[0m|\[J|\[\?7[lh])", LiveView().show(partial("a\x1b[9Z" + text, text), 80))


def test_columns_of_characters() -> None:
    assert [char_columns(char) for char in "aé日\u0301\u200b"] == [1, 1, 2, 0, 0]


def test_lines() -> None:
    events = [SpeechStarted(0.0), partial("a", "b"), final("a  b\nc"), final(" "), Done(1.0, 1)]
    view = LinesView()
    assert "".join(view.show(event, 3) for event in events) + view.close() == "a b c\n"


def test_json() -> None:
    view = JsonView()
    lines = view.show(SpeechStarted(0.5), 3) + view.show(final('say "é"'), 3) + view.close()
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
        },
    ]
