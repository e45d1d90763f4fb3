"""Owns Deepgram's live protocol, version 1: options in the query, ``Results``, ``Metadata`` at the end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

from .. import messages
from ..endpointing import MAX_SILENCE_MS, MIN_SILENCE_MS
from ..errors import ClientError
from ..formatting.writer import as_written
from ..messages import Done, Endpointing, Error, Final, Partial, ServerMessage, SpeechStarted
from ..session import Close, ModelInfo, Session, check_start
from .adapter import Adapter, Handshake, Note, Step, Write, hypothesis, parse_object, to_json

IDLE_SECONDS = 10.0  # without audio or KeepAlive
ENCODINGS: dict[str, messages.Encoding] = {
    "linear16": "pcm_s16le",
    "linear32": "pcm_f32le",
    "mulaw": "mulaw",
    "alaw": "alaw",
    "flac": "container",
    "opus": "container",  # in Ogg
    "ogg-opus": "container",
}
REFUSALS = {
    "unauthorized": "INVALID_AUTH",
    "key_revoked": "INVALID_AUTH",
    "key_sessions": "TOO_MANY_REQUESTS",
    "key_audio": "TOO_MANY_REQUESTS",
    "address_sessions": "TOO_MANY_REQUESTS",
    "server_full": "SERVICE_UNAVAILABLE",
}
UNDECODABLE = ("bad_audio", "bad_encoding", "bad_sample_rate", "bad_channels")  # errors about the audio itself
SERVED_OPTIONS = frozenset(
    {
        "encoding",
        "sample_rate",
        "channels",
        "interim_results",
        "endpointing",
        "utterance_end_ms",
        "vad_events",
        "language",
        "keyterm",
        "keywords",
        "punctuate",
        "smart_format",
        "token",  # a key, see `access`
    }
)
IGNORED_OPTIONS = frozenset(
    {
        "callback",
        "callback_method",
        "detect_entities",
        "diarize",
        "diarize_model",
        "dictation",
        "extra",
        "filler_words",
        "language_hint",
        "mip_opt_out",
        "model",
        "multichannel",
        "no_delay",
        "numerals",
        "profanity_filter",
        "redact",
        "replace",
        "search",
        "tag",
        "version",
    }
)


class Options:
    """A query, read. Raises `ClientError` for what Deepgram would answer with status 400."""

    def __init__(self, query: str) -> None:
        try:
            values = parse_qs(query, keep_blank_values=True, errors="strict", max_num_fields=1000)
        except ValueError as error:
            raise ClientError("bad_query", "the query cannot be read") from error
        self._values = values
        name = self._last("encoding")
        if name is not None and name not in ENCODINGS:
            raise ClientError("bad_encoding", f"encoding must be one of {', '.join(ENCODINGS)}")
        encoding: messages.Encoding = "container" if name is None else ENCODINGS[name]
        sample_rate = self._number("sample_rate")
        if encoding != "container" and sample_rate is None:
            raise ClientError("bad_sample_rate", "sample_rate must be given with encoding")
        self.vad_events = self._flag("vad_events")
        self.utterance_end_ms = self._number("utterance_end_ms")
        self.finds_pauses = self._last("endpointing") != "false"
        self.channels = self._number("channels") or 1
        language = self._last("language")
        self.start = messages.Start(
            sample_rate=sample_rate or 0,
            encoding=encoding,
            channels=self.channels,
            language=None if language == "multi" else language,
            partials=self._flag("interim_results"),
            endpointing=self._endpointing(),
            hotwords=self._hotwords(),
            formatted=self._flag("smart_format") or self._flag("punctuate"),
        )
        self.notes = [f"option {name} is not served" for name in sorted(IGNORED_OPTIONS & values.keys())]
        if not values.keys() <= SERVED_OPTIONS | IGNORED_OPTIONS:
            self.notes.append("options that the protocol does not have were ignored")

    def _last(self, name: str) -> str | None:
        return self._values[name][-1] if name in self._values else None

    def _flag(self, name: str) -> bool:
        value = self._last(name)
        if value is not None and value.lower() not in ("true", "false"):
            raise ClientError("bad_message", f"{name} must be true or false")
        return value is not None and value.lower() == "true"

    def _number(self, name: str) -> int | None:
        value = self._last(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) < 10):
            raise ClientError("bad_message", f"{name} must be a whole number")
        return int(value)

    def _hotwords(self) -> tuple[str, ...]:
        """``keyterm``s are phrases; ``keywords`` are words, with an intensity behind a colon that is not served."""
        keywords = (keyword.partition(":")[0] for keyword in self._values.get("keywords", ()))
        return (*self._values.get("keyterm", ()), *keywords)

    def _endpointing(self) -> Endpointing:
        value = self._last("endpointing")
        if value in (None, "true"):
            return Endpointing()
        if value != "false":
            silence_ms = self._number("endpointing")
        elif self.utterance_end_ms is not None:
            silence_ms = self.utterance_end_ms
        else:
            return Endpointing(enabled=False)
        return Endpointing(trailing_silence_ms=min(max(silence_ms or 0, MIN_SILENCE_MS), MAX_SILENCE_MS))


class DeepgramAdapter(Adapter):
    """``/v1/listen``. `Options` are read from the query."""

    name = "deepgram"
    refusal_type = "application/json"
    idle_timeout_seconds = IDLE_SECONDS

    def __init__(self, session: Session, handshake: Handshake) -> None:
        super().__init__(session, handshake)
        self._options: Options | None = None
        self._hash = hashlib.sha256()

    @classmethod
    def check(cls, handshake: Handshake, model: ModelInfo) -> None:
        """Raises `ClientError` for a query that is refused."""
        check_start(Options(handshake.query).start, model)

    @classmethod
    def refusal(cls, error: ClientError) -> str:
        """As Deepgram says it."""
        return to_json({"err_code": REFUSALS.get(error.code, "INVALID_QUERY_PARAMETER"), "err_msg": error.message})

    def greet(self) -> Sequence[Step]:
        """The query says all that there is to know."""
        self._options = Options(self.handshake.query)
        notes = [Note(words) for words in self._options.notes]
        return [*notes, *self.session.receive_message(self._options.start)]

    def read_text(self, text: str) -> Sequence[Step]:
        """``KeepAlive``, ``Finalize``, ``CloseStream``; ``Configure`` is answered with its failure."""
        match parse_object(text).get("type"):
            case "KeepAlive":
                return self.session.receive_message(messages.Keepalive())
            case "Finalize":
                return self.session.receive_message(messages.Finalize())
            case "CloseStream":
                return self.session.receive_message(messages.Stop())
            case "Configure":
                failure = {
                    "type": "ConfigureFailure",
                    "request_id": self.session.session_id,
                    "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED",
                    "description": "this server takes options from the query only",
                }
                return [*self.session.receive_message(messages.Keepalive()), Write(to_json(failure))]
        raise ClientError("unknown_type", "known types are KeepAlive, Finalize, CloseStream and Configure", 1008)

    def read_bytes(self, data: bytes) -> Sequence[Step]:
        """Audio; nothing at all means ``CloseStream``."""
        if not data:
            return self.session.receive_message(messages.Stop())
        self._hash.update(data)
        return self.accept_audio(data)

    def write(self, message: ServerMessage) -> list[Write]:
        """``Results``, and what was asked for beside them."""
        match message:
            case SpeechStarted(time=time) if self._options is not None and self._options.vad_events:
                return [Write(to_json({"type": "SpeechStarted", "channel": [0], "timestamp": time}))]
            case Partial():
                results = self._results(message, hypothesis(message), 0.0, [])
                return [Write(to_json(results), is_partial=True, replaces_partial=True)]
            case Final():
                return self._final(message)
            case Done() | Error(code="odd_audio"):
                return [Write(to_json(self._metadata()))]
            case Error(code=code, message=words) if code != "idle":
                variant = "SchemaError" if code in ("bad_json", "bad_message", "unknown_type") else code
                return [Write(to_json({"type": "Error", "variant": variant, "description": words}))]
        return []

    def closing(self, close: Close) -> Close:
        """Idle clients and audio that is none get Deepgram's codes; half a sample at the end is no mistake here."""
        if close.reason == "idle":
            return Close(
                1011, f"NET-0001: neither audio nor KeepAlive for {self.session.limits.idle_timeout_seconds:g} s"
            )
        if close.reason in UNDECODABLE:
            return Close(1008, "DATA-0000: the audio cannot be decoded")
        return Close(1000) if close.reason == "odd_audio" else close

    def _final(self, final: Final) -> list[Write]:
        assert self._options is not None
        if not final.text and final.reason != "finalize":
            return []
        words = [
            {
                "word": word.word,
                "start": word.start,
                "end": word.end,
                "confidence": word.confidence,
                "punctuated_word": word.written,
            }
            for word in as_written(final.words)
        ]
        results = self._results(final, final.formatted or final.text, final.confidence, words)
        results["is_final"] = True
        results["speech_final"] = final.reason == "endpoint" and self._options.finds_pauses
        results["from_finalize"] = final.reason == "finalize"
        written = [Write(to_json(results), replaces_partial=True)]
        if final.reason == "endpoint" and self._options.utterance_end_ms is not None:
            end = final.words[-1].end if final.words else final.end
            written.append(Write(to_json({"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": end})))
        return written

    def _results(
        self, heard: Partial | Final, transcript: str, confidence: float, words: list[dict[str, Any]]
    ) -> dict[str, Any]:
        return {
            "type": "Results",
            "channel_index": [0, 1],
            "duration": round(heard.end - heard.start, 3),
            "start": heard.start,
            "is_final": False,
            "speech_final": False,
            "from_finalize": False,
            "channel": {"alternatives": [{"transcript": transcript, "confidence": confidence, "words": words}]},
            "metadata": {
                "request_id": self.session.session_id,
                "model_info": {"name": self.session.model.name, "version": "1", "arch": "streaming-asr"},
                "model_uuid": self.session.model.name,
            },
        }

    def _metadata(self) -> dict[str, Any]:
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self.session.session_id,
            "sha256": self._hash.hexdigest(),
            "created": self.handshake.time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "duration": round(self.session.audio_seconds, 3),
            "channels": self._options.channels if self._options is not None else 1,
        }
