"""The phrases that synthesizers say, and the counting of what was heard of them."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from benchmarks import commands
from benchmarks.commands import LISTS, PHRASES, Phrase, measure, options_of, read_phrases
from streaming_asr.evaluate import Result
from streaming_asr.messages import StreamOptions
from streaming_asr.recognizer import Recognizer
from streaming_asr.recordings import Recording


def test_phrases_are_words_of_a_kind() -> None:
    assert read_phrases("# remark\ndigits\tseven five\n\ncommands\tstop\n") == [
        Phrase("digits", ("seven", "five")),
        Phrase("commands", ("stop",)),
    ]
    shipped = read_phrases(PHRASES.read_text())
    assert {phrase.kind for phrase in shipped} == {"digits", "spelling", "commands"}
    assert all(len(word) == 1 for phrase in shipped if phrase.kind == "spelling" for word in phrase.words)


def test_words_and_whole_phrases_are_counted_by_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def heard(recognizer: object, recordings: list[Recording], options: object) -> list[Result]:
        return [
            Result(recording, text, 1.0, 0.1) for recording, text in zip(recordings, ("one two", "one"), strict=True)
        ]

    monkeypatch.setattr(commands, "stream_recordings", heard)
    said = [Recording("a", "v", Path("a"), ("one", "two")), Recording("b", "v", Path("b"), ("one", "three"))]
    [row] = measure(cast(Recognizer, None), {"digits": said}, "none")
    assert (row["words"], row["wer"], row["phrases"], row["phrases_right"]) == (4, 0.25, 2, 0.5)


def test_lists_hold_words_or_phrases() -> None:
    said = [Recording(name, "v", Path(name), words) for name, words in (("a", ("go", "on")), ("b", ("go", "up")))]
    assert [options_of(said, hotwords) for hotwords in LISTS] == [
        StreamOptions(),
        StreamOptions(hotwords=("go", "on", "up")),
        StreamOptions(hotwords=("go", "on", "up"), only_hotwords=True),
        StreamOptions(hotwords=("go on", "go up"), only_hotwords=True),
    ]
