"""Owns the native protocol, version 1: every message type, on one page. Knows nothing of sockets or sessions.

The server messages `SpeechStarted`, `Partial` and `Final` double as the events a recognizer stream emits, so that
what a library user gets and what goes over the wire cannot drift. Times are seconds from the first sample of the
session; ``utterance`` counts from 0. Written down for people in ``docs/protocol.md``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from .errors import ClientError

PROTOCOL_VERSION = 1
MAX_NBEST = 10
ECHOED_CHARACTERS = 200  # of a client's own text that an answer in any protocol repeats
QUOTED_CHARACTERS = 40  # the same, of one word in an error

Number = Annotated[int, msgspec.Meta(ge=-(10**9), le=10**9)]  # short enough for an error that repeats it
Encoding = Literal["pcm_s16le", "pcm_f32le", "mulaw", "alaw", "container"]
Reason = Literal["endpoint", "finalize", "stop"]


class Endpointing(msgspec.Struct, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """Per-session endpointing overrides, milliseconds; ``None`` keeps the server's default. See `endpointing.py`."""

    enabled: bool = True
    trailing_silence_ms: Number | None = None  # silence after speech that ends an utterance
    max_utterance_ms: Number | None = None  # then it ends at a pause, or amid speech after 1.5 times this


# --- client to server --------------------------------------------------------------------------------------------


