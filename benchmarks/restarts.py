"""Restarts a server under live streams, by SIGTERM and by SIGKILL, and checks what the clients are told.

    python -m benchmarks.restarts DIR [--streams 20] [--model DIR]

Every client sends one recording of the folder (LibriSpeech-style) at real-time pace and goes on by itself when the
server is back. Told right: utterances are numbered without a gap or a repetition, and all audio is counted. How many
words differ from a run that nothing disturbed is shown beside it: an utterance that was open is heard anew.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from streaming_asr_client import Done, Final, connect

from streaming_asr.evaluate import count_word_errors
from streaming_asr.recordings import Recording, find_recordings, read_samples

CHUNK_SECONDS = 0.08
RESUME_SECONDS = 60
DISTURBED_AT = 0.5  # of the longest recording


@dataclass(frozen=True)
class Told:
    """What one client heard in the end."""

    text: str
    is_whole: bool  # no utterance missing or told twice, all audio counted


async def start_server(state: Path, port: int, model: Path | None) -> tuple[asyncio.subprocess.Process, int]:
    """A server that listens; port 0 picks one."""
    command = [sys.executable, "-m", "streaming_asr.cli", "serve", "--port", str(port), "--state-dir", str(state)]
    command += ["--drain-seconds", "1", "--max-sessions", "1000", *(["--model", str(model)] if model else [])]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    listening = re.search(rb":(\d+)\s*$", await process.stdout.readline())
    assert listening is not None
    return process, int(listening[1])


async def listen(port: int, recording: Recording) -> Told:
    """Streams a recording at the pace of its time."""
    pcm = np.clip(np.round(read_samples(recording.path) * 32768), -32768, 32767).astype("<i2")
    loop = asyncio.get_running_loop()

    async def audio() -> AsyncIterator[bytes]:
        began = loop.time()
        for first in range(0, len(pcm), round(CHUNK_SECONDS * 16000)):
            await asyncio.sleep(began + first / 16000 - loop.time())
            yield pcm[first : first + round(CHUNK_SECONDS * 16000)].tobytes()

    async with connect(f"ws://127.0.0.1:{port}", resume_seconds=RESUME_SECONDS, partials=False) as session:
        events = [event async for event in session.transcribe(audio())]
    finals = [event for event in events if isinstance(event, Final)]
    done = [event for event in events if isinstance(event, Done)]
    is_whole = [final.utterance for final in finals] == list(range(len(finals))) and len(done) == 1
    return Told(
        " ".join(final.text for final in finals if final.text),
        is_whole and abs(done[0].audio_seconds - len(pcm) / 16000) < 0.001,
    )


async def run(recordings: Sequence[Recording], how: signal.Signals | None, model: Path | None) -> list[Told]:
    """All recordings at once; `how` the server is ended in the middle, and started anew."""
    with tempfile.TemporaryDirectory() as folder:
        server, port = await start_server(Path(folder), 0, model)
        try:
            clients = [asyncio.create_task(listen(port, recording)) for recording in recordings]
            if how is not None:
                longest = max(len(read_samples(recording.path)) for recording in recordings) / 16000
                await asyncio.sleep(DISTURBED_AT * longest)
                server.send_signal(how)
                await server.wait()
                server, _ = await start_server(Path(folder), port, model)
            return await asyncio.gather(*clients)
        finally:
            server.terminate()
            await server.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 if a client was told wrong."""
    parser = argparse.ArgumentParser(prog="benchmarks.restarts", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--streams", type=int, default=20, metavar="N")
    parser.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: the one that ships)")
    options = parser.parse_args(arguments)
    recordings = find_recordings([options.folder])
    recordings = recordings[:: max(1, len(recordings) // options.streams)][: options.streams]
    undisturbed = asyncio.run(run(recordings, None, options.model))
    code = 0
    for how in (signal.SIGTERM, signal.SIGKILL):
        told = asyncio.run(run(recordings, how, options.model))
        whole = sum(each.is_whole for each in told)
        errors = count_word_errors((before.text, after.text) for before, after in zip(undisturbed, told, strict=True))
        print(f"{how.name}: {whole} of {len(told)} whole, {errors.wer:.1%} of the words differ", flush=True)
        code |= whole < len(told)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
