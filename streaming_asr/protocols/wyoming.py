"""Owns the Wyoming protocol of Home Assistant and Rhasspy: events in a byte stream, one utterance a connection.

An event is a line of JSON, then as many bytes of JSON data and of payload as that line says. The transcript is one for
the whole connection, however many utterances the recognizer hears in it; its chunks are committed text only, and
joined they are the transcript.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from .. import __version__, messages
from ..errors import ClientError
from ..hotwords import fitting_hotwords
from ..messages import Done, Error, Final, Partial, Ready, ServerMessage
from ..session import Session, State
from .adapter import Adapter, Handshake, Note, Output, Step, Write, note_hotwords, parse_object

VERSION = "1.10.2"  # of the `wyoming` package whose events these are
SAMPLE_BYTES = 2  # of s16le, the only PCM that is served
HOTWORD_OPTIONS = ("transcript_names", "transcript_terms")  # of transcribe
IGNORED_OPTIONS = ("name", "context", "vad_sensitivity")
PROJECT = {"name": "streaming-asr", "url": ""}


# --- events as bytes --------------------------------------------------------------------------------------------


class Header(msgspec.Struct, frozen=True):
    """The line that begins an event; what else it holds is ignored."""

    type: str
    data: dict[str, Any] | None = None
    data_length: int | None = None
    payload_length: int | None = None


@dataclass(frozen=True)
class WyomingEvent:
    """One event of either side."""

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""


class EventReader:
    """Cuts a byte stream into events; holds one event at most. Raises `ClientError` for what is none or too big."""

    def __init__(self, max_header_bytes: int, max_body_bytes: int) -> None:
        self._max_header_bytes = max_header_bytes
        self._max_body_bytes = max_body_bytes
        self._bytes = bytearray()
        self._header: Header | None = None  # of an event whose body is still to come

    def accept(self, data: bytes) -> Iterator[WyomingEvent]:
        """The events that `data` completes."""
        self._bytes += data
        while (event := self._next()) is not None:
            yield event

    def _next(self) -> WyomingEvent | None:
        if self._header is None:
            self._header = self._next_header()
        if self._header is None:
            return None
        header = self._header
        data_length, payload_length = header.data_length or 0, header.payload_length or 0
        if len(self._bytes) < data_length + payload_length:
            return None
        data = parse_object(bytes(self._bytes[:data_length])) if data_length else {}
        payload = bytes(self._bytes[data_length : data_length + payload_length])
        del self._bytes[: data_length + payload_length]
        self._header = None
        return WyomingEvent(header.type, (header.data or {}) | data, payload)

    def _next_header(self) -> Header | None:
        end = self._bytes.find(b"\n", 0, self._max_header_bytes + 1)
        if end < 0:
            if len(self._bytes) > self._max_header_bytes:
                raise ClientError("too_big", f"an event's first line may hold {self._max_header_bytes} bytes", 1009)
            return None
        try:
            header = msgspec.json.decode(self._bytes[:end], type=Header)
        except msgspec.ValidationError as error:
            raise ClientError("bad_message", "an event's first line must hold a type and the lengths", 1007) from error
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise ClientError("bad_json", "an event must begin with a line of JSON", 1007) from error
        lengths = (header.data_length or 0, header.payload_length or 0)
        if min(lengths) < 0:
            raise ClientError("bad_message", "a length must not be negative", 1007)
        if sum(lengths) > self._max_body_bytes:
            raise ClientError("too_big", f"an event may hold {self._max_body_bytes} bytes", 1009)
        del self._bytes[: end + 1]
        return header


def write_event(kind: str, **data: Any) -> Write:
    """An event without payload."""
    body = msgspec.json.encode(data) if data else b""
    header: dict[str, Any] = {"type": kind, "version": VERSION}
    if body:
        header["data_length"] = len(body)
    return Write(msgspec.json.encode(header) + b"\n" + body)


class AudioFormat(msgspec.Struct, frozen=True):
    """What ``audio-start`` and every ``audio-chunk`` say of the audio; the defaults are for who sends none."""

    rate: messages.Number = 16000  # Hz
    width: messages.Number = SAMPLE_BYTES  # bytes
    channels: messages.Number = 1


# --- the adapter ------------------------------------------------------------------------------------------------


class WyomingAdapter(Adapter):
    """Every connection to the Wyoming port."""

    name = "wyoming"
    reads_after_stop = True  # it may ask for other things than audio

    def __init__(self, session: Session, handshake: Handshake) -> None:
        super().__init__(session, handshake)
        self._reader = EventReader(session.limits.max_header_bytes, session.limits.max_frame_bytes)
        self._language: str | None = None
        self._hotwords: tuple[str, ...] = ()
        self._audio_format: AudioFormat | None = None
        self._settled = ""  # of the utterances that ended
        self._told = ""  # of the transcript, in chunks

    def read_text(self, text: str) -> Sequence[Step]:
        """Not in this protocol."""
        raise ClientError("unknown_type", "events come as bytes", 1003)

    def read_bytes(self, data: bytes) -> Sequence[Step]:
        """The next bytes of the connection."""
        steps: list[Step] = []
        self.more_messages = 0
        try:
            for number, event in enumerate(self._reader.accept(data)):
                self.more_messages = number
                steps += self._read(event)
                if self.has_more:
                    break  # the events after it wait in the reader
        except ClientError as error:  # what came before it holds
            steps += self.session.refuse(error)
        return steps

    def go_on(self) -> list[Output]:
        """The rest of a long chunk, then the events after it."""
        self.more_messages = 0
        outputs = super().go_on()
        return outputs if self.has_more else [*outputs, *self.receive(b"")]

    def write(self, message: ServerMessage) -> list[Write]:
        """The transcript while it grows, then all of it; an error instead if there can be none."""
        match message:
            case Ready():
                return [write_event("transcript-start", language=self._told_language)]
            case Partial(committed=committed):
                return self._grow(committed)
            case Final(text=text):
                written = self._grow(text)
                self._settled = self._told
                return written
            case Done() | Error(code="odd_audio"):
                transcript = write_event("transcript", text=self._told, language=self._told_language)
                return [transcript, write_event("transcript-stop")]
            case Error(code=code, message=words):
                return [write_event("error", text=words, code=code)]
        return []

    # --- from the client ---

    def _read(self, event: WyomingEvent) -> Sequence[Step]:
        self.session.keep_alive()
        match event.type:
            case "describe":
                return [self._info()]
            case "ping":
                text = event.data.get("text")
                echoed = text[: messages.ECHOED_CHARACTERS] if isinstance(text, str) else None
                return [write_event("pong", text=echoed)]
            case "transcribe" | "audio-start" | "audio-chunk" | "audio-stop" if self.session.state is State.STOPPING:
                return []
            case "transcribe":
                return self._transcribe(event.data)
            case "audio-start":
                return self._started(event.data)
            case "audio-chunk":
                return [*self._started(event.data), *self.accept_audio(event.payload)]
            case "audio-stop":
                begun = self.session.state is not State.OPENING
                started = [] if begun else self._start(AudioFormat())
                return [*started, *self.session.receive_message(messages.Stop())]
        return [Note("an event that is not served was ignored")]

    def _transcribe(self, data: dict[str, Any]) -> Sequence[Step]:
        language = data.get("language")
        if language is not None and not isinstance(language, str):
            raise ClientError("bad_message", "language must be a string", 1007)
        self._language = language
        lists = [data.get(name) for name in HOTWORD_OPTIONS]
        phrases = [term for terms in lists if isinstance(terms, list) for term in terms]
        self._hotwords = fitting_hotwords(phrases)
        ignored = [Note(f"option {name} is not served") for name in IGNORED_OPTIONS if data.get(name)]
        return [*note_hotwords(phrases, self._hotwords), *ignored]

    def _started(self, data: dict[str, Any]) -> Sequence[Step]:
        """Starts with the first event that says what the audio is; later ones must say the same."""
        try:
            given = msgspec.convert(data, AudioFormat)
        except msgspec.ValidationError as error:
            raise ClientError("bad_message", "rate, width and channels must be whole numbers", 1007) from error
        if given.width != SAMPLE_BYTES:
            raise ClientError("bad_encoding", f"width must be {SAMPLE_BYTES} bytes a sample", 1003)
        if self._audio_format is None:
            self._audio_format = given
            return self._start(given)
        if given != self._audio_format:
            raise ClientError("bad_audio", "rate and channels must not change within a connection", 1007)
        return []

    def _start(self, audio: AudioFormat) -> Sequence[Step]:
        start = messages.Start(
            audio.rate,
            channels=audio.channels,
            language=self._language,
            words=False,
            hotwords=self._hotwords,
            formatted=False,
        )
        return self.session.receive_message(start)

    # --- to the client ---

    @property
    def _told_language(self) -> str:
        return (self._language or self.session.model.language)[: messages.ECHOED_CHARACTERS]

    def _grow(self, text: str) -> list[Write]:
        """One chunk: what the transcript has more, now that the open utterance begins with `text`."""
        transcript = f"{self._settled} {text}" if self._settled and text else self._settled + text
        more = transcript[len(self._told) :]
        self._told = transcript
        return [write_event("transcript-chunk", text=more)] if more else []

    def _info(self) -> Write:
        model = self.session.model
        common = {"attribution": PROJECT, "installed": True, "version": __version__}
        program = common | {
            "name": "streaming-asr",
            "description": "Streaming speech recognition",
            "models": [common | {"name": model.name, "description": model.name, "languages": [model.language]}],
            "supports_transcript_streaming": True,
            "requires_external_vad": True,  # the client says when the command has ended
        }
        return write_event("info", asr=[program])
