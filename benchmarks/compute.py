"""Owns what is measured without a network: kernels against plain matrix products, compute of a stream, and /proc.

Every clock is passed in. Ratios are of things measured alternately in one process, so that a busy machine slows both.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from streaming_asr.calibration import network_step
from streaming_asr.messages import Final, Partial
from streaming_asr.model import NUM_CONVOLUTIONS
from streaming_asr.network import Network, Precision, product
from streaming_asr.proc import PROC, children_of, read_stat

from .replay import in_blocks
from .timeline import Shown, Timeline, percentile

if TYPE_CHECKING:
    from streaming_asr.model import ModelConfig

    from .engines import InProcessEngine
    from .replay import Clip

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
WATCH_SECONDS = 0.25  # from one look at a process to the next
LOOKS_PER_RSS = 16  # of which one reads its memory, too


def convolution_shapes(config: ModelConfig, num_windows: int) -> list[tuple[int, int, int]]:
    """(M, K, N) of the convolutions over ``num_windows`` as matrix products, with a row for each place they look at."""
    shapes = []
    frames, bins, inputs = config.window_frames, config.num_mel_bins, 1
    for _ in range(NUM_CONVOLUTIONS if config.channels else 0):
        frames, bins = frames - 2, (bins - 1) // 2
        shapes.append((num_windows * frames * bins, 9 * inputs, config.channels))
        inputs = config.channels
    return shapes


def gemm_shapes(config: ModelConfig, num_windows: int) -> list[tuple[int, int, int]]:
    """(M, K, N) of every other matrix product that one step cannot do without which sees ``num_windows``."""
    size = config.hidden_size
    seen = config.window_frames * config.num_mel_bins
    for places, _, channels in convolution_shapes(config, 1):
        seen = places * channels
    gates = GATES[config.cell] * size
    recurrent = (num_windows, size, gates)
    output = (num_windows, size, config.outputs_per_step * config.num_tokens)
    return [(num_windows, seen, size), *[recurrent] * (2 * config.num_layers), output]


def alternate(works: Sequence[Callable[[], object]], rounds: int, clock: Clock = time.perf_counter) -> list[float]:
    """The shortest time of each of ``works``, run in turns ``rounds`` times, seconds: what noise has touched least."""
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        for index, work in enumerate(works):
            began = clock()
            work()
            best[index] = min(best[index], clock() - began)
    return best


def plain_products(config: ModelConfig, precision: Precision, batch_size: int) -> Callable[[], object]:
    """The matrix products of one step alone, each with weights of its own, in the precision it is served in."""
    num_windows = batch_size * config.phases
    shapes: list[tuple[tuple[int, int, int], Precision]] = [
        (shape, "float32") for shape in convolution_shapes(config, num_windows)
    ]
    shapes += [(shape, precision) for shape in gemm_shapes(config, num_windows)]
    works = [(product(torch.randn(n, k), torch.zeros(n), own, 4.0), torch.randn(m, k)) for (m, k, n), own in shapes]

    def multiply() -> object:
        with torch.inference_mode():
            return [work(x) for work, x in works]

    return multiply


def throughput_against_gemm(network: Network, batch_sizes: Iterable[int], rounds: int) -> dict[str, float]:
    """Share of plain GEMM speed that the network reaches, by batch size; 1 is all of it."""
    result = {}
    for batch_size in batch_sizes:
        plain = plain_products(network.config, network.precision, batch_size)
        whole, products = alternate([network_step(network, batch_size), plain], rounds)
        result[str(batch_size)] = round(products / whole, 4)
    return result


@dataclass(frozen=True)
class Played:
    """One clip through the recognizer in this process: its timeline on the audio's own clock, and what it cost.

    In the timeline compute takes no time: latencies are what the algorithm itself needs to hear.
    """

    timeline: Timeline
    block_costs: list[float]  # seconds, of each block
    finish_cost: float  # seconds


def play_in_process(recognizer: InProcessEngine, clip: Clip, clock: Clock = time.perf_counter) -> Played:
    """Feeds blocks as long as those that `replay` sends, so that both hear as much at the same time."""
    stream = recognizer.stream()
    shown: list[Shown] = []
    costs: list[float] = []
    heard = 0.0
    for block in in_blocks(clip.samples, 16000):
        began = clock()
        events = stream.accept(block)
        costs.append(clock() - began)
        heard += len(block) / 16000
        shown += _shown(events, heard)
    began = clock()
    events = stream.finish()
    finish_cost = clock() - began
    shown += _shown(events, heard)
    timeline = Timeline(clip.name, 0.0, clip.seconds, tuple(shown), clip.reference, done=heard)
    return Played(timeline, costs, finish_cost)


def compute_figures(played: Sequence[Played]) -> dict[str, float]:
    """Everything that was computed over the audio, and what the blocks cost."""
    costs = [cost for one in played for cost in one.block_costs]
    whole = sum(costs) + sum(one.finish_cost for one in played)
    return {
        "real_time_factor": round(whole / sum(one.timeline.audio_seconds for one in played), 4),
        "block_p50_ms": round(1000 * percentile(costs, 50), 3),
        "block_p99_ms": round(1000 * percentile(costs, 99), 3),
    }


def _shown(events: Iterable[object], now: float) -> list[Shown]:
    shown = []
    for event in events:
        if isinstance(event, Partial):
            committed = event.committed.split()
            words = (*committed, *event.unstable.split())
            shown.append(Shown(now, "partial", event.utterance, words, len(committed)))
        elif isinstance(event, Final):
            words = tuple(event.text.split())
            shown.append(Shown(now, "final", event.utterance, words, len(words), event.reason))
    return shown


# --- other processes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """Of a process and its children: CPU seconds so far, and resident bytes now, what they share counted once."""

    cpu_seconds: float
    rss_bytes: int


def parse_memory(smaps_rollup: str) -> tuple[int, int]:
    """Of ``/proc/PID/smaps_rollup``: bytes of its own, each page divided by the number of processes that were forked
    with it, and bytes of files, whole. Of a file's pages the kernel counts shares too, but among all who have it open:
    those would change whenever somebody else begins or ends.
    """
    kilobytes = {
        name: int(size) for name, size, unit in (line.split() for line in smaps_rollup.splitlines()[1:]) if unit == "kB"
    }
    own = kilobytes["Pss_Anon:"] + kilobytes["Pss_Shmem:"]
    return 1024 * own, 1024 * (kilobytes["Rss:"] - kilobytes["Anonymous:"])


def process_folders(pid: int) -> list[Path]:
    """In /proc, of a server and its workers. Our own children are not ours here: a server may be one of them."""
    children = [] if pid == os.getpid() else children_of(pid)
    return [PROC / str(each) for each in (pid, *children)]


def usage(pid: int, rss_bytes: int | None = None) -> Usage:
    """Reads /proc. OSError when the process is gone.

    ``rss_bytes`` is what it was a moment ago, if that will do: to read it takes tens of milliseconds.
    """
    folders = process_folders(pid)
    if rss_bytes is None:
        own, files = zip(*(parse_memory((each / "smaps_rollup").read_text()) for each in folders), strict=True)
        rss_bytes = sum(own) + max(files)  # the same files, as they were forked
    return Usage(sum(read_stat(each).cpu_seconds for each in folders), rss_bytes)


Sample = tuple[float, Usage]  # when it was read, and what


@contextlib.asynccontextmanager
async def watching(
    pid: int | None, clock: Clock = time.perf_counter, sleep: Sleep = asyncio.sleep
) -> AsyncIterator[list[Sample]]:
    """What a process uses, read again and again while the body runs; nothing without a process."""
    samples: list[Sample] = []

    async def watch() -> None:
        with contextlib.suppress(OSError):  # it is gone, as its sessions will tell
            while pid is not None:
                last = samples[-1][1].rss_bytes if len(samples) % LOOKS_PER_RSS else None
                samples.append((clock(), await asyncio.to_thread(usage, pid, last)))
                await sleep(WATCH_SECONDS)

    watcher = asyncio.create_task(watch())
    try:
        yield samples
    finally:
        watcher.cancel()
        await asyncio.wait([watcher])


def cores(samples: Sequence[Sample], window: tuple[float, float]) -> float:
    """CPU seconds a second, from the first sample within ``window`` to the last; 0 for fewer than two."""
    inside = [(at, used.cpu_seconds) for at, used in samples if window[0] <= at <= window[1]]
    if len(inside) < 2:
        return 0.0
    (begin, before), (end, after) = inside[0], inside[-1]
    return (after - before) / (end - begin)


def largest_rss(samples: Sequence[Sample], window: tuple[float, float]) -> int:
    """Bytes, of the samples within ``window``; 0 for none."""
    return max((used.rss_bytes for at, used in samples if window[0] <= at <= window[1]), default=0)


def parse_metrics(exposition: str) -> dict[str, float]:
    """Name with labels, as Prometheus writes it, to value."""
    lines = (line for line in exposition.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def read_metrics(url: str) -> dict[str, float]:
    """What a server of ours at ``ws://…`` counts now; see `parse_metrics`."""
    with urllib.request.urlopen(url.replace("ws", "http", 1) + "/metrics", timeout=10) as response:
        return parse_metrics(response.read().decode())


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the least-squares line through (x, y); 0 for fewer than two different x."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / max(1, n), sum(y for _, y in points) / max(1, n)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
