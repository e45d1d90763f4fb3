"""Microphones: choosing one by table, the handoff between threads, and the real command on a virtual one."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from streaming_asr_client.errors import UsageError
from streaming_asr_client.handoff import BlockQueue
from streaming_asr_client.microphone import (
    InputDevice,
    MicrophoneSource,
    candidate_formats,
    choose_device,
    device_table,
    input_devices,
)

from tests.client.conftest import Popen, write_wav
from tests.client.fake_server import FakeServer

if TYPE_CHECKING:
    from tests.conftest import VirtualMicrophone

Mic = Callable[..., Popen]

BUILT_IN = InputDevice(0, "Built-in Audio", "ALSA", 2, 44100, False)
USB = InputDevice(3, "USB Headset Mono", "ALSA", 1, 48000, True)
USB_JACK = InputDevice(7, "USB Headset Mono Capture", "JACK Audio", 1, 96000, False)
DEVICES = [BUILT_IN, USB, USB_JACK]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, USB),
        ("0", BUILT_IN),
        ("7", USB_JACK),
        ("built", BUILT_IN),
        ("usb headset mono", USB),  # a whole name beats being a part of another
        ("capture", USB_JACK),
        ("mono, alsa", USB),
        ("jack", USB_JACK),
    ],
)
def test_a_device_is_chosen_by_number_or_name(wanted: str | None, found: InputDevice) -> None:
    assert choose_device(wanted, DEVICES) is found


@pytest.mark.parametrize(
    ("wanted", "says", "lists"),
    [
        ("usb", "several devices match 'usb'", [USB, USB_JACK]),
        ("5", "no input device matches '5'", DEVICES),
        ("webcam", "no input device matches 'webcam'", DEVICES),
    ],
)
def test_an_unclear_device_is_answered_with_a_list(wanted: str, says: str, lists: list[InputDevice]) -> None:
    with pytest.raises(UsageError) as refused:
        choose_device(wanted, DEVICES)
    assert str(refused.value).startswith(says)
    assert [device.name in str(refused.value) for device in DEVICES] == [device in lists for device in DEVICES]


def test_no_microphone_at_all() -> None:
    with pytest.raises(UsageError, match="no microphone found"):
        choose_device(None, [])


def test_the_table_is_aligned() -> None:
    assert device_table(DEVICES) == (
        "  0  Built-in Audio            ALSA        2 ch  44100 Hz\n"
        "* 3  USB Headset Mono          ALSA        1 ch  48000 Hz\n"
        "  7  USB Headset Mono Capture  JACK Audio  1 ch  96000 Hz\n"
    )


def test_formats_begin_with_the_recognizers_own() -> None:
    assert candidate_formats(BUILT_IN)[:2] == [(16000, 1), (44100, 1)]
    assert (16000, 2) in candidate_formats(BUILT_IN)
    assert all(rate <= 48000 and channels == 1 for rate, channels in candidate_formats(USB_JACK))


def test_the_queue_refuses_when_full_and_keeps_what_it_has() -> None:
    async def body() -> None:
        queue = BlockQueue(limit_bytes=8)
        assert [queue.offer(block) for block in (b"aaaa", b"bbbb", b"c")] == [True, True, False]
        assert await queue.get() == b"aaaa"
        assert queue.offer(b"d")
        queue.close()
        assert not queue.offer(b"e")
        assert [await queue.get(), await queue.get(), await queue.get()] == [b"bbbb", b"d", None]

    asyncio.run(body())


def test_the_queue_carries_everything_from_a_thread_that_waits() -> None:
    blocks = [bytes([number % 256]) * (1 + number % 7) for number in range(2000)]

    async def body() -> list[bytes]:
        queue = BlockQueue(limit_bytes=10)

        def produce() -> None:
            for block in blocks:
                assert queue.put(block)
            queue.close()

        thread = threading.Thread(target=produce)
        thread.start()
        received = []
        while (block := await queue.get()) is not None:
            received.append(block)
        thread.join()
        return received

    assert asyncio.run(body()) == blocks


def test_closing_releases_a_waiting_thread_and_hands_on_the_failure() -> None:
    async def body() -> None:
        queue = BlockQueue(limit_bytes=1)
        queue.offer(b"a")
        results: list[bool] = []
        thread = threading.Thread(target=lambda: results.append(queue.put(b"b")))
        thread.start()
        queue.close(UsageError("gone"))
        thread.join()
        assert results == [False]
        assert await queue.get() == b"a"
        with pytest.raises(UsageError, match="gone"):
            await queue.get()

    asyncio.run(body())


class FakePortAudioError(Exception):
    pass


class FakeStream:
    """A stream that is driven by the test instead of by a sound card."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        self.started = self.closed = False

    def start(self) -> None:
        self.started = True

    def close(self) -> None:
        self.closed = True


class FakeSounddevice:
    """What of `sounddevice` is used: one stereo device that knows 48 kHz only."""

    PortAudioError = FakePortAudioError

    def __init__(self) -> None:
        self.default = SimpleNamespace(device=[1, -1])
        self.stream: FakeStream | None = None

    def query_hostapis(self) -> list[dict[str, Any]]:
        return [{"name": "ALSA", "default_input_device": 1}]

    def query_devices(self) -> list[dict[str, Any]]:
        output = {"name": "Speaker", "hostapi": 0, "max_input_channels": 0, "default_samplerate": 48000.0}
        return [output, output | {"name": "Mic", "max_input_channels": 2}]

    def check_input_settings(self, *, device: int, samplerate: int, channels: int, dtype: str) -> None:
        if samplerate != 48000 or channels != 2:
            raise FakePortAudioError("Invalid sample rate")

    def RawInputStream(self, **settings: Any) -> FakeStream:
        self.stream = FakeStream(**settings)
        return self.stream


