"""Restarts a server under live streams, by SIGTERM and by SIGKILL, and checks what the clients are told.

    python -m benchmarks.restarts DIR [--streams 20] [--model DIR]

Every client sends recordings of the folder (LibriSpeech-style) at real-time pace, so many that it is speaking when the
server is ended and when it is back, and goes on by itself. Must be: all sessions were open at the signal, utterances
are numbered without a gap or a repetition, and all audio is counted. How many words differ from a run that nothing
disturbed is shown beside it: an utterance that was open is heard anew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import re
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streaming_asr.evaluate import count_word_errors
from streaming_asr.recordings import find_recordings, read_samples

from .material import spread
from .replay import pcm_blocks
from .soak import BYTES_PER_SECOND, Told, play, text_of

SPEECH_SECONDS = 30.0  # of each client at least, so that it outlasts the restart
OPEN_SECONDS = 10.0  # within which every client should have its session
SIGNAL_SECONDS = 10.0  # after that


@dataclass(frozen=True)
class Restart:
    """How the clients fared."""

    num_open: int  # sessions, when the server was told to end
    told: list[Told]
    seconds: list[float]  # of what each client said

    @property
    def num_whole(self) -> int:
        """Clients for whom no utterance is missing or told twice, and all audio was counted."""
        return sum(is_whole(told, seconds) for told, seconds in zip(self.told, self.seconds, strict=True))

    @property
    def is_well(self) -> bool:
        """Whether all clients saw the restart, and none was told wrong."""
        return self.num_open == self.num_whole == len(self.told)


def is_whole(told: Told, seconds: float) -> bool:
    """Whether utterances are numbered without a gap or a repetition, and so much audio was counted."""
    finals, audio_seconds = told
    return [utterance for utterance, _ in finals] == list(range(len(finals))) and abs(audio_seconds - seconds) < 0.001


def speech(recordings: Sequence[bytes], first: int) -> bytes:
    """At least `SPEECH_SECONDS` of whole recordings (s16le, 16 kHz): the one at ``first`` and those after it, round."""
    following = itertools.islice(itertools.cycle(recordings), first, None)
    said = b""
    while len(said) < SPEECH_SECONDS * BYTES_PER_SECOND:
        said += next(following)
    return said


async def start_server(state: Path, port: int, model: Path | None) -> tuple[asyncio.subprocess.Process, int]:
    """A server that listens; port 0 picks one."""
    command = [sys.executable, "-m", "streaming_asr.cli", "serve", "--port", str(port), "--state-dir", str(state)]
    command += ["--drain-seconds", "1", "--max-sessions", "1000", *(["--model", str(model)] if model else [])]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    listening = re.search(rb":(\d+)\s*$", await process.stdout.readline())
    assert listening is not None
    return process, int(listening[1])


async def run(speeches: Sequence[bytes], how: signal.Signals | None, model: Path | None) -> Restart:
    """All clients at once; `how` the server is ended while they speak, and started anew."""
    with tempfile.TemporaryDirectory() as folder:
        server, port = await start_server(Path(folder), 0, model)
        try:
            opened = [asyncio.Event() for _ in speeches]
            clients = [
                asyncio.create_task(play(f"ws://127.0.0.1:{port}", pcm, 1.0, is_open))
                for pcm, is_open in zip(speeches, opened, strict=True)
            ]
            num_open = 0
            if how is not None:
                with contextlib.suppress(TimeoutError):  # is counted
                    async with asyncio.timeout(OPEN_SECONDS):
                        for is_open in opened:
                            await is_open.wait()
                await asyncio.sleep(SIGNAL_SECONDS)
                num_open = sum(is_open.is_set() for is_open in opened)
                server.send_signal(how)
                await server.wait()
                server, _ = await start_server(Path(folder), port, model)
            told = await asyncio.gather(*clients)
            return Restart(num_open, told, [len(pcm) / BYTES_PER_SECOND for pcm in speeches])
        finally:
            server.terminate()
            await server.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 if a client was told wrong, or had no session that the restart could have hurt."""
    parser = argparse.ArgumentParser(prog="benchmarks.restarts", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--streams", type=int, default=20, metavar="N")
    parser.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: the one that ships)")
    options = parser.parse_args(arguments)
    found = spread(find_recordings([options.folder]), options.streams)
    recordings = [b"".join(block.tobytes() for block in pcm_blocks(read_samples(each.path), 16000)) for each in found]
    speeches = [speech(recordings, number) for number in range(options.streams)]
    undisturbed = asyncio.run(run(speeches, None, options.model))
    code = 0
    for how in (signal.SIGTERM, signal.SIGKILL):
        restart = asyncio.run(run(speeches, how, options.model))
        pairs = zip(undisturbed.told, restart.told, strict=True)
        errors = count_word_errors((text_of(before), text_of(after)) for before, after in pairs)
        print(
            f"{how.name}: {restart.num_open} of {len(speeches)} sessions were open, {restart.num_whole} are whole, "
            f"{errors.wer:.1%} of the words differ",
            flush=True,
        )
        code |= not restart.is_well
    return code


if __name__ == "__main__":
    raise SystemExit(main())
