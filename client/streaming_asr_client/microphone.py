"""Owns microphones: finding them, opening one, carrying its sound from PortAudio's thread into asyncio.

`sounddevice` is imported on first use only: the import itself fails where the PortAudio library is missing, and
files can be transcribed without either.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from .errors import UsageError
from .handoff import BlockQueue
from .sources import BLOCK_MS, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE, SAMPLE_BYTES

PREFERRED_SAMPLE_RATE = 16000  # what recognizers work at: no resampling, a third of 48 kHz's bytes
BACKLOG_SECONDS = 10.0  # sound that waits for a slow network; beyond it samples are dropped
SILENT_DEVICE_SECONDS = 5.0  # a device that delivers nothing for so long has gone away

NO_PORTAUDIO = (
    "the PortAudio library is missing; install it: `apt-get install libportaudio2` (Debian, Ubuntu, Raspberry Pi OS), "
    "`dnf install portaudio` (Fedora), `brew install portaudio` (macOS)"
)
NO_MICROPHONE = (
    "no microphone found; plug one in, or check that this user may use it "
    "(Linux: PulseAudio or PipeWire running, or membership in the group 'audio'; `arecord -l` lists the hardware)"
)


@dataclass(frozen=True, slots=True)
class InputDevice:
    """A device that records. `index` is PortAudio's own, as `--device` takes it."""

    index: int
    name: str
    host_api: str
    channels: int
    sample_rate: int
    is_default: bool


def load_sounddevice() -> Any:
    """The `sounddevice` module; raises `UsageError` with what to install."""
    try:
        return importlib.import_module("sounddevice")
    except OSError:
        raise UsageError(NO_PORTAUDIO) from None
    except ImportError as failure:
        raise UsageError(f"cannot import sounddevice ({failure}); install it: `pip install sounddevice`") from None


def input_devices(sounddevice: Any) -> list[InputDevice]:
    """Every device that can record, in PortAudio's order."""
    host_apis = sounddevice.query_hostapis()
    default = sounddevice.default.device[0]
    if default is None or default < 0:
        default = next((api["default_input_device"] for api in host_apis if api["default_input_device"] >= 0), -1)
    return [
        InputDevice(
            index=index,
            name=device["name"],
            host_api=host_apis[device["hostapi"]]["name"],
            channels=device["max_input_channels"],
            sample_rate=round(device["default_samplerate"]),
            is_default=index == default,
        )
        for index, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]


def device_table(devices: Sequence[InputDevice]) -> str:
    """The devices for people, a line each; ``*`` marks the default."""
    rows = [
        (
            "*" if device.is_default else "",
            str(device.index),
            device.name,
            device.host_api,
            f"{device.channels} ch",
            f"{device.sample_rate} Hz",
        )
        for device in devices
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(6)]
    return "".join(
        f"{row[0]:<{widths[0]}} {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]:<{widths[3]}}  "
        f"{row[4]:>{widths[4]}}  {row[5]:>{widths[5]}}\n"
        for row in rows
    )


def choose_device(wanted: str | None, devices: Sequence[InputDevice]) -> InputDevice:
    """The device that `wanted` means: an index, a whole name, or a part of one name only; `None` is the default.

    Raises `UsageError`, listing what there is, when it means none or several.
    """
    if not devices:
        raise UsageError(NO_MICROPHONE)
    if wanted is None:
        return next((device for device in devices if device.is_default), devices[0])
    if wanted.isdecimal():
        found = [device for device in devices if device.index == int(wanted)]
    else:
        found = [device for device in devices if device.name.lower() == wanted.lower()]
        found = found or [device for device in devices if wanted.lower() in f"{device.name}, {device.host_api}".lower()]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"several devices match {wanted!r}; name one by its number:\n{device_table(found)}".rstrip())
    raise UsageError(f"no input device matches {wanted!r}; there are:\n{device_table(devices)}".rstrip())


