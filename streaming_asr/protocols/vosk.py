"""Owns vosk-server's WebSocket protocol: config, lock-step replies, ``eof`` and ``reset``.

Its clients send a binary frame and wait for the one reply to it. So each frame is followed by a `Mark`, and answered
when the engine gets there: with the utterances that ended and were not told yet, else with the partial. What ended but
was not told by ``eof`` or ``reset`` goes into the answer to that, so that no word is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import messages
from ..errors import ClientError
from ..hotwords import fitting_hotwords, words_of
from ..messages import Final, Partial, ServerMessage
from ..session import Action, Session, State
from .adapter import (
    Adapter,
    Handshake,
    Mark,
    Note,
    Output,
    Step,
    Write,
    hypothesis,
    note_hotwords,
    parse_object,
    to_json,
)

DEFAULT_SAMPLE_RATE = 8000  # Hz, as vosk-server's without VOSK_SAMPLE_RATE
IGNORED_OPTIONS = ("model",)
ANYTHING_ELSE = "[unk]"  # in a list of phrases: their words alone are wanted
MAX_NUMBER = 1e9  # of a config


class VoskAdapter(Adapter):
    """``/vosk``, and every path of the Vosk port."""

    name = "vosk"

    def __init__(self, session: Session, handshake: Handshake) -> None:
        super().__init__(session, handshake)
        self._sample_rate = DEFAULT_SAMPLE_RATE
        self._words = True
        self._max_alternatives = 0
        self._hotwords: tuple[str, ...] = ()
        self._only_hotwords = False
        self._partial = ""
        self._untold: list[Final] = []

    def read_text(self, text: str) -> Sequence[Step]:
        """``config``, ``eof`` or ``reset``; other objects are refused."""
        message = parse_object(text)
        if "config" in message:
            return self._configure(message["config"])
        if message.get("eof"):
            return [*self._started(), *self.session.receive_message(messages.Stop())]
        if message.get("reset"):
            return [*self._started(), *self.session.receive_message(messages.Finalize())]
        raise ClientError("unknown_type", "a text frame must hold config, eof or reset", 1003)

    def read_bytes(self, data: bytes) -> Sequence[Step]:
        """Audio: s16le, mono."""
        return [*self._started(), *self.accept_audio(data, lambda: [Mark()])]

    def reached(self) -> list[Output]:
        """One frame was recognized: its reply."""
        if self._untold:
            return [self._result()]
        return [Write(to_json({"partial": self._partial}))]

    def write(self, message: ServerMessage) -> list[Write]:
        """Only what answers ``eof`` or ``reset`` is sent by itself; an error shows in the close code alone."""
        match message:
            case Partial():
                self._partial = hypothesis(message)
            case Final():
                self._partial = ""
                if message.text or message.reason != "endpoint":
                    self._untold.append(message)
                if message.reason != "endpoint":
                    return [self._result()]
            case _:
                pass
        return []

    def _configure(self, config: Any) -> Sequence[Step]:
        if not isinstance(config, dict):
            raise ClientError("bad_message", "config must be an object", 1007)
        if self.session.state is not State.OPENING:
            return [Note("config after the first audio changes nothing")]
        self._sample_rate = _whole_number(config, "sample_rate", self._sample_rate)
        self._words = bool(config.get("words", self._words))
        self._max_alternatives = max(0, _whole_number(config, "max_alternatives", self._max_alternatives))
        phrases = config.get("phrase_list")
        phrases = phrases if isinstance(phrases, list) else []
        spoken = [phrase for phrase in phrases if phrase != ANYTHING_ELSE]
        words = list(dict.fromkeys(words_of(phrase for phrase in spoken if isinstance(phrase, str))))
        self._only_hotwords = len(spoken) < len(phrases) and 0 < len(words) == len(fitting_hotwords(words))
        if self._only_hotwords:
            spoken = words  # in any order, as there
        self._hotwords = fitting_hotwords(spoken)
        ignored = [Note(f"option {name} is not served") for name in IGNORED_OPTIONS if config.get(name)]
        return [*note_hotwords(spoken, self._hotwords), *ignored]

    def _started(self) -> list[Action]:
        if self.session.state is not State.OPENING:
            return []
        nbest = min(max(1, self._max_alternatives), messages.MAX_NBEST)
        start = messages.Start(
            self._sample_rate,
            words=self._words,
            nbest=nbest,
            hotwords=self._hotwords,
            only_hotwords=self._only_hotwords,
            formatted=False,
        )
        return self.session.receive_message(start)

    def _result(self) -> Write:
        """All that ended and was not told."""
        finals, self._untold = self._untold, []
        text = " ".join(final.text for final in finals if final.text)
        words = [
            {"conf": word.confidence, "start": word.start, "end": word.end, "word": word.word}
            for final in finals
            for word in final.words
        ]
        told = [final for final in finals if final.text]
        if not self._max_alternatives:
            return Write(to_json({"result": words, "text": text} if words else {"text": text}))
        confidence = min((final.confidence for final in told), default=1.0)
        alternatives: list[dict[str, Any]] = [{"text": text, "confidence": confidence}]
        if words:
            alternatives[0]["result"] = words
        if len(told) == 1:  # several utterances in one answer have no alternatives in common
            others = told[0].alternatives[: self._max_alternatives - 1]
            alternatives += [{"text": other.text, "confidence": other.confidence} for other in others]
        return Write(to_json({"alternatives": alternatives}))


def _whole_number(config: dict[str, Any], name: str, default: int) -> int:
    """Also of a string, as vosk-server takes one."""
    try:
        value = float(config.get(name, default))
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not abs(value) <= MAX_NUMBER:
        raise ClientError("bad_message", f"{name} must be a number", 1007)
    return int(value)
