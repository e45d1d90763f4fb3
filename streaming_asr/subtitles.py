"""Owns the SRT and WebVTT forms of a transcript: pure functions from utterances to text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .formatting.writer import as_written
from .messages import Final, Word

MAX_CUE_SECONDS = 6.0
MAX_CUE_CHARACTERS = 84  # two lines of 42, the usual limit for subtitles


def _timestamp(seconds: float, separator: str) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{separator}{rest % 1000:03}"


def cues(finals: Iterable[Final]) -> Iterator[tuple[float, float, str]]:
    """Splits utterances into cues of readable length, as they are written: (start, end, text), seconds."""
    for final in finals:
        cue: list[Word] = []
        for word in as_written(final.words):
            text = _text([*cue, word])
            if cue and (word.end - cue[0].start > MAX_CUE_SECONDS or len(text) > MAX_CUE_CHARACTERS):
                yield cue[0].start, cue[-1].end, _text(cue)
                cue = []
            cue.append(word)
        if cue:
            yield cue[0].start, cue[-1].end, _text(cue)


def _text(cue: Iterable[Word]) -> str:
    return " ".join(word.written or word.word for word in cue)


def srt(finals: Iterable[Final]) -> str:
    """SubRip text."""
    return "".join(
        f"{number}\n{_timestamp(start, ',')} --> {_timestamp(end, ',')}\n{text}\n\n"
        for number, (start, end, text) in enumerate(cues(finals), 1)
    )


def vtt(finals: Iterable[Final]) -> str:
    """WebVTT text (W3C WebVTT)."""
    body = "".join(
        f"{_timestamp(start, '.')} --> {_timestamp(end, '.')}\n{text}\n\n" for start, end, text in cues(finals)
    )
    return "WEBVTT\n\n" + body
