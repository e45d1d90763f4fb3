"""Owns OpenAI's Realtime protocol for transcription sessions: items, append-only deltas, ``completed``.

An item is one utterance. Its deltas are committed text only, and joined they are the transcript. A mistake is told in
an ``error`` event and the session goes on, unless the session itself cannot.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from .. import messages
from ..access import KEY_SUBPROTOCOLS
from ..endpointing import MAX_SILENCE_MS, MIN_SILENCE_MS
from ..errors import ClientError
from ..hotwords import MAX_HOTWORD_CHARACTERS, MAX_HOTWORDS, fitting_hotwords
from ..messages import Endpointing, Error, Final, Partial, ServerMessage, SpeechStarted
from ..session import Action, Session, State, check_start
from .adapter import Adapter, Handshake, Note, Step, Write, note_hotwords, parse_object, to_json

PCM_SAMPLE_RATE = 24000  # Hz, unless the client names another
SILENCE_MS = 500  # OpenAI's default
PROMPT_CHARACTERS = MAX_HOTWORDS * (MAX_HOTWORD_CHARACTERS + len(", "))  # that are read of one: cutting up more is work
OLDER_FORMATS = {"pcm16": "audio/pcm", "g711_ulaw": "audio/pcmu", "g711_alaw": "audio/pcma"}


# --- what `session.update` may hold; other fields are ignored ---------------------------------------------------


class Format(msgspec.Struct, frozen=True):
    """``audio.input.format``."""

    type: str = "audio/pcm"
    rate: messages.Number | None = None


class Transcription(msgspec.Struct, frozen=True):
    """``audio.input.transcription``."""

    model: str | None = None
    language: str | None = None
    prompt: Any = None
    keywords: Any = None


class TurnDetection(msgspec.Struct, frozen=True):
    """``audio.input.turn_detection``."""

    type: str = "server_vad"
    threshold: float = 0.5
    prefix_padding_ms: messages.Number = 300
    silence_duration_ms: messages.Number = SILENCE_MS


class AudioInput(msgspec.Struct, frozen=True):
    """``audio.input``: what is left out stays as it was; ``turn_detection: null`` means that the client commits."""

    format: Format | msgspec.UnsetType = msgspec.UNSET
    transcription: Transcription | msgspec.UnsetType | None = msgspec.UNSET
    turn_detection: TurnDetection | msgspec.UnsetType | None = msgspec.UNSET
    noise_reduction: Any = None


class Audio(msgspec.Struct, frozen=True):
    """``audio``."""

    input: AudioInput = AudioInput()


class Update(msgspec.Struct, frozen=True):
    """``session`` of ``session.update``."""

    type: str = "transcription"
    audio: Audio = Audio()
    include: Any = None


class OlderUpdate(msgspec.Struct, frozen=True):
    """``session`` of ``transcription_session.update``, which came before ``session.update`` and says the same."""

    input_audio_format: Literal["pcm16", "g711_ulaw", "g711_alaw"] | msgspec.UnsetType = msgspec.UNSET
    input_audio_transcription: Transcription | msgspec.UnsetType | None = msgspec.UNSET
    turn_detection: TurnDetection | msgspec.UnsetType | None = msgspec.UNSET
    input_audio_noise_reduction: Any = None
    include: Any = None

    def renewed(self) -> Update:
        """The same as ``session.update`` says it."""
        name = self.input_audio_format
        form = name if isinstance(name, msgspec.UnsetType) else Format(OLDER_FORMATS[name])
        transcription, noise_reduction = self.input_audio_transcription, self.input_audio_noise_reduction
        return Update(
            audio=Audio(AudioInput(form, transcription, self.turn_detection, noise_reduction)), include=self.include
        )


U = TypeVar("U", Update, OlderUpdate)


# --- the adapter ------------------------------------------------------------------------------------------------------


@dataclass
class Item:
    """One utterance on its way."""

    name: str
    committed: bool = False
    discarded: bool = False  # the client cleared its buffer
    text: str = ""  # of the deltas so far


class OpenAIAdapter(Adapter):
    """``/v1/realtime?intent=transcription``. Models' names are taken and ignored."""

    name = "openai"
    refusal_type = "application/json"
    subprotocols = ("realtime", *KEY_SUBPROTOCOLS)

    def __init__(self, session: Session, handshake: Handshake) -> None:
        super().__init__(session, handshake)
        self._format = Format(rate=PCM_SAMPLE_RATE)
        self._transcription = Transcription()
        self._turn_detection: TurnDetection | None = TurnDetection()
        self._items: deque[Item] = deque()  # open ones, oldest first
        self._last_item: str | None = None  # committed
        self._early: Item | None = None  # completed by an endpoint, before the final that answers its commit
        self._between: Item | None = None  # whose words come after that, and still before that final
        self._num_items = self._num_events = 0
        self._has_audio = False  # since the last commit

    @classmethod
    def refusal(cls, error: ClientError) -> str:
        """As OpenAI says it."""
        code = "invalid_api_key" if error.code == "unauthorized" else error.code
        return to_json({"error": {"type": "invalid_request_error", "code": code, "message": error.message}})

    def greet(self) -> Sequence[Step]:
        """The server speaks first."""
        return [self._event("session.created", session=self._description())]

    def read_text(self, text: str) -> Sequence[Step]:
        """A client event; what is wrong with it is told, and the session goes on."""
        if len(text) > self.session.limits.max_frame_bytes:
            raise ClientError("too_big", f"an event may hold {self.session.limits.max_frame_bytes} bytes", 1009)
        event: dict[str, Any] = {}
        try:
            event = parse_object(text)
            self.session.keep_alive()
            return self._read(event)
        except ClientError as error:
            event_id = event.get("event_id")
            echoed = event_id[: messages.ECHOED_CHARACTERS] if isinstance(event_id, str) else None
            return [self._error(error.code, error.message, echoed)]

    def read_bytes(self, data: bytes) -> Sequence[Step]:
        """Not in this protocol."""
        raise ClientError("unknown_type", "audio comes in input_audio_buffer.append, as base64", 1003)

    def write(self, message: ServerMessage) -> list[Write]:
        """The events of the utterance that is open."""
        match message:
            case SpeechStarted(time=time) if self._turn_detection is not None:
                start_ms = round(time * 1000)
                return self._told("input_audio_buffer.speech_started", self._current(), audio_start_ms=start_ms)
            case Partial(committed=committed):
                return self._delta(self._current(), committed)
            case Final():
                return self._final(message)
            case Error(code=code, message=words):
                return [self._error(code, words, kind="server_error" if code == "internal" else None)]
        return []

    # --- from the client ---

    def _read(self, event: dict[str, Any]) -> Sequence[Step]:
        match event.get("type"):
            case "session.update":
                steps = self._update(_converted(event.get("session"), Update))
                return [*steps, self._event("session.updated", session=self._description())]
            case "transcription_session.update":
                steps = self._update(_converted(event.get("session", event), OlderUpdate).renewed())
                return [*steps, self._event("transcription_session.updated", session=self._older_description())]
            case "input_audio_buffer.append":
                return self._append(event.get("audio"))
            case "input_audio_buffer.commit":
                return self._commit()
            case "input_audio_buffer.clear":
                return self._clear()
        raise ClientError(
            "invalid_value",
            "type must be session.update, transcription_session.update, input_audio_buffer.append, "
            "input_audio_buffer.commit or input_audio_buffer.clear",
        )

    def _update(self, update: Update) -> list[Note]:
        if update.type != "transcription":
            raise ClientError("invalid_value", "only sessions of type transcription are served")
        given = update.audio.input
        form = self._format if given.format is msgspec.UNSET else given.format
        transcription = self._transcription if given.transcription is msgspec.UNSET else given.transcription
        turn_detection = self._turn_detection if given.turn_detection is msgspec.UNSET else given.turn_detection
        if form.type == "audio/pcm" and form.rate is None:
            form = Format(rate=PCM_SAMPLE_RATE)
        if turn_detection is not None and turn_detection.type not in ("server_vad", "semantic_vad"):
            raise ClientError("invalid_value", "turn_detection.type must be server_vad or semantic_vad")
        transcription = transcription or Transcription()
        start = _start(form, transcription, turn_detection)
        check_start(start, self.session.model)
        if self.session.state is not State.OPENING and start != self._start:
            raise ClientError("session_started", "the session cannot be changed after its first audio")
        self._format, self._transcription, self._turn_detection = form, transcription, turn_detection
        notes = note_hotwords(_phrases(transcription), start.hotwords)
        unserved = {"noise_reduction": given.noise_reduction, "include": update.include}
        return notes + [Note(f"option {name} is not served") for name, value in unserved.items() if value]

    def _append(self, audio: Any) -> Sequence[Step]:
        try:
            data = base64.b64decode(audio, validate=True)
        except (TypeError, ValueError, binascii.Error) as error:
            raise ClientError("invalid_value", "audio must be base64") from error
        self._has_audio |= bool(data)
        return [*self._started(), *self.accept_audio(data)]

    def _commit(self) -> Sequence[Step]:
        if not self._has_audio:
            raise ClientError("input_audio_buffer_commit_empty", "the input audio buffer holds no audio")
        return [*self._announce(self._newest()), *self._flush()]

    def _clear(self) -> Sequence[Step]:
        """What came since the last commit is recognized all the same, and told to nobody."""
        cleared = self._event("input_audio_buffer.cleared")
        if not self._has_audio:
            return [cleared]
        item = self._newest()
        item.committed = item.discarded = True
        return [cleared, *self._flush()]

    def _flush(self) -> list[Action]:
        self._has_audio = False
        return self.session.receive_message(messages.Finalize())

    @property
    def _start(self) -> messages.Start:
        return _start(self._format, self._transcription, self._turn_detection)

    def _started(self) -> list[Action]:
        return self.session.receive_message(self._start) if self.session.state is State.OPENING else []

    # --- items ---

    def _new_item(self) -> Item:
        self._num_items += 1
        return Item(f"item_{self.session.session_id}_{self._num_items}")

    def _current(self) -> Item:
        """Whose words come from the recognizer now."""
        if self._early is not None:
            if self._between is None:
                self._between = self._new_item()
                self._between.discarded = self._early.discarded
            return self._between
        if not self._items:
            self._items.append(self._new_item())
        return self._items[0]

    def _newest(self) -> Item:
        """Whose audio comes from the client now."""
        if not self._items or self._items[-1].committed:
            self._items.append(self._new_item())
        return self._items[-1]

    def _announce(self, item: Item) -> list[Write]:
        """The item's audio is complete."""
        if item.committed:
            return []
        item.committed = True
        previous, self._last_item = self._last_item, item.name
        content = [{"type": "input_audio", "transcript": None}]
        added = {
            "id": item.name,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": content,
        }
        return [
            self._event("input_audio_buffer.committed", item_id=item.name, previous_item_id=previous),
            self._event("conversation.item.added", item=added, previous_item_id=previous),
        ]

    def _delta(self, item: Item, text: str) -> list[Write]:
        """What `text` has more than the deltas so far, which it begins with."""
        more, item.text = text[len(item.text) :], text
        if not more:
            return []
        return self._told("conversation.item.input_audio_transcription.delta", item, content_index=0, delta=more)

    def _final(self, final: Final) -> list[Write]:
        waiting = self._between if self._early is not None else next(iter(self._items), None)
        if waiting is None and not final.text:
            if final.reason == "finalize":
                self._early = None
            return []
        item = self._current()
        if self._early is not None:
            self._between = None
            if final.reason == "finalize":
                self._early = None
        else:
            self._items.popleft()
            if final.reason == "endpoint" and item.committed:
                self._early = item
        if final.reason == "stop" and not final.text and not item.committed:
            return []
        written: list[Write] = []
        if self._turn_detection is not None and not item.committed:
            end_ms = round(final.end * 1000)
            written += self._told("input_audio_buffer.speech_stopped", item, audio_end_ms=end_ms)
        if not item.discarded:
            written += self._announce(item)
        written += self._delta(item, final.text)
        return written + self._told(
            "conversation.item.input_audio_transcription.completed",
            item,
            content_index=0,
            transcript=final.text,
            usage={"type": "duration", "seconds": round(final.end - final.start, 3)},
        )

    # --- events ---

    def _told(self, kind: str, item: Item, **fields: Any) -> list[Write]:
        return [] if item.discarded else [self._event(kind, **(fields | {"item_id": item.name}))]

    def _event(self, kind: str, **fields: Any) -> Write:
        self._num_events += 1
        return Write(
            to_json({"type": kind, "event_id": f"event_{self.session.session_id}_{self._num_events}"} | fields)
        )

    def _error(self, code: str, words: str, event_id: str | None = None, kind: str | None = None) -> Write:
        error = {"type": kind or "invalid_request_error", "code": code, "message": words, "param": None}
        return self._event("error", error=error | {"event_id": event_id})

    def _description(self) -> dict[str, Any]:
        detection = self._turn_detection
        model = self._transcription.model or self.session.model.name
        language = self._transcription.language
        return {
            "id": self.session.session_id,
            "object": "realtime.transcription_session",
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"type": self._format.type}
                    | ({"rate": self._format.rate} if self._format.rate is not None else {}),
                    "transcription": {"model": model[: messages.ECHOED_CHARACTERS]}
                    | ({"language": language[: messages.ECHOED_CHARACTERS]} if language is not None else {}),
                    "noise_reduction": None,
                    "turn_detection": None if detection is None else msgspec.to_builtins(detection),
                }
            },
        }

    def _older_description(self) -> dict[str, Any]:
        described = self._description()
        audio = described["audio"]["input"]
        [name] = [older for older, newer in OLDER_FORMATS.items() if newer == self._format.type]
        return {
            "id": described["id"],
            "object": described["object"],
            "input_audio_format": name,
            "input_audio_transcription": audio["transcription"],
            "input_audio_noise_reduction": audio["noise_reduction"],
            "turn_detection": audio["turn_detection"],
        }


