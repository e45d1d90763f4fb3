"""Owns how events look: each view turns events into the very characters to write. Pure; knows no file, no terminal.

`LinesView` for pipes and dumb terminals, `JsonView` for programs, `LiveView` for a terminal: there the open utterance
is one line, rewritten in place, and each final settles as lines that are never touched again.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import dataclass, field
from typing import Protocol

from .events import Event, Final, Partial, as_message

DIM = "\x1b[2m"
PLAIN = "\x1b[0m"
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"
CLEAR_REST = "\x1b[J"  # from the cursor to the end of the screen
ELLIPSIS = "…"


class View(Protocol):
    """What the command needs of a view. Every method returns text for standard output; `columns` is its width now."""

    def show(self, event: Event, columns: int) -> str:
        """The characters for one event."""

    def hide(self) -> str:
        """Clears what is not settled, so that something else can be written."""

    def redraw(self, columns: int) -> str:
        """Writes again what `hide` cleared, or fits it to another width."""

    def close(self) -> str:
        """The end: leaves the cursor at the start of a line."""


def clean(text: str) -> str:
    """`text` on one line and without control characters: a server must not be able to steer the terminal."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text).split())


def char_columns(char: str) -> int:
    """How many columns a terminal gives to `char`: 0, 1 or 2."""
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def text_columns(text: str) -> int:
    """How many columns `text` takes."""
    return sum(map(char_columns, text))


def tail(text: str, room: int) -> str:
    """The end of `text` that fits into `room` columns, after an ellipsis when something is missing."""
    if text_columns(text) <= room:
        return text
    used = text_columns(ELLIPSIS)
    start = len(text)
    while start > 0 and used + char_columns(text[start - 1]) <= room:
        start -= 1
        used += char_columns(text[start])
    while start < len(text) and char_columns(text[start]) == 0:
        start += 1  # an accent whose letter did not fit
    return (ELLIPSIS + text[start:]) if room >= 1 else ""


@dataclass
class LinesView:
    """One line for each final that has text. Nothing else."""

    def show(self, event: Event, columns: int) -> str:
        """The line of a final; nothing for other events."""
        text = clean(event.text) if isinstance(event, Final) else ""
        return f"{text}\n" if text else ""

    def hide(self) -> str:
        """Nothing is ever unsettled here."""
        return ""

    def redraw(self, columns: int) -> str:
        """Nothing is ever unsettled here."""
        return ""

    def close(self) -> str:
        """Every line is complete already."""
        return ""


@dataclass
class JsonView(LinesView):
    """One JSON object a line for every event, as in the protocol."""

    def show(self, event: Event, columns: int) -> str:
        """The event's line."""
        return json.dumps(as_message(event)) + "\n"


@dataclass
class LiveView:
    """Finals as lines; below them the open utterance, committed text plain, unstable text dim (when `style`).

    The cursor rests on the first character of the live line. When a resize folds the line, terminals keep the cursor
    on its character, so that rewriting starts in the right place whatever the width was, is, or is about to be.
    """

    style: bool = True
    committed: str = field(default="", init=False)
    unstable: str = field(default="", init=False)
    drawn: bool = field(default=False, init=False)  # whether there is a live line on the screen

    def show(self, event: Event, columns: int) -> str:
        """A partial rewrites the live line, a final settles in its place."""
        match event:
            case Partial():
                self.committed, self.unstable = clean(event.committed), clean(event.unstable)
                return self.redraw(columns)
            case Final():
                self.committed = self.unstable = ""
                text = clean(event.text)
                return self.hide() + (f"{text}\n" if text else "")
            case _:
                return ""

    def hide(self) -> str:
        """Clears the live line, and the rows below that a resize may have folded it into."""
        was_drawn, self.drawn = self.drawn, False
        # The space: tmux takes clearing from the top left corner for a cleared screen, and keeps a copy of it.
        return f"\r {CLEAR_REST}\r" if was_drawn else ""

    def redraw(self, columns: int) -> str:
        """The live line, short of the last column. Nothing folds, even when the terminal is narrower than we know."""
        shown = tail(f"{self.committed} {self.unstable}".strip(), columns - 1)
        if not shown:
            return self.hide()
        self.drawn = True
        committed = shown[: max(len(shown) - len(self.unstable), 0)]
        unstable = shown[len(committed) :]
        styled = f"{committed}{DIM}{unstable}{PLAIN}" if self.style and unstable else shown
        return f"\r{NO_WRAP}{styled}{CLEAR_REST}{WRAP}\r"  # overwritten, not cleared: no flicker

    def close(self) -> str:
        """Leaves what was never settled on the screen, as a line: it was said, after all."""
        text = f"{self.committed} {self.unstable}".strip()
        self.committed = self.unstable = ""
        return self.hide() + (f"{text}\n" if text else "")
