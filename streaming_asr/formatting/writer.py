"""Owns how an utterance is written: marks and capitals of `punctuation`, figures of `numbers`, in today's `spelling`.

Every word keeps its place: words that are written as one, a figure or "tomorrow", are written at the first of them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Protocol

from ..messages import Final, Word
from .marks import SENTENCE_MARKS
from .numbers import Span, digit_runs, write_numbers
from .spelling import spell

MAX_WORDS_BEFORE = 32  # of an open sentence, that still count
_ABBREVIATIONS = {"mister": "Mr.", "missus": "Mrs.", "doctor": "Dr."}  # before a name


class Punctuates(Protocol):
    """What `punctuation.Punctuator` does."""

    def punctuate(self, words: Sequence[str], before: Sequence[str], /) -> tuple[list[str], list[bool]]:
        """The mark after each word, and whether it is capitalized, given the words before."""


class Formatter:
    """Writes utterances. Without a ``punctuator`` there are figures, but neither marks nor sentences' capitals."""

    def __init__(self, punctuator: Punctuates | None = None) -> None:
        self._punctuator = punctuator

    def write(
        self, words: Sequence[str], before: Sequence[str] = (), goes_on: bool = False, kept: Container[str] = ()
    ) -> list[str]:
        """How each of ``words`` (lower case, as said) is written: "" for those that an earlier one's part says.

        ``before``: what was said of the sentence that goes on here (`open_sentence`); without, a sentence begins here.
        ``goes_on``: whether speech was cut behind the last word, so that no sentence ends there.
        ``kept``: words whose spelling stays.
        """
        if self._punctuator is None:
            marks, capitals = [""] * len(words), [False] * len(words)
        else:
            marks, capitals = self._punctuator.punctuate(words, before)
            capitals = [not before or capital for capital in capitals[:1]] + capitals[1:]
            if goes_on and marks and marks[-1] in SENTENCE_MARKS:
                marks[-1] = ""
            for start, end in digit_runs(words):  # books hold none, so what is guessed inside is of no worth
                marks[start : end - 1] = [""] * (end - 1 - start)
        written = [""] * len(words)
        for text, start, end in _spans(words, marks, kept):
            is_before_name = end < len(words) and capitals[end] and marks[start] == ""
            text = _ABBREVIATIONS.get(text, text) if is_before_name else text
            mark = "" if text.endswith(".") and marks[end - 1] == "." else marks[end - 1]
            written[start] = (text[0].upper() + text[1:] if capitals[start] else text) + mark
        return written


def _spans(words: Sequence[str], marks: Sequence[str], kept: Container[str]) -> Iterator[Span]:
    """No number goes on in the next sentence; commas inside one ("january fifth, nineteen eighty") do not count."""
    start = 0
    for end, mark in enumerate(marks, 1):
        if mark in SENTENCE_MARKS or end == len(words):
            sentence = words[start:end]
            spans = spell(sentence, write_numbers(sentence), kept)
            yield from (Span(text, start + at, start + after) for text, at, after in spans)
            start = end


def open_sentence(words: Sequence[str], written: Sequence[str], before: Sequence[str] = ()) -> list[str]:
    """What was said, lately, of the sentence that the next words go on with; ``before`` as `Formatter.write` got it."""
    start = 0
    for index, text in enumerate(written, len(before)):
        if text.endswith(SENTENCE_MARKS) or (text == "" and index == start):
            start = index + 1
    return [*before, *words][start:][-MAX_WORDS_BEFORE:]


def open_after(final: Final, before: Sequence[str] = ()) -> list[str]:
    """`open_sentence` of a final; if it has no words, all of it: nothing tells where the last sentence in it ended."""
    if final.words:
        return open_sentence([word.word for word in final.words], [word.written or "" for word in final.words], before)
    return [] if final.formatted.endswith(SENTENCE_MARKS) else [*before, *final.text.split()][-MAX_WORDS_BEFORE:]


def as_written(words: Iterable[Word]) -> list[Word]:
    """Words with runs that are written as one joined: ``word`` what was said, ``written`` always there."""
    joined: list[Word] = []
    for word in words:
        if word.written == "" and joined:
            before = joined.pop()
            said, confidence = f"{before.word} {word.word}", min(before.confidence, word.confidence)
            joined.append(Word(said, before.start, word.end, confidence, before.written))
        else:
            joined.append(Word(word.word, word.start, word.end, word.confidence, word.written or word.word))
    return joined
