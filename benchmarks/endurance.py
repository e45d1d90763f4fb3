"""One very long stream, then very many short sessions, as fast as they go: is memory flat, and are times exact?

    python -m benchmarks.endurance [--hours 24] [--sessions 10000] [--real [--recording FILE]]

The same sound comes round and round, so that every lap must be told as the one before was, a lap later. The recognizer
is the tests' fake one, which needs no computing, or with ``--real`` the one that ships. Memory is the server's, in a
process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from streaming_asr_client import Done, Event, Final, connect

from streaming_asr.audio import SAMPLE_RATE, Samples
from streaming_asr.limits import Limits
from streaming_asr.manifest import SHIPPED_MODEL
from streaming_asr.recordings import read_samples
from streaming_asr.server import run_server
from streaming_asr.server_options import ServerOptions
from tests.fakes import FakeRecognizer, FakeStream, words

from .compute import usage
from .material import to_pcm
from .serving import serve_command, serving

DEMO = Path(__file__).parents[1] / "examples" / "demo.wav"
FAKE_LAP = words(1, 2, 3, 4, 5, *[0] * 20)  # 2 s: five words and a pause
LAP_SAMPLES = 3840  # a lap is a multiple of it, and so of any model's chunk: 240 ms
PAUSE_SECONDS = 2.0  # after the recording: ends its last utterance
BLOCK_BYTES = 2 * SAMPLE_RATE  # sent at a time
SHORT_BYTES = 2 * BLOCK_BYTES  # of a short session
AT_ONCE = 8  # short sessions
UNLIMITED = 1e9  # how fast audio comes, and how late it is recognized
MAX_GROWTH = 0.02  # of memory


class ForgetfulRecognizer(FakeRecognizer):
    """The tests' recognizer without the records that it keeps for them, which grow."""

    def step(self, streams: Sequence[FakeStream], /) -> list[Any]:
        events = super().step(streams)
        for record in (self.batches, self.stepped, self.streams):
            record.clear()
        return events


def serve_fake() -> None:
    """Serves the fake recognizer, in a process of its own."""
    limits = Limits(max_audio_speed=UNLIMITED, max_messages_per_second=UNLIMITED)
    options = ServerOptions(port=0, max_sessions=2 * AT_ONCE, max_latency_ms=UNLIMITED, limits=limits)
    run_server(ForgetfulRecognizer, options)


def server_command(is_real: bool) -> list[str]:
    """Of the server that is looked at."""
    if not is_real:
        return [sys.executable, "-c", "from benchmarks.endurance import serve_fake; serve_fake()"]
    unlimited = str(UNLIMITED)
    return serve_command(SHIPPED_MODEL, "--max-audio-speed", unlimited, "--max-messages-per-second", unlimited)


async def transcribe(url: str, pcm: bytes, laps: int) -> AsyncIterator[Event]:
    """What one session is told that hears ``pcm`` so many times."""

    async def audio() -> AsyncIterator[bytes]:
        for _ in range(laps):
            for at in range(0, len(pcm), BLOCK_BYTES):
                yield pcm[at : at + BLOCK_BYTES]

    async with connect(url, resume_seconds=60) as session:
        async for event in session.transcribe(audio()):
            yield event


async def long_stream(url: str, pid: int, pcm: bytes, hours: float, hour_seconds: float = 3600.0) -> dict[str, Any]:
    """Compares the second and the last hour of one stream."""
    lap = len(pcm) // 2
    laps = max(1, round(hours * hour_seconds * SAMPLE_RATE / lap))
    memory, offsets = defaultdict[int, list[int]](list), defaultdict[int, list[int]](list)
    received = 0.0
    async for event in transcribe(url, pcm, laps):
        if isinstance(event, Done):
            received = event.audio_seconds
        elif isinstance(event, Final) and event.text:
            end = round(event.end * SAMPLE_RATE)
            hour = int((end - 1) / SAMPLE_RATE / hour_seconds)
            offsets[hour].append(end % lap)
            memory[hour].append(usage(pid).rss_bytes)
    second, last = min(1, max(memory)), max(memory)
    return {
        "audio_hours": round(laps * lap / SAMPLE_RATE / 3600, 2),
        "finals": sum(map(len, offsets.values())),
        "lost_samples": laps * lap - round(received * SAMPLE_RATE),
        "drift_samples": drift(offsets[second], offsets[last], lap),
        "mb_by_hour": [mean_mb(memory[hour]) for hour in sorted(memory)],
        **growth(memory[second], memory[last]),
    }


def drift(before: Sequence[int], after: Sequence[int], lap: int) -> int:
    """The farthest that a place in a lap of ``after`` is from all of ``before``."""
    known = set(before)
    return max(min(min((place - old) % lap, (old - place) % lap) for old in known) for place in set(after))


async def short_sessions(url: str, pid: int, pcm: bytes, count: int) -> dict[str, Any]:
    """Compares the second and the last tenth of many sessions that hear the same."""
    memory: list[int] = []
    told: list[list[tuple[str, float]]] = []
    left = iter(range(count))

    async def one_after_another() -> None:
        for _ in left:
            events = [event async for event in transcribe(url, pcm[:SHORT_BYTES], 1)]
            told.append([(event.text, event.end) for event in events if isinstance(event, Final)])
            memory.append(usage(pid).rss_bytes)

    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))
    tenth = max(1, count // 10)
    return {
        "sessions": count,
        "finals": sum(map(len, told)),
        "told_otherwise": sum(each != told[0] for each in told),
        **growth(memory[tenth : 2 * tenth], memory[-tenth:]),
    }


def growth(before: Sequence[int], after: Sequence[int]) -> dict[str, float]:
    """Of memory, in the mean."""
    return {
        "second_mb": mean_mb(before),
        "last_mb": mean_mb(after),
        "growth": round(float(np.mean(after) / np.mean(before)) - 1, 4),
    }


def mean_mb(memory: Sequence[int]) -> float:
    """Of readings in bytes."""
    return round(float(np.mean(memory)) / 1e6, 2)


def lap_of(samples: Samples) -> bytes:
    """A recording and a pause as s16le."""
    size = len(samples) + round(PAUSE_SECONDS * SAMPLE_RATE)
    lap = np.zeros(-(-size // LAP_SAMPLES) * LAP_SAMPLES, "<i2")
    lap[: len(samples)] = to_pcm(samples)
    return lap.tobytes()


def is_well(report: dict[str, Any]) -> bool:
    """Whether memory is flat, and nothing was told otherwise than before."""
    wrong = ("lost_samples", "drift_samples", "told_otherwise")
    return not any(report.get(name) for name in wrong) and bool(report["growth"] <= MAX_GROWTH)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 if memory grew or anything was told otherwise than before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0, help="of audio in the long stream (default: %(default)g)")
    parser.add_argument("--sessions", type=int, default=10_000, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--real", action="store_true", help="the recognizer that ships, not the tests' fake one")
    parser.add_argument("--recording", type=Path, default=DEMO, metavar="FILE", help="for --real (default: the demo's)")
    options = parser.parse_args(arguments)
    if options.hours < 3:
        parser.error("the second hour is compared with the last: --hours must be 3 or more")
    pcm = lap_of(read_samples(options.recording)) if options.real else FAKE_LAP
    with serving(server_command(options.real)) as (url, pid, _):
        reports = [asyncio.run(long_stream(url, pid, pcm, options.hours))]
        print(json.dumps(reports[-1]), flush=True)
        reports.append(asyncio.run(short_sessions(url, pid, pcm, options.sessions)))
        print(json.dumps(reports[-1]), flush=True)
    return 0 if all(map(is_well, reports)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
