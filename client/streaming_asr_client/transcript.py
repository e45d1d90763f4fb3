"""Owns the file of `--output`: what each edit makes of notes, subtitles or JSON lines. Written final by final.

Notes and JSON lines are added to a file that is there; subtitles count from their own start, and need a new one.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from .clean import clean
from .dictation import MAX_SCRATCH, Edit
from .errors import UsageError
from .events import Final, Word, as_message

MAX_CUE_SECONDS = 6.0
MAX_CUE_CHARACTERS = 84  # two lines of 42, the usual limit for subtitles


def cues(final: Final) -> Iterator[tuple[float, float, str]]:
    """The utterance in pieces of readable length: (start, end, text), seconds. Without words it is one piece."""
    if not final.words and (text := clean(final.written)):
        yield final.start, final.end, text
    cue: list[Word] = []
    for word in final.words:
        longer = _text([*cue, word])
        is_joined = word.written == ""  # to the figures of the word before
        if cue and not is_joined and (word.end - cue[0].start > MAX_CUE_SECONDS or len(longer) > MAX_CUE_CHARACTERS):
            yield _cue(cue)
            cue = []
        cue.append(word)
    if cue:
        yield _cue(cue)


def _cue(words: list[Word]) -> tuple[float, float, str]:
    return words[0].start, words[-1].end, _text(words)


def _text(words: list[Word]) -> str:
    return clean(" ".join(word.word if word.written is None else word.written for word in words))


def _timestamp(seconds: float, separator: str) -> str:
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{milliseconds // 1000:02}{separator}{milliseconds % 1000:03}"


class Transcript:
    """The text of a transcript, piece by piece: `head` once, then `add` for each final. Notes are not among them."""

    def __init__(self, suffix: str) -> None:
        self._add = self._forms()[suffix]
        self.num_cues = 0
        self.head = "WEBVTT\n\n" if suffix == ".vtt" else ""

    def _forms(self) -> dict[str, Callable[[Final], str]]:
        return {
            ".jsonl": lambda final: json.dumps(as_message(final)) + "\n",
            ".srt": lambda final: self._subtitles(final, ",", numbered=True),
            ".vtt": lambda final: self._subtitles(final, ".", numbered=False),
        }

    def _subtitles(self, final: Final, separator: str, *, numbered: bool) -> str:
        pieces = []
        for start, end, text in cues(final):
            self.num_cues += 1
            number = f"{self.num_cues}\n" if numbered else ""
            # WebVTT reads "&" and "<" as markup, and both forms "-->" as the end of the times.
            shown = text.replace("-->", "->") if numbered else text.replace("&", "&amp;").replace("<", "&lt;")
            pieces.append(f"{number}{_timestamp(start, separator)} --> {_timestamp(end, separator)}\n{shown}\n\n")
        return "".join(pieces)

    def add(self, final: Final) -> str:
        """What the final adds; nothing when it has no words."""
        return self._add(final) if clean(final.text) else ""


SUFFIXES = (".txt", ".srt", ".vtt", ".jsonl")


class TranscriptFile:
    """A transcript on disk, readable after every final. Raises `UsageError`."""

    def __init__(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise UsageError(f"--output {path}: the name must end in one of {', '.join(SUFFIXES)}")
        self._path = path
        self._is_ours = suffix in (".srt", ".vtt")  # to be new, as nothing can be added to it
        self._transcript = None if suffix == ".txt" else Transcript(suffix)
        self._places: deque[tuple[int, int]] = deque(maxlen=MAX_SCRATCH)  # where finals begin, and with which cue
        self._line_is_open = False
        try:
            # not closed here: for as long as the session
            self._file = path.open("xb" if self._is_ours else "ab")
            self._end = self._file.seek(0, os.SEEK_END)
        except FileExistsError:
            raise UsageError(f"--output {path}: is there already, and subtitles cannot be added to") from None
        except OSError as failure:
            raise UsageError(f"--output {path}: {failure.strerror or failure}") from None
        if self._transcript is not None:
            self._replace(self._end, self._transcript.head)

    def accept(self, edit: Edit) -> None:
        """Follows an edit."""
        if self._transcript is None:
            self._replace(self._end - len(edit.erased.encode()), edit.added)
            return
        place, num_cues = self._end, self._transcript.num_cues
        for _ in range(edit.num_scratched):
            place, num_cues = self._places.pop()
        self._transcript.num_cues = num_cues
        self._replace(place, self._transcript.add(edit.final))
        if edit.final.written:
            self._places.append((place, num_cues))

    def _replace(self, place: int, text: str) -> None:
        """What is from `place` on, in bytes, gives way to `text`."""
        try:
            if place < self._end:
                self._file.truncate(self._file.seek(place))
            self._file.write(text.encode())
            self._file.flush()
        except OSError as failure:
            raise UsageError(f"cannot write to {self._path}: {failure.strerror}") from None
        self._end = place + len(text.encode())
        if text:
            self._line_is_open = not text.endswith("\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        with self._file:
            if self._line_is_open:
                self._replace(self._end, "\n")
        is_bare = self._transcript is not None and self._end == len(self._transcript.head.encode())
        if kind is not None and self._is_ours and is_bare:
            self._path.unlink(missing_ok=True)  # it would be in the way of the next try
