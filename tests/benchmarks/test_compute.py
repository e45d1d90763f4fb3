import asyncio
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.compute import (
    Usage,
    alternate,
    compute_figures,
    convolution_shapes,
    cores,
    gemm_shapes,
    parse_memory,
    plain_products,
    play_in_process,
    slope,
    throughput_against_gemm,
    usage,
    watching,
)
from benchmarks.replay import Clip, pcm_blocks
from streaming_asr.calibration import network_step
from streaming_asr.features import Samples
from streaming_asr.messages import Event, Final
from streaming_asr.model import AcousticModel, Cell, ModelConfig
from streaming_asr.network import Network


@pytest.mark.parametrize(("cell", "channels"), [("lstm", 0), ("gru", 0), ("rnn", 0), ("lstm", 8)])
def test_the_products_of_a_step_are_those_of_its_weights(cell: Cell, channels: int) -> None:
    config = ModelConfig(cell=cell, num_layers=2, hidden_size=32, channels=channels)
    shapes, convolutions = gemm_shapes(config, 4), convolution_shapes(config, 4)
    parameters = list(AcousticModel(config).parameters())
    assert sum(k * n for _, k, n in shapes) == sum(p.numel() for p in parameters if p.dim() == 2)
    assert sum(k * n for _, k, n in convolutions) == sum(p.numel() for p in parameters if p.dim() == 4)
    assert {m for m, _, _ in shapes} == {4}
    assert [m for m, _, _ in convolutions] == ([4 * 7 * 39, 4 * 5 * 19, 4 * 3 * 9] if channels else [])


def test_the_products_of_a_step_are_those_of_every_reading() -> None:
    config = ModelConfig(num_layers=1, hidden_size=8, phases=2)
    products = plain_products(config, "float32", 4)()
    assert isinstance(products, list)
    assert {len(product) for product in products} == {8}


def test_the_shortest_time_counts() -> None:
    times = iter([0.0, 3.0, 3.0, 4.0, 10.0, 12.0, 12.0, 17.0])
    assert alternate([lambda: None, lambda: None], 2, lambda: next(times)) == [2.0, 1.0]


class SlowEngine:
    """Takes 2 s for each 60 ms, and 7 s to finish."""

    name = "slow"

    def __init__(self) -> None:
        self.now, self.heard = 0.0, list[int]()

    def stream(self) -> "SlowEngine":
        return self

    def accept(self, samples: Samples) -> list[Event]:
        self.heard.append(len(samples))
        self.now += len(samples) / 480
        return []

    def finish(self) -> list[Event]:
        self.now += 7.0
        return [Final(0, "yes", 0.0, 0.1, 1.0, "stop")]


def test_compute_is_counted_to_the_end_of_blocks_as_the_replay_sends_them() -> None:
    engine, clip = SlowEngine(), Clip("a", np.zeros(2400, np.float32))
    played = play_in_process(engine, clip, lambda: engine.now)
    assert engine.heard == [len(block) for block in pcm_blocks(clip.samples, 16000)] == [1200, 960, 240]
    assert (played.block_costs, played.finish_cost) == ([2.5, 2.0, 0.5], 7.0)
    assert played.timeline.finals[0].received == pytest.approx(0.15)
    figures = compute_figures([played, played])
    assert figures["real_time_factor"] == pytest.approx(12.0 / 0.15)
    assert figures["block_p50_ms"] == pytest.approx(2000.0)


def test_what_this_process_uses() -> None:
    mine = usage(os.getpid())
    assert mine.cpu_seconds > 0
    assert mine.rss_bytes > 1e6


def test_who_else_has_the_same_files_open_changes_nothing() -> None:
    rollup = """55-7ff rollup
Rss:     1000 kB
Pss:      {pss} kB
Pss_Dirty: 300 kB
Pss_Anon: 300 kB
Pss_File: {file} kB
Pss_Shmem: 8 kB
Anonymous: 400 kB
"""
    alone, beside_others = (rollup.format(pss=308 + file, file=file) for file in (600, 100))
    assert parse_memory(alone) == parse_memory(beside_others) == (1024 * 308, 1024 * 600)


FAMILY = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "room = b'a' * 50_000_000; print(1, flush=True); input()"], stdin=0)
child.wait()
"""


def test_what_a_process_uses_holds_its_children_but_not_ours() -> None:
    command = [sys.executable, "-c", FAMILY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as family:
        assert family.stdout is not None
        assert family.stdout.readline() == b"1\n"
        both, ours = usage(family.pid), usage(os.getpid())
        assert both.rss_bytes > 50_000_000
        assert usage(family.pid, 7).rss_bytes == 7
        alone = sum(parse_memory(Path(f"/proc/{os.getpid()}/smaps_rollup").read_text()))
        assert ours.rss_bytes == pytest.approx(alone, rel=0.1)
        family.communicate(b"\n")


def test_cores_are_of_the_samples_within_the_window() -> None:
    samples = [(at, Usage(cpu, 0)) for at, cpu in [(0.0, 0.0), (1.0, 0.5), (2.0, 2.0), (3.0, 3.5), (9.0, 3.6)]]
    assert cores(samples, (0.9, 3.1)) == pytest.approx(1.5)
    assert cores(samples, (2.5, 8.0)) == 0.0
    assert cores([], (0.0, 9.0)) == 0.0


@pytest.mark.parametrize("pid", [os.getpid(), None, 2**22 + 1])  # the last can be no process: proc(5), pid_max
def test_a_process_is_watched_while_the_body_runs(pid: int | None) -> None:
    async def test() -> None:
        now, looked = 0.0, asyncio.Event()

        async def sleep(seconds: float) -> None:
            nonlocal now
            now += seconds
            if now >= 0.75:
                looked.set()
            await asyncio.sleep(0)

        async with watching(pid, lambda: now, sleep) as samples:
            await (looked.wait() if pid == os.getpid() else asyncio.sleep(0.05))
        assert [at for at, _ in samples][:3] == ([0.0, 0.25, 0.5] if pid == os.getpid() else [])

    asyncio.run(test())


def test_slope() -> None:
    assert slope([(1, 5), (2, 7), (3, 9)]) == pytest.approx(2.0)
    assert slope([(1, 5)]) == 0.0


def test_sixteen_streams_in_one_step_cost_less_than_half_of_sixteen_steps() -> None:
    """The regression guard: a ratio inside one run, of minima of alternating rounds."""
    torch.manual_seed(0)
    network = Network(AcousticModel(ModelConfig()).eval().requires_grad_(False))
    one, sixteen = alternate([network_step(network, 1), network_step(network, 16)], rounds=12)
    assert sixteen < 0.5 * 16 * one
    assert throughput_against_gemm(network, [16], rounds=12)["16"] > 0.2
