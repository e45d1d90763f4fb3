"""Owns what is particular to Project Gutenberg files: their frame, their rights line, and which titles to keep out.

    python -m streaming_asr.training.gutenberg BOOK... --chapters CHAPTERS.TXT > books.txt

writes the works alone, without the books that LibriSpeech's dev and test chapters were read from (CHAPTERS.TXT comes
with it) and those that are not in the public domain; what is left out is told on standard error. All else is pure
functions over text. Knows nothing of how words are spoken (`text`) or counted (`lm`).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..errors import InputError
from .text import fold

_START = re.compile(
    r"^(?:\*\*\*\s*START OF (?:THE|THIS) PROJECT GUTENBERG.*?\*\*\*|\*END[* ]*THE SMALL PRINT.*?)[ \t\r]*$",
    re.MULTILINE | re.DOTALL,
)
_END = re.compile(
    r"^\W*(?:\*\*\*\s*END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the |this )?Project Gutenberg)",
    re.MULTILINE | re.I,
)
_HEADER_CHARACTERS = 30_000
_FIELD = re.compile(r"^(Title|Language|Author):[ \t]*(.+(?:\n[ \t]+\S.*)*)", re.MULTILINE)
_NUMBER = re.compile(r"\[E(?:Book|Text) #\s*(\d+)\]", re.I)
_CREDITS = re.compile(r"^\s*(?:E-?text )?(?:produced|prepared|transcribed) by\b.*?\n[ \t\r]*\n", re.I | re.S)


def body(book: str) -> str:
    """The work itself: ``book`` without Project Gutenberg's header, credits, footer and licence."""
    start = 0
    for match in _START.finditer(book, 0, _HEADER_CHARACTERS):
        start = match.end()
    end = _END.search(book, start)
    text = book[start : end.start() if end else len(book)]
    return _CREDITS.sub("\n", text.lstrip(), count=1)


def is_copyrighted(book: str) -> bool:
    """Whether the header says that the text is not in the public domain."""
    head = book[:_HEADER_CHARACTERS]
    return "COPYRIGHTED Project Gutenberg" in head or "a COPYRIGHTED" in head


def field(book: str, name: str) -> str:
    """The header's ``Title``, ``Author`` or ``Language``, on one line; empty when it has none."""
    for match in _FIELD.finditer(book, 0, _HEADER_CHARACTERS):
        if match[1] == name:
            return " ".join(match[2].split())
    return ""


def number(book: str) -> int | None:
    """Project Gutenberg's number of the book, where the header gives it."""
    match = _NUMBER.search(book, 0, _HEADER_CHARACTERS)
    return int(match[1]) if match else None


_PARTS = re.compile(
    r"\(.*?\)|\b(?:vol|volume|vols|book|part|version|tome)\b\.?\s*(?:\d+\w?|[ivxl]+)\b(?:\s*&\s*\d+)?",
    re.IGNORECASE,
)
_ARTICLES = re.compile(r"^(?:the|a|an|les|le|la)\s+")


def _plain(title: str) -> str:
    words = re.sub(r"[^a-z0-9]+", " ", fold(title).replace("'", "").lower()).strip()
    return _ARTICLES.sub("", words)


def title_key(title: str) -> str:
    """``title`` down to what two editions of a book share: lower-case words without volume, version or article."""
    title = _PARTS.sub(" ", title)
    return _plain(re.split(r"[:;]|\bor,? ", title, maxsplit=1)[0] if len(title) > 40 else title)


class HeldOut:
    """The books that evaluation recordings were read from, recognised by number or, generously, by title."""

    def __init__(self, titles: Iterable[str], numbers: Iterable[int]) -> None:
        self.keys = sorted({key for title in titles if (key := title_key(title))})
        self.numbers = frozenset(numbers)

    def covers(self, title: str, number: int | None = None) -> bool:
        """Whether a book must stay out: its number is held out, or a held-out title is in ``title``.

        A title of one word has to begin it ("Ethics"); a longer one may stand anywhere ("… of War and Peace").
        """
        if number in self.numbers and number is not None:
            return True
        plain = f" {_plain(title)} "
        return any(plain.startswith(f" {key} ") if " " not in key else f" {key} " in plain for key in self.keys)


def librispeech_held_out(chapters: str) -> HeldOut:
    """From LibriSpeech's CHAPTERS.TXT: the books of every dev and test chapter."""
    titles, numbers = set(), set()
    for line in chapters.splitlines():
        columns = [column.strip() for column in line.split("|", 7)]
        if len(columns) == 8 and columns[3].startswith(("dev", "test")):
            titles.add(columns[7])
            if columns[5].isdigit():
                numbers.add(int(columns[5]))
    return HeldOut(titles, numbers)


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:  # as old e-texts need
        return content.decode("cp1252", "replace").replace("\r\n", "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("books", nargs="+", type=Path, metavar="BOOK", help="a file of Project Gutenberg, as it came")
    parser.add_argument("--chapters", type=Path, required=True, metavar="FILE", help="LibriSpeech's CHAPTERS.TXT")
    options = parser.parse_args(arguments)
    try:
        held_out = librispeech_held_out(_read(options.chapters))
        if not held_out.keys:
            raise InputError(f"{options.chapters} names no dev or test chapters")
        for path in options.books:
            book = _read(path)
            title = field(book, "Title")
            if held_out.covers(title, number(book)):
                print(f"left out, read for dev or test: {path}: {title}", file=sys.stderr)
            elif is_copyrighted(book):
                print(f"left out, not in the public domain: {path}: {title}", file=sys.stderr)
            else:
                print(body(book).strip(), end="\n\n")
    except InputError as error:
        print(f"gutenberg: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
