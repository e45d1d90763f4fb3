"""Files and standard input as sound: formats by table, pace with an injected clock, the reader's thread."""

from __future__ import annotations

import asyncio
import os
import struct
import threading
import wave
from pathlib import Path

import numpy as np
import pytest
from streaming_asr_client.errors import UsageError
from streaming_asr_client.sources import AudioSource, Pace, StdinSource, WavSource

from tests.client.conftest import write_wav


async def everything(source: AudioSource) -> list[bytes]:
    async with source:
        return [block async for block in source]


@pytest.mark.parametrize("sample_rate", [8000, 11025, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [0, 1, 5000])
def test_a_wav_file_comes_whole(tmp_path: Path, sample_rate: int, channels: int, frames: int) -> None:
    samples = np.random.default_rng(frames).integers(-32768, 32767, (frames, channels), dtype=np.int16)
    path = write_wav(tmp_path / "f.wav", samples, sample_rate)

    async def body() -> None:
        source = WavSource(str(path), fast=True)
        assert (source.sample_rate, source.channels, source.name) == (sample_rate, channels, str(path))
        blocks = await everything(source)
        assert b"".join(blocks) == samples.tobytes()
        assert all(len(block) % (2 * channels) == 0 for block in blocks)

    asyncio.run(body())


def test_a_wav_file_that_was_cut_off_ends_on_a_frame(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "f.wav", np.ones((1000, 2)))
    path.write_bytes(path.read_bytes()[:-3])

    async def body() -> None:
        assert len(b"".join(await everything(WavSource(str(path), fast=True)))) == 999 * 4

    asyncio.run(body())


def extensible(path: Path, samples: np.ndarray, subformat: int, bits: int = 16) -> Path:
    """Writes `samples`, (frames, channels), with the format chunk that recorders of many channels or bits use."""
    channels, size = samples.shape[1], bits // 8 * samples.shape[1]
    body = struct.pack("<HHLLHHHHLH", 0xFFFE, channels, 16000, 16000 * size, size, bits, 22, bits, 0, subformat)
    body += bytes.fromhex("0000 0000 1000 8000 00aa 0038 9b71")
    chunks = b"fmt " + struct.pack("<L", len(body)) + body
    chunks += b"data" + struct.pack("<L", samples.nbytes) + samples.tobytes()
    path.write_bytes(b"RIFF" + struct.pack("<L", 4 + len(chunks)) + b"WAVE" + chunks)
    return path


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [0, 1, 5000])
@pytest.mark.parametrize("through_a_pipe", [False, True])
def test_an_extensible_wav_file_of_pcm_comes_whole(
    tmp_path: Path, channels: int, frames: int, through_a_pipe: bool
) -> None:
    samples = np.random.default_rng(frames).integers(-32768, 32767, (frames, channels), dtype=np.int16)
    path = extensible(tmp_path / "f.wav", samples, 1)
    pipe = tmp_path / "pipe"
    if through_a_pipe:
        os.mkfifo(pipe)
        threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()), daemon=True).start()

    async def body() -> None:
        source = WavSource(str(pipe if through_a_pipe else path), fast=True)
        assert (source.sample_rate, source.channels) == (16000, channels)
        assert b"".join(await everything(source)) == samples.tobytes()

    asyncio.run(body())


def test_an_extensible_wav_file_of_anything_else_is_refused_with_advice(tmp_path: Path) -> None:
    async def body() -> None:
        with pytest.raises(UsageError, match=r"is no 16-bit PCM WAV file .*ffmpeg -i"):
            WavSource(str(extensible(tmp_path / "float.wav", np.zeros((9, 1), np.float32), 3, 32)))
        with pytest.raises(UsageError, match=r"has 32 bits a sample; .*ffmpeg -i"):
            WavSource(str(extensible(tmp_path / "long.wav", np.zeros((9, 1), np.int32), 1, 32)))

    asyncio.run(body())


