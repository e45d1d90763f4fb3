"""Live streams for a long time on connections that break at random: is anything lost, does anything break by itself?

    python -m benchmarks.soak DIR [--minutes 120] [--streams 60] [--cut-seconds 30] [--model DIR]

Each stream plays recordings of the folder (LibriSpeech-style) at the pace of speech, one session after the other, over
a network of its own that is cut by close, by reset and by a freeze, at times that only the seed decides. What every
session is told is compared with what the same recording was told once before, alone and undisturbed, and each
connection that ended too early with the cuts that were made. Must be: no word lost or told twice, no other disconnect.
Beside it are shown how many steps of a stream waited in the server for more than `LATE_SECONDS`, and its memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from streaming_asr_client import ClientError, Done, Event, Final, connect

from streaming_asr.evaluate import count_word_errors
from streaming_asr.manifest import SHIPPED_MODEL
from streaming_asr.recordings import find_recordings, read_samples

from .compute import read_metrics, usage
from .cuts import Network, Way
from .endurance import growth
from .material import spread
from .replay import pcm_blocks
from .serving import serve_command, serving

CHUNK_BYTES = 2560  # 80 ms
BYTES_PER_SECOND = 32_000
RESUME_SECONDS = 60
LATE_SECONDS = 0.3  # a limit of one of the server's buckets
RETRY_SECONDS = 1.0  # after a session that failed
MEMORY_SECONDS = 10.0  # from one look to the next

Told = tuple[tuple[tuple[int, str], ...], float]  # (utterance, text) of each final, and the audio that was counted


@dataclass(frozen=True)
class Soak:
    """How long, how many, how bad."""

    seconds: float
    streams: int
    cut_seconds: float  # of a stream, from cut to cut, in the mean
    seed: int = 1
    pace: float = 1.0  # times real time
    memory_seconds: float = MEMORY_SECONDS


@dataclass
class Ledger:
    """What came of all sessions so far."""

    sessions: int = 0
    failed: list[str] = field(default_factory=list)  # what their clients were told
    told_otherwise: list[int] = field(default_factory=list)  # recordings
    words_that_differ: int = 0
    false_disconnects: int = 0
    cuts: Counter[Way] = field(default_factory=Counter)
    audio_seconds: float = 0.0
    memory: list[int] = field(default_factory=list)

    @property
    def is_well(self) -> bool:
        """Whether nothing was lost or broke by itself."""
        return self.sessions > 0 and not (self.failed or self.told_otherwise or self.false_disconnects)

    def add(self, recording: int, told: Told, undisturbed: Told) -> None:
        """Counts a session that came to its end."""
        self.sessions += 1
        self.audio_seconds += undisturbed[1]
        if told != undisturbed:
            self.told_otherwise.append(recording)
            errors = count_word_errors([(text_of(undisturbed), text_of(told))])
            self.words_that_differ += errors.insertions + errors.deletions + errors.substitutions

    def summary(self) -> dict[str, Any]:
        """To be printed."""
        tenth = max(1, len(self.memory) // 10)
        return {
            "sessions": self.sessions,
            "audio_hours": round(self.audio_seconds / 3600, 2),
            "cuts": dict(sorted(self.cuts.items())),
            "told_otherwise": len(self.told_otherwise),
            "words_that_differ": self.words_that_differ,
            "false_disconnects": self.false_disconnects,
            "failed": len(self.failed),
            **(growth(self.memory[tenth : 2 * tenth] or self.memory, self.memory[-tenth:]) if self.memory else {}),
        }


class CountingNetwork(Network):
    """Knows which of its connections it has cut."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.num_cut = 0
        self._last_cut = 0

    def cut(self, way: Way) -> None:
        """Breaks the connection, if there is one since the last time."""
        if self._writers and self._last_cut != self.num_connections:
            super().cut(way)
            self._last_cut = self.num_connections
            self.num_cut += 1

    @property
    def num_false_disconnects(self) -> int:
        """To be read after a session: connections but the last, which ended with it, that ended without a cut."""
        last_was_cut = self._last_cut == self.num_connections  # after all had been said
        return self.num_connections - 1 - (self.num_cut - last_was_cut)


def text_of(told: Told) -> str:
    """All that was said."""
    return " ".join(text for _, text in told[0] if text)


async def play(url: str, pcm: bytes, pace: float | None, is_open: asyncio.Event | None = None) -> Told:
    """One session: what its client was told in the end. ``pace``: times real time; `None`: as fast as it goes.

    ``is_open`` is set as long as there is something to lose.
    """
    is_open = is_open or asyncio.Event()
    loop = asyncio.get_running_loop()

    async def audio() -> AsyncIterator[bytes]:
        began = loop.time()
        for at in range(0, len(pcm), CHUNK_BYTES):
            if pace is not None:
                await asyncio.sleep(began + at / BYTES_PER_SECOND / pace - loop.time())
            yield pcm[at : at + CHUNK_BYTES]

    finals: list[tuple[int, str]] = []
    audio_seconds = 0.0
    async with connect(url, resume_seconds=RESUME_SECONDS) as session:
        is_open.set()
        events: AsyncIterator[Event] = session.transcribe(audio())
        async for event in events:
            if isinstance(event, Final):
                finals.append((event.utterance, event.text))
            elif isinstance(event, Done):
                audio_seconds = event.audio_seconds
        is_open.clear()
    return tuple(finals), audio_seconds


