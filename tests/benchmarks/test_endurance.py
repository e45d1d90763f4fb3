"""The endurance command in small, and that it notices what it looks for."""

import os
from typing import Any

import numpy as np
import pytest

from benchmarks.endurance import (
    FAKE_LAP,
    ForgetfulRecognizer,
    drift,
    growth,
    is_well,
    lap_of,
    long_stream,
    main,
    short_sessions,
)
from tests.test_server import run, serving

WELL = {"lost_samples": 0, "drift_samples": 0, "growth": 0.01}


def test_what_goes_round_is_told_as_it_was_the_lap_before() -> None:
    async def test() -> None:
        recognizer = ForgetfulRecognizer()
        async with serving(recognizer) as server:
            report = await long_stream(server.url, os.getpid(), FAKE_LAP, hours=4, hour_seconds=4.0)
            assert (report["finals"], report["lost_samples"], report["drift_samples"]) == (8, 0, 0)
            assert report["mb_by_hour"][1::2] == [report["second_mb"], report["last_mb"]]
            report = await short_sessions(server.url, os.getpid(), FAKE_LAP, 20)
            assert (report["finals"], report["told_otherwise"]) == (40, 0)
        assert not recognizer.stepped

    run(test)


def test_samples_that_were_lost_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    step = ForgetfulRecognizer.step

    def forget_a_sample(self: ForgetfulRecognizer, streams: Any) -> list[list[Any]]:
        for stream in streams:
            stream.samples -= stream.utterance == 5
        return step(self, streams)

    async def test() -> None:
        async with serving(ForgetfulRecognizer()) as server:
            report = await long_stream(server.url, os.getpid(), FAKE_LAP, hours=4, hour_seconds=4.0)
            assert report["drift_samples"] > 0
            assert not is_well(report)

    monkeypatch.setattr(ForgetfulRecognizer, "step", forget_a_sample)
    run(test)


def test_an_hour_is_not_compared_with_itself() -> None:
    with pytest.raises(SystemExit):
        main(["--hours", "2"])


def test_places_are_compared_round_the_lap() -> None:
    assert drift([0, 500], [500, 0, 0], 1000) == 0
    assert drift([0, 500], [999, 500], 1000) == 1
    assert drift([0, 500], [503, 0], 1000) == 3


@pytest.mark.parametrize("wrong", [{"lost_samples": 1}, {"drift_samples": 1}, {"told_otherwise": 1}, {"growth": 0.021}])
def test_it_is_well_only_if_nothing_is_wrong(wrong: dict[str, Any]) -> None:
    assert is_well(WELL)
    assert not is_well(WELL | wrong)


def test_growth_is_of_the_means() -> None:
    means = {"second_mb": 200.0, "last_mb": 210.0, "growth": 0.05}
    assert growth([100_000_000, 300_000_000], [210_000_000]) == means


def test_a_lap_ends_with_a_pause_and_with_a_chunk_of_any_model() -> None:
    lap = np.frombuffer(lap_of(np.full(16000, 0.5, np.float32)), "<i2")
    assert lap[15999] == 16384
    assert len(lap) >= 48000
    assert len(lap) % 1280 == len(lap) % 960 == 0
    assert not lap[16000:].any()