def _converted(fields: Any, kind: type[U]) -> U:
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise ClientError("invalid_value", "session: a field is of the wrong type") from error


def _start(form: Format, transcription: Transcription, turn_detection: TurnDetection | None) -> messages.Start:
    endpointing = Endpointing(enabled=False)
    if turn_detection is not None:
        silence_ms = min(max(turn_detection.silence_duration_ms, MIN_SILENCE_MS), MAX_SILENCE_MS)
        endpointing = Endpointing(trailing_silence_ms=silence_ms)
    encodings: dict[str, tuple[messages.Encoding, int]] = {
        "audio/pcm": ("pcm_s16le", form.rate or 0),
        "audio/pcmu": ("mulaw", 8000),
        "audio/pcma": ("alaw", 8000),
    }
    if form.type not in encodings:
        raise ClientError("invalid_value", f"format.type must be one of {', '.join(encodings)}")
    encoding, sample_rate = encodings[form.type]
    return messages.Start(
        sample_rate,
        encoding,
        language=transcription.language or None,
        endpointing=endpointing,
        hotwords=fitting_hotwords(_phrases(transcription)),
        formatted=False,
    )


def _phrases(transcription: Transcription) -> list[object]:
    """The keywords, and what stands between commas in the prompt's first 10,200 characters."""
    keywords = transcription.keywords if isinstance(transcription.keywords, list) else []
    prompt = transcription.prompt[:PROMPT_CHARACTERS] if isinstance(transcription.prompt, str) else ""
    return [*keywords, *(phrase.strip() for phrase in re.split(r"[,;\n]", prompt) if phrase.strip())]
