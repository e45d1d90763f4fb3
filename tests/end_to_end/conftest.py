"""The shipped model behind a real server process, and real recordings to stream to it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.compute import process_folders, usage
from streaming_asr.recognizer import Recognizer
from streaming_asr.recordings import Recording, find_recordings

BIN = Path(sys.executable).parent
DEMO = Path(__file__).parents[2] / "examples" / "demo.wav"
# LibriSpeech-style recordings kept beside the checkout; elsewhere the tests that need them say so and skip.
RECORDINGS = Path(os.environ.get("STREAMING_ASR_EVAL", Path(__file__).parents[3] / "shared" / "speech" / "eval"))
START_SECONDS = 120
OTHER_PORTS = ("--vosk-port", "--sherpa-port", "--wyoming-port")


@dataclass
class ServerProcess:
    """``streaming-asr serve`` on a free port."""

    process: subprocess.Popen[str]
    url: str
    urls: dict[str, str]  # of protocols that have a port of their own

    @property
    def resident_bytes(self) -> int:
        """Of the process and its workers, what they share counted once."""
        return usage(self.process.pid).rss_bytes

    @property
    def num_file_descriptors(self) -> int:
        return sum(len(list((folder / "fd").iterdir())) for folder in process_folders(self.process.pid))


@pytest.fixture(scope="session")
def recognizer() -> Recognizer:
    return Recognizer.load()


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    command: list[str | Path] = [BIN / "streaming-asr", "serve", "--port", "0", "--max-sessions", "64"]
    command += ["--max-latency-ms", "60000"]
    command += [argument for option in OTHER_PORTS for argument in (option, "0")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        assert line.startswith("listening on ws://127.0.0.1:"), line
        doors = [process.stdout.readline().split() for _ in OTHER_PORTS]  # also PROTOCOL on URL
        urls = {protocol: url for _, protocol, _, url in doors}
        yield ServerProcess(process, line.removeprefix("listening on "), urls)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture(scope="session")
def recordings() -> list[Recording]:
    if not RECORDINGS.is_dir():
        pytest.skip(f"no recordings at {RECORDINGS}; set STREAMING_ASR_EVAL to a LibriSpeech-style folder")
    return find_recordings([RECORDINGS])
