"""Spoken commands: by table, what becomes of the text, of files and of subtitles; and that all who follow agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streaming_asr_client.dictation import MAX_SCRATCH, Dictation, line
from streaming_asr_client.events import Final, Word
from streaming_asr_client.transcript import TranscriptFile


def final(text: str, formatted: str = "", start: float = 0.0) -> Final:
    """One second a word; `formatted` has as many words, or is empty."""
    said, written = text.split(), formatted.split()
    words = tuple(
        Word(word, start + at, start + at + 1, 0.9, written[at] if written else None) for at, word in enumerate(said)
    )
    return Final(0, text, start, start + len(said), 0.9, "endpoint", words, formatted=formatted)


def follow(text: str, finals: list[Final]) -> str:
    """What `text` becomes for one who follows the edits."""
    dictation = Dictation()
    for event in finals:
        edit = dictation.accept(event)
        assert text.endswith(edit.erased)
        text = text[: len(text) - len(edit.erased)] + edit.added
    return text


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (["hello", "there"], "hello there"),
        (["hello new line there"], "hello\nthere"),
        (["hello new paragraph there"], "hello\n\nthere"),
        (["hello", "new line", "there"], "hello\nthere"),
        (["new line"], "\n"),
        (["yes comma no period"], "yes, no."),
        (["yes", "comma", "no", "full stop"], "yes, no."),
        (["is it question mark"], "is it?"),
        (["comma"], ","),
        (["hello there scratch that"], ""),
        (["hello there scratch that good bye"], "good bye"),
        (["hello", "scratch that"], ""),
        (["hello", "scratch that good bye"], "good bye"),
        (["one", "two three", "scratch that", "four"], "one four"),
        (["one", "two", "three scratch that scratch that"], "one"),
        (["one", "two", "scratch that", "scratch that", "scratch that"], ""),
        (["one new line two", "scratch that"], ""),
        (["one", "new line", "scratch that", "two"], "one two"),
        (["one", "comma", "scratch that", "two"], "one two"),
        (["one comma period"], "one."),
        (["a new car", "that line", "stop it full"], "a new car that line stop it full"),
        (["new", "line"], "new line"),  # a command is not torn by a pause
        (["New Line"], "\n"),
        (["", "one", ""], "one"),
    ],
)
def test_what_becomes_of_the_text(said: list[str], text: str) -> None:
    assert follow("", [final(words) for words in said]) == text


@pytest.mark.parametrize(
    ("finals", "text"),
    [
        ([("hello comma how are you", "Hello comma, how are you?")], "Hello, how are you?"),
        ([("hello period how are you", "Hello period, how are you?")], "Hello. How are you?"),
        ([("hello new line how are you", "Hello, new line. how are you?")], "Hello,\nHow are you?"),
        ([("hello there", "Hello there."), ("comma", "Comma."), ("you", "You.")], "Hello there, You."),
        ([("hello", "Hello."), ("new paragraph", "New paragraph."), ("you", "You.")], "Hello.\n\nYou."),
        ([("hello", "Hello."), ("comma scratch that", "Comma, scratch that.")], "Hello"),
        ([("bad man", "Bad man"), ("scratch that", "scratch that"), ("so", "so.")], "So."),
        ([("yes", "Yes."), ("no", "No"), ("scratch that", "scratch that"), ("so", "so")], "Yes. So"),
        ([("yes", "Yes"), ("no", "no"), ("scratch that", "scratch that"), ("so", "so")], "Yes so"),
        ([("yes period", "Yes period,"), ("so", "so")], "Yes. So"),
        ([("hello", "Hello."), ("comma", "Comma."), ("scratch that you", "Scratch that you.")], "Hello you."),
    ],
)
def test_spoken_marks_replace_the_servers(finals: list[tuple[str, str]], text: str) -> None:
    assert follow("", [final(*said) for said in finals]) == text


def test_figures_that_say_several_words_stay_whole() -> None:
    words = (
        Word("at", 0, 1, 0.9, "At"),
        Word("five", 1, 2, 0.9, "5 p.m."),
        Word("p", 2, 3, 0.9, ""),
        Word("m", 3, 4, 0.9, ""),
        Word("tomorrow", 4, 5, 0.9, "tomorrow."),
    )
    text = Final(0, "at five p m tomorrow", 0, 5, 0.9, "stop", words, formatted="At 5 p.m. tomorrow.")
    assert follow("", [text]) == "At 5 p.m. tomorrow."


def test_without_words_the_text_is_obeyed() -> None:
    assert follow("", [Final(0, "one comma two", 0.0, 1.0, 0.9, "stop")]) == "one, two"


def test_line_breaks_come_from_commands_only() -> None:
    word = Word("a\nb", 0.0, 1.0, 0.9, "a\x1b[2J\nb")
    assert follow("", [Final(0, "a\nb", 0.0, 1.0, 0.9, "stop", (word,))]) == "a [2J b"
    assert line(Final(0, "a\nb", 0.0, 1.0, 0.9, "stop")).added == "a b\n"


def test_what_is_kept_is_what_is_written() -> None:
    dictation = Dictation()
    kept = dictation.accept(final("yes comma no scratch that good bye period new line", "")).final
    assert (kept.text, kept.formatted) == ("good bye", "good bye.\n")
    assert [(word.word, word.written, word.start) for word in kept.words] == [
        ("good", "good", 5.0),
        ("bye", "bye.", 6.0),
    ]


PHRASES = st.sampled_from(["one", "two three", "new line", "new paragraph", "scratch that"])
UTTERANCES = st.lists(st.lists(PHRASES, max_size=4).map(" ".join), max_size=8)


@given(UTTERANCES)
def test_edits_fit_each_other_and_the_count_of_what_is_scratched(said: list[str]) -> None:
    """`follow` asserts that what is erased is there; here, that counting passages says the same."""
    dictation = Dictation()
    passages: list[str] = []
    text = ""
    for words in said:
        edit = dictation.accept(final(words))
        text = text[: len(text) - len(edit.erased)] + edit.added
        del passages[len(passages) - edit.num_scratched :]
        if edit.final.written:
            passages.append(edit.added)
    assert text == "".join(passages)


def test_only_so_much_can_be_taken_back() -> None:
    finals = [final("one")] * (MAX_SCRATCH + 1) + [final("scratch that")] * (MAX_SCRATCH + 1)
    assert follow("", finals) == "one"


SAID = ["hello comma you", "new paragraph", "wrong", "scratch that", "fine scratch that", "good bye period"]


@pytest.mark.parametrize(
    ("suffix", "written"),
    [
        (".txt", "hello, you\n\ngood bye.\n"),
        (
            ".srt",
            "1\n00:00:00,000 --> 00:00:03,000\nhello, you\n\n2\n00:00:50,000 --> 00:00:52,000\ngood bye.\n\n",
        ),
    ],
)
def test_files_follow(tmp_path: Path, suffix: str, written: str) -> None:
    dictation, path = Dictation(), tmp_path / f"notes{suffix}"
    with TranscriptFile(path) as file:
        for at, words in enumerate(SAID):
            file.accept(dictation.accept(final(words, start=10.0 * at)))
    assert path.read_text() == written


def test_json_lines_follow_and_what_was_there_before_stays(tmp_path: Path) -> None:
    dictation, path = Dictation(), tmp_path / "notes.jsonl"
    path.write_text('{"type": "older"}\n')
    with TranscriptFile(path) as file:
        for words in [*SAID, "scratch that", "scratch that", "scratch that", "scratch that", "so"]:
            file.accept(dictation.accept(final(words)))
    assert [json.loads(text).get("formatted", "older") for text in path.read_text().splitlines()] == ["older", "so"]
