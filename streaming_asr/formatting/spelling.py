"""Owns spelling: what the recognizer knows from old books, "see you to morrow" in "colour", as it is spelled today.

One spelling, that of the United States; else a text would hold both, as the books do. `spelling.tsv` lists single words
and pairs that are one word today. Knows words, not what they mean: a pair that may also be two words is left alone
where its neighbours say so.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from importlib import resources

from .numbers import NUMBER_WORDS, Span


def _read_table() -> dict[str, str]:
    lines = resources.files(__package__).joinpath("spelling.tsv").read_text(encoding="ascii").splitlines()
    return dict(line.split("\t") for line in lines if not line.startswith("#"))


TODAY = _read_table()  # by the word, or the two words with a blank between, as books spell them
_OF_TIME = frozenset(("day", "days", "night", "nights", "morning"))  # "from day | to day", "morning | to night"
_OF_SOME = frozenset(("day", "man", "moment", "night", "of", "person", "place", "point", "thing", "time", "woman"))
_APART_AFTER = {"today": _OF_TIME, "tonight": _OF_TIME}
_APART_BEFORE = {
    "anyone": _OF_SOME,
    "everybody": _OF_SOME,
    "everyone": _OF_SOME,
    "someone": _OF_SOME,
    "online": NUMBER_WORDS,
}


def spell(words: Sequence[str], spans: Iterable[Span], kept: Container[str] = ()) -> list[Span]:
    """``spans`` of ``words`` (lower case, as said) as spelled today, joined where two are one; ``kept`` words stay."""
    spelled: list[Span] = []
    for span in spans:
        joined = None
        if spelled and spelled[-1].text == words[span.start - 1] and span.text == words[span.start]:
            joined = None if span.text in kept else _joined(words, span.start - 1)
        if joined is not None:
            spelled[-1] = Span(joined, span.start - 1, span.end)
        else:
            today = (word if word in kept else TODAY.get(word, word) for word in span.text.split(" "))
            spelled.append(span._replace(text=" ".join(today)))
    return spelled


def _joined(words: Sequence[str], at: int) -> str | None:
    """What the word there and the next one are together; nothing if they are two."""
    joined = TODAY.get(f"{words[at]} {words[at + 1]}", "")
    after_apart = at > 0 and words[at - 1] in _APART_AFTER.get(joined, ())
    before_apart = at + 2 < len(words) and words[at + 2] in _APART_BEFORE.get(joined, ())
    return None if not joined or after_apart or before_apart else joined