def candidate_formats(device: InputDevice) -> list[tuple[int, int]]:
    """(sample rate, channels) to try, best first: 16 kHz, the device's own rate, then what hardware usually knows."""
    rates = [PREFERRED_SAMPLE_RATE, device.sample_rate, 48000, 44100, 32000, 8000]
    rates = [rate for rate in dict.fromkeys(rates) if MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE]
    return [(rate, channels) for channels in (1, 2) if channels <= device.channels for rate in rates]


class MicrophoneSource:
    """The sound of one input device, from the first iteration on. See `sources.AudioSource`.

    `on_loss` is called on the event loop, in words, whenever sound was lost.
    """

    def __init__(self, wanted: str | None, on_loss: Callable[[str], None] = lambda words: None) -> None:
        self._sounddevice = load_sounddevice()
        self._device = choose_device(wanted, input_devices(self._sounddevice))
        self.name = self._device.name
        self.sample_rate, self.channels = self._find_format()
        self._on_loss = on_loss
        self._dropped_frames = 0
        self._overflows = 0
        self._stopping = False

    def _find_format(self) -> tuple[int, int]:
        failure: Exception | None = None
        with _quiet_stderr():
            for sample_rate, channels in candidate_formats(self._device):
                try:
                    self._sounddevice.check_input_settings(
                        device=self._device.index, samplerate=sample_rate, channels=channels, dtype="int16"
                    )
                except (self._sounddevice.PortAudioError, ValueError) as refused:
                    failure = failure or refused
                else:
                    return sample_rate, channels
        raise UsageError(f"cannot record from {self.name!r}: {failure or 'it offers no usable sample rate'}")

    async def __aenter__(self) -> Self:
        frame_bytes = SAMPLE_BYTES * self.channels
        self._queue = BlockQueue(int(BACKLOG_SECONDS * self.sample_rate) * frame_bytes)
        try:
            with _quiet_stderr():
                self._stream = self._sounddevice.RawInputStream(
                    device=self._device.index,
                    samplerate=self.sample_rate,
                    channels=self.channels,
                    dtype="int16",
                    blocksize=self.sample_rate * BLOCK_MS // 1000,
                    callback=self._accept,
                    finished_callback=lambda: self._queue.close(),
                )
        except self._sounddevice.PortAudioError as failure:
            raise UsageError(f"cannot open {self.name!r}: {failure}") from None
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stopping = True
        self._queue.close()
        await asyncio.to_thread(self._stream.close)  # joins PortAudio's thread, which may be inside the callback

    def _accept(self, data: Any, frames: int, time: Any, status: Any) -> None:
        """PortAudio's thread: copies, never waits."""
        if status and status.input_overflow:
            self._overflows += 1
        if not self._queue.offer(bytes(data)):
            self._dropped_frames += frames

    def _report_losses(self) -> None:
        dropped, self._dropped_frames = self._dropped_frames, 0
        overflows, self._overflows = self._overflows, 0
        if dropped:
            self._on_loss(f"{dropped / self.sample_rate:.1f} s of sound lost: the server or the network is too slow")
        if overflows:
            self._on_loss("some sound lost before it reached us: this computer is too busy")

    def stop(self) -> None:
        """Ends the recording; what was recorded can still be iterated."""
        self._stopping = True
        self._queue.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            self._stream.start()
        except self._sounddevice.PortAudioError as failure:
            raise UsageError(f"cannot start {self.name!r}: {failure}") from None
        while True:
            try:
                async with asyncio.timeout(SILENT_DEVICE_SECONDS):
                    block = await self._queue.get()
            except TimeoutError:
                raise UsageError(f"{self.name!r} delivers no sound any more; was it unplugged?") from None
            if block is None:
                break
            if not self._stopping:
                self._report_losses()
            yield block
        if not self._stopping:
            raise UsageError(f"{self.name!r} stopped; was it unplugged?")


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keeps what ALSA and PortAudio print about formats that we merely try off the terminal."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
