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

from .decoder import DecodedWord, Hypothesis
from .errors import InputError


@dataclass(frozen=True)
class PartialRule:
    """Probabilities are of all words from the first to this one, among all paths of the search.

    :raises InputError: a value is out of range.
    """

    probability: float = 0.6  # from which a word is shown behind those that are
    change_probability: float = 0.6  # from which one is shown whatever is,
    change_steps: int = 2  # after so many steps in a row
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
        self.shown: list[DecodedWord] = []
        self.num_committed = 0

    def update(self, guess: Hypothesis) -> int:
        """Takes the guess after a step; returns how many of its first words the search is to settle now."""
        settled = max(guess.stable_words, _prefix(guess.agreement[:-1], self._rule.commit_probability))
        words = [word.word_id for word in guess.likely]
        self._likely.append(words[: _prefix(guess.likelihood, self._rule.change_probability)])
        steady = min(_common(words, likely) for likely in self._likely) if self._is_full else 0
        if _common(words[:steady], guess.word_ids) < settled:
            self._show(guess.words, settled)  # what is settled is the best path's
        else:
            self._show(guess.likely, steady)
        likely = _prefix(guess.likelihood, self._rule.probability)
        if likely > len(self.shown) == _common(self._shown_ids, words):
            self.shown = list(guess.likely[:likely])
        self.num_committed = max(self.num_committed, settled)
        return settled

    def _show(self, words: Sequence[DecodedWord], chosen: int) -> None:
        """The first ``chosen`` of ``words``, unless they are all shown: then what is behind them stays."""
        confirmed = _common(self._shown_ids, [word.word_id for word in words])
        if chosen <= confirmed:  # what is shown has only moved
            self.shown[:confirmed] = words[:confirmed]
        else:
            self.shown = list(words[:chosen])

    @property
    def _shown_ids(self) -> list[int]:
        return [word.word_id for word in self.shown]

    @property
    def _is_full(self) -> bool:
        return len(self._likely) == self._rule.change_steps


def _prefix(probabilities: Sequence[float], least: float) -> int:
    """How many of the first are at least ``least``."""
    return next((at for at, value in enumerate(probabilities) if value < least), len(probabilities))


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the common prefix."""
    return next((at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
