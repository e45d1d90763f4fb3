"""Owns the way from a container's bytes to float32 mono at 16 kHz: WAV, FLAC, Ogg/Opus, WebM/Opus, told by themselves.

Each format is a generator that asks for the bytes it needs next and yields what is in them, so that it reads as if it
read a file, and yet takes a stream cut anywhere. WAV needs nothing else; FLAC and Opus are decoded by FFmpeg through
the package `av`, packet by packet, which is optional. Knows nothing of sessions or sockets.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np

from .audio import ENCODINGS, AudioDecoder, Samples
from .errors import ClientError

if TYPE_CHECKING:
    from av import AudioCodecContext, AudioFrame, Packet

SIGNATURE_BYTES = 4
MAX_PACKET_BYTES = 65536  # an Opus packet of 120 ms has 61 440 at most (RFC 7845, 6)
MAX_SILENT_BYTES = 1 << 20  # of FLAC without a frame in it
# More audio than this from one piece of `PIECE_BYTES` is no recording: FLAC's digital silence, the smallest that
# recorders write, has 27 bytes a second at 8 kHz, which is 38 s.
MAX_PIECE_SECONDS = 60.0
PIECE_BYTES = 1024  # to be given at once, so that whoever gives them is back soon: 0.1 s of Opus in a browser's WebM


class Want(NamedTuple):
    """What a format must get next: at least `least` bytes, at most `most`."""

    least: int
    most: int


@dataclass(frozen=True)
class Track:
    """What the packets that follow are."""

    codec: str  # "opus", "flac", or one of `audio.ENCODINGS`
    sample_rate: int  # Hz
    channels: int
    setup: bytes = b""  # as the codec wants it


Format = Generator[Want | Track | bytes, bytes, None]  # yields `Want`, and for packets their bytes
Read = Generator[Want | Track | bytes, bytes, bytes]


def _wrong(words: str) -> ClientError:
    return ClientError("bad_audio", words, 1007)


def _refuse_negative(size: int) -> None:
    """What is left of an element whose parts are longer than it says it is: waiting for that would never end."""
    if size < 0:
        raise _wrong("a part of the container is longer than the whole")


def _read(size: int) -> Read:
    """Exactly `size` bytes."""
    _refuse_negative(size)
    if size > MAX_PACKET_BYTES:
        raise _wrong(f"the container holds a packet of more than {MAX_PACKET_BYTES} bytes")
    return (yield Want(size, size)) if size else b""


def _skip(size: int) -> Format:
    _refuse_negative(size)
    while size:
        size -= len((yield Want(1, size)))


# --- WAV: RIFF, Multimedia Programming Interface and Data Specifications 1.0 ------------------------------------

WAV_ENCODINGS = {(1, 16): "pcm_s16le", (3, 32): "pcm_f32le", (6, 8): "alaw", (7, 8): "mulaw"}  # by tag and bits
EXTENSIBLE = 0xFFFE
UNKNOWN_WAV_SIZES = (0, 0xFFFFFFFF)  # of data: who streams does not know it


def _wav() -> Format:
    if (yield from _read(12))[8:] != b"WAVE":
        raise _wrong("the RIFF file is no WAV")
    track = None
    while True:
        header = yield from _read(8)
        kind, size = header[:4], int.from_bytes(header[4:], "little")
        if kind == b"fmt ":
            track = _wav_track((yield from _read(size)))
            yield track
        elif kind == b"data":
            break
        else:
            yield from _skip(size)
        yield from _skip(size % 2)
    if track is None:
        raise _wrong("the WAV file does not say what its data are")
    left = math.inf if size in UNKNOWN_WAV_SIZES else size
    while left:
        data = yield Want(1, int(min(left, MAX_PACKET_BYTES)))
        left -= len(data)
        yield data
    while True:
        yield Want(1, MAX_PACKET_BYTES)  # what follows the audio


def _wav_track(body: bytes) -> Track:
    if len(body) < 16:
        raise _wrong("the WAV file's format is cut off")
    tag, bits = int.from_bytes(body[:2], "little"), int.from_bytes(body[14:16], "little")
    if tag == EXTENSIBLE:
        tag = int.from_bytes(body[24:26], "little")
    encoding = WAV_ENCODINGS.get((tag, bits))
    if encoding is None:
        raise ClientError("bad_encoding", "WAV must hold 16-bit PCM, 32-bit float, mu-law or A-law", 1003)
    return Track(encoding, int.from_bytes(body[4:8], "little"), int.from_bytes(body[2:4], "little"))


# --- FLAC: RFC 9639 ---------------------------------------------------------------------------------------------

STREAMINFO, STREAMINFO_BYTES = 0, 34


def _flac() -> Format:
    yield from _read(4)
    is_last = False
    while not is_last:
        header = yield from _read(4)
        is_last, kind, size = bool(header[0] & 0x80), header[0] & 0x7F, int.from_bytes(header[1:], "big")
        if kind == STREAMINFO and size == STREAMINFO_BYTES:
            setup = yield from _read(size)
            yield Track("flac", int.from_bytes(setup[10:13], "big") >> 4, (setup[12] >> 1 & 7) + 1, setup)
        else:
            yield from _skip(size)
    while True:
        yield (yield Want(1, MAX_PACKET_BYTES))


# --- Ogg: RFC 3533; Opus in it: RFC 7845 ------------------------------------------------------------------------

OPUS_SAMPLE_RATE = 48000  # Hz, of the decoder, whatever was encoded


def _opus_track(head: bytes) -> Track:
    if len(head) < 19 or not head.startswith(b"OpusHead"):
        raise ClientError("bad_encoding", "Ogg and WebM must hold Opus", 1003)
    return Track("opus", OPUS_SAMPLE_RATE, head[9], head)


def _ogg() -> Format:
    serial = None
    num_packets = 0
    packet = b""
    while True:
        page = yield from _read(27)
        if not page.startswith(b"OggS\x00"):
            raise _wrong("an Ogg page does not begin where it must")
        if serial is None:
            serial = page[14:18]
        if page[14:18] != serial:
            raise _wrong("the Ogg file holds more than one stream")
        for lace in (yield from _read(page[26])):
            segment = yield from _read(lace)
            is_tags = num_packets == 1  # as long as their pictures are
            packet = b"" if is_tags else packet + segment
            if len(packet) > MAX_PACKET_BYTES:
                raise _wrong(f"the Ogg file holds a packet of more than {MAX_PACKET_BYTES} bytes")
            if lace == 255:
                continue
            if num_packets == 0:
                yield _opus_track(packet)
            elif not is_tags:
                yield packet
            num_packets += 1
            packet = b""


# --- WebM: RFC 8794 (EBML), RFC 9559 (Matroska) -----------------------------------------------------------------

SEGMENT, TRACKS, TRACK_ENTRY, CLUSTER, BLOCK_GROUP = 0x18538067, 0x1654AE6B, 0xAE, 0x1F43B675, 0xA0
MASTERS = (SEGMENT, TRACKS, TRACK_ENTRY, CLUSTER, BLOCK_GROUP)  # entered, whatever their size: it may be unknown yet
TRACK_NUMBER, CODEC_ID, CODEC_PRIVATE, CONTENT_ENCODINGS = 0xD7, 0x86, 0x63A2, 0x6D80
BLOCKS = (0xA3, 0xA1)  # SimpleBlock; Block in a BlockGroup
LACING = 0x06  # of a block's flags


def _webm() -> Format:
    entry: dict[int, bytes] = {}  # the track that is being described
    number = None  # of the track that is heard, once known
    while True:
        kind, _ = yield from _vint(keeps_marker=True)
        size, _ = yield from _vint(keeps_marker=False)
        if kind in (TRACK_ENTRY, CLUSTER):
            if number is None and entry.get(CODEC_ID, b"").rstrip(b"\0") == b"A_OPUS":
                if CONTENT_ENCODINGS in entry:
                    raise _wrong("the WebM file's audio is encrypted or compressed further")
                number = int.from_bytes(entry.get(TRACK_NUMBER, b""), "big")
                yield _opus_track(entry.get(CODEC_PRIVATE, b""))
            entry = {}
        if kind in MASTERS:
            if kind == CLUSTER and number is None:
                raise ClientError("bad_encoding", "Ogg and WebM must hold Opus", 1003)
        elif size == UNKNOWN:
            raise _wrong("the WebM file holds an element without an end")
        elif kind in (TRACK_NUMBER, CODEC_ID, CODEC_PRIVATE):
            entry[kind] = yield from _read(size)
        elif kind in BLOCKS:
            block_number, length = yield from _vint(keeps_marker=False)
            if block_number == number:
                block = yield from _read(size - length)
                if len(block) < 3 or block[2] & LACING:
                    raise _wrong("the WebM file's blocks must hold one packet each")
                yield block[3:]
            else:
                yield from _skip(size - length)
        else:
            if kind == CONTENT_ENCODINGS:
                entry[kind] = b""
            yield from _skip(size)


UNKNOWN = -1


def _vint(keeps_marker: bool) -> Generator[Want | Track | bytes, bytes, tuple[int, int]]:
    """A number of variable length, and its length in bytes. All ones mean `UNKNOWN`, but for identifiers."""
    first = yield from _read(1)
    length = 9 - first[0].bit_length()
    if length > 8:
        raise _wrong("the WebM file holds a number that is none")
    number = int.from_bytes(first + (yield from _read(length - 1)), "big")
    if keeps_marker:
        return number, length
    ones = (1 << 7 * length) - 1
    return (UNKNOWN if number & ones == ones else number & ones), length


# --- codecs -----------------------------------------------------------------------------------------------------


class _Codec:
    """FFmpeg's decoder of one track: packets in, interleaved float32 [N * channels] out."""

    def __init__(self, track: Track) -> None:
        try:
            import av
        except ImportError:
            words = f"this server cannot decode {track.codec}: it lacks the package av (streaming-asr[containers])"
            raise ClientError("bad_encoding", words, 1003) from None
        self._av = av
        self._track = track
        self._context = cast("AudioCodecContext", av.CodecContext.create(track.codec, "r"))
        self._context.extradata = track.setup
        self._silent_bytes = 0  # since the last packet that was found

    def decode(self, data: bytes) -> Iterator[Samples]:
        """What a packet of Opus holds, or the next bytes of FLAC, which are cut anywhere."""
        if self._track.codec != "flac":
            return self._frames(self._av.Packet(data)) if data else iter(())
        self._silent_bytes += len(data)
        packets = self._context.parse(data)
        if packets:
            self._silent_bytes = 0
        elif self._silent_bytes > MAX_SILENT_BYTES:
            raise _wrong("what should be FLAC is none")
        return (samples for packet in packets for samples in self._frames(packet))

    def finish(self) -> Iterator[Samples]:
        """What the decoder held back; a packet that was cut off is dropped."""
        with contextlib.suppress(ClientError):
            while self._track.codec == "flac" and (packets := self._context.parse(None)):
                for packet in packets:
                    yield from self._frames(packet)
            yield from self._frames(None)

    def _frames(self, packet: Packet[Any] | None) -> Iterator[Samples]:
        try:
            frames = self._context.decode(packet)
        except self._av.FFmpegError as error:
            raise _wrong(f"a packet of {self._track.codec} cannot be decoded") from error
        for frame in frames:
            if frame.sample_rate != self._track.sample_rate or len(frame.layout.channels) != self._track.channels:
                raise _wrong("the audio's rate and channels must not change")
            yield _interleaved(frame)


