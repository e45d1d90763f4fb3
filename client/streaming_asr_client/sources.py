"""Owns sound that is not a microphone: WAV files and raw PCM from standard input, as blocks at the pace of speech.

An `AudioSource` is entered, iterated once for blocks of 16-bit little-endian PCM, and may be told to `stop` early.
"""

from __future__ import annotations

import asyncio
import io
import os
import shlex
import threading
import wave
from collections.abc import AsyncIterator, Callable
from typing import Protocol, Self

from .errors import UsageError
from .handoff import BlockQueue

BLOCK_MS = 15  # how much sound is heard at once; messages are cut anew, see `steps`
SAMPLE_BYTES = 2  # pcm_s16le
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 8000, 48000
STDIN_SAMPLE_RATE = 16000
STDIN_AHEAD_SECONDS = 1.0


class AudioSource(Protocol):
    """Where sound comes from. `name` is for people."""

    name: str
    sample_rate: int
    channels: int

    async def __aenter__(self) -> Self:
        """Opens the source; raises `UsageError` when that cannot be."""

    async def __aexit__(self, *exc: object) -> None:
        """Closes it."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Starts the sound. Ends at the end of it, or soon after `stop`, with everything that was heard until then."""

    def stop(self) -> None:
        """Ends the iteration early; from the event loop's thread."""


class Pace:
    """Says how long to wait so that sound leaves no faster than it would have been spoken. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = clock()
        self._sound_seconds = 0.0

    def wait_seconds(self, block_seconds: float) -> float:
        """How long until a block of `block_seconds`, spoken after all before it, is complete. Never negative."""
        self._sound_seconds += block_seconds
        return max(0.0, self._started + self._sound_seconds - self._clock())


class _Paced:
    """What files and standard input share: pacing and stopping."""

    def __init__(self, fast: bool) -> None:
        self._fast = fast
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        self._stopped.set()

    async def _delay(self, seconds: float) -> None:
        """Waits, but not longer than until `stop`."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass


PCM, EXTENSIBLE = b"\x01\0", b"\xfe\xff"  # formats
PCM_SUBFORMAT = PCM + bytes.fromhex("0000 0000 1000 8000 00aa 0038 9b71")
HEAD_BYTES = 60  # to the end of the subformat, where the format comes first


class _WavFile(io.BufferedReader):
    """A WAV file, to be read once from its beginning, in which extensible PCM is plain: `wave` knows no other before
    Python 3.12.
    """

    def __init__(self, path: str) -> None:
        super().__init__(io.FileIO(path))
        head = super().read(HEAD_BYTES)
        if head[12:16] == b"fmt " and head[20:22] == EXTENSIBLE and head[44:] == PCM_SUBFORMAT:
            head = head[:20] + PCM + head[22:]
        self._head = head

    def read(self, size: int | None = -1, /) -> bytes:
        """As much as is there, as `wave` never asks for all."""
        assert size is not None
        head, self._head = self._head[:size], self._head[size:]
        return head + super().read(size - len(head))

    def tell(self) -> int:
        """Nobody may seek."""
        raise io.UnsupportedOperation


class WavSource(_Paced):
    """A WAV file: 16-bit PCM, mono or stereo, 8 to 48 kHz. `fast`: as fast as it goes, else at the pace of speech."""

    def __init__(self, path: str, *, fast: bool = False) -> None:
        super().__init__(fast)
        self.name = path
        try:
            self._file = _WavFile(path)  # closed by __aexit__, or below
        except OSError as failure:
            raise UsageError(f"cannot read {path}: {failure.strerror or failure}") from None
        try:
            self._wave = wave.open(self._file)  # noqa: SIM115 - of which nothing is to be closed but the file
        except OSError as failure:
            self._file.close()
            raise UsageError(f"cannot read {path}: {failure.strerror or failure}") from None
        except (wave.Error, EOFError) as failure:
            self._file.close()
            raise UsageError(
                f"{path} is no 16-bit PCM WAV file ({str(failure) or 'it is too short'}); {_advice(path)}"
            ) from None
        self.sample_rate = self._wave.getframerate()
        self.channels = self._wave.getnchannels()
        wrong = []
        if self._wave.getsampwidth() != SAMPLE_BYTES:
            wrong.append(f"{8 * self._wave.getsampwidth()} bits a sample")
        if self.channels not in (1, 2):
            wrong.append(f"{self.channels} channels")
        if not MIN_SAMPLE_RATE <= self.sample_rate <= MAX_SAMPLE_RATE:
            wrong.append(f"{self.sample_rate} Hz")
        if wrong:
            self._file.close()
            raise UsageError(f"{path} has {' and '.join(wrong)}; {_advice(path)}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._file.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        frame_bytes = SAMPLE_BYTES * self.channels
        pace = Pace(asyncio.get_running_loop().time)
        while not self._stopped.is_set():
            block = self._wave.readframes(self.sample_rate * BLOCK_MS // 1000)
            block = block[: len(block) // frame_bytes * frame_bytes]  # a file that was cut off within a sample
            if not block:
                return
            if not self._fast:
                await self._delay(pace.wait_seconds(len(block) / frame_bytes / self.sample_rate))
            yield block


def _advice(path: str) -> str:
    return f"convert it: ffmpeg -i {shlex.quote(path)} -ac 1 -ar 16000 -c:a pcm_s16le converted.wav"


SIGNATURES = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"\x1aE\xdf\xa3")  # that files of sound begin with
RAW_ADVICE = "give its name to --file, or convert it: ffmpeg -i - -f s16le -ac 1 -ar 16000 - | …"


class StdinSource(_Paced):
    """Raw 16-bit little-endian mono PCM at 16 kHz from a file descriptor, usually 0.

    A daemon thread reads: neither a terminal nor a regular file can be polled everywhere, and a blocked read cannot
    be cancelled. It is at most `STDIN_AHEAD_SECONDS` ahead.
    """

    def __init__(self, descriptor: int = 0, *, fast: bool = False) -> None:
        super().__init__(fast)
        self.name = "standard input"
        self.sample_rate = STDIN_SAMPLE_RATE
        self.channels = 1
        self._descriptor = descriptor

    async def __aenter__(self) -> Self:
        self._queue = BlockQueue(int(STDIN_AHEAD_SECONDS * self.sample_rate) * SAMPLE_BYTES)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the iteration early, and the reader with its next block."""
        super().stop()
        self._queue.close()

    def _read(self) -> None:
        """The reader's thread, until the end of the input or until nobody listens. Half a sample waits for the rest."""
        size = self.sample_rate * BLOCK_MS // 1000 * SAMPLE_BYTES
        half, is_first = b"", True
        try:
            while data := os.read(self._descriptor, size):
                if is_first and data.startswith(SIGNATURES):
                    self._queue.close(UsageError(f"standard input is no raw sound but a file; {RAW_ADVICE}"))
                    return
                is_first = False
                data = half + data
                whole = len(data) // SAMPLE_BYTES * SAMPLE_BYTES
                block, half = data[:whole], data[whole:]
                if block and not self._queue.put(block):
                    break
        except OSError as failure:
            self._queue.close(UsageError(f"cannot read standard input: {failure.strerror}"))
        else:
            self._queue.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        threading.Thread(target=self._read, name="stdin", daemon=True).start()
        pace = Pace(asyncio.get_running_loop().time)
        while (block := await self._queue.get()) is not None and not self._stopped.is_set():
            if not self._fast:
                await self._delay(pace.wait_seconds(len(block) / SAMPLE_BYTES / self.sample_rate))
            yield block
