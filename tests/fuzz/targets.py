"""What the fuzzer feeds: every way in for bytes that strangers send, each as a function that raises for a defect only.

A defect is any exception that is not the typed one, an answer that breaks the session's own rules, or output out of
proportion to the input. Nothing here does I/O, so that an input costs microseconds.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
from streaming_asr_client.errors import ClientError as ClientSideError
from streaming_asr_client.protocol import ClientProtocol, Options

from streaming_asr.access import credentials
from streaming_asr.audio import ENCODINGS, SAMPLE_RATE, AudioDecoder
from streaming_asr.containers import ContainerDecoder
from streaming_asr.errors import ClientError, InputError
from streaming_asr.lexicon import Lexicon
from streaming_asr.limits import Limits
from streaming_asr.messages import Event, Final, Partial, SpeechStarted, Word, parse_message
from streaming_asr.origins import Origins
from streaming_asr.protocols.adapter import Adapter, Handshake, Mark, Output, Write
from streaming_asr.protocols.deepgram import DeepgramAdapter
from streaming_asr.protocols.native import NativeAdapter
from streaming_asr.protocols.openai_realtime import OpenAIAdapter
from streaming_asr.protocols.sherpa_onnx import SherpaOnnxAdapter
from streaming_asr.protocols.vosk import VoskAdapter
from streaming_asr.protocols.wyoming import WyomingAdapter
from streaming_asr.session import Close, Flush, ModelInfo, Open, Push, Session

MODEL = ModelInfo("en-test", 80, 95, "en")
LIMITS = Limits(max_frame_bytes=4096)
MAX_STEPS = 64  # of one conversation
TIME = datetime(2000, 1, 1, tzinfo=UTC)


class Reader:
    """An input, read as decisions; what is missing at its end is zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, length: int) -> bytes:
        part = self._data[self._at : self._at + length]
        self._at += length
        return part

    def below(self, end: int) -> int:
        return int.from_bytes(self.take(1 if end <= 256 else 2), "little") % end

    def choose(self, options: Sequence[str]) -> str:
        return options[self.below(len(options))]

    def chunk(self) -> bytes:
        return self.take(self.below(256) if self.below(8) else self.below(6000))


# --- conversations -------------------------------------------------------------------------------------------------

FRAMES: dict[type[Adapter], list[str]] = {
    NativeAdapter: [
        '{"type":"start"}',
        '{"type":"start","sample_rate":8000,"encoding":"mulaw","channels":2,"nbest":3,"language":"en-GB"}',
        '{"type":"start","encoding":"pcm_f32le","endpointing":{"trailing_silence_ms":300,"enabled":true}}',
        '{"type":"finalize"}',
        '{"type":"keepalive"}',
        '{"type":"stop"}',
    ],
    VoskAdapter: [
        '{"config":{"sample_rate":16000,"words":1,"max_alternatives":2,"phrase_list":["a"]}}',
        '{"config":{"sample_rate":1e400}}',
        '{"eof":1}',
        '{"reset":1}',
    ],
    DeepgramAdapter: [
        '{"type":"KeepAlive"}',
        '{"type":"Finalize"}',
        '{"type":"CloseStream"}',
        '{"type":"Configure","features":{}}',
    ],
    OpenAIAdapter: [
        '{"type":"session.update","session":{"type":"transcription","audio":{"input":{"format":{"type":"audio/pcm",'
        '"rate":24000},"transcription":{"model":"m","language":"en"},"turn_detection":{"type":"server_vad",'
        '"silence_duration_ms":500}}}}}',
        '{"type":"session.update","session":{"audio":{"input":{"turn_detection":null}}}}',
        '{"type":"session.update","session":{"audio":{"input":{"format":{"type":"audio/pcmu"}}}}}',
        '{"type":"input_audio_buffer.append","audio":"AAAAAAAAAAAAAAAA"}',
        '{"type":"input_audio_buffer.append","audio":"AAA"}',
        '{"type":"input_audio_buffer.commit","event_id":"e"}',
        '{"type":"input_audio_buffer.clear"}',
    ],
    SherpaOnnxAdapter: ["Done"],
    WyomingAdapter: [
        '{"type":"describe"}\n',
        '{"type":"ping","data":{"text":"a"}}\n',
        '{"type":"transcribe","data_length":17}\n{"language":"en"}',
        '{"type":"audio-start","data":{"rate":8000,"width":2,"channels":2}}\n',
        '{"type":"audio-chunk","data":{"rate":16000,"width":2,"channels":1},"payload_length":7}\naudioau',
        '{"type":"audio-stop"}\n',
    ],
}
QUERIES = [
    "",
    "encoding=linear16&sample_rate=16000&interim_results=true&vad_events=true&utterance_end_ms=1000",
    "encoding=mulaw&sample_rate=8000&channels=2&endpointing=300&language=en",
    "encoding=linear32&sample_rate=48000&endpointing=false&keyterm=a&keyterm=b",
]
TEXTS = ["", "a", "so it is", "é\u2028\U0001f600"]