@pytest.mark.parametrize(
    ("channels", "sample_bytes", "sample_rate", "says"),
    [
        (1, 1, 16000, "has 8 bits a sample"),
        (1, 3, 16000, "has 24 bits a sample"),
        (4, 2, 16000, "has 4 channels"),
        (1, 2, 96000, "has 96000 Hz"),
        (1, 2, 4000, "has 4000 Hz"),
        (6, 4, 192000, "has 32 bits a sample and 6 channels and 192000 Hz"),
    ],
)
def test_other_wav_formats_are_refused_with_advice(
    tmp_path: Path, channels: int, sample_bytes: int, sample_rate: int, says: str
) -> None:
    path = tmp_path / "f.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, sample_bytes, sample_rate, 0, "NONE", ""))
        file.writeframes(bytes(channels * sample_bytes * 10))

    async def body() -> None:
        with pytest.raises(UsageError) as refused:
            WavSource(str(path))
        assert says in str(refused.value)
        assert "ffmpeg -i" in str(refused.value)
        assert "\n" not in str(refused.value)

    asyncio.run(body())


@pytest.mark.parametrize("content", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"fLaC" + bytes(100), bytes(44)])
def test_what_is_no_wav_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.wav"
    path.write_bytes(content)

    async def body() -> None:
        with pytest.raises(UsageError, match="is no 16-bit PCM WAV file"):
            WavSource(str(path))

    asyncio.run(body())


def test_a_file_that_is_empty_is_too_short(tmp_path: Path) -> None:
    path = tmp_path / "f.wav"
    path.touch()
    with pytest.raises(UsageError, match="it is too short"):
        WavSource(str(path))


def test_pace_is_that_of_speech() -> None:
    now = 100.0
    pace = Pace(lambda: now)
    assert pace.wait_seconds(0.5) == 0.5  # not sent before it would have been spoken
    now = 100.5
    assert pace.wait_seconds(0.5) == 0.5
    now = 101.25  # a quarter of a second late: the next waits the less
    assert pace.wait_seconds(0.5) == 0.25
    now = 105.0
    assert [pace.wait_seconds(0.5), pace.wait_seconds(0.5)] == [0.0, 0.0]


def test_stop_ends_a_wait_at_once(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "f.wav", np.ones(16000 * 60))

    async def body() -> None:
        source = WavSource(str(path))
        async with source, asyncio.timeout(20):
            async for _ in source:
                source.stop()

    asyncio.run(body())


@pytest.mark.parametrize("size", [0, 1, 1281, 100_000])
def test_stdin_comes_whole_but_for_half_a_sample_at_the_end(size: int) -> None:
    sound = np.random.default_rng(size).bytes(size)
    reading, writing = os.pipe()

    async def body() -> None:
        writer = asyncio.create_task(asyncio.to_thread(write_and_close))
        assert b"".join(await everything(StdinSource(reading, fast=True))) == sound[: size // 2 * 2]
        await writer

    def write_and_close() -> None:
        with os.fdopen(writing, "wb") as pipe:
            for cut in (sound[:3], sound[3:]):
                pipe.write(cut)
                pipe.flush()

    asyncio.run(body())
    os.close(reading)


def test_stdin_can_be_stopped_while_it_waits() -> None:
    reading, writing = os.pipe()

    async def body() -> None:
        os.write(writing, b"abcd")
        async with StdinSource(reading, fast=True) as source, asyncio.timeout(20):
            async for block in source:
                assert block == b"abcd"
                source.stop()

    asyncio.run(body())
    os.close(writing)
    os.close(reading)


@pytest.mark.parametrize("head", [b"RIFF$\0\0\0WAVE", b"fLaC\0\0", b"OggS\0\0", b"ID3\4"])
def test_a_file_through_stdin_is_not_taken_for_raw_sound(head: bytes) -> None:
    reading, writing = os.pipe()
    os.write(writing, head)

    async def body() -> None:
        with pytest.raises(UsageError, match="no raw sound but a file; give its name to --file"):
            await everything(StdinSource(reading, fast=True))

    asyncio.run(body())
    os.close(writing)
    os.close(reading)


def test_stdin_that_cannot_be_read() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    folder = os.open("/", os.O_RDONLY)

    async def body() -> None:
        with pytest.raises(UsageError, match="cannot read standard input: Is a directory"):
            await everything(StdinSource(folder, fast=True))

    asyncio.run(body())
    os.close(folder)
    os.close(reading)
