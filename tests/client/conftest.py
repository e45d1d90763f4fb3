"""What the client's tests share: the real command as a subprocess, and recordings to send."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

Popen = subprocess.Popen[str]


@pytest.fixture
def mic() -> Iterator[Callable[..., Popen]]:
    """Starts `streaming-asr-mic` with pipes; whatever is left of it at the end is killed."""
    with contextlib.ExitStack() as started:

        def start(
            *arguments: str,
            environment: dict[str, str] | None = None,
            stdin: int = subprocess.DEVNULL,
            stdout: int = subprocess.PIPE,
            stderr: int = subprocess.PIPE,
            start_new_session: bool = False,
        ) -> Popen:
            process = started.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "streaming_asr_client", *arguments],
                    env=(os.environ if environment is None else environment) | {"PYTHONWARNINGS": "error"},
                    text=True,
                    encoding="utf-8",
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    start_new_session=start_new_session,
                )
            )
            started.callback(process.kill)
            return process

        yield start


def bytes_to(process: Popen) -> BinaryIO:
    """Its standard input, for bytes: the pipes of `mic` are opened for text."""
    assert isinstance(process.stdin, io.TextIOWrapper)
    buffer: BinaryIO = process.stdin.buffer
    return buffer


def write_wav(path: Path, samples: np.ndarray, sample_rate: int = 16000) -> Path:
    """Writes int16 `samples`, (frames,) or (frames, channels)."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if samples.ndim == 1 else samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


@pytest.fixture
def noise_wav(tmp_path: Path) -> Path:
    """3 s of mono noise at 16 kHz."""
    samples = np.random.default_rng(1).integers(-8000, 8000, 3 * 16000, dtype=np.int16)
    return write_wav(tmp_path / "noise.wav", samples)
