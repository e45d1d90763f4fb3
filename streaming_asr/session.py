"""Owns the life of one session as a state machine without I/O: messages, bytes and events in, actions out.

The machine speaks the types of `messages`. `Session.receive_text` reads the native protocol; an adapter for another
protocol parses its own frames, calls `receive_message` and `receive_bytes`, and translates what `Send` carries.
Knows nothing of sockets, threads or the recognizer; the clock is injected.

Whoever drives a session performs the returned actions in order. After `Close` nothing follows, and every later
input is ignored: what was under way when a session closed is nobody's mistake.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from . import endpointing, messages
from .audio import AudioDecoder, Samples
from .containers import PIECE_BYTES, ContainerDecoder
from .errors import ClientError, InputError
from .hotwords import MAX_HOTWORD_CHARACTERS, MAX_HOTWORDS, words_of
from .limits import Limits
from .messages import Checkpoint, Event, Final, Reason, ServerMessage, StreamOptions

MAX_KEPT_FINALS = 256  # of a session that can be resumed, in case its client did not get them
MAX_SAVED_FINALS = 32  # the same, on disk, where each final writes them all


# --- what a session tells its driver to do -------------------------------------------------------------------


@dataclass(frozen=True)
class Open:
    """Open a recognizer stream."""

    options: StreamOptions


@dataclass(frozen=True, eq=False)
class Push:
    """Give the stream these samples: float32 [N], 16 kHz mono, N > 0."""

    samples: Samples


@dataclass(frozen=True)
class Flush:
    """Have the stream settle everything pushed so far into one `Final` with this reason."""

    reason: Reason


@dataclass(frozen=True)
class Send:
    """Send this message to the client."""

    message: ServerMessage


class Snapshot(msgspec.Struct, frozen=True):
    """What is settled of a session: enough to go on with it on another recognizer stream, in another process, too.

    Its client need not send again what is in here.
    """

    session_id: str
    token_sha256: str
    start: messages.Start
    frames: int = 0  # of the client's audio that are settled
    requests: int = 0  # `Finalize` and `Stop`, the same
    num_finals: int = 0
    finals: list[Final] = []  # the last of them, in case the client did not get them
    utterances: int = 0
    done: messages.Done | None = None  # the session is over
    context: bytes = b""  # what the recognizer keeps in mind of what is settled

    def holds(self, token: str) -> bool:
        """Whether this token is the session's own."""
        return secrets.compare_digest(self.token_sha256, _sha256(token))


@dataclass(frozen=True)
class Save:
    """Put this on disk before anything that follows is sent."""

    snapshot: Snapshot


@dataclass(frozen=True)
class Close:
    """Send what is still queued, then close with this code (RFC 6455, 7.4.1); give the stream back."""

    code: int
    reason: str = ""


@dataclass(frozen=True)
class TakeUp:
    """Go on with another session, which waits for its client, in place of this one; or `fail` this one."""

    resume: messages.Resume


Action = Open | Push | Flush | Send | Save | Close | TakeUp


# --- states and transitions ----------------------------------------------------------------------------------


class State(enum.Enum):
    """Where a session stands."""

    OPENING = "waiting for start"
    STREAMING = "streaming"
    STOPPING = "stopping"  # the client ended its audio; the last final is awaited
    RESTOPPING = "stopping, its client back"  # who may send again what came before the stop: it is ignored
    DRAINING = "being ended by the server"  # of which the client may not know: what it sends is ignored
    BROKEN_OFF = "broken off"  # to go on from what was saved when its client resumes it; until then all is ignored
    CLOSED = "closed"


class Input(enum.Enum):
    """What can happen to a session."""

    START = "start"
    AUDIO = "audio"
    FINALIZE = "finalize"
    KEEPALIVE = "keepalive"
    STOP = "stop"
    EVENT = "event"  # of the recognizer
    LAST_FINAL = "last final"  # the recognizer's answer to stop
    BREAK = "break"  # the recognizer has lost its stream
    RESUME = "resume"  # the client is back
    END = "end"  # the server ends the session: it goes away, or the client was idle
    FAIL = "fail"  # either side is at fault
    LOST = "lost"  # the connection is gone


