"""Owns what all adapters share: how frames go in, what comes out, and how a refusal becomes an error and a close.

Knows no protocol, no sockets and no clock.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec

from .. import messages
from ..access import KEY_SUBPROTOCOLS
from ..errors import ClientError
from ..messages import Event, ServerMessage
from ..session import Action, Close, Flush, ModelInfo, Open, Push, Save, Send, Session, State, TakeUp

Frame = str | bytes
MAX_VALUES = 4096  # of a JSON object: a mebibyte of them takes a tenth of a second, in which all others wait


@dataclass(frozen=True)
class Write:
    """Send this frame: text, or bytes on a protocol that is not text."""

    data: Frame
    is_partial: bool = False  # a newer one says all that it says: it may be skipped for that one
    replaces_partial: bool = False  # it says all that a partial still queued says


@dataclass(frozen=True)
class Mark:
    """Call `Adapter.reached` as soon as everything pushed so far was recognized as far as it can be."""


@dataclass(frozen=True)
class Note:
    """Say this in the log. Never holds what a client wrote."""

    words: str


def note_hotwords(given: Sequence[object], taken: Sequence[str]) -> list[Note]:
    """Says how many phrases of a list were too many or no phrases."""
    dropped = len(given) - len(taken)
    return [Note(f"{dropped} of {len(given)} hotwords are not served")] if dropped else []


Output = Open | Push | Flush | Save | Close | Write | Mark | Note | TakeUp
Step = Action | Write | Mark | Note  # what an adapter's reading yields: a `Send` in it is still to be written


@dataclass(frozen=True)
class Handshake:
    """What is known of a client when it connects."""

    query: str = ""  # of the request's target, without the question mark
    time: datetime = field(default_factory=lambda: datetime.now(UTC))


class Adapter(abc.ABC):
    """One connection in one protocol. Inputs return what to do, in order; none raises for what a client did.

    A subclass implements `read_text`, `read_bytes` and `write`. Its reading may raise `ClientError`, which ends the
    session with that error. Audio it gives to `accept_audio`, which may leave some of it for `go_on`.
    """

    name: ClassVar[str]
    refusal_type: ClassVar[str | None] = None  # media type of what `refusal` says; `None`: it is plain text
    # Accepted in the WebSocket handshake: the first that the client names. Browsers put their key beside one, which is
    # not echoed.
    subprotocols: ClassVar[tuple[str, ...]] = KEY_SUBPROTOCOLS
    idle_timeout_seconds: ClassVar[float | None] = None  # the protocol's own, where it has one
    reads_after_stop: ClassVar[bool] = False  # or ignores what still comes once the client has ended its audio
    more_messages = 0  # than one in the last frame: in a byte stream, of which a frame is whatever has come

    def __init__(self, session: Session, handshake: Handshake) -> None:
        self.session = session
        self.handshake = handshake
        self._go_on: Callable[[], Sequence[Step]] | None = None

    @classmethod  # noqa: B027  # most protocols refuse nothing this early
    def check(cls, handshake: Handshake, model: ModelInfo) -> None:
        """Raises `ClientError` for what is refused before the connection opens."""

    @classmethod
    def refusal(cls, error: ClientError) -> str:
        """The body of the HTTP answer to a client that was refused."""
        return error.message + "\n"

    # --- from the client ---

    def open(self) -> list[Output]:
        """The connection is there."""
        return self._guarded(self.greet)

    def receive(self, frame: Frame) -> list[Output]:
        """The client's next frame."""
        if self.session.state is State.CLOSED:
            return []
        if self.session.state is State.STOPPING and not self.reads_after_stop:
            return []
        if isinstance(frame, str):
            return self._guarded(lambda: self.read_text(frame))
        return self._guarded(lambda: self.read_bytes(frame))

    @property
    def has_more(self) -> bool:
        """Whether the last frame is not read to its end, and `go_on` must come before the next one."""
        return self._go_on is not None

    def go_on(self) -> list[Output]:
        """What follows in the last frame, for as long as decoding holds up nobody."""
        read, self._go_on = self._go_on, None
        return [] if read is None or self.session.state is State.CLOSED else self._guarded(read)

    def connection_lost(self) -> None:
        """The connection is gone."""
        self.session.connection_lost()

    def resume(self, utterance: int) -> list[Output]:
        """The client is back, and has the finals before this one."""
        return self._write_all(self.session.resume(utterance))

    # --- from the engine and the server ---

    def receive_events(self, events: Sequence[Event]) -> list[Output]:
        """What the stream recognized, in order."""
        return self._write_all(self.session.receive_events(events))

    def reached(self) -> list[Output]:
        """The engine is at the oldest `Mark` not reached yet."""
        return []

    def tick(self) -> list[Output]:
        """To be called at the session's deadline."""
        return self._write_all(self.session.tick())

    def announce_end(self, seconds: float) -> list[Output]:
        """The server will end the session in so many seconds."""
        return self._write_all(self.session.announce_end(seconds))

    def go_away(self, is_kept: bool = True) -> list[Output]:
        """The server ends the session; what was said is settled."""
        return self._write_all(self.session.go_away(is_kept))

    def end(self, error: ClientError) -> list[Output]:
        """The client may not go on; what was said is settled."""
        return self._write_all(self.session.end(error.code, error.message, error.close_code))

    def break_off(self) -> list[Output]:
        """The recognizer has lost the session's stream."""
        return self._write_all(self.session.break_off())

    # --- a protocol's own ---

    def greet(self) -> Sequence[Step]:
        """What to do as soon as a client is there."""
        return []

    @abc.abstractmethod
    def read_text(self, text: str) -> Sequence[Step]:
        """A text frame."""

    @abc.abstractmethod
    def read_bytes(self, data: bytes) -> Sequence[Step]:
        """A binary frame, or the next bytes of a byte stream."""

    @abc.abstractmethod
    def write(self, message: ServerMessage) -> list[Write]:
        """The session's message in the protocol's words; empty where it has none."""

    def closing(self, close: Close) -> Close:
        """How the protocol itself would close."""
        return close

    # --- for its reading ---

    def accept_audio(self, data: bytes, then: Callable[[], Sequence[Step]] = tuple, first: int = 0) -> list[Step]:
        """Audio of any length, of which all before `first` was accepted, and `then` what follows it in the frame."""
        size = self.session.piece_bytes
        end = len(data) if size is None else first + size
        steps: list[Step] = [*self.session.receive_bytes(data[first:end])]
        if end < len(data):
            self._go_on = functools.partial(self.accept_audio, data, then, end)
            return steps
        return [*steps, *then()]

    # --- inside ---

    def _guarded(self, read: Callable[[], Sequence[Step]]) -> list[Output]:
        try:
            steps = read()
        except ClientError as error:
            steps = self.session.refuse(error)
        return self._write_all(steps)

    def _write_all(self, steps: Sequence[Step]) -> list[Output]:
        outputs: list[Output] = []
        for step in steps:
            match step:
                case Send(message):
                    outputs += self.write(message)
                case Close():
                    return [*outputs, self.closing(step)]
                case _:
                    outputs.append(step)
        return outputs


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Reads a JSON object. Raises `ClientError`: ``bad_json``, ``bad_message``, or ``too_big`` for very many values."""
    try:
        data = text.encode() if isinstance(text, str) else text
        if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:
            raise ClientError("too_big", f"a JSON object may hold {MAX_VALUES} values", 1009)
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ClientError("bad_json", "the frame is not valid JSON", 1007) from error
    if not isinstance(value, dict):
        raise ClientError("bad_message", "the frame is not a JSON object", 1007)
    return value


def to_json(value: Any) -> str:
    """One text frame."""
    return msgspec.json.encode(value).decode()


def hypothesis(partial: messages.Partial) -> str:
    """The words of the open utterance so far, committed or not."""
    return " ".join(filter(None, (partial.committed, partial.unstable)))
