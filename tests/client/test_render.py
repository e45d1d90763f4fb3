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
    """As much of a terminal as the live view uses: it folds at the width and keeps all rows."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.rows: list[str] = [""]
        self.row = self.column = 0

    def write(self, text: str) -> None:
        for token in re.findall(r"\x1b\[\d*[A-Za-z]|.|\n", text):
            match token:
                case "\n":
                    self.row, self.column = self.row + 1, 0
                case "\r":
                    self.column = 0
                case "\x1b[K":
                    self.rows[self.row] = self._left()
                case "\x1b[J":
                    self.rows[self.row :] = [self._left()]
                case "\x1b[2m" | "\x1b[0m":
                    pass
                case _ if token.startswith("\x1b"):
                    assert token.endswith("A"), f"what is {token!r}?"
                    self.row = max(0, self.row - int(token[2:-1]))
                case _:
                    if self.column == self.columns:
                        self.row, self.column = self.row + 1, 0
                    self._reach_row()
                    row = self._left()
                    self.rows[self.row] = row + token + self.rows[self.row][self.column + 1 :]
                    self.column += 1
            self._reach_row()

    def _left(self) -> str:
        return self.rows[self.row][: self.column].ljust(self.column)

    def _reach_row(self) -> None:
        while len(self.rows) <= self.row:
            self.rows.append("")

    def shown(self) -> list[str]:
        return [row.rstrip() for row in self.rows]


@pytest.mark.parametrize(
    ("events", "written"),
    [
        ([partial("", "hello")], "\x1b[2mhello\x1b[0m\x1b[K"),
        ([partial("hello", "")], "hello\x1b[K"),
        ([partial("hello", "wor")], "hello \x1b[2mwor\x1b[0m\x1b[K"),
        ([partial("", "a"), partial("a", "b")], "\x1b[2ma\x1b[0m\x1b[K" + "\ra \x1b[2mb\x1b[0m\x1b[K"),
        ([partial("a", ""), final("a b")], "a\x1b[K" + "\r\x1b[J" + "a b\n"),
        ([partial("", "uh"), partial("", "")], "\x1b[2muh\x1b[0m\x1b[K" + "\r\x1b[J"),
        ([partial("", "uh"), final("")], "\x1b[2muh\x1b[0m\x1b[K" + "\r\x1b[J"),
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
        (partial("committed", "unstable"), 19, "committed \x1b[2munstable\x1b[0m\x1b[K"),
        (partial("committed", "unstable"), 18, "…mmitted \x1b[2munstable\x1b[0m\x1b[K"),
        (partial("committed", "unstable"), 10, "…\x1b[2munstable\x1b[0m\x1b[K"),
        (partial("committed", "unstable"), 6, "\x1b[2m…able\x1b[0m\x1b[K"),
        (partial("committed", ""), 6, "…tted\x1b[K"),
        (partial("日本語", "です"), 6, "…\x1b[2mです\x1b[0m\x1b[K"),
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
    assert LiveView(style=False).show(partial("a", "b"), 80) == "a b\x1b[K"


def test_the_end_keeps_what_was_never_settled() -> None:
    view = LiveView(style=False)
    assert view.close() == ""
    assert view.show(partial("a", "b"), 80) + view.close() == "a b\x1b[K\n"


def test_notices_go_above_the_live_line() -> None:
    view, screen = LiveView(), Screen(40)
    screen.write(view.show(final("one"), 40) + view.show(partial("two", "three"), 40))
    screen.write(view.hide(40) + "careful!\n" + view.redraw(40))
    assert screen.shown() == ["one", "careful!", "two three"]
    screen.write(view.show(final("two three four"), 40))
    assert screen.shown() == ["one", "careful!", "two three four", ""]


def test_a_terminal_that_became_narrower_leaves_nothing_behind() -> None:
    view, screen = LiveView(), Screen(12)  # the screen as it is after the resize
    screen.write("settled\n")
    screen.write(view.show(partial("a line of thirty-three", "columns"), 40))  # drawn before; folded into three rows
    assert screen.shown() == ["settled", "a line of th", "irty-three c", "olumns"]
    screen.write(view.redraw(12))
    assert screen.shown() == ["settled", "…ee columns"]


WORDS = st.text("abc é日", max_size=30)
EVENTS = st.builds(partial, WORDS, WORDS) | st.builds(final, st.text("abc ", max_size=9))


@given(st.lists(EVENTS, max_size=12), st.integers(10, 40))
def test_the_screen_is_the_finals_and_one_live_line(events: list[Event], columns: int) -> None:
    view, screen = LiveView(), Screen(columns)
    for event in events:
        screen.write(view.show(event, columns))
    settled = [clean(event.text) for event in events if isinstance(event, Final) and clean(event.text)]
    last = events[-1] if events else final("")
    live = clean(f"{last.committed} {last.unstable}") if isinstance(last, Partial) else ""
    assert screen.shown() == [*settled, tail(live, columns - 1)]


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
    assert not re.search(r"\x1b(?!\[2m|\[0m|\[K)", LiveView().show(partial("a\x1b[9Z" + text, text), 80))


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