TRANSITIONS: dict[tuple[State, Input], State] = {
    (State.OPENING, Input.START): State.STREAMING,
    (State.OPENING, Input.END): State.CLOSED,
    (State.OPENING, Input.FAIL): State.CLOSED,
    (State.OPENING, Input.LOST): State.CLOSED,
    (State.STREAMING, Input.AUDIO): State.STREAMING,
    (State.STREAMING, Input.FINALIZE): State.STREAMING,
    (State.STREAMING, Input.KEEPALIVE): State.STREAMING,
    (State.STREAMING, Input.STOP): State.STOPPING,
    (State.STREAMING, Input.EVENT): State.STREAMING,
    (State.STREAMING, Input.BREAK): State.BROKEN_OFF,
    (State.STREAMING, Input.RESUME): State.STREAMING,
    (State.STREAMING, Input.END): State.DRAINING,
    (State.STREAMING, Input.FAIL): State.CLOSED,
    (State.STREAMING, Input.LOST): State.CLOSED,
    (State.STOPPING, Input.KEEPALIVE): State.STOPPING,
    (State.STOPPING, Input.EVENT): State.STOPPING,
    (State.STOPPING, Input.LAST_FINAL): State.CLOSED,
    (State.STOPPING, Input.BREAK): State.BROKEN_OFF,
    (State.STOPPING, Input.RESUME): State.RESTOPPING,  # half a sample, and the stop behind it, come again
    (State.STOPPING, Input.END): State.DRAINING,
    (State.STOPPING, Input.FAIL): State.CLOSED,
    (State.STOPPING, Input.LOST): State.CLOSED,
    (State.RESTOPPING, Input.AUDIO): State.RESTOPPING,
    (State.RESTOPPING, Input.FINALIZE): State.RESTOPPING,
    (State.RESTOPPING, Input.KEEPALIVE): State.RESTOPPING,
    (State.RESTOPPING, Input.STOP): State.RESTOPPING,
    (State.RESTOPPING, Input.EVENT): State.RESTOPPING,
    (State.RESTOPPING, Input.LAST_FINAL): State.CLOSED,
    (State.RESTOPPING, Input.BREAK): State.BROKEN_OFF,
    (State.RESTOPPING, Input.RESUME): State.RESTOPPING,
    (State.RESTOPPING, Input.END): State.DRAINING,
    (State.RESTOPPING, Input.FAIL): State.CLOSED,
    (State.RESTOPPING, Input.LOST): State.CLOSED,
    (State.DRAINING, Input.AUDIO): State.DRAINING,
    (State.DRAINING, Input.FINALIZE): State.DRAINING,
    (State.DRAINING, Input.KEEPALIVE): State.DRAINING,
    (State.DRAINING, Input.STOP): State.DRAINING,
    (State.DRAINING, Input.EVENT): State.DRAINING,
    (State.DRAINING, Input.LAST_FINAL): State.CLOSED,
    (State.DRAINING, Input.RESUME): State.DRAINING,
    (State.DRAINING, Input.END): State.DRAINING,
    (State.DRAINING, Input.FAIL): State.CLOSED,
    (State.DRAINING, Input.LOST): State.CLOSED,
    (State.BROKEN_OFF, Input.RESUME): State.STREAMING,
    (State.BROKEN_OFF, Input.END): State.BROKEN_OFF,
    (State.BROKEN_OFF, Input.FAIL): State.CLOSED,
    (State.BROKEN_OFF, Input.LOST): State.CLOSED,
}

_DEAF = (State.RESTOPPING, State.DRAINING)  # to what the client sends

_INPUT_OF: dict[type[messages.ClientMessage], Input] = {
    messages.Start: Input.START,
    messages.Finalize: Input.FINALIZE,
    messages.Keepalive: Input.KEEPALIVE,
    messages.Stop: Input.STOP,
}


# --- the machine ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelInfo:
    """What a session says and checks about the model behind it."""

    name: str
    chunk_ms: int
    first_chunk_ms: int
    language: str


def check_start(start: messages.Start, model: ModelInfo) -> None:
    """Raises `ClientError` for what ``start`` asks and is not served. `Session` does it itself, once connected."""
    _audio_decoder(start)
    if start.language is not None and start.language.lower().split("-")[0] != model.language:
        quoted = repr(start.language[: messages.QUOTED_CHARACTERS])
        raise ClientError("bad_language", f"this server recognizes {model.language!r}, not {quoted}", 1003)
    if not 1 <= start.nbest <= messages.MAX_NBEST:
        raise ClientError("bad_nbest", f"nbest must be 1 to {messages.MAX_NBEST}, not {start.nbest}", 1003)
    if len(start.hotwords) > MAX_HOTWORDS or any(len(word) > MAX_HOTWORD_CHARACTERS for word in start.hotwords):
        words = f"there may be {MAX_HOTWORDS} hotwords of {MAX_HOTWORD_CHARACTERS} characters"
        raise ClientError("bad_hotwords", words, 1003)
    if start.only_hotwords and not list(words_of(start.hotwords)):
        raise ClientError("bad_hotwords", "only_hotwords needs hotwords: nothing else would be told", 1003)
    try:
        endpointing.session_rules(start.endpointing)
    except InputError as error:
        raise ClientError("bad_endpointing", str(error), 1003) from error


