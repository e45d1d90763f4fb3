"""Owns how other servers are spoken to: one small adapter a protocol, frames in and out. Knows no sockets or clocks.

An adapter turns audio and the two controls into frames, and a server's frames into `Text`. Everything a figure needs
of a server is in `Text`: an adapter must not clean up, merge or delay what the server said.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streaming_asr.protocols.wyoming import EventReader

from .timeline import Kind

Frame = str | bytes
Pcm = NDArray[np.int16]


@dataclass(frozen=True)
class Text:
    """What one frame of the server says."""

    kind: Kind
    utterance: int
    text: str
    committed: str = ""  # the beginning of `text` that the server promises to keep
    reason: str = ""  # of a final: "finalize" if it was asked for, "endpoint" if the server found the end by itself


class Adapter:
    """One session in one protocol. ``is_ready``: audio may be sent; ``is_done``: the session has ended in order."""

    path: ClassVar[str] = ""  # appended to a server URL that has none
    sample_rate: ClassVar[int] = 16000
    can_finalize: ClassVar[bool] = False
    is_tcp: ClassVar[bool] = False  # plain TCP in place of WebSocket: frames come cut anywhere
    ends_by_closing: ClassVar[bool] = True  # closing normally is this protocol's way of saying that all was said

    def __init__(self) -> None:
        self.is_ready = True
        self.is_done = False
        self.error = ""

    def opening(self) -> list[Frame]:
        """Frames that open the session."""
        return []

    def audio(self, pcm: Pcm) -> Frame:
        """A frame with audio, int16 [N] at `sample_rate`."""
        return pcm.tobytes()

    def finalize(self) -> list[Frame]:
        """Frames that ask for a final now; only where `can_finalize`."""
        raise NotImplementedError(f"{type(self).__name__} knows no finalize")

    def stop(self) -> list[Frame]:
        """Frames that end the audio."""
        return []

    def receive(self, frame: Frame) -> list[Text]:
        """What a frame of the server says."""
        raise NotImplementedError


def _loads(frame: Frame) -> dict[str, Any]:
    message = json.loads(frame)
    return message if isinstance(message, dict) else {}


class Native(Adapter):
    """The protocol in docs/protocol.md."""

    path = "/v1/stream"
    can_finalize = True
    ends_by_closing = False

    def __init__(self) -> None:
        super().__init__()
        self.is_ready = False

    def opening(self) -> list[Frame]:
        return [json.dumps({"type": "start", "sample_rate": self.sample_rate})]

    def finalize(self) -> list[Frame]:
        return ['{"type": "finalize"}']

    def stop(self) -> list[Frame]:
        return ['{"type": "stop"}']

    def receive(self, frame: Frame) -> list[Text]:
        message = _loads(frame)
        match message.get("type"):
            case "ready":
                self.is_ready = True
            case "done":
                self.is_done = True
            case "error":
                self.error = f"{message['code']}: {message['message']}"
            case "partial":
                text = f"{message['committed']} {message['unstable']}".strip()
                return [Text("partial", message["utterance"], text, message["committed"])]
            case "final":
                return [Text("final", message["utterance"], message["text"], message["text"], message["reason"])]
        return []


class Vosk(Adapter):
    """vosk-server (Kaldi): a config, PCM, ``eof``; every frame of audio is answered."""

    def __init__(self) -> None:
        super().__init__()
        self._utterance = 0
        self._stopped = False

    def opening(self) -> list[Frame]:
        return [json.dumps({"config": {"sample_rate": self.sample_rate}})]

    def stop(self) -> list[Frame]:
        self._stopped = True
        return ['{"eof" : 1}']

    def receive(self, frame: Frame) -> list[Text]:
        message = _loads(frame)
        if "partial" in message:
            return [Text("partial", self._utterance, message["partial"])] if message["partial"] else []
        if "text" not in message:
            return []
        self._utterance += 1
        reason = "stop" if self._stopped else "endpoint"
        return [Text("final", self._utterance - 1, message["text"], message["text"], reason)]


class SherpaOnnx(Adapter):
    """sherpa-onnx's online WebSocket server: float32 samples, ``Done``; a new segment settles the one before."""

    def __init__(self) -> None:
        super().__init__()
        self._segment = 0
        self._text = ""

    def audio(self, pcm: Pcm) -> Frame:
        return (pcm.astype(np.float32) / 32768).tobytes()

    def stop(self) -> list[Frame]:
        return ["Done"]

    def receive(self, frame: Frame) -> list[Text]:
        if isinstance(frame, str) and frame.startswith("Done"):
            self.is_done = True
            return self._settle("stop")
        message = _loads(frame)
        segment = int(message.get("segment", self._segment))
        said = self._settle("endpoint") if segment != self._segment else []
        self._segment, self._text = segment, str(message.get("text", "")).strip()
        if message.get("is_final"):
            return said + self._settle("endpoint")
        return [*said, Text("partial", segment, self._text)] if self._text else said

    def _settle(self, reason: str) -> list[Text]:
        text, self._text = self._text, ""
        return [Text("final", self._segment, text, text, reason)] if text else []