def _interleaved(frame: AudioFrame) -> Samples:
    """float32 [samples * channels] in [-1, 1]; integers are left-justified, whatever their width was."""
    array = frame.to_ndarray()
    full = 1.0 if array.dtype.kind == "f" else 2.0 ** (8 * array.dtype.itemsize - 1)
    return np.ascontiguousarray(array.T if frame.format.is_planar else array, np.float32).reshape(-1) / np.float32(full)


# --- the decoder ------------------------------------------------------------------------------------------------

FORMATS: dict[bytes, Callable[[], Format]] = {
    b"RIFF": _wav,
    b"fLaC": _flac,
    b"OggS": _ogg,
    b"\x1aE\xdf\xa3": _webm,
}


class ContainerDecoder:
    """Turns bytes of one container, cut anywhere, into [N] float32 mono in [-1, 1] at 16 kHz, as `AudioDecoder` does.

    Raises `ClientError`: ``bad_encoding`` for what is not served, ``bad_audio`` for what is damaged or swells.
    """

    def __init__(self) -> None:
        self._format: Format | None = None
        self._want = Want(SIGNATURE_BYTES, SIGNATURE_BYTES)
        self._waiting = bytearray()
        self._codec: _Codec | None = None
        self._pcm: AudioDecoder | None = None

    @property
    def seconds(self) -> float:
        """Audio decoded so far, in seconds."""
        return self._pcm.seconds if self._pcm is not None else 0.0

    @property
    def pending_bytes(self) -> int:
        """Bytes of something incomplete that wait for the rest of it."""
        return len(self._waiting) + (self._pcm.pending_bytes if self._pcm is not None else 0)

    def accept(self, chunk: bytes) -> Samples:
        """[N] samples that ``chunk`` completes; N may be 0."""
        heard: list[Samples] = []
        seconds = self.seconds
        most = MAX_PIECE_SECONDS * (1 + len(chunk) // PIECE_BYTES)
        self._waiting += chunk
        while len(self._waiting) >= self._want.least:
            if self._format is None:
                self._format = _format_of(bytes(self._waiting[:SIGNATURE_BYTES]))
                item: Want | Track | bytes = next(self._format)
            else:
                data = bytes(self._waiting[: self._want.most])
                del self._waiting[: len(data)]
                item = self._format.send(data)
            while not isinstance(item, Want):
                for samples in self._decoded(item):
                    heard.append(samples)
                    if self.seconds - seconds > most:
                        raise _wrong(f"{len(chunk)} bytes hold more than {most:g} s of audio")
                item = next(self._format)
            self._want = item
        return _joined(heard)

    def flush(self) -> Samples:
        """[N] samples that the resampler still held back; what the codec waits for goes on waiting."""
        return self._pcm.flush() if self._pcm is not None else _joined([])

    def finish(self) -> Samples:
        """[N] samples that were held back anywhere: the audio has ended."""
        if self._pcm is None:
            return _joined([])
        held = [self._pcm.accept(samples.tobytes()) for samples in self._codec.finish()] if self._codec else []
        return _joined([*held, self._pcm.flush()])

    def _decoded(self, item: Track | bytes) -> Iterator[Samples]:
        if isinstance(item, Track):
            is_pcm = item.codec in ENCODINGS
            self._pcm = AudioDecoder(item.codec if is_pcm else "pcm_f32le", item.sample_rate, item.channels)
            self._codec = None if is_pcm else _Codec(item)
            return
        if self._pcm is None:
            raise _wrong("the audio comes before what it is")
        for data in [item] if self._codec is None else (samples.tobytes() for samples in self._codec.decode(item)):
            yield self._pcm.accept(data)


def _format_of(signature: bytes) -> Format:
    if signature not in FORMATS:
        raise ClientError("bad_encoding", "the audio is in no container that is served: WAV, FLAC, Ogg or WebM", 1003)
    return FORMATS[signature]()


def _joined(heard: list[Samples]) -> Samples:
    return np.concatenate([np.zeros(0, np.float32), *heard])
