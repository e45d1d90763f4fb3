"""Files of finals: what each adds, by table, and what becomes of a file that is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streaming_asr_client.dictation import line
from streaming_asr_client.errors import ConnectionFailed, UsageError
from streaming_asr_client.events import Final, Word
from streaming_asr_client.transcript import Transcript, TranscriptFile, cues


def final(text: str, start: float = 0.0, *, words: bool = True, seconds: float = 0.5) -> Final:
    spoken = tuple(
        Word(word, start + number * seconds, start + (number + 1) * seconds, 0.9)
        for number, word in enumerate(text.split())
    )
    return Final(0, text, start, start + seconds * len(spoken), 0.9, "endpoint", spoken if words else ())


@pytest.mark.parametrize(
    ("suffix", "written"),
    [
        (".txt", "hello there\nR & B <i>\n"),
        (
            ".srt",
            "1\n00:00:00,000 --> 00:00:01,000\nhello there\n\n2\n01:02:03,500 --> 01:02:05,000\nR & B <i>\n\n",
        ),
        (
            ".vtt",
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nhello there\n\n"
            "01:02:03.500 --> 01:02:05.000\nR &amp; B &lt;i>\n\n",
        ),
    ],
)
@pytest.mark.parametrize("words", [True, False])
def test_forms(tmp_path: Path, suffix: str, written: str, words: bool) -> None:
    finals = [final("hello there", words=words), final("", 9.0)]
    finals.append(final("R & B <i>", 3723.5, seconds=0.375, words=words))
    with TranscriptFile(tmp_path / f"notes{suffix}") as file:
        for event in finals:
            file.accept(line(event))
    assert (tmp_path / f"notes{suffix}").read_text() == written


def test_json_lines_are_the_protocols() -> None:
    message = json.loads(Transcript(".jsonl").add(final("hello")))
    assert (message["type"], message["text"], message["words"][0]["word"]) == ("final", "hello", "hello")


def test_long_utterances_are_split_by_time_and_by_length() -> None:
    assert [text for _, _, text in cues(final("a b c d", seconds=2.5))] == ["a b", "c d"]
    assert [len(text) for _, _, text in cues(final(" ".join(["x" * 20] * 9), seconds=0.1))] == [83, 83, 20]


def test_a_server_cannot_add_lines_of_its_own() -> None:
    assert Transcript(".vtt").add(final("a\nb\x1b[2J", words=False)).splitlines()[1:] == ["a b [2J", ""]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_notes_are_added_to(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"notes{suffix}"
    for text in ("one", "two"):
        with TranscriptFile(path) as file:
            file.accept(line(final(text)))
            assert text in path.read_text()  # at once
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize(("suffix", "says"), [(".vtt", ""), (".vtt", "one"), (".txt", ""), (".jsonl", "")])
def test_subtitles_of_a_session_that_never_was_are_not_in_the_way_of_the_next(
    tmp_path: Path, suffix: str, says: str
) -> None:
    def session() -> None:
        with TranscriptFile(path) as file:
            if says:
                file.accept(line(final(says)))
            raise ConnectionFailed("nobody listens")

    path = tmp_path / f"a{suffix}"
    with pytest.raises(ConnectionFailed):
        session()
    assert path.exists() == (suffix != ".vtt" or bool(says))


@pytest.mark.parametrize(
    ("name", "says"), [("a.srt", "is there already"), ("a.doc", "must end in one of"), ("none/a.txt", "No such file")]
)
def test_a_file_that_cannot_be_is_refused(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "a.srt").write_text("1\n")
    with pytest.raises(UsageError, match=says):
        TranscriptFile(tmp_path / name)
    assert (tmp_path / "a.srt").read_text() == "1\n"