def _audio_decoder(start: messages.Start) -> AudioDecoder | ContainerDecoder:
    if start.encoding == "container":
        return ContainerDecoder()
    return AudioDecoder(start.encoding, start.sample_rate, start.channels)


T = TypeVar("T")


def _refusing(method: Callable[[Session, T], list[Action]]) -> Callable[[Session, T], list[Action]]:
    """A client's input: ignored once closed or broken off; a `ClientError` ends the session."""

    @functools.wraps(method)
    def guarded(session: Session, given: T) -> list[Action]:
        if session.state in (State.CLOSED, State.BROKEN_OFF):
            return []
        try:
            return method(session, given)
        except ClientError as error:
            return session.refuse(error)

    return guarded


class Session:
    """One client's session. Every input returns the actions it causes; none raises for what a client did."""

    def __init__(
        self,
        session_id: str,
        model: ModelInfo,
        limits: Limits,
        clock: Callable[[], float],
        token: str = "",  # nosec B107  # empty: there is none
        saves: bool = False,
    ) -> None:
        """``token``: with which the session can be resumed, should its client ask for that; empty: not at all.

        It then acknowledges what is settled; the rest comes again from a client that is back, and is passed over as far
        as it had come. ``saves``: whether it can be resumed in another process, so that what is settled is saved first.
        """
        self.session_id = session_id
        self._token = token
        self.state = State.OPENING
        self.error: str | None = None  # the code of the error that ended it, or is about to
        self.model = model
        self.limits = limits
        self._clock = clock
        self._began = self._last_sign_of_life = clock()
        self._decoder: AudioDecoder | ContainerDecoder | None = None
        self._ending: Close | None = None  # how to close after the last final
        self._ending_error: messages.Error | None = None  # said instead of done
        self._is_connected = True
        self._num_requests = 0  # received
        self._farewell: list[Action] = []  # of a session that can be resumed, once it has ended
        self._saves = saves
        self._settled = Snapshot(session_id, _sha256(token), messages.Start())
        self._kept: Snapshot | None = None  # of it, what the client knows of; None: the session cannot be resumed
        self._broke_at: Snapshot | None = None  # from which it went on when the recognizer had lost its stream
        self._reopening: list[Action] = []  # of a session that goes on from what was kept
        self._bytes_to_skip = self._requests_to_skip = 0  # received and not settled, which come again

    @classmethod
    def restored(
        cls, snapshot: Snapshot, token: str, model: ModelInfo, limits: Limits, clock: Callable[[], float]
    ) -> Session:
        """The session that another process saved, without its client so far; goes on with `resume`.

        Raises `ClientError` when it asks for what is not served any more.
        """
        session = cls(snapshot.session_id, model, limits, clock, token, saves=True)
        check_start(snapshot.start, model)
        session._go_back_to(snapshot)
        return session

    def _go_back_to(self, snapshot: Snapshot) -> None:
        """As it was then, and without its client."""
        self._decoder = decoder = _audio_decoder(snapshot.start)
        assert isinstance(decoder, AudioDecoder)
        first_sample = decoder.start_at(snapshot.frames)
        self._settled = self._kept = snapshot
        self._num_requests = snapshot.requests
        self.error = self._ending = self._ending_error = None
        self._is_connected = False
        if snapshot.done:
            self.state = State.CLOSED
            self._farewell = [Send(snapshot.done), Close(1000)]
            return
        self.state = State.BROKEN_OFF
        options = dataclasses.replace(
            self._stream_options(),
            first_sample=first_sample,
            first_utterance=snapshot.num_finals,
            finals_before=tuple(snapshot.finals[-MAX_SAVED_FINALS:]),
            context=snapshot.context,
        )
        self._reopening = [Open(options)]

    @property
    def utterances(self) -> int:
        """Finals with words in them."""
        return self._settled.utterances

    @property
    def audio_seconds(self) -> float:
        """Whole frames of audio received, in seconds."""
        return self._decoder.seconds if self._decoder else 0.0

    @property
    def piece_bytes(self) -> int | None:
        """How many bytes of audio to hand over at once, so that decoding them holds up nobody; `None`: any number."""
        if self._decoder is None:
            return None
        return PIECE_BYTES if isinstance(self._decoder, ContainerDecoder) else self._decoder.second_bytes

    @property
    def deadline(self) -> float | None:
        """When, on the injected clock, `tick` must be called; `None` while only the recognizer is awaited."""
        if self.state not in (State.OPENING, State.STREAMING):
            return None
        idle = self._last_sign_of_life + self.limits.idle_timeout_seconds
        return (
            idle
            if self.limits.max_session_seconds is None
            else min(idle, self._began + self.limits.max_session_seconds)
        )

    @property
    def silent_seconds(self) -> float:
        """Since the client's last sign of life."""
        return self._clock() - self._last_sign_of_life

    # --- from the client ---

    @_refusing
    def receive_text(self, text: str) -> list[Action]:
        """A text frame of the native protocol."""
        if self.state in _DEAF:
            return []
        if len(text) > self.limits.max_frame_bytes:
            raise self._too_big()
        return self._receive(messages.parse_message(text))

    @_refusing
    def receive_message(self, message: messages.ClientMessage) -> list[Action]:
        """A message, however the client's protocol writes it."""
        return self._receive(message)

    @_refusing
    def receive_bytes(self, data: bytes) -> list[Action]:
        """Audio in the encoding that ``start`` named, cut anywhere."""
        if self._bytes_to_skip:
            again = min(self._bytes_to_skip, len(data))
            self._bytes_to_skip -= again
            data = data[again:]
            self.keep_alive()
            if not data:
                return []
        self._advance(Input.AUDIO)
        self.keep_alive()
        if self.state in _DEAF:
            return []
        if len(data) > self.limits.max_frame_bytes:
            raise self._too_big()
        assert self._decoder is not None
        return _push(self._decoder.accept(data))

    def connection_lost(self) -> list[Action]:
        """The connection is gone for good; the driver gives the stream back."""
        if self.state is not State.CLOSED:
            self._advance(Input.LOST)
        return []

    # --- without a client for a while ---

    @property
    def is_saved(self) -> bool:
        """Whether another process could go on with it."""
        return self._saves and self._kept is not None

    @property
    def is_resumable(self) -> bool:
        """Whether there is something to go on with."""
        return self._kept is not None and (self.state is not State.CLOSED or bool(self._farewell))

    def holds(self, token: str) -> bool:
        """Whether this token is the session's own, compared in constant time."""
        return self._kept is not None and secrets.compare_digest(self._token.encode(), token.encode())

    def suspend(self) -> None:
        """The connection is gone, its client may come back: events go on to be received, actions wait for `resume`."""
        self._is_connected = False
        if isinstance(self._decoder, AudioDecoder):
            self._decoder.drop_pending()

    def resume(self, utterance: int) -> list[Action]:
        """The client is back and has the finals before this one: it is told what was received, and the others."""
        finals, num_finals = self._settled.finals, self._settled.num_finals
        self._is_connected = True
        self.keep_alive()
        if not num_finals - len(finals) <= utterance <= num_finals:
            words = f"the session cannot go on from utterance {utterance}: it keeps the last {len(finals)} finals"
            self._farewell = []
            if self.state is State.CLOSED:  # it ended while nobody was there
                return [Send(messages.Error("bad_resume", words)), Close(1008, "bad_resume")]
            return self.fail("bad_resume", words, 1008)
        if self.state is not State.CLOSED:
            self._advance(Input.RESUME)
        missing = [Send(final) for final in finals if final.utterance >= utterance]
        reopening, self._reopening = self._reopening, []
        return [*reopening, *self._keep(), Send(self._ready()), *missing, *self._farewell]

    # --- from the recognizer ---

    def receive_events(self, events: Sequence[Event]) -> list[Action]:
        """What the stream recognized, in order."""
        actions: list[Action] = []
        for event in events:
            if self.state is State.CLOSED:
                break
            if isinstance(event, Checkpoint):
                if isinstance(self._decoder, AudioDecoder):
                    frames = self._decoder.frames_until(event.samples)
                    self._settled = msgspec.structs.replace(self._settled, frames=frames, context=event.context)
                continue
            if isinstance(event, Final):
                self._settle(event)
                actions += self._acknowledge()
            actions.append(Send(event))
            if not isinstance(event, Final) or event.reason != "stop":
                self._advance(Input.EVENT)
                continue
            self._advance(Input.LAST_FINAL)
            last_words = self._ending_error or self._settled.done
            assert self._ending is not None
            assert last_words is not None
            actions += self._part([Send(last_words), self._ending])
        if self.state is not State.CLOSED:
            actions += self._acknowledge()
        return actions if self._is_connected else []

    # --- from the server itself ---

    def keep_alive(self) -> None:
        """Starts the idle time anew: a message came, or the server itself did not read for a while."""
        self._last_sign_of_life = self._clock()

    def tick(self) -> list[Action]:
        """To be called at `deadline`: ends a session that has lasted, or whose client has been idle, for too long."""
        now = self._clock()
        if self.deadline is None or now < self.deadline:
            return []
        most = self.limits.max_session_seconds
        if most is not None and now >= self._began + most:
            return self.end("too_long", f"a session may last {most:.12g} s; open another one")
        seconds = self.limits.idle_timeout_seconds
        words = f"neither audio nor a message for {seconds:g} s; send keepalive while there is no audio"
        return self.end("idle", words)

    def end(self, code: str, message: str, close_code: int = 1008) -> list[Action]:
        """Ends the session with an error; what was said until now is settled before it."""
        return self._end(Close(close_code, code), messages.Error(code, message))

    def refuse(self, error: ClientError) -> list[Action]:
        """Ends the session for what its client did: what was said until now is settled, then comes the error."""
        if self._decoder is None:  # no stream was opened
            return self.fail(error.code, error.message, error.close_code)
        ending, last_words = Close(error.close_code, error.code), messages.Error(error.code, error.message)
        if self.state is State.STOPPING:
            self.error, self._ending, self._ending_error = error.code, ending, last_words
        return self._end(ending, last_words)

    def announce_end(self, seconds: float) -> list[Action]:
        """The server will call `go_away` in so many seconds."""
        is_told = self.state in (State.STREAMING, State.STOPPING, State.RESTOPPING)
        return [Send(messages.GoingAway(seconds))] if is_told else []

    def go_away(self, is_kept: bool = True) -> list[Action]:
        """Ends the session from the server's side: what was said is settled, then 1001.

        One that is saved breaks off instead, with 1012 (service restart), for another process to go on with;
        ``is_kept`` says whether what was saved last has got to where that looks for it.
        """
        if is_kept and self.is_saved and self.state is State.STREAMING:
            return [Close(1012, "the server restarts")]
        return self._end(Close(1001, "the server is shutting down"))

    def break_off(self) -> list[Action]:
        """The recognizer has lost the session's stream. One that can be resumed goes on from what is settled, then.

        1012 tells the client so. Any other session fails, as does one that got no further since it last broke off.
        """
        kept = self._kept
        if kept is None or kept == self._broke_at or (self.state, Input.BREAK) not in TRANSITIONS:
            return self.fail("internal", "the recognizer failed on this session")
        told: list[Action] = [Close(1012, "the recognizer restarts")] if self._is_connected else []
        self._broke_at = kept
        self._go_back_to(kept)
        return told

    def fail(self, code: str, message: str, close_code: int = 1011) -> list[Action]:
        """Ends the session at once with an error; `close_code` 1011 says that the server is at fault."""
        if self.state is State.CLOSED:
            return []
        self._advance(Input.FAIL)
        self.error = code
        actions: list[Action] = [Send(messages.Error(code, message)), Close(close_code, code)]
        if self._is_connected:
            return actions
        self._part(actions)
        return []

    # --- inside ---

    def _advance(self, happened: Input) -> None:
        try:
            self.state = TRANSITIONS[self.state, happened]
        except KeyError:
            raise ClientError(
                "wrong_order", f"{happened.value} cannot come while the session is {self.state.value}"
            ) from None

    def _receive(self, message: messages.ClientMessage) -> list[Action]:
        if isinstance(message, messages.Start) and message.resume is not None and self.state is State.OPENING:
            return [TakeUp(message.resume)]
        if isinstance(message, messages.Finalize | messages.Stop) and self._requests_to_skip:
            self._requests_to_skip -= 1
            self.keep_alive()
            return []
        self._advance(_INPUT_OF[type(message)])
        self.keep_alive()
        if self.state in _DEAF:
            return []
        match message:
            case messages.Start():
                return self._start(message)
            case messages.Finalize():
                self._num_requests += 1
                return self._flush("finalize")
            case messages.Stop():
                self._num_requests += 1
                return self._stop()
            case messages.Keepalive():
                return []

    def _start(self, start: messages.Start) -> list[Action]:
        check_start(start, self.model)
        self._decoder = _audio_decoder(start)
        self._settled = msgspec.structs.replace(self._settled, start=start)
        can_be_resumed = start.resumable and self._token and isinstance(self._decoder, AudioDecoder)
        saves = self._keep() if can_be_resumed else []
        return [Open(self._stream_options()), *saves, Send(self._ready())]

    def _stream_options(self) -> StreamOptions:
        start = self._settled.start
        return StreamOptions(
            start.partials,
            start.words,
            start.nbest,
            start.endpointing,
            start.hotwords,
            start.only_hotwords,
            start.timings,
            start.formatted,
            checkpoints=self._kept is not None,
        )

    def _ready(self) -> messages.Ready:
        model = self.model
        ready = messages.Ready(
            self.session_id, messages.PROTOCOL_VERSION, model.name, model.chunk_ms, model.first_chunk_ms
        )
        kept = self._kept
        if kept is None:
            return ready
        assert isinstance(self._decoder, AudioDecoder)
        self._bytes_to_skip = (self._decoder.frames - kept.frames) * self._decoder.frame_bytes
        self._requests_to_skip = self._num_requests - kept.requests
        return msgspec.structs.replace(
            ready, token=self._token, received_samples=kept.frames, received_requests=kept.requests
        )

    def _settle(self, final: Final) -> None:
        before = self._settled
        utterances = before.utterances + bool(final.text)
        # The server's own ending is nobody's request.
        is_answer = final.reason != "endpoint" and before.requests < self._num_requests
        is_last = final.reason == "stop" and self._ending_error is None
        self._settled = msgspec.structs.replace(
            before,
            utterances=utterances,
            num_finals=before.num_finals + 1,
            requests=before.requests + is_answer,
            finals=[*before.finals, final][-MAX_KEPT_FINALS:] if self._kept is not None else [],
            done=messages.Done(round(self.audio_seconds, 3), utterances) if is_last else None,
        )

    def _keep(self) -> list[Action]:
        """What is settled now is what the session goes on from."""
        self._kept = kept = self._settled
        if not self._saves:
            return []
        return [Save(msgspec.structs.replace(kept, finals=kept.finals[-MAX_SAVED_FINALS:]))]

    def _acknowledge(self) -> list[Action]:
        """Says what is settled, once it is saved, if there is more of it and somebody to be told."""
        if self._kept is None or self._kept is self._settled or not self._is_connected:
            return []
        return [*self._keep(), Send(messages.Ack(self._settled.frames, self._settled.requests))]

    def _part(self, actions: list[Action]) -> list[Action]:
        """The last actions; who resumes the session gets them again."""
        if self._kept is not None:
            self._farewell = actions
        return actions

    def _stop(self) -> list[Action]:
        assert self._decoder is not None
        self._ending = Close(1000)
        if self._decoder.pending_bytes:
            # What is whole is still recognized: the client made a mistake, its speaker did not.
            words = f"the audio ended {self._decoder.pending_bytes} bytes into a frame"
            self._ending, self._ending_error = Close(1007, "odd_audio"), messages.Error("odd_audio", words)
            self.error = "odd_audio"
        return self._flush("stop")

    def _end(self, ending: Close, error: messages.Error | None = None) -> list[Action]:
        if self.state is State.CLOSED:
            return []
        before = self.state
        self._advance(Input.END)
        if error is not None and before in (State.OPENING, State.STREAMING):
            self.error = error.code
        if before is State.STREAMING:
            self._ending, self._ending_error = ending, error
            return self._flush("stop")
        if before is State.OPENING:
            return [Send(error), ending] if error else [ending]
        return []  # already ending

    def _flush(self, reason: Reason) -> list[Action]:
        assert self._decoder is not None
        held = self._decoder.finish() if reason == "stop" else self._decoder.flush()
        return [*_push(held), Flush(reason)]

    def _too_big(self) -> ClientError:
        return ClientError("too_big", f"a frame may hold {self.limits.max_frame_bytes} bytes", 1009)


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _push(samples: Samples) -> list[Action]:
    return [Push(samples)] if len(samples) else []
