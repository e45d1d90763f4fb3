"""Owns which words of the search's best guess are shown while they are spoken, and which of them are settled.

Pure. The guess changes with every step, and most changes change back. So a word is shown as soon as it, and all before
it, are likely; but what is shown makes way only for others that have been so for some steps in a row. What is as good
as certain is settled long before all paths agree; the numbers are from a trade of delay for steadiness
(docs/experiments.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from .decoder import Guess, Words
from .errors import InputError


@dataclass(frozen=True)
class PartialRule:
    """Probabilities are of all words from the first to this one, among all paths of the search.

    :raises InputError: a value is out of range.
    """

    probability: float = 0.6  # from which a word is shown behind those that are
    change_probability: float = 0.5  # from which one is shown whatever is,
    change_steps: int = 3  # after so many steps in a row
    commit_probability: float = 0.999  # from which a word is settled, if another follows

    def __post_init__(self) -> None:
        in_range = 0 <= self.probability <= 1 and 0 <= self.change_probability <= 1 and self.change_steps >= 1
        if not (in_range and 0.5 < self.commit_probability <= 1):
            raise InputError("a probability must be 0 to 1, of a commit above 0.5, and steps at least 1")


EVERY_GUESS = PartialRule(probability=0.0, change_probability=0.0, change_steps=1)  # shows it as it is


class PartialText:
    """The words shown of one utterance; `shown` begins with `num_committed` words that no longer change."""

    def __init__(self, rule: PartialRule) -> None:
        self._rule = rule
        self._likely: deque[list[int]] = deque(maxlen=rule.change_steps)  # of each of the last steps
        self.shown = Words([], [], [])
        self.num_committed = 0

    def update(self, guess: Guess) -> int:
        """Takes the guess after a step; returns how many of its first words the search is to settle now."""
        settled = _prefix(guess.agreement, self._rule.commit_probability)
        settled = max(guess.stable_words, min(settled, len(guess.agreement) - 1))  # if another follows
        words = guess.likely.ids
        self._likely.append(words[: _prefix(guess.likelihood, self._rule.change_probability)])
        steady = min(_common(words, likely) for likely in self._likely) if self._is_full else 0
        if _common(words[:steady], guess.words.ids) < settled:
            self._show(guess.words, settled)  # what is settled is the best path's
        else:
            self._show(guess.likely, steady)
        likely = _prefix(guess.likelihood, self._rule.probability)
        if likely > len(self.shown.ids) == _common(self.shown.ids, words):
            self.shown = _first(guess.likely, likely)
        self.num_committed = max(self.num_committed, settled)
        return settled

    def _show(self, words: Words, chosen: int) -> None:
        """The first ``chosen`` of ``words``, unless they are all shown: then what is behind them stays."""
        shown = self.shown
        confirmed = _common(shown.ids, words.ids)
        if chosen > confirmed:
            self.shown = _first(words, chosen)
        else:  # what is shown has only moved
            self.shown = Words(*(now[:confirmed] + old[confirmed:] for now, old in zip(words, shown, strict=True)))

    @property
    def _is_full(self) -> bool:
        return len(self._likely) == self._rule.change_steps


def _first(words: Words, count: int) -> Words:
    return Words(*(details[:count] for details in words))


def _prefix(probabilities: Sequence[float], least: float) -> int:
    """How many of the first are at least ``least``."""
    for at, value in enumerate(probabilities):
        if value < least:
            return at
    return len(probabilities)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix."""
    count = min(len(a), len(b))
    if a[:count] == b[:count]:
        return count
    for at in range(count):
        if a[at] != b[at]:
            return at
    return count
