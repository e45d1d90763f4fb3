"""Owns the native protocol, version 1: every message type, on one page. Knows nothing of sockets or sessions.

The server messages `SpeechStarted`, `Partial` and `Final` double as the events a recognizer stream emits, so that
what a library user gets and what goes over the wire cannot drift. Times are seconds from the first sample of the
session; ``utterance`` counts from 0. Written down for people in ``docs/protocol.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

PROTOCOL_VERSION = 1

Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "container"]
Reason = Literal["endpoint", "finalize", "stop"]


class Endpointing(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """Per-session endpointing overrides, milliseconds; ``None`` keeps the server's default. See `endpointing.py`."""

    enabled: bool = True
    trailing_silence_ms: int | None = None  # silence after speech that ends an utterance
    max_utterance_ms: int | None = None  # an utterance is cut at the next silence after this, at the latest


# --- client to server --------------------------------------------------------------------------------------------


class Resume(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which session goes on, as its ``ready`` named it."""

    session_id: str
    token: str
    utterance: int  # the first whose final the client has not got


class Start(msgspec.Struct, tag="start", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Opens the session; must be the first message."""

    sample_rate: int = 16000  # 8000 to 48000
    encoding: Encoding = "pcm_s16le"  # a container says sample_rate and channels itself
    channels: int = 1  # 1, or 2 (mixed down)
    language: str | None = None  # "en"; anything else is refused
    partials: bool = True
    words: bool = True
    nbest: int = 1  # 1 to 10
    endpointing: Endpointing = Endpointing()
    hotwords: tuple[str, ...] = ()  # words and phrases that are likely
    resumable: bool = False  # whether the session waits for its client when the connection drops
    resume: Resume | None = None  # goes on with this session; everything else is as it was started


class Finalize(msgspec.Struct, tag="finalize", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Flushes what was sent so far into a final now; the session stays open."""


class Keepalive(msgspec.Struct, tag="keepalive", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Says that the client is alive while it sends no audio."""


class Stop(msgspec.Struct, tag="stop", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Ends the audio; the server answers with the last final and ``done``, then closes with 1000."""


ClientMessage = Start | Finalize | Keepalive | Stop


@dataclass(frozen=True)
class StreamOptions:
    """What one session asks of its recognizer stream: the part of ``start`` that is not about bytes."""

    partials: bool = True
    words: bool = True
    nbest: int = 1
    endpointing: Endpointing = field(default_factory=Endpointing)
    hotwords: tuple[str, ...] = ()


# --- server to client --------------------------------------------------------------------------------------------


class Word(msgspec.Struct, frozen=True):
    """One recognized word; ``confidence`` in 0..1."""

    word: str
    start: float
    end: float
    confidence: float


class Alternative(msgspec.Struct, frozen=True):
    """One further hypothesis of an utterance, best first; ``confidence`` in 0..1."""

    text: str
    confidence: float


class Ready(msgspec.Struct, tag="ready", tag_field="type", frozen=True, omit_defaults=True):
    """Answers ``start``; of a session that goes on, says from where."""

    session_id: str
    protocol: int
    model: str
    chunk_ms: int
    token: str = ""  # with which to resume; empty: it cannot be
    received_samples: int = 0
    received_requests: int = 0


class Ack(msgspec.Struct, tag="ack", tag_field="type", frozen=True):
    """What a session that can be resumed has received so far, and its client need not keep any longer."""

    received_samples: int  # at the client's own rate, a sample of all channels counted once
    received_requests: int  # `Finalize` and `Stop`


class SpeechStarted(msgspec.Struct, tag="speech_started", tag_field="type", frozen=True):
    """Speech was found after silence, at ``time``."""

    time: float


class Partial(msgspec.Struct, tag="partial", tag_field="type", frozen=True):
    """The open utterance so far: ``committed`` only ever grows; ``unstable`` may change with the next partial.

    The words of the hypothesis are ``committed + " " + unstable`` (either may be empty).
    """

    utterance: int
    committed: str
    unstable: str
    start: float
    end: float


class Final(msgspec.Struct, tag="final", tag_field="type", frozen=True, omit_defaults=True):
    """The settled text of one utterance; begins with everything that was committed for it."""

    utterance: int
    text: str
    start: float
    end: float
    confidence: float
    reason: Reason
    words: list[Word] = []
    alternatives: list[Alternative] = []


class Error(msgspec.Struct, tag="error", tag_field="type", frozen=True):
    """What went wrong, in a stable ``code`` and in words; the session closes after it."""

    code: str
    message: str


class Done(msgspec.Struct, tag="done", tag_field="type", frozen=True):
    """The last message: all audio was recognized."""

    audio_seconds: float
    utterances: int


Event = SpeechStarted | Partial | Final
ServerMessage = Ready | Ack | SpeechStarted | Partial | Final | Error | Done
