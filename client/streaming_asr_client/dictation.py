"""Owns what finals do to the text: each adds a line, or, with spoken commands, whatever was commanded. Pure.

An `Edit` is what everybody who shows, writes or types the text follows; nobody else looks for commands.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .clean import clean
from .events import Final, Word

MAX_SCRATCH = 100  # passages that "scratch that" can still take back
SPOKEN_MARKS = (",", ".", "?")
AUTOMATIC_MARKS = ".,?!;:"  # a spoken mark takes the place of one that the server set
SENTENCE_ENDS = ("", "\n", ".", "?", "!")  # the last character before a sentence

Command = Literal["scratch that", "\n", "\n\n", ",", ".", "?"]  # all but the first: what comes into the text
COMMANDS: dict[tuple[str, ...], Command] = {
    ("new", "line"): "\n",
    ("new", "paragraph"): "\n\n",
    ("scratch", "that"): "scratch that",
    ("comma",): ",",
    ("period",): ".",
    ("full", "stop"): ".",
    ("question", "mark"): "?",
}


@dataclass(frozen=True, slots=True)
class Edit:
    """`erased` goes from the end of the text, then `added` comes there.

    `final` is the one that it follows from, as it is to be kept: without the commands, and with what they say done.
    """

    final: Final
    added: str
    erased: str = ""
    num_scratched: int = 0  # earlier finals that "scratch that" took back


def line(final: Final) -> Edit:
    """The edit when nothing is a command: a line of its own, or nothing when the final is empty."""
    text = clean(final.written)
    return Edit(final, f"{text}\n" if text else "")


class Dictation:
    """The end of a text that flows: finals follow each other, and lines end where that was said."""

    def __init__(self) -> None:
        self._passages: deque[str] = deque(maxlen=MAX_SCRATCH)  # what each final added
        self._sentence_begins = False  # because of a command; otherwise capitals are the server's affair
        self._begin()

    def _begin(self) -> None:
        self._passage = ""  # what the present final adds
        self._words: list[Word] = []  # of it
        self._erased = ""
        self._num_scratched = 0

    def accept(self, final: Final) -> Edit:
        """Follows the commands in a final. Words that are none are added after a space, with the server's marks."""
        self._begin()
        for token in tokens(final):
            if isinstance(token, Word):
                self._add_word(token)
            elif token == "scratch that":  # nosec B105  # a spoken command
                self._scratch()
            else:
                self._add(token)
        if self._passage:
            self._passages.append(self._passage)
        kept = dataclasses.replace(
            final,
            text=" ".join(word.word for word in self._words),
            formatted=self._passage.lstrip(" "),
            words=tuple(self._words) if final.words else (),
        )
        return Edit(kept, self._passage, self._erased, self._num_scratched)

    def _text(self) -> str:
        return "".join(self._passages) + self._passage

    def _add_word(self, word: Word) -> None:
        written = word.word if word.written is None else word.written
        if self._sentence_begins and word.written is not None:
            written = written[:1].upper() + written[1:]
        self._sentence_begins = False
        needs_space = written and self._text()[-1:] not in ("", "\n")
        self._passage += f" {written}" if needs_space else written
        self._words.append(dataclasses.replace(word, written=written))

    def _add(self, added: str) -> None:
        """A mark, instead of one that the server set, which may be another final's; or line breaks."""
        if added in SPOKEN_MARKS:
            if self._passage:
                self._passage = self._passage.rstrip(AUTOMATIC_MARKS)
            elif self._passages:
                last = self._passages.pop()
                self._passages.append(last.rstrip(AUTOMATIC_MARKS))
                self._erased = last[len(self._passages[-1]) :] + self._erased
            if self._words and (written := self._words[-1].written):
                marked = written.rstrip(AUTOMATIC_MARKS) + added
                self._words[-1] = dataclasses.replace(self._words[-1], written=marked)
        self._passage += added
        self._sentence_begins = added != ","

    def _scratch(self) -> None:
        if self._passage:
            self._passage = ""
            self._words.clear()
        elif self._passages:
            self._erased = self._passages.pop() + self._erased
            self._num_scratched += 1
        self._sentence_begins = self._text()[-1:] in SENTENCE_ENDS


def tokens(final: Final) -> Iterator[Word | Command]:
    """The words of a final in order, commands recognized. No word has a line break or any other control character."""
    words = final.words or tuple(Word(word, final.start, final.end, final.confidence) for word in final.text.split())
    at = 0
    while at < len(words):
        for length in (2, 1):
            spoken = tuple(word.word.lower() for word in words[at : at + length])
            if spoken in COMMANDS:
                yield COMMANDS[spoken]
                at += length
                break
        else:
            word = words[at]
            written = None if word.written is None else clean(word.written)
            yield dataclasses.replace(word, word=clean(word.word), written=written)
            at += 1