class Deepgram(Adapter):
    """Deepgram's live API, and servers that speak it. Each settled piece (``is_final``) is an utterance here."""

    path = "/v1/listen?encoding=linear16&sample_rate=16000&channels=1&interim_results=true"
    can_finalize = True

    def __init__(self) -> None:
        super().__init__()
        self._utterance = 0

    def finalize(self) -> list[Frame]:
        return ['{"type": "Finalize"}']

    def stop(self) -> list[Frame]:
        return ['{"type": "CloseStream"}']

    def receive(self, frame: Frame) -> list[Text]:
        message = _loads(frame)
        if message.get("type") == "Metadata":
            self.is_done = True
        if message.get("type") == "Error":
            self.error = str(message.get("description") or message.get("message") or message)
        if message.get("type") != "Results":
            return []
        text = message["channel"]["alternatives"][0]["transcript"]
        if not message.get("is_final"):
            return [Text("partial", self._utterance, text)] if text else []
        self._utterance += 1
        reason = "finalize" if message.get("from_finalize") else "endpoint" if message.get("speech_final") else "stop"
        return [Text("final", self._utterance - 1, text, text, reason)]


class OpenAIRealtime(Adapter):
    """OpenAI's Realtime transcription sessions, and servers that speak it; 24 kHz, deltas that only append."""

    COMMIT = '{"type": "input_audio_buffer.commit"}'
    path = "/v1/realtime?intent=transcription"
    sample_rate = 24000
    can_finalize = True

    def __init__(self) -> None:
        super().__init__()
        self.is_ready = False
        self._items: dict[str, int] = {}
        self._texts: dict[str, str] = {}
        self._asked = self._stopped = False

    def opening(self) -> list[Frame]:
        audio = {"input": {"format": {"type": "audio/pcm", "rate": self.sample_rate}}}
        return [json.dumps({"type": "session.update", "session": {"type": "transcription", "audio": audio}})]

    def audio(self, pcm: Pcm) -> Frame:
        return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm.tobytes()).decode()})

    def finalize(self) -> list[Frame]:
        self._asked = True
        return [self.COMMIT]

    def stop(self) -> list[Frame]:
        self._stopped = True
        return [self.COMMIT]

    def receive(self, frame: Frame) -> list[Text]:
        message = _loads(frame)
        kind = str(message.get("type"))
        if kind.endswith("session.updated"):
            self.is_ready = True
        elif kind == "error":
            code = message.get("error", {}).get("code")
            if self._stopped and code == "input_audio_buffer_commit_empty":
                self.is_done = True  # everything was settled before the stop
            else:
                self.error = str(message.get("error", {}).get("message", message))
        elif kind.startswith("conversation.item.input_audio_transcription."):
            item = message["item_id"]
            utterance = self._items.setdefault(item, len(self._items))
            if kind.endswith(".delta"):
                self._texts[item] = self._texts.get(item, "") + message["delta"]
                return [Text("partial", utterance, self._texts[item], self._texts[item])]
            if kind.endswith(".completed"):
                self.is_done = self._stopped
                reason = "finalize" if self._asked else "endpoint"  # the protocol does not say
                self._asked = False
                return [Text("final", utterance, message["transcript"], message["transcript"], reason)]
        return []


class Wyoming(Adapter):
    """Wyoming, over plain TCP: one transcript a connection, of which chunks may come before."""

    is_tcp = True
    ends_by_closing = False

    def __init__(self) -> None:
        super().__init__()
        self._reader = EventReader(max_header_bytes=1 << 16, max_body_bytes=1 << 20)
        self._text = ""

    def opening(self) -> list[Frame]:
        return [_wyoming("transcribe", {"language": "en"}), _wyoming("audio-start", self._format())]

    def audio(self, pcm: Pcm) -> Frame:
        return _wyoming("audio-chunk", self._format(), pcm.tobytes())

    def stop(self) -> list[Frame]:
        return [_wyoming("audio-stop", {})]

    def receive(self, frame: Frame) -> list[Text]:
        assert isinstance(frame, bytes)
        said = []
        for event in self._reader.accept(frame):
            text = str(event.data.get("text", ""))
            match event.type:
                case "transcript-chunk":
                    self._text += text
                    said.append(Text("partial", 0, self._text, self._text))
                case "transcript":
                    said.append(Text("final", 0, text, text, "stop"))
                    self.is_done = True
                case "error":
                    self.error = text or "error"
        return said

    def _format(self) -> dict[str, int]:
        return {"rate": self.sample_rate, "width": 2, "channels": 1}


def _wyoming(kind: str, data: Mapping[str, object], payload: bytes = b"") -> bytes:
    header = {"type": kind, "data": data, "payload_length": len(payload)}
    return json.dumps(header).encode() + b"\n" + payload


ADAPTERS: dict[str, type[Adapter]] = {
    "native": Native,
    "vosk": Vosk,
    "sherpa-onnx": SherpaOnnx,
    "deepgram": Deepgram,
    "openai": OpenAIRealtime,
    "wyoming": Wyoming,
}