@pytest.fixture
def fake_sounddevice(monkeypatch: pytest.MonkeyPatch) -> FakeSounddevice:
    fake = FakeSounddevice()
    monkeypatch.setattr("streaming_asr_client.microphone.load_sounddevice", lambda: fake)
    return fake


def test_outputs_are_no_microphones(fake_sounddevice: FakeSounddevice) -> None:
    assert input_devices(fake_sounddevice) == [InputDevice(1, "Mic", "ALSA", 2, 48000, True)]


def test_lost_sound_is_said_and_what_was_kept_is_sent(fake_sounddevice: FakeSounddevice) -> None:
    said: list[str] = []
    second = bytes(48000 * 4)
    fine = SimpleNamespace(input_overflow=False)
    overflow = SimpleNamespace(input_overflow=True)

    async def body() -> int:
        async with MicrophoneSource(None, on_loss=said.append) as source:
            assert (source.name, source.sample_rate, source.channels) == ("Mic", 48000, 2)
            stream = fake_sounddevice.stream
            assert stream is not None
            blocks = aiter(source)
            for _ in range(12):  # 10 s fit
                stream.settings["callback"](second, 48000, None, fine)
            received = 0
            async for block in blocks:
                received += len(block)
                if received == len(second):
                    stream.settings["callback"](second, 48000, None, overflow)
                    source.stop()
            assert stream.started
        assert stream.closed
        return received // len(second)

    assert asyncio.run(body()) == 11
    assert said == ["2.0 s of sound lost: the server or the network is too slow"]


def test_a_microphone_that_stops_by_itself_is_an_error(fake_sounddevice: FakeSounddevice) -> None:
    async def body() -> None:
        async with MicrophoneSource(None) as source:
            assert fake_sounddevice.stream is not None
            fake_sounddevice.stream.settings["finished_callback"]()
            with pytest.raises(UsageError, match="'Mic' stopped; was it unplugged"):
                await anext(aiter(source))

    asyncio.run(body())


def test_a_device_that_refuses_every_format(fake_sounddevice: FakeSounddevice, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**settings: Any) -> None:
        raise FakePortAudioError("Device unavailable")

    monkeypatch.setattr(fake_sounddevice, "check_input_settings", refuse)
    with pytest.raises(UsageError, match="cannot record from 'Mic': Device unavailable"):
        MicrophoneSource("mic")


# --- the real thing, on a virtual microphone ---------------------------------------------------------------------


def best_correlation(played: np.ndarray, recorded: np.ndarray) -> float:
    """The normalized cross-correlation of `played` with `recorded` where it fits best; 1 for a perfect copy."""
    size = 1 << int(np.ceil(np.log2(len(played) + len(recorded))))
    spectrum = np.fft.rfft(recorded, size) * np.conj(np.fft.rfft(played, size))
    products = np.fft.irfft(spectrum, size)[: max(1, len(recorded) - len(played) + 1)]
    at = int(np.argmax(products))
    segment = recorded[at : at + len(played)]
    return float(products[at] / (np.linalg.norm(played) * np.linalg.norm(segment) + 1e-9))


@pytest.fixture
def speech_wav(tmp_path: Path) -> Path:
    """Speech, or something as lively: a second or two at 16 kHz."""
    wav = tmp_path / "speech.wav"
    if shutil.which("espeak-ng") and shutil.which("sox"):
        raw = tmp_path / "raw.wav"
        subprocess.run(["espeak-ng", "-w", str(raw), "the quick brown fox jumps over the lazy dog"], check=True)
        subprocess.run(["sox", str(raw), "-r", "16000", "-b", "16", str(wav)], check=True)
        return wav
    times = np.arange(32000) / 16000
    chirp = 8000 * np.sin(2 * np.pi * (300 + 900 * times) * times) * (1 + np.sin(20 * times)) / 2
    return write_wav(wav, chirp)


def test_the_command_hears_what_is_played(mic: Mic, virtual_microphone: VirtualMicrophone, speech_wav: Path) -> None:
    with FakeServer() as server:
        process = mic("--server", server.url, "--format", "json", environment=virtual_microphone.environment)
        heard_before = server.wait_for_audio(0.2).seconds
        virtual_microphone.play(speech_wav)
        played = np.frombuffer(speech_wav.read_bytes()[44:], "<i2").astype(float)
        server.wait_for_audio(heard_before + len(played) / 16000 + 1.0)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    client = server.clients[0]
    assert (err, process.returncode) == ("", 0)
    assert json.loads(out.splitlines()[-1])["type"] == "done"
    assert (client.start["sample_rate"], client.start["channels"]) == (16000, 1)
    recorded = np.frombuffer(bytes(client.audio), "<i2").astype(float)
    assert best_correlation(played, recorded) > 0.9


def test_the_virtual_microphone_is_listed_and_found_by_name(mic: Mic, virtual_microphone: VirtualMicrophone) -> None:
    listing = mic("--list-devices", environment=virtual_microphone.environment)
    out, err = listing.communicate(timeout=30)
    assert (err, listing.returncode) == ("", 0)
    assert re.search(r"^\* +\d+  default +ALSA", out, re.MULTILINE)
    with FakeServer() as server:
        process = mic("--server", server.url, "--device", "default", environment=virtual_microphone.environment)
        server.wait_for_audio(0.6)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (err, process.returncode) == ("", 0)
    assert out.startswith("word0 word1")