def _mutated(frame: str, reader: Reader) -> str:
    """As it is, or with something of it replaced."""
    if reader.below(3):
        return frame
    at = reader.below(len(frame) + 1)
    return frame[:at] + _text(reader) + frame[at + reader.below(8) :]


def _text(reader: Reader) -> str:
    return reader.take(reader.below(64)).decode(errors="replace")


def _event(reader: Reader, utterance: int) -> Event:
    text = reader.choose(TEXTS)
    match reader.below(3):
        case 0:
            return SpeechStarted(1.0)
        case 1:
            return Partial(utterance, text, reader.choose(TEXTS), 0.5, 1.0)
    return _final(utterance, text, "endpoint")


def _final(utterance: int, text: str, reason: str) -> Final:
    words = [Word(word, 0.5, 1.0, 0.9) for word in text.split()]
    return Final(utterance, text, 0.5, 1.0, 0.9, reason, words)  # type: ignore[arg-type]


class _Conversation:
    """Plays server and engine to an adapter, and holds it to the rules."""

    def __init__(self, adapter_class: type[Adapter], reader: Reader) -> None:
        self.now = 0.0
        self.reader = reader
        self.adapter_class = adapter_class
        self.flushes: list[str] = []
        self.marks = 0
        self.utterance = 0
        self.is_open = self.is_closed = False
        self.bytes_in = self.bytes_out = 0

    def run(self) -> None:
        query = self.reader.choose(QUERIES)
        if self.reader.below(4) == 0:
            query = _mutated(query, self.reader)
        handshake = Handshake(query, TIME)
        try:
            self.adapter_class.check(handshake, MODEL)
        except ClientError as error:
            assert self.adapter_class.refusal(error)
            return
        session = Session("s1", MODEL, LIMITS, lambda: self.now)
        self.adapter = self.adapter_class(session, handshake)
        self.take(self.adapter.open())
        for _ in range(MAX_STEPS):
            if not self.reader or self.is_closed:
                break
            self.take(self.step())
            while self.adapter.has_more:
                self.take(self.adapter.go_on())
        while (self.flushes or self.marks) and not self.is_closed:
            self.take(self.engine())
        self.adapter.connection_lost()

    def step(self) -> list[Output]:
        reader = self.reader
        match reader.below(12):
            case 0 | 1 | 2 | 3:
                frame = _mutated(reader.choose(FRAMES[self.adapter_class]), reader)
                self.bytes_in += len(frame)
                return self.adapter.receive(frame.encode() if self.adapter_class is WyomingAdapter else frame)
            case 4:
                text = _text(reader)
                self.bytes_in += len(text)
                return self.adapter.receive(text)
            case 5 | 6 | 7:
                chunk = reader.chunk()
                self.bytes_in += len(chunk)
                return self.adapter.receive(chunk)
            case 8 | 9:
                return self.engine()
            case 10:
                self.now += reader.below(256)
                return self.adapter.tick()
        match reader.below(4):
            case 0:
                return self.adapter.go_away()
            case 1:
                return self.adapter.break_off()
            case 2:
                return self.adapter.end(ClientError("key_audio", "no more", 1013))
        return self.adapter.tick()

    def engine(self) -> list[Output]:
        """What a stream may say now: nothing before it is open, and the answers to flushes in their order."""
        if not self.is_open:
            return []
        if self.marks and self.reader.below(2):
            self.marks -= 1
            return self.adapter.reached()
        if self.flushes and (not self.reader or self.reader.below(2)):
            final = _final(self.utterance, self.reader.choose(TEXTS), self.flushes.pop(0))
            self.utterance += 1
            return self.adapter.receive_events([final])
        if not self.reader:
            self.marks = 0
            return []
        event = _event(self.reader, self.utterance)
        self.utterance += isinstance(event, Final)
        return self.adapter.receive_events([event])

    def take(self, outputs: list[Output]) -> None:
        assert not (self.is_closed and outputs), outputs
        for output in outputs:
            assert not self.is_closed, "something after the close"
            match output:
                case Open():
                    assert not self.is_open, "opened twice"
                    self.is_open = True
                case Push(samples):
                    assert self.is_open
                    assert "stop" not in self.flushes, "audio after the end"
                    assert samples.dtype == np.float32
                    assert len(samples) > 0
                    assert np.abs(samples).max() <= 1.0
                case Flush(reason):
                    assert self.is_open
                    self.flushes.append(reason)
                case Mark():
                    assert self.is_open
                    self.marks += 1
                case Write(data):
                    self.bytes_out += len(data)
                    text = data if isinstance(data, str) else data.decode()
                    assert text == "Done!" or all(isinstance(json.loads(part), dict) for part in _parts(text))
                case Close(code):
                    assert 1000 <= code < 5000
                    self.is_closed = True
        assert self.bytes_out <= 100_000 + 100 * self.bytes_in, "more said than is reasonable"