class Resume(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which session goes on, as its ``ready`` named it."""

    session_id: str
    token: str
    utterance: Number  # the first whose final the client has not got


class Start(msgspec.Struct, tag="start", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Opens the session; must be the first message."""

    sample_rate: Number = 16000  # 8000 to 48000
    encoding: Encoding = "pcm_s16le"  # a container says sample_rate and channels itself
    channels: Number = 1  # 1, or 2 (mixed down)
    language: str | None = None  # "en"; anything else is refused
    partials: bool = True
    words: bool = True
    nbest: Number = 1  # 1 to 10
    endpointing: Endpointing = Endpointing()
    hotwords: tuple[str, ...] = ()  # words and phrases that are likely
    only_hotwords: bool = False  # whether nothing else is told
    timings: bool = False  # whether partials and finals say what they waited for
    formatted: bool = True  # whether finals also come with marks, capitals and figures
    resumable: bool = False  # whether the session waits for its client when the connection drops
    resume: Resume | None = None  # goes on with this session; everything else is as it was started


class Finalize(msgspec.Struct, tag="finalize", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Flushes what was sent so far into a final now; the session stays open."""


class Keepalive(msgspec.Struct, tag="keepalive", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Says that the client is alive while it sends no audio."""


class Stop(msgspec.Struct, tag="stop", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Ends the audio; the server answers with the last final and ``done``, then closes with 1000."""


ClientMessage = Start | Finalize | Keepalive | Stop
_TYPES = ("start", "finalize", "keepalive", "stop")
_client_message: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)


class _Typed(msgspec.Struct):
    """Any message: what else is in it is passed over, and costs nothing."""

    type: str


def parse_message(text: str) -> ClientMessage:
    """Reads one text frame. Raises `ClientError`: ``bad_json``, ``unknown_type`` or ``bad_message``."""
    try:
        return _client_message.decode(text)
    except msgspec.ValidationError as error:
        given = _type_of(text)
        if given is not None and given not in _TYPES:
            quoted = repr(given[:QUOTED_CHARACTERS])
            raise ClientError("unknown_type", f"unknown type {quoted}; known are {', '.join(_TYPES)}", 1003) from error
        raise ClientError("bad_message", str(error)[:ECHOED_CHARACTERS], 1007) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ClientError("bad_json", "the text frame is not valid JSON", 1007) from error


def _type_of(text: str) -> str | None:
    try:
        return msgspec.json.decode(text, type=_Typed).type
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None


@dataclass(frozen=True)
class StreamOptions:
    """What one session asks of its recognizer stream: the part of ``start`` that is not about bytes."""

    partials: bool = True
    words: bool = True
    nbest: int = 1
    endpointing: Endpointing = field(default_factory=Endpointing)
    hotwords: tuple[str, ...] = ()
    only_hotwords: bool = False
    timings: bool = False
    formatted: bool = True
    checkpoints: bool = False  # whether the stream says from where another one could go on with it
    first_sample: int = 0  # at 16 kHz, of a stream that goes on with another one: times count from that one's start, …
    first_utterance: int = 0  # … and utterances
    finals_before: tuple[Final, ...] = ()  # the last of that one's, whose sentence the next may go on with
    context: bytes = b""  # what its last `Checkpoint` says


# --- server to client --------------------------------------------------------------------------------------------


class Word(msgspec.Struct, frozen=True, omit_defaults=True):
    """One recognized word; ``confidence`` in 0..1.

    ``written`` is its part of the final's ``formatted``; empty when that of an earlier word says this one, too.
    """

    word: str
    start: float
    end: float
    confidence: float
    written: str | None = None


class Alternative(msgspec.Struct, frozen=True):
    """One further hypothesis of an utterance, best first; ``confidence`` in 0..1."""

    text: str
    confidence: float


class Timings(msgspec.Struct, frozen=True):
    """What a message waited for since the chunk was complete that it follows from, ms."""

    queue: float  # until the chunk's step began
    compute: float  # the step, shared with the other streams in it, without the search
    decode: float  # the step's search
    emission: float  # from the step's end until the message was on its way


class Ready(msgspec.Struct, tag="ready", tag_field="type", frozen=True, omit_defaults=True):
    """Answers ``start``; of a session that goes on, says from where."""

    session_id: str
    protocol: int
    model: str
    chunk_ms: int  # of audio in a step of the model
    first_chunk_ms: int  # in the first step, after a start or a `Finalize`
    token: str = ""  # with which to resume; empty: it cannot be
    received_samples: int = 0
    received_requests: int = 0


class Ack(msgspec.Struct, tag="ack", tag_field="type", frozen=True):
    """What a session that can be resumed has received so far, and its client need not keep any longer."""

    received_samples: int  # at the client's own rate, a sample of all channels counted once
    received_requests: int  # `Finalize` and `Stop`


class SpeechStarted(msgspec.Struct, tag="speech_started", tag_field="type", frozen=True):
    """Speech was found at ``time``, after silence or the utterance before."""

    time: float


class Partial(msgspec.Struct, tag="partial", tag_field="type", frozen=True, omit_defaults=True):
    """The open utterance so far: ``committed`` only ever grows; ``unstable`` may change with the next partial.

    The words of the hypothesis are ``committed + " " + unstable`` (either may be empty).
    """

    utterance: int
    committed: str
    unstable: str
    start: float
    end: float
    timings: Timings | None = None


class Final(msgspec.Struct, tag="final", tag_field="type", frozen=True, omit_defaults=True):
    """The settled text of one utterance; begins with everything that was committed for it.

    ``formatted`` is the same as people write it.
    """

    utterance: int
    text: str
    start: float
    end: float
    confidence: float
    reason: Reason
    words: list[Word] = []
    alternatives: list[Alternative] = []
    timings: Timings | None = None
    formatted: str = ""


class Error(msgspec.Struct, tag="error", tag_field="type", frozen=True):
    """What went wrong, in a stable ``code`` and in words; the session closes after it."""

    code: str
    message: str


class Done(msgspec.Struct, tag="done", tag_field="type", frozen=True):
    """The last message: all audio was recognized."""

    audio_seconds: float
    utterances: int


class GoingAway(msgspec.Struct, tag="going_away", tag_field="type", frozen=True):
    """The server shuts down: the session should end within ``seconds``, or it is ended, or goes on after a restart."""

    seconds: float


class Checkpoint(msgspec.Struct, tag="checkpoint", tag_field="type", frozen=True):
    """What came before this sample (16 kHz, of the session) is in the finals so far and in the next one, or silence.

    No client is sent it: it says from where a stream in another process can go on.
    """

    samples: int
    context: bytes = b""  # what the recognizer keeps in mind of what was said until then


Event = SpeechStarted | Partial | Final | Checkpoint
ServerMessage = Ready | Ack | SpeechStarted | Partial | Final | GoingAway | Error | Done
