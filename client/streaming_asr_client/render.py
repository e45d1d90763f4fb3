"""Owns how events look: each view turns events into the very characters to write. Pure; knows no file, no terminal.

`LinesView` is for pipes and dumb terminals, `JsonView` for programs; `live.LiveView` is for a terminal.
"""

from __future__ import annotations

import json
import os
from typing import Protocol

from .dictation import Edit
from .events import Event, as_message


class View(Protocol):
    """What the command needs of a view. Every method returns text for standard output; `size` is its size now."""

    def show(self, event: Event, size: os.terminal_size) -> str:
        """The characters for an event that is no final."""

    def settle(self, edit: Edit, size: os.terminal_size) -> str:
        """The characters for a final."""

    def hide(self) -> str:
        """Clears what is not settled, so that something else can be written."""

    def redraw(self, size: os.terminal_size) -> str:
        """Writes again what `hide` cleared, or fits it to another size."""

    def close(self) -> str:
        """The end: leaves the cursor at the start of a line."""


class LinesView:
    """One line for each final that has text. Nothing else. What is printed stays, whatever is scratched."""

    def show(self, event: Event, size: os.terminal_size) -> str:
        """Nothing."""
        return ""

    def settle(self, edit: Edit, size: os.terminal_size) -> str:
        """The line of a final."""
        text = edit.added.strip()
        return f"{text}\n" if text else ""

    def hide(self) -> str:
        """Nothing is ever unsettled here."""
        return ""

    def redraw(self, size: os.terminal_size) -> str:
        """Nothing is ever unsettled here."""
        return ""

    def close(self) -> str:
        """Every line is complete already."""
        return ""


class JsonView(LinesView):
    """One JSON object a line for every event, as in the protocol."""

    def show(self, event: Event, size: os.terminal_size) -> str:
        """The event's line."""
        return json.dumps(as_message(event)) + "\n"

    def settle(self, edit: Edit, size: os.terminal_size) -> str:
        """The final's line."""
        return self.show(edit.final, size)
