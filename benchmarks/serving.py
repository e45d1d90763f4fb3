"""Owns a server of our own in a process of its own, for as long as something is measured."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from streaming_asr.errors import InputError

STOP_SECONDS = 30.0


def serve_command(model: Path, *options: str) -> list[str]:
    """Of a server on a free port that lets everybody in: what is past the limit is to be seen."""
    command = [sys.executable, "-m", "streaming_asr.cli", "serve", "--port", "0", "--max-sessions", "2000"]
    return [*command, "--max-latency-ms", "1e6", "--model", str(model), *options]


@contextlib.contextmanager
def serving(command: Sequence[str]) -> Iterator[tuple[str, int, float]]:
    """A server, by its command: its URL, its process id, and seconds from start to ``listening``.

    Raises `InputError` when it does not listen.
    """
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        took = time.perf_counter() - began
        if not line.startswith("listening on "):
            raise InputError("the server did not start; it says why above")
        yield line.removeprefix("listening on "), process.pid, took
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
