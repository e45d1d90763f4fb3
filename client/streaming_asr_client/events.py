"""Owns what the server says, as values, and the reading of it. Knows nothing of sockets or of the session's order.

Made to outlive the server's version: unknown fields are dropped, messages of an unknown type are `None`. What is
there must have the right type, or it is the server's fault. Times are seconds from the first sample of the session.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .errors import RemoteProtocolError


@dataclass(frozen=True, slots=True)
class Word:
    """One recognized word; ``confidence`` in 0..1.

    ``written`` is its part of ``Final.formatted``: empty when that of an earlier word says this one, too.
    """

    word: str
    start: float
    end: float
    confidence: float
    written: str | None = None  # the server was not asked to format, or cannot


@dataclass(frozen=True, slots=True)
class Alternative:
    """One further hypothesis of an utterance; ``confidence`` in 0..1."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Timings:
    """What a message waited for since the chunk was complete that it follows from, ms."""

    queue: float
    compute: float
    decode: float
    emission: float


@dataclass(frozen=True, slots=True)
class Ready:
    """The server has taken the session; audio may follow."""

    session_id: str
    protocol: int
    model: str
    chunk_ms: int  # of audio in a step of the model
    first_chunk_ms: int = 0  # in the first step, after a start or a finalize; 0: not said
    token: str = ""  # with which the session can be resumed
    received_samples: int = 0  # of a session that goes on
    received_requests: int = 0


@dataclass(frozen=True, slots=True)
class Ack:
    """What the server has received of a session that can be resumed."""

    received_samples: int
    received_requests: int


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech was found after silence, at ``time``."""

    time: float


@dataclass(frozen=True, slots=True)
class Partial:
    """The open utterance so far: ``committed`` only ever grows; ``unstable`` may change with the next partial."""

    utterance: int
    committed: str
    unstable: str
    start: float
    end: float
    timings: Timings | None = None  # the session did not ask for them


@dataclass(frozen=True, slots=True)
class Final:
    """The settled text of one utterance; ``reason`` is ``endpoint``, ``finalize``, ``stop``, or newer than this."""

    utterance: int
    text: str
    start: float
    end: float
    confidence: float
    reason: str
    words: tuple[Word, ...] = ()
    alternatives: tuple[Alternative, ...] = ()
    timings: Timings | None = None
    formatted: str = ""  # the text with marks, capitals and figures; empty as `Word.written`

    @property
    def written(self) -> str:
        """What to show to people: formatted if the server did."""
        return self.formatted or self.text


@dataclass(frozen=True, slots=True)
class GoingAway:
    """The server shuts down in ``seconds``: the session should end, or it is ended, or goes on after a restart."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Error:
    """What went wrong, in a stable ``code`` and in words; the server closes the session after it."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Done:
    """The last message: all audio was recognized."""

    audio_seconds: float
    utterances: int


Event = Ready | Ack | SpeechStarted | Partial | Final | GoingAway | Error | Done

TYPE_NAMES: dict[type[Event], str] = {
    Ready: "ready",
    Ack: "ack",
    SpeechStarted: "speech_started",
    Partial: "partial",
    Final: "final",
    GoingAway: "going_away",
    Error: "error",
    Done: "done",
}


class _Fields:
    """A JSON object from the server, read field by field; a field that is missing or mistyped is the server's fault."""

    def __init__(self, where: str, fields: Mapping[str, object]) -> None:
        self.where = where
        self.fields = fields

    def wrong(self, name: str, expected: str) -> RemoteProtocolError:
        found = json.dumps(self.fields[name])[:60] if name in self.fields else "nothing"
        return RemoteProtocolError(f"the server sent {self.where!r} with {name!r} = {found} where {expected} belongs")

    def text(self, name: str) -> str:
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def text_or_none(self, name: str) -> str | None:
        """Absent and null are the same."""
        return None if self.fields.get(name) is None else self.text(name)

    def number(self, name: str) -> float:
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(name, "a number")
        return float(value)

    def integer(self, name: str) -> int:
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, "a whole number")
        return value

    def count(self, name: str) -> int:
        """A whole number; absent means 0."""
        return self.integer(name) if name in self.fields else 0

    def object(self, name: str) -> _Fields:
        value = self.fields.get(name)
        if not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return _Fields(f"{self.where}.{name}", value)

    def objects(self, name: str) -> list[_Fields]:
        """A list of objects; absent means empty, as the protocol omits it then."""
        value = self.fields.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(name, "a list of objects")
        return [_Fields(f"{self.where}.{name}", item) for item in value]


def _word(fields: _Fields) -> Word:
    return Word(
        fields.text("word"),
        fields.number("start"),
        fields.number("end"),
        fields.number("confidence"),
        fields.text_or_none("written"),
    )


def _timings(fields: _Fields) -> Timings | None:
    if fields.fields.get("timings") is None:
        return None
    timings = fields.object("timings")
    return Timings(*(timings.number(name) for name in ("queue", "compute", "decode", "emission")))


def _final(fields: _Fields) -> Final:
    return Final(
        utterance=fields.integer("utterance"),
        text=fields.text("text"),
        start=fields.number("start"),
        end=fields.number("end"),
        confidence=fields.number("confidence"),
        reason=fields.text("reason"),
        words=tuple(_word(item) for item in fields.objects("words")),
        alternatives=tuple(
            Alternative(item.text("text"), item.number("confidence")) for item in fields.objects("alternatives")
        ),
        timings=_timings(fields),
        formatted=fields.text_or_none("formatted") or "",
    )


_READERS: dict[str, Callable[[_Fields], Event]] = {
    "ready": lambda f: Ready(
        f.text("session_id"),
        f.integer("protocol"),
        f.text("model"),
        f.integer("chunk_ms"),
        f.count("first_chunk_ms"),
        f.text("token") if "token" in f.fields else "",
        f.count("received_samples"),
        f.count("received_requests"),
    ),
    "ack": lambda f: Ack(f.integer("received_samples"), f.integer("received_requests")),
    "speech_started": lambda f: SpeechStarted(f.number("time")),
    "partial": lambda f: Partial(
        f.integer("utterance"),
        f.text("committed"),
        f.text("unstable"),
        f.number("start"),
        f.number("end"),
        _timings(f),
    ),
    "final": _final,
    "going_away": lambda f: GoingAway(f.number("seconds")),
    "error": lambda f: Error(f.text("code"), f.text("message")),
    "done": lambda f: Done(f.number("audio_seconds"), f.integer("utterances")),
}


def parse_event(frame: str | bytes) -> Event | None:
    """One frame from the server as an event; `None` for a type that this version does not know.

    Raises `RemoteProtocolError` for anything that is not a JSON object with a ``type``.
    """
    if not isinstance(frame, str):
        raise RemoteProtocolError("the server sent a binary frame; it should send JSON text only")
    try:
        value = json.loads(frame)
    except (ValueError, RecursionError):
        raise RemoteProtocolError(f"the server sent something that is not JSON: {frame[:60]!r}") from None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise RemoteProtocolError(f"the server sent JSON that is no message (an object with a 'type'): {frame[:60]!r}")
    reader = _READERS.get(value["type"])
    return None if reader is None else reader(_Fields(value["type"], value))


def _without_none(fields: list[tuple[str, object]]) -> dict[str, object]:
    return {name: value for name, value in fields if value is not None}


def as_message(event: Event) -> dict[str, object]:
    """The event as the protocol writes it: a JSON-ready object with ``type`` first; what is `None` is left out."""
    fields = dataclasses.asdict(event, dict_factory=_without_none)
    return {"type": TYPE_NAMES[type(event)], **fields}
