"""Owns the live view: what is settled above, and below it a region that is rewritten in place, laid out by `rich`.

The region is the open utterance, committed text plain and unstable text dim, and under it a line of readings: level,
length, latency. Pure like the other views: characters come out, and whoever calls writes them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from .clean import clean
from .dictation import Edit
from .events import Event, Partial
from .readings import Readings

NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"
CLEAR_LINE, CLEAR_REST = "\x1b[K", "\x1b[J"  # from the cursor to the end of the line, of the screen
BAR_COLUMNS = 16
EIGHTHS = " ▏▎▍▌▋▊▉"


class LiveView:
    """Settled text as lines that are never touched again; below them the region.

    The cursor rests on the first character of the region. When a resize folds its rows, terminals keep the cursor on
    its character, so that rewriting starts in the right place whatever the width was, is, or is about to be.
    `revisable`: settled text may still be taken back, so the last of it stays in the region.
    """

    def __init__(self, *, color: bool = True, revisable: bool = False) -> None:
        self._console = Console(
            file=io.StringIO(),
            force_terminal=True,
            color_system="standard",
            no_color=not color,
            highlight=False,
            legacy_windows=False,
        )
        self._revisable = revisable
        self._committed = self._unstable = ""
        self._tail = ""  # the end of the settled text that is still in the region
        self._is_drawn = False
        self._size = os.terminal_size((0, 0))  # for which it was drawn last
        self.readings: Readings | None = None
        self.hint: Callable[[], str] = str
        """What to say instead of the readings, if anything."""

    def show(self, event: Event, size: os.terminal_size) -> str:
        """A partial rewrites the region."""
        if isinstance(event, Partial):
            self._committed, self._unstable = clean(event.committed), clean(event.unstable)
        if self.readings is not None:
            self.readings.see(event)
        return self.redraw(size)

    def settle(self, edit: Edit, size: os.terminal_size) -> str:
        """A final takes the open utterance's place."""
        self._committed = self._unstable = ""
        if not self._revisable:
            settled, self._tail = edit.added, ""
        elif self._tail.endswith(edit.erased):
            settled = self._revise(len(edit.erased), edit.added)
        else:  # more than is still here
            gone = clean(edit.erased.removesuffix(self._tail))
            settled = f"{self._print(Text(f'scratched: {gone}', 'dim'))}\n" if gone else ""
            settled += self._revise(len(self._tail), edit.added)
        return self.hide() + settled + self.redraw(size)

    def _revise(self, num_erased: int, added: str) -> str:
        """Keeps the lines that `added` is on; returns those before, which are settled for good."""
        tail = self._tail[: len(self._tail) - num_erased]
        end = tail.rfind("\n") + 1
        self._tail = tail[end:] + added
        return tail[:end].lstrip(" ")

    def hide(self) -> str:
        """Clears the region, and the rows below that a resize may have folded it into."""
        was_drawn, self._is_drawn = self._is_drawn, False
        # The space: tmux takes clearing from the top left corner for a cleared screen, and keeps a copy of it.
        return f"\r {CLEAR_REST}\r" if was_drawn else ""

    def redraw(self, size: os.terminal_size) -> str:
        """The region, short of the last column. Nothing folds, even when the terminal is narrower than we know."""
        rows = self._rows(max(size.columns - 1, 1), max(size.lines // 2 - 1, 1))
        if not rows:
            return self.hide()
        cleared = "" if size == self._size else self.hide()
        self._is_drawn, self._size = True, size
        drawn = f"{CLEAR_LINE}\n".join(self._print(row) for row in rows)  # overwritten, not cleared: no flicker
        up = f"\x1b[{len(rows) - 1}A" if len(rows) > 1 else ""
        return f"{cleared}\r{NO_WRAP}{drawn}{CLEAR_REST}{WRAP}\r{up}"

    def _rows(self, columns: int, max_text_rows: int) -> list[Text]:
        text = self._text()
        rows = list(text.wrap(self._console, columns))[-max_text_rows:] if text.plain.strip() else []
        for row in rows:
            row.rstrip()
        if self.readings is not None:
            status = Text("○ " + hint, "dim") if (hint := self.hint()) else status_line(self.readings)
            status.truncate(columns, overflow="ellipsis")
            rows.append(status)
        return rows

    def _text(self) -> Text:
        """All that is not settled for good."""
        space = " " if self._tail and not self._tail.endswith("\n") else ""
        between = " " if self._committed and self._unstable else ""
        return Text.assemble(self._tail.lstrip(" "), space, self._committed, between, (self._unstable, "dim"))

    def _print(self, row: Text) -> str:
        with self._console.capture() as captured:
            self._console.print(row, end="", soft_wrap=True)
        return captured.get()

    def close(self) -> str:
        """Leaves what was never settled on the screen: it was said, after all."""
        text = self._text().plain.strip(" ")
        self._tail = self._committed = self._unstable = ""
        self.readings = None
        return self.hide() + (f"{text}\n" if text and not text.endswith("\n") else text)


def status_line(readings: Readings) -> Text:
    """Level, length and latency on one line."""
    bar = level_bar(readings.level, BAR_COLUMNS)
    minutes, seconds = divmod(int(readings.seconds), 60)
    latency = "" if readings.latency_ms is None else f"  latency {readings.latency_ms} ms"
    return Text.assemble(("● ", "red"), (bar, "green on black"), (f"  {minutes}:{seconds:02}{latency}", "dim"))


def level_bar(level: float, columns: int) -> str:
    """0 to 1 as a bar, to an eighth of a column."""
    eighths = round(level * columns * 8)
    return ("█" * (eighths // 8) + EIGHTHS[eighths % 8]).ljust(columns)[:columns]
