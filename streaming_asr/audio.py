"""Owns the way from a client's bytes to float32 mono at 16 kHz. Knows nothing of sessions, sockets or models.

`AudioDecoder` holds one stream's state: the bytes of a frame that is still incomplete, and the resampler. Its
output depends on the bytes alone, not on how they were cut into chunks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import soxr

from .errors import ClientError

Samples = npt.NDArray[np.float32]

SAMPLE_RATE = 16000  # Hz, of everything behind this module
MIN_SAMPLE_RATE = 8000
MAX_SAMPLE_RATE = 48000

# soxr's fixed-rate filters work in blocks: at 'HQ' they hold back 37 ms (48 kHz, 24 kHz) or 40 ms (44.1 kHz),
# but 115 ms at 8 kHz; 'LQ' would halve that, 13 dB down at 7 kHz. Upwards its variable-rate engine, kept at a
# constant ratio, holds back 30 ms (8 kHz) at twice the cost (1 ms a second of audio) and as flat.
# Downwards that engine costs six times as much and is half a millisecond off, for 25 ms less: not taken.
RESAMPLER_QUALITY = "HQ"


def _mulaw_table() -> Samples:
    """ITU-T G.711 mu-law, every byte decoded; [256] in [-1, 1)."""
    code = ~np.arange(256, dtype=np.uint8)
    exponent = (code >> 4 & 7).astype(np.int32)
    magnitude = (((code & 15).astype(np.int32) << 3) + 132 << exponent) - 132
    return (np.where(code & 0x80, -magnitude, magnitude) / 32768).astype(np.float32)


def _alaw_table() -> Samples:
    """ITU-T G.711 A-law, every byte decoded; [256] in [-1, 1)."""
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = (code >> 4 & 7).astype(np.int32)
    step = ((code & 15).astype(np.int32) << 4) + 8
    magnitude = np.where(exponent == 0, step, step + 256 << np.maximum(exponent - 1, 0))
    return (np.where(code & 0x80, magnitude, -magnitude) / 32768).astype(np.float32)


MULAW = _mulaw_table()
ALAW = _alaw_table()


def _decode_f32le(data: bytes) -> Samples:
    samples = np.frombuffer(data, dtype="<f4").astype(np.float32)
    if not np.isfinite(samples).all():
        raise ClientError("bad_audio", "pcm_f32le audio holds NaN or infinity", 1007)
    return np.clip(samples, -1.0, 1.0)


# Encoding, as in `messages.Encoding` -> (bytes a sample, bytes to [N] float32 in [-1, 1]).
ENCODINGS: dict[str, tuple[int, Callable[[bytes], Samples]]] = {
    "pcm_s16le": (2, lambda data: np.frombuffer(data, dtype="<i2") * np.float32(1 / 32768)),
    "pcm_f32le": (4, _decode_f32le),
    "mulaw": (1, lambda data: MULAW[np.frombuffer(data, dtype=np.uint8)]),
    "alaw": (1, lambda data: ALAW[np.frombuffer(data, dtype=np.uint8)]),
}


class AudioDecoder:
    """Turns bytes of one stream, cut anywhere, into [N] float32 mono in [-1, 1] at 16 kHz.

    Raises `ClientError` for an encoding, rate or channel count that is not served. After `flush` exactly
    ``round(seconds * 16000)`` samples have come out in total, however often it was flushed before, so that
    sample counts stay a clock.
    """

    def __init__(self, encoding: str, sample_rate: int, channels: int) -> None:
        if encoding not in ENCODINGS:
            raise ClientError("bad_encoding", f"encoding must be one of {', '.join(ENCODINGS)}", 1003)
        if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
            raise ClientError(
                "bad_sample_rate",
                f"sample_rate must be {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, not {sample_rate}",
                1003,
            )
        if channels not in (1, 2):
            raise ClientError("bad_channels", f"channels must be 1 or 2, not {channels}", 1003)
        bytes_per_sample, self._decode = ENCODINGS[encoding]
        self.sample_rate = sample_rate
        self._channels = channels
        self._frame_bytes = bytes_per_sample * channels
        self._rest = b""  # of a frame that is still incomplete
        self._frames_in = 0
        self._samples_out = 0
        self._resampler = self._new_resampler()

    @property
    def seconds(self) -> float:
        """Whole frames accepted so far, in seconds."""
        return self._frames_in / self.sample_rate

    @property
    def frames(self) -> int:
        """Whole frames accepted so far."""
        return self._frames_in

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of every channel."""
        return self._frame_bytes

    @property
    def second_bytes(self) -> int:
        """Bytes of a second of audio, which is decoded in 1 ms at most."""
        return self._frame_bytes * self.sample_rate

    def frames_until(self, samples: int) -> int:
        """Most frames that `start_at` takes for so many samples; no more than were accepted."""
        frames = ((samples + 1) * self.sample_rate - self.sample_rate // 2 - 1) // SAMPLE_RATE
        return min(frames, self._frames_in)

    def start_at(self, frames: int) -> int:
        """Counts as if so many frames had been accepted and flushed before the first; the samples that they made."""
        self._frames_in = frames
        self._samples_out = (frames * SAMPLE_RATE + self.sample_rate // 2) // self.sample_rate
        return self._samples_out

    def drop_pending(self) -> None:
        """Forgets the bytes of a frame that is still incomplete: it will be sent again as a whole."""
        self._rest = b""

    @property
    def pending_bytes(self) -> int:
        """Bytes of an incomplete frame that wait for the rest of it."""
        return len(self._rest)

    def accept(self, chunk: bytes) -> Samples:
        """[N] samples that ``chunk`` completes; N may be 0. Raises `ClientError` for NaN or infinity."""
        data = self._rest + chunk
        whole = len(data) - len(data) % self._frame_bytes
        self._rest = data[whole:]
        samples = self._decode(data[:whole])
        if self._channels == 2:
            samples = samples.reshape(-1, 2).mean(axis=1, dtype=np.float32)
        self._frames_in += len(samples)
        if self._resampler is not None and len(samples):
            samples = np.clip(self._resampler.resample_chunk(samples), -1.0, 1.0)  # a filter may overshoot
        self._samples_out += len(samples)
        return samples

    def flush(self) -> Samples:
        """[N] samples that the resampler still held back; bytes of an incomplete frame go on waiting."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        tail: Samples = self._resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        self._resampler = self._new_resampler()
        # Each flush rounds to a whole sample: put that right here, so that it does not add up over many.
        expected = (self._frames_in * SAMPLE_RATE + self.sample_rate // 2) // self.sample_rate
        missing = expected - self._samples_out - len(tail)
        tail = np.pad(tail, (0, missing)) if missing > 0 else tail[: len(tail) + missing]
        self._samples_out += len(tail)
        return np.clip(tail, -1.0, 1.0)

    def finish(self) -> Samples:
        """[N] samples that were held back anywhere: the audio has ended."""
        return self.flush()

    def _new_resampler(self) -> soxr.ResampleStream | None:
        if self.sample_rate == SAMPLE_RATE:
            return None
        return soxr.ResampleStream(
            self.sample_rate,
            SAMPLE_RATE,
            1,
            dtype="float32",
            quality=RESAMPLER_QUALITY,
            vr=self.sample_rate < SAMPLE_RATE,
        )
