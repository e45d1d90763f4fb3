"""Owns the protocol of sherpa-onnx's streaming WebSocket server: f32le in, one JSON object a change out."""

from __future__ import annotations

from collections.abc import Sequence

from .. import messages
from ..errors import ClientError
from ..messages import Done, Error, Final, Partial, ServerMessage
from .adapter import Adapter, Step, Write, hypothesis, to_json


class SherpaOnnxAdapter(Adapter):
    """Every path of the sherpa-onnx port. The audio is mono at 16 kHz: the protocol cannot say otherwise."""

    name = "sherpa-onnx"

    def greet(self) -> Sequence[Step]:
        """There is nothing to agree on."""
        return self.session.receive_message(messages.Start(encoding="pcm_f32le", formatted=False))

    def read_text(self, text: str) -> Sequence[Step]:
        """``Done``; anything else is refused."""
        if text != "Done":
            raise ClientError("unknown_type", "the only text that may come is Done", 1003)
        return self.session.receive_message(messages.Stop())

    def read_bytes(self, data: bytes) -> Sequence[Step]:
        """Audio."""
        return self.accept_audio(data)

    def write(self, message: ServerMessage) -> list[Write]:
        """Results, and ``Done!``, without which its C++ client does not end; an error shows in the close code alone."""
        match message:
            case Partial():
                return [_result(message, hypothesis(message))]
            case Final():
                return [_result(message, message.text)]
            case Done() | Error(code="odd_audio"):
                return [Write("Done!")]
        return []


def _result(heard: Partial | Final, text: str) -> Write:
    words = heard.words if isinstance(heard, Final) else []  # a partial has no times, so no tokens either
    result = {
        "text": text,
        "tokens": [word.word for word in words],
        "timestamps": [round(word.start - heard.start, 3) for word in words],
        "segment": heard.utterance,
        "start_time": heard.start,
        "is_final": isinstance(heard, Final),
        "is_eof": isinstance(heard, Final) and heard.reason == "stop",
    }
    return Write(to_json(result), is_partial=isinstance(heard, Partial), replaces_partial=True)
