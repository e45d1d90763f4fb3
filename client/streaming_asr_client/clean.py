"""Owns what may reach a terminal, a window or a file of what a server says."""

from __future__ import annotations

import unicodedata


def clean(text: str) -> str:
    """`text` on one line and without control characters: a server must not be able to steer the terminal."""
    return " ".join("".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in text).split())
