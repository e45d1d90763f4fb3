"""Project Gutenberg's frame, and which books stay out of the language model."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming_asr.training import gutenberg

BOOK = """The Project Gutenberg EBook of An Old Tale, by A. Writer

Title: An Old Tale
  Of Long Ago

Author: A. Writer

Release Date: August, 2001 [EBook #2787]

Language: English

*** START OF THIS PROJECT GUTENBERG EBOOK AN OLD TALE ***

Produced by Some
One

Once upon a time.

End of the Project Gutenberg EBook of An Old Tale

*** END OF THIS PROJECT GUTENBERG EBOOK AN OLD TALE ***
Licence.
"""

CHAPTERS = """; comment
1 | 110 | 19.77 | train-other-500 | 53 | 1023 | In Chancery | Bleak House
2 | 110 | 19.77 | dev-clean | 53 | 2787 | One | Long Tale (version 2)
3 | 110 | 19.77 | test-other | 53 | 3800 | One | Ethics
4 | 110 | 19.77 | test-clean | 53 | 135 | One | Miserables Vol. 2
"""


def test_the_body_is_the_work_alone() -> None:
    assert gutenberg.body(BOOK).strip() == "Once upon a time."


def test_a_text_without_a_frame_is_all_body() -> None:
    assert gutenberg.body("Just words.").strip() == "Just words."


def test_header_fields() -> None:
    assert gutenberg.field(BOOK, "Title") == "An Old Tale Of Long Ago"
    assert gutenberg.field(BOOK, "Language") == "English"
    assert gutenberg.field(BOOK, "Nothing") == ""
    assert gutenberg.number(BOOK) == 2787
    assert gutenberg.number("no header") is None


def test_copyrighted_books_say_so() -> None:
    assert not gutenberg.is_copyrighted(BOOK)
    assert gutenberg.is_copyrighted("** This is a COPYRIGHTED Project Gutenberg eBook, Details Below **\n" + BOOK)


@pytest.mark.parametrize(
    ("title", "number", "out"),
    [
        ("Another Name", 2787, True),
        ("The Long Tale, Illustrated", None, True),
        ("Stories: A Long Tale and Others", 7, True),
        ("Long Tales", None, False),
        ("Bleak House", 1023, False),
        ("Ethics — Part 1", None, True),
        ("The Nicomachean Ethics", None, False),
        ("Les Misérables, v. 1", None, True),
    ],
)
def test_books_of_the_evaluation_chapters_stay_out(title: str, number: int | None, out: bool) -> None:
    assert gutenberg.librispeech_held_out(CHAPTERS).covers(title, number) is out


def test_the_command_writes_the_works_that_may_be_learned_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chapters = tmp_path / "CHAPTERS.TXT"
    chapters.write_text(CHAPTERS)
    books = {
        "free.txt": BOOK.replace("2787", "11").encode(),
        "held.txt": BOOK.encode(),
        "owned.txt": ("** This is a COPYRIGHTED Project Gutenberg eBook **\n" + BOOK.replace("2787", "12")).encode(),
        "old.txt": "Caf\xe9.\r\nTea.".encode("latin-1"),
    }
    for name, content in books.items():
        (tmp_path / name).write_bytes(content)
    assert gutenberg.main([*(str(tmp_path / name) for name in books), "--chapters", str(chapters)]) == 0
    told = capsys.readouterr()
    assert told.out == "Once upon a time.\n\nCafé.\nTea.\n\n"
    assert [Path(line.split(": ")[1]).name for line in told.err.splitlines()] == ["held.txt", "owned.txt"]


def test_the_command_needs_chapters_to_leave_any_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "CHAPTERS.TXT"
    assert gutenberg.main(["book.txt", "--chapters", str(empty)]) == 2
    empty.write_text("; nothing\n")
    assert gutenberg.main(["book.txt", "--chapters", str(empty)]) == 2
    told = capsys.readouterr()
    assert not told.out
    assert told.err.count(str(empty)) == 2
