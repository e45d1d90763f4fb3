"""Owns the file of `--output`: what each final adds to notes, subtitles or JSON lines. Written final by final.

Notes and JSON lines are added to a file that is there; subtitles count from their own start, and need a new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from .errors import UsageError
from .events import Final, Word, as_message
from .render import clean

MAX_CUE_SECONDS = 6.0
MAX_CUE_CHARACTERS = 84  # two lines of 42, the usual limit for subtitles


def cues(final: Final) -> Iterator[tuple[float, float, str]]:
    """The utterance in pieces of readable length: (start, end, text), seconds. Without words it is one piece."""
    if not final.words and (text := clean(final.text)):
        yield final.start, final.end, text
    cue: list[Word] = []
    for word in final.words:
        longer = " ".join(w.word for w in [*cue, word])
        if cue and (word.end - cue[0].start > MAX_CUE_SECONDS or len(longer) > MAX_CUE_CHARACTERS):
            yield _cue(cue)
            cue = []
        cue.append(word)
    if cue:
        yield _cue(cue)


def _cue(words: list[Word]) -> tuple[float, float, str]:
    return words[0].start, words[-1].end, clean(" ".join(word.word for word in words))


def _timestamp(seconds: float, separator: str) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{separator}{milliseconds % 1000:03}"


class Transcript:
    """The text of a transcript, piece by piece: `head` once, then `add` for each final."""

    def __init__(self, suffix: str) -> None:
        self._add = self._forms()[suffix]
        self._cues = 0
        self.head = "WEBVTT\n\n" if suffix == ".vtt" else ""

    def _forms(self) -> dict[str, Callable[[Final], str]]:
        return {
            ".txt": lambda final: f"{clean(final.text)}\n",
            ".jsonl": lambda final: json.dumps(as_message(final)) + "\n",
            ".srt": lambda final: self._subtitles(final, ",", numbered=True),
            ".vtt": lambda final: self._subtitles(final, ".", numbered=False),
        }

    def _subtitles(self, final: Final, separator: str, *, numbered: bool) -> str:
        pieces = []
        for start, end, text in cues(final):
            self._cues += 1
            number = f"{self._cues}\n" if numbered else ""
            # WebVTT reads "&" and "<" as markup, and both forms "-->" as the end of the times.
            shown = text.replace("-->", "->") if numbered else text.replace("&", "&amp;").replace("<", "&lt;")
            pieces.append(f"{number}{_timestamp(start, separator)} --> {_timestamp(end, separator)}\n{shown}\n\n")
        return "".join(pieces)

    def add(self, final: Final) -> str:
        """What the final adds; nothing when it has no text."""
        return self._add(final) if clean(final.text) else ""


SUFFIXES = (".txt", ".srt", ".vtt", ".jsonl")


class TranscriptFile:
    """A transcript on disk, readable after every final. Raises `UsageError`."""

    def __init__(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise UsageError(f"--output {path}: the name must end in one of {', '.join(SUFFIXES)}")
        self._path = path
        self._transcript = Transcript(suffix)
        try:
            # not closed here: for as long as the session
            self._file = path.open("x" if suffix in (".srt", ".vtt") else "a", encoding="utf-8")
        except FileExistsError:
            raise UsageError(f"--output {path}: is there already, and subtitles cannot be added to") from None
        except OSError as failure:
            raise UsageError(f"--output {path}: {failure.strerror}") from None
        self._write(self._transcript.head)

    def accept(self, final: Final) -> None:
        """Adds a final."""
        self._write(self._transcript.add(final))

    def _write(self, text: str) -> None:
        try:
            self._file.write(text)
            self._file.flush()
        except OSError as failure:
            raise UsageError(f"cannot write to {self._path}: {failure.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