def _parts(text: str) -> list[str]:
    """The JSON objects of a frame: an event of Wyoming has two."""
    return [part for part in text.split("\n") if part]


def _conversation(adapter: type[Adapter]) -> Callable[[bytes], None]:
    return lambda data: _Conversation(adapter, Reader(data)).run()


# --- parsers and decoders ------------------------------------------------------------------------------------------


def native_message(data: bytes) -> None:
    try:
        parse_message(data.decode(errors="replace"))
    except ClientError as error:
        assert error.code in ("bad_json", "bad_message", "unknown_type")
        assert len(error.message) < 300


def audio(data: bytes) -> None:
    """Whatever comes, however it is cut, exactly as many samples come out as their seconds are worth."""
    reader = Reader(data)
    encoding = reader.choose([*ENCODINGS, "opus"])
    sample_rate = [8000, 11025, 16000, 22050, 24000, 44100, 48000, 7999, 96000][reader.below(9)]
    try:
        decoder = AudioDecoder(encoding, sample_rate, reader.below(4))
    except ClientError as error:
        assert error.code in ("bad_encoding", "bad_sample_rate", "bad_channels")
        return
    total = 0
    for _ in range(MAX_STEPS):
        if not reader:
            break
        try:
            samples = decoder.accept(reader.chunk()) if reader.below(8) else decoder.flush()
        except ClientError as error:
            assert error.code == "bad_audio"
            return
        assert len(samples) == 0 or np.abs(samples).max() <= 1.0
        total += len(samples)
    total += len(decoder.flush())
    assert abs(total - decoder.seconds * SAMPLE_RATE) <= 0.5 + 1e-6


def _opus_page(flags: int, packet: bytes) -> bytes:
    return b"OggS\0" + bytes([flags]) + bytes(8) + b"\1\0\0\0" + bytes(8) + bytes([1, len(packet)]) + packet


def _element(kind: str, body: bytes) -> bytes:
    return bytes.fromhex(kind) + bytes([0x80 | len(body)]) + body


OPUS_HEAD = b"OpusHead\1\1\x38\1\x80\xbb\0\0\0\0\0"
OPUS_SILENCE = b"\xf8\xff\xfe"  # 20 ms
STREAM_INFO = bytes.fromhex("1000 1000 000000 000000 03e800f0 00000000") + bytes(16)
TRACK = _element("d7", b"\1") + _element("86", b"A_OPUS") + _element("63a2", OPUS_HEAD)
CONTAINERS = [  # the smallest of each kind
    b"RIFF\x28\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data\4\0\0\0\1\0\2\0",
    b"fLaC\x80\0\0\x22" + STREAM_INFO + b"\xff\xf8\x59\x08\0\0\0\0",
    _opus_page(2, OPUS_HEAD) + _opus_page(0, b"OpusTags" + bytes(8)) + _opus_page(0, OPUS_SILENCE),
    _element("1a45dfa3", b"")
    + bytes.fromhex("18538067ff")
    + _element("1654ae6b", _element("ae", TRACK))
    + bytes.fromhex("1f43b675ff")
    + _element("a3", b"\x82\0\0\x80" + OPUS_SILENCE)  # of another track
    + _element("a3", b"\x81\0\0\x80" + OPUS_SILENCE),
]

EDGES = (b"\0", b"\1", b"\x7f", b"\x80", b"\xff")  # of sizes


def container(data: bytes) -> None:
    """A file of any kind with something of it replaced, cut anywhere."""
    reader = Reader(data)
    file = CONTAINERS[reader.below(len(CONTAINERS))]
    for _ in range(reader.below(6)):
        at = reader.below(len(file) + 1)
        if reader.below(2):
            file = file[:at] + EDGES[reader.below(len(EDGES))] + file[at + 1 :]
        else:
            file = file[:at] + reader.take(reader.below(9)) + file[at + reader.below(9) :]
    decoder = ContainerDecoder()
    file += reader.take(reader.below(300))
    size = 1 + reader.below(300)
    try:
        for at in range(0, len(file), size):
            samples = decoder.accept(file[at : at + size])
            assert len(samples) == 0 or np.abs(samples).max() <= 1.0
        decoder.finish()
    except ClientError as error:
        assert error.code in ("bad_audio", "bad_encoding", "bad_sample_rate", "bad_channels")


