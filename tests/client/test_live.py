"""The live view: events in, characters out; and what a terminal makes of the characters."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from streaming_asr_client.clean import clean
from streaming_asr_client.dictation import Dictation, line
from streaming_asr_client.events import Done, Event, Final, Partial, Ready, SpeechStarted
from streaming_asr_client.live import LiveView, level_bar, status_line
from streaming_asr_client.readings import Readings


def partial(committed: str, unstable: str) -> Partial:
    return Partial(0, committed, unstable, 0.0, 1.0)


def final(text: str) -> Final:
    return Final(0, text, 0.0, 1.0, 0.9, "endpoint")


def size(columns: int, lines: int = 24) -> os.terminal_size:
    return os.terminal_size((columns, lines))


def show(view: LiveView, said: Event, columns: int, lines: int = 24) -> str:
    if isinstance(said, Final):
        return view.settle(line(said), size(columns, lines))
    return view.show(said, size(columns, lines))


class Screen:
    """As much of a terminal as the live view uses. Lines fold at the width, after a resize anew."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [""]
        self.line = self.offset = 0  # the cursor: in a line before it is folded into rows
        self.wraps = True

    def write(self, text: str) -> None:
        for token in re.findall(r"\x1b\[[?;\d]*[A-Za-z]|.|\n", text):
            match token:
                case "\n":
                    line, row_end = self.lines[self.line], self._row_end()
                    if len(line) > row_end:  # the next row is of the same line, which a resize has folded
                        self.lines[self.line : self.line + 1] = [line[:row_end], line[row_end:]]
                    self.line, self.offset = self.line + 1, 0
                    if self.line == len(self.lines):
                        self.lines.append("")
                case "\r":  # to the start of the row, not of the line
                    self.offset -= self.offset % self.columns
                case "\x1b[J":
                    self.lines[self.line :] = [self.lines[self.line][: self.offset]]
                case "\x1b[K":
                    line, row_end = self.lines[self.line], self._row_end()
                    self.lines[self.line] = line[: self.offset].ljust(row_end) + line[row_end:]
                case "\x1b[?7l" | "\x1b[?7h":
                    self.wraps = token.endswith("h")
                case _ if re.fullmatch(r"\x1b\[\d+A", token):
                    self.line, self.offset = self.line - int(token[2:-1]), 0
                case _ if re.fullmatch(r"\x1b\[[\d;]*m", token):
                    pass
                case _:
                    assert not token.startswith("\x1b"), f"what is {token!r}?"
                    line = self.lines[self.line]
                    self.lines[self.line] = line[: self.offset] + token + line[self.offset + 1 :]
                    if self.wraps or self.offset % self.columns < self.columns - 1:
                        self.offset += 1

    def _row_end(self) -> int:
        return (self.offset // self.columns + 1) * self.columns

    def shown(self) -> list[str]:
        return [line.rstrip() for line in self.lines]


def live(*rows: str) -> str:
    """The region as it is written."""
    up = f"\x1b[{len(rows) - 1}A" if len(rows) > 1 else ""
    return "\r\x1b[?7l" + "\x1b[K\n".join(rows) + f"\x1b[J\x1b[?7h\r{up}"


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
    assert "".join(show(view, event, 80) for event in events) == written


@pytest.mark.parametrize(
    ("event", "columns", "lines", "rows"),
    [
        (partial("committed", "unstable"), 19, 24, ["committed \x1b[2munstable\x1b[0m"]),
        (partial("committed", "unstable"), 18, 24, ["committed", "\x1b[2munstable\x1b[0m"]),
        (partial("one two three", "four"), 6, 6, ["three", "\x1b[2mfour\x1b[0m"]),  # not more than half the screen
        (partial("日本語", "です"), 8, 24, ["日本語", "\x1b[2mです\x1b[0m"]),
        (partial("abcdefg", ""), 4, 24, ["abc", "def", "g"]),
    ],
)
def test_a_long_utterance_takes_several_rows(event: Event, columns: int, lines: int, rows: list[str]) -> None:
    assert show(LiveView(), event, columns, lines) == live(*rows)


def test_a_long_final_is_left_to_the_terminal_to_fold() -> None:
    text = "a text that is longer than the line stays whole"
    assert show(LiveView(), final(text), 10) == f"{text}\n"


def test_without_colours_committed_and_unstable_are_still_told_apart() -> None:
    view = LiveView(color=False)
    view.readings = Readings(16000, 1, lambda: None)
    view.readings.hear(b"\xff\x3f" * 3200)
    written = show(view, partial("a", "b"), 80)
    assert set(re.findall(r"\x1b\[[\d;]*m", written)) == {"\x1b[2m", "\x1b[0m"}


def test_the_end_keeps_what_was_never_settled() -> None:
    view = LiveView()
    assert view.close() == ""
    show(view, partial("longer than", "the line"), 8)
    assert view.close() == CLEARED + "longer than the line\n"
    assert view.close() == ""


def test_notices_go_above_the_region() -> None:
    view, screen = LiveView(), Screen(40)
    screen.write(show(view, final("one"), 40) + show(view, partial("two", "three"), 40))
    screen.write(view.hide() + "careful!\n" + view.redraw(size(40)))
    assert screen.shown() == ["one", "careful!", "two three"]
    screen.write(show(view, final("two three four"), 40))
    assert screen.shown() == ["one", "careful!", "two three four", ""]


def test_what_is_scratched_goes_or_is_said_to_be_gone() -> None:
    view, screen, dictation = LiveView(revisable=True), Screen(40), Dictation()

    def say(text: str) -> list[str]:
        screen.write(view.settle(dictation.accept(final(text)), size(40)))
        return screen.shown()

    assert say("one comma") == ["one,"]
    assert say("two") == ["one, two"]
    screen.write(view.show(partial("scratch", "that"), size(40)))
    assert screen.shown() == ["one, two scratch that"]
    assert say("scratch that") == ["one,"]
    assert say("three new line four") == ["one, three", "four"]
    assert say("scratch that") == ["one,"]
    assert say("new paragraph") == ["one,", "", ""]
    assert say("five") == ["one,", "", "five"]
    assert say("scratch that scratch that six") == ["one,", "", "six"]  # a line break that stays
    assert say("scratch that scratch that seven") == ["one,", "", "scratched: one,", "seven"]
    screen.write(view.close())
    assert screen.shown() == ["one,", "", "scratched: one,", "seven", ""]


WORDS = st.text("abc é", max_size=30)
EVENTS = st.builds(partial, WORDS, WORDS) | st.builds(final, WORDS)
WIDTHS = st.integers(2, 40)


@given(st.lists(st.tuples(EVENTS, WIDTHS, WIDTHS), max_size=12), WIDTHS)
def test_the_screen_is_the_finals_and_one_region(steps: list[tuple[Event, int, int]], columns: int) -> None:
    """Whatever the widths, and also when the terminal's is another than the one that we know of."""
    view, screen = LiveView(), Screen(40)
    view.readings = Readings(16000, 1, lambda: None)
    for event, known, true in steps:
        screen.columns = true
        screen.write(show(view, event, known))
    screen.columns = columns
    screen.write(view.redraw(size(columns)))
    events = [event for event, _, _ in steps]
    settled = [clean(event.text) for event in events if isinstance(event, Final) and clean(event.text)]
    last = events[-1] if events else final("")
    unsettled = clean(f"{last.committed} {last.unstable}") if isinstance(last, Partial) else ""
    shown = screen.shown()
    assert shown[: len(settled)] == settled
    *rows, status = shown[len(settled) :]
    assert status[0] in "●…"
    assert all(len(row) < max(columns, 2) for row in [*rows, status])
    assert unsettled.replace(" ", "").endswith("".join(rows).replace(" ", ""))
    assert bool(rows) == bool(unsettled)


@given(st.text())
def test_what_the_server_says_cannot_steer_the_terminal(text: str) -> None:
    for written in (
        LiveView().settle(line(final(text)), size(80)),
        LiveView(revisable=True).settle(Dictation().accept(final(text)), size(80)),
        LiveView().show(partial("a\x1b[9Z" + text, text), size(80)),
    ):
        ours = re.sub(r"\r|\n|\x1b\[(2m|0m|J|K|\d+A|\?7[lh])", "", written)
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", ours)


@given(st.text(), st.text(), WIDTHS)
def test_no_row_reaches_the_last_column(committed: str, unstable: str, columns: int) -> None:
    view = LiveView()
    view.readings = Readings(16000, 1, lambda: None)
    written = show(view, partial(committed, unstable), columns + 1)
    for row in re.sub(r"\r|\x1b\[[?;\d]*[A-Za-z]", "", written).split("\n"):
        assert cell_len(row) <= columns


def test_the_hint_takes_the_readings_place() -> None:
    view, screen = LiveView(), Screen(40)
    view.readings = Readings(16000, 1, lambda: None)
    view.hint = lambda: "press to talk"
    screen.write(view.redraw(size(40)))
    assert screen.shown() == ["○ press to talk"]
    view.hint = str
    screen.write(view.redraw(size(40)))
    assert screen.shown() == ["● " + " " * 16 + "  0:00"]


def test_readings_on_a_line() -> None:
    readings = Readings(16000, 1, lambda: None)
    readings.hear(b"\xff\x7f" * 16000 * 75)
    readings.see(partial("word", ""))
    assert status_line(readings).plain == "● " + "█" * 16 + "  1:15  latency 74000 ms"


@pytest.mark.parametrize(
    ("level", "bar"), [(0.0, "    "), (0.5, "██  "), (0.53125, "██▏ "), (0.96875, "███▉"), (1.0, "████")]
)
def test_level_bars(level: float, bar: str) -> None:
    assert level_bar(level, 4) == bar
