"""A small assistant: what it hears picks an intent by keywords, and `espeak-ng` says the answer.

    streaming-asr serve                                  # in one terminal
    streaming-asr-mic --raw --exec 'python examples/assistant.py'   # in another: each final comes on standard input

No wake word: what matches no intent gets no answer. Use headphones, or it will hear itself.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Intent:
    """`answer` is given when each group of `keywords` has a word that was heard; it may use the time."""

    keywords: Sequence[frozenset[str]]
    answer: Callable[[datetime], str]


def words(*alternatives: str) -> frozenset[str]:
    """Any of these will do."""
    return frozenset(alternatives)


INTENTS = (
    Intent([words("what", "tell"), words("time", "clock")], lambda now: f"It is {now:%H:%M}."),
    Intent([words("what", "which"), words("day", "date")], lambda now: f"It is {now:%A}, the {now.day} of {now:%B}."),
    Intent([words("throw", "roll"), words("dice", "die")], lambda now: f"{random.randint(1, 6)}."),  # nosec B311  # dice
    Intent([words("good"), words("morning", "evening", "night")], lambda now: "The same to you."),
    Intent([words("thank", "thanks")], lambda now: "You are welcome."),
)


def reply(heard: str, now: datetime, intents: Sequence[Intent] = INTENTS) -> str | None:
    """The answer of the first intent that fits; `None` when none does."""
    spoken = set(heard.lower().split())
    for intent in intents:
        if all(group & spoken for group in intent.keywords):
            return intent.answer(now)
    return None


def main() -> int:
    """Answers each line of standard input."""
    voice = shutil.which("espeak-ng")
    if voice is None:
        print("assistant: espeak-ng is missing; install it: apt-get install espeak-ng", file=sys.stderr)
        return 2
    for line in sys.stdin:
        answer = reply(line, datetime.now())
        if answer is not None:
            print(answer, flush=True)
            subprocess.run([voice, "--", answer], check=False)  # nosec B603  # an answer of ours, and no shell
    return 0


if __name__ == "__main__":
    sys.exit(main())