class _Headers:
    """Headers as any web server gives them."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def get_all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key.lower() == name.lower()]


HEADERS = ["Authorization", "Sec-WebSocket-Protocol", "Origin", "Host"]
VALUES = ["Bearer k", "Token k", "token, k", "realtime, openai-insecure-api-key.k", "http://[", "localhost:1", "null"]


def handshake(data: bytes) -> None:
    reader = Reader(data)
    headers = _Headers([(reader.choose(HEADERS), _mutated(reader.choose(VALUES), reader)) for _ in range(4)])
    with contextlib.suppress(ClientError):
        assert all(credentials(headers, _mutated("a=b&token=k", reader)))
    for listening in ("127.0.0.1", "0.0.0.0"):
        refusal = Origins(listening).refusal(headers.get_all("Host"), headers.get_all("Origin"))
        assert refusal is None or refusal
    foreign = [*headers.get_all("Origin"), "https://evil.example"]
    assert Origins("127.0.0.1").refusal(["localhost"], foreign), "a page from elsewhere was let in"


def lexicon(data: bytes) -> None:
    try:
        read = Lexicon.from_text(data.decode(errors="replace"))
    except InputError:
        return
    assert Lexicon.from_text(read.to_text()).words == read.words


SERVER_FRAMES = [
    '{"type":"ready","session_id":"s","protocol":1,"model":"m","chunk_ms":60,"first_chunk_ms":75}',
    '{"type":"speech_started","time":0.5}',
    '{"type":"partial","utterance":0,"committed":"a","unstable":"b","start":0.1,"end":0.9}',
    '{"type":"final","utterance":0,"text":"a b","start":0,"end":1,"confidence":0.9,"reason":"stop",'
    '"words":[{"word":"a","start":0,"end":1,"confidence":1}],"alternatives":[{"text":"a","confidence":0.1}]}',
    '{"type":"error","code":"idle","message":"m"}',
    '{"type":"done","audio_seconds":1.0,"utterances":1}',
]


def client(data: bytes) -> None:
    """Our client, and a server that may say anything."""
    reader = Reader(data)
    protocol = ClientProtocol("ws://127.0.0.1/v1/stream", Options())
    protocol.start()
    for _ in range(MAX_STEPS):
        if not reader:
            break
        try:
            match reader.below(6):
                case 0:
                    protocol.stop()
                case 1:
                    protocol.audio(reader.chunk())
                case 2:
                    protocol.receive(reader.chunk())
                case _:
                    protocol.receive(_mutated(reader.choose(SERVER_FRAMES), reader))
        except ClientSideError:
            pass
    protocol.closed(reader.below(5000), _text(reader))


TARGETS: dict[str, Callable[[bytes], None]] = {
    "native": _conversation(NativeAdapter),
    "vosk": _conversation(VoskAdapter),
    "deepgram": _conversation(DeepgramAdapter),
    "openai": _conversation(OpenAIAdapter),
    "sherpa-onnx": _conversation(SherpaOnnxAdapter),
    "wyoming": _conversation(WyomingAdapter),
    "native-message": native_message,
    "audio": audio,
    "container": container,
    "handshake": handshake,
    "lexicon": lexicon,
    "client": client,
}


def _seed(*steps: int, tail: bytes = b"") -> bytes:
    return bytes(steps) + tail


FLOATS = struct.pack("<4f", 0.5, float("nan"), float("inf"), -2.0)
# Where to begin: each protocol's frames one after the other, audio between them.
SEEDS: list[bytes] = [
    b"",
    _seed(1, 1, 0, 0, 1, 5, 1, 200, tail=bytes(200) + b"\x08\x01\x02\x08\x00\x00\x05\x01\x01"),
    _seed(2, 1, 0, 2, 1, 5, 1, 16, tail=FLOATS),
    _seed(1, 3, 0, 3, 1, 0, 5, 1, 8, tail=bytes(8) + b"\x00\x05\x01\x08\x00\x01"),
    *(frame.encode() for frames in FRAMES.values() for frame in frames),
    *(frame.encode() for frame in SERVER_FRAMES),
    b"go\tG OW\nno\tN OW\n",
]
# Words that the inputs are made of, for an engine that wants a dictionary.
_FRAMES = [*SERVER_FRAMES, *QUERIES, *VALUES, *(frame for frames in FRAMES.values() for frame in frames)]
WORDS = sorted({word for frame in _FRAMES for word in re.split(r'[",&=]', frame) if word})
