"""Owns the decision that an utterance has ended. Policy is a table of rules; knows nothing of models or streams."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import InputError
from .messages import Endpointing

MIN_SILENCE_MS, MAX_SILENCE_MS = 100, 10_000  # that a session may ask for
LONGEST_UTTERANCE_SECONDS = 120.0  # without endpointing; each of its words costs a little at every step until its end


@dataclass(frozen=True)
class EndpointRule:
    """Ends an utterance that has begun when all of its conditions hold. Seconds throughout."""

    silence_seconds: float = 0.0  # since the model's last token; a VAD takes the room's noise for voice
    utterance_seconds: float = 0.0  # since the first word's start, or the onset of speech that is no word yet

    @property
    def is_amid_speech(self) -> bool:
        """Whether the utterance ends though its speaker goes on."""
        return not self.silence_seconds


@dataclass(frozen=True)
class Silence:
    """What is known at a step about the open utterance. Seconds throughout."""

    has_begun: bool
    since_token: float  # since the model's last token
    utterance: float  # since the first word's start, or the onset of speech that is no word yet


def rules(trailing_silence_seconds: float = 0.6, max_utterance_seconds: float = 20.0) -> tuple[EndpointRule, ...]:
    """The default table, first match wins."""
    return (
        EndpointRule(silence_seconds=trailing_silence_seconds),
        EndpointRule(silence_seconds=0.24, utterance_seconds=max_utterance_seconds),
        EndpointRule(utterance_seconds=1.5 * max_utterance_seconds),
    )


def session_rules(overrides: Endpointing) -> tuple[EndpointRule, ...]:
    """The table with a session's overrides. When endpointing is off, only length ends an utterance.

    Raises `InputError` for bad values.
    """
    silence_ms, utterance_ms = overrides.trailing_silence_ms, overrides.max_utterance_ms
    if silence_ms is not None and not MIN_SILENCE_MS <= silence_ms <= MAX_SILENCE_MS:
        raise InputError(f"trailing_silence_ms must be {MIN_SILENCE_MS} to {MAX_SILENCE_MS}, not {silence_ms}")
    if utterance_ms is not None and not 1_000 <= utterance_ms <= 60_000:
        raise InputError(f"max_utterance_ms must be 1000 to 60000, not {utterance_ms}")
    if not overrides.enabled:
        return rules(math.inf, LONGEST_UTTERANCE_SECONDS)
    defaults = {
        "trailing_silence_seconds": None if silence_ms is None else silence_ms / 1000,
        "max_utterance_seconds": None if utterance_ms is None else utterance_ms / 1000,
    }
    return rules(**{name: value for name, value in defaults.items() if value is not None})


def endpoint(table: tuple[EndpointRule, ...], silence: Silence) -> EndpointRule | None:
    """The first rule of the table that matches."""
    if not silence.has_begun:
        return None
    for rule in table:
        if silence.since_token >= rule.silence_seconds and silence.utterance >= rule.utterance_seconds:
            return rule
    return None
