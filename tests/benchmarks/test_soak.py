"""The soak in small, in some seconds; and that it notices what it looks for."""

import asyncio
import functools
import os
from typing import Any

import pytest
from streaming_asr_client import client

from benchmarks import soak
from benchmarks.compute import parse_metrics
from benchmarks.cuts import Network, Way
from benchmarks.endurance import ForgetfulRecognizer
from tests.fakes import words
from tests.test_server import run, serving

CLIPS = [words(1, 2, 3, 0, 4, 5, 0, 0, 6, 7, 8, *[0] * 5), words(*range(20, 40)), words(9, 0, 0, 10)]
SMALL = soak.Soak(seconds=6.0, streams=8, cut_seconds=0.3, pace=2.0, memory_seconds=0.2)
TOLD: soak.Told = (((0, "w1 w2"), (1, "w3")), 0.4)


@pytest.fixture(autouse=True)
def _hasty_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "QUIET_SECONDS", 1.0)  # less, and a busy machine seems dead
    monkeypatch.setattr(client, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(soak, "connect", functools.partial(client.connect, open_timeout_seconds=5.0))


def soaked(options: soak.Soak) -> tuple[soak.Ledger, list[dict[str, Any]]]:
    ledgers, reports = [], []

    async def test() -> None:
        async with serving(ForgetfulRecognizer()) as server:
            ledgers.append(
                await soak.run(server.url, os.getpid(), CLIPS, options, lambda ledger: reports.append(ledger.summary()))
            )
            late, steps = soak.count_late(parse_metrics(server._metrics.exposition().decode()))
            assert 0 <= late < steps

    run(test)
    return ledgers[0], reports


def test_streams_that_are_cut_at_random_are_told_what_they_would_have_been_told() -> None:
    ledger, reports = soaked(SMALL)
    assert (ledger.failed, ledger.told_otherwise, ledger.false_disconnects) == ([], [], 0)
    assert ledger.is_well
    assert ledger.sessions > SMALL.streams
    assert set(ledger.cuts) == {"close", "reset", "freeze"}
    assert min(ledger.cuts.values()) > 0
    assert 2 <= len(reports) <= 7
    assert reports[-1]["sessions"] > reports[0]["sessions"]
    assert reports[-1]["last_mb"] > 1


def test_a_disconnect_that_nobody_made_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_and_deny(network: Network, way: Way) -> None:
        Network.cut(network, "reset")

    monkeypatch.setattr(soak.CountingNetwork, "cut", cut_and_deny)
    ledger, _ = soaked(soak.Soak(seconds=1.0, streams=2, cut_seconds=0.2))
    assert ledger.told_otherwise == []
    assert ledger.false_disconnects > 0
    assert not ledger.is_well


def test_a_server_that_is_gone_has_not_stood_the_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    really_play = soak.play

    async def play(url: str, pcm: bytes, pace: float | None, is_open: asyncio.Event | None = None) -> soak.Told:
        return TOLD if pace is None else await really_play(url, pcm, pace, is_open)

    async def test() -> None:
        ledger = await soak.run("ws://127.0.0.1:1", os.getpid(), CLIPS, soak.Soak(0.5, 1, 9.0))
        assert ledger.failed
        assert (ledger.sessions, ledger.is_well) == (0, False)

    monkeypatch.setattr(soak, "play", play)
    monkeypatch.setattr(soak, "RETRY_SECONDS", 0.1)
    run(test)


@pytest.mark.parametrize(
    ("told", "differ"),
    [
        ((((0, "w1 w2"),), 0.4), 1),  # a final lost
        ((((0, "w1 w2"), (0, "w1 w2"), (1, "w3")), 0.4), 2),  # one told twice
        ((((0, "w1 w2"), (1, "w4")), 0.4), 1),
        ((TOLD[0], 0.3), 0),  # samples lost
    ],
)
def test_words_that_differ_are_counted(told: soak.Told, differ: int) -> None:
    ledger = soak.Ledger()
    ledger.add(7, TOLD, TOLD)
    assert ledger.is_well
    ledger.add(7, told, TOLD)
    assert (ledger.told_otherwise, ledger.words_that_differ, ledger.is_well) == ([7], differ, False)


def test_nothing_played_is_nothing_stood() -> None:
    assert not soak.Ledger().is_well
    assert soak.Ledger().summary()["sessions"] == 0


def test_late_steps_are_those_past_the_bucket() -> None:
    exposition = """# HELP x
streaming_asr_queue_seconds_bucket{le="0.2"} 5.0
streaming_asr_queue_seconds_bucket{le="0.3"} 7.0
streaming_asr_queue_seconds_count 10.0
"""
    assert soak.count_late(parse_metrics(exposition)) == (3, 10)