async def cut_at_random(
    network: CountingNetwork, is_open: asyncio.Event, rng: random.Random, mean_seconds: float, cuts: Counter[Way]
) -> None:
    """Until it is cancelled."""
    while True:
        await is_open.wait()  # a client that never had a session has nothing to go on with
        await asyncio.sleep(rng.expovariate(1 / mean_seconds))
        way: Way = rng.choice(get_args(Way))
        if is_open.is_set():
            before = network.num_cut
            network.cut(way)
            cuts[way] += network.num_cut - before


async def stream(
    url: str, clips: Sequence[bytes], undisturbed: Sequence[Told], ledger: Ledger, rng: random.Random, soak: Soak
) -> None:
    """Sessions one after the other until it is time."""
    loop = asyncio.get_running_loop()
    end = loop.time() + soak.seconds
    await asyncio.sleep(rng.uniform(0, min(len(clips[0]) / BYTES_PER_SECOND, soak.seconds / 10)))
    while loop.time() < end:
        recording = rng.randrange(len(clips))
        async with CountingNetwork(url) as network:
            is_open = asyncio.Event()
            cutter = asyncio.create_task(cut_at_random(network, is_open, rng, soak.cut_seconds, ledger.cuts))
            try:
                told = await play(network.url, clips[recording], soak.pace, is_open)
                ledger.add(recording, told, undisturbed[recording])
            except ClientError as error:
                ledger.failed.append(str(error))
                await asyncio.sleep(RETRY_SECONDS)
            finally:
                cutter.cancel()
                await asyncio.wait([cutter])
            ledger.false_disconnects += network.num_false_disconnects


async def run(
    url: str, pid: int, clips: Sequence[bytes], soak: Soak, report: Callable[[Ledger], None] = lambda _: None
) -> Ledger:
    """Plays each clip (s16le, 16 kHz) once alone, then all streams; ``report`` is called a few times on the way."""
    undisturbed = [await play(url, pcm, None) for pcm in clips]
    ledger = Ledger()

    async def watch() -> None:
        for number in range(1, round(soak.seconds / soak.memory_seconds) + 1):
            await asyncio.sleep(soak.memory_seconds)
            ledger.memory.append((await asyncio.to_thread(usage, pid)).rss_bytes)
            if number % max(1, round(soak.seconds / soak.memory_seconds / 6)) == 0:
                await asyncio.to_thread(report, ledger)  # it may ask the server

    watcher = asyncio.create_task(watch())
    try:
        rngs = [random.Random(soak.seed * 10_000 + number) for number in range(soak.streams)]
        await asyncio.gather(*(stream(url, clips, undisturbed, ledger, rng, soak) for rng in rngs))
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
    return ledger


def count_late(metrics: Mapping[str, float]) -> tuple[int, int]:
    """From the server's metrics: steps of a stream that waited longer than `LATE_SECONDS`, and all."""
    count = round(metrics["streaming_asr_queue_seconds_count"])
    return count - round(metrics[f'streaming_asr_queue_seconds_bucket{{le="{LATE_SECONDS}"}}']), count


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 if a word was lost, a session failed or a connection broke by itself."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=120.0, help="(default: %(default)g)")
    parser.add_argument("--streams", type=int, default=60, metavar="N", help="at once (default: %(default)s)")
    parser.add_argument("--recordings", type=int, default=60, metavar="N", help="of the folder (default: %(default)s)")
    parser.add_argument(
        "--cut-seconds", type=float, default=30.0, metavar="S", help="of a stream, in the mean (default: %(default)g)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the cuts (default: %(default)s)")
    parser.add_argument(
        "--model", type=Path, default=SHIPPED_MODEL, metavar="DIR", help="(default: the one that ships)"
    )
    options = parser.parse_args(arguments)
    found = spread(find_recordings([options.folder]), options.recordings)
    clips = [b"".join(block.tobytes() for block in pcm_blocks(read_samples(each.path), 16000)) for each in found]

    with serving(serve_command(options.model)) as (url, pid, _):

        def show(ledger: Ledger) -> None:
            late, steps = count_late(read_metrics(url))
            print(json.dumps({**ledger.summary(), "late_steps": late, "steps": steps}), flush=True)

        soak = Soak(60 * options.minutes, options.streams, options.cut_seconds, options.seed)
        ledger = asyncio.run(run(url, pid, clips, soak, show))
        show(ledger)
    for what, count in Counter(ledger.failed).most_common(10):
        print(f"failed {count} times: {what}")
    for recording, count in Counter(ledger.told_otherwise).most_common(10):
        print(f"told otherwise {count} times: {found[recording].utterance}")
    return 0 if ledger.is_well else 1


if __name__ == "__main__":
    raise SystemExit(main())
