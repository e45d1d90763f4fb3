"""What a level of the ramp is said to have done, on timelines made by hand."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import level_figures, main, memory_per_stream_kb
from benchmarks.compute import Usage
from benchmarks.replay import GeneratorHealth, Run
from benchmarks.timeline import Shown, TimedWord, Timeline

WINDOW = (110.0, 120.0)
SAMPLES = [  # 1.2 cores while all play, 0.2 before and after; memory that goes when sessions end
    (100.0, Usage(5.0, 500_000_000)),
    (110.0, Usage(7.0, 800_000_000)),
    (115.0, Usage(13.0, 900_000_000)),
    (120.0, Usage(19.0, 850_000_000)),
    (129.0, Usage(20.8, 500_000_000)),
]


def clip(origin: float, slowness: float = 1.0, late: float = 0.05) -> Timeline:
    """10 s with a word in each; the words come when they are over, times ``slowness``, the final ``late``."""
    reference = tuple(TimedWord(f"w{k}", k + 0.1, k + 0.8) for k in range(10))
    said = tuple(word.word for word in reference)
    partials = [Shown(origin + (k + 1) * slowness, "partial", 0, said[: k + 1]) for k in range(10)]
    final = Shown(max(origin + 10, partials[-1].received) + late, "final", 0, said, 10, "finalize")
    return Timeline("a", origin, 10.0, (*partials, final), reference, origin + 10, final.received, final.received)


def figures(*timelines: Timeline) -> dict[str, Any]:
    run = Run(2, list(timelines), GeneratorHealth(), WINDOW)
    return level_figures(run, [clip(0.0)], SAMPLES, SAMPLES)


def test_a_level_is_measured_while_all_of_its_streams_play() -> None:
    level = figures(clip(105.0), clip(115.0), clip(108.0), clip(118.0))  # until 128
    assert level["throughput"] == pytest.approx(2.0)
    assert level["server_cpu_cores"] == pytest.approx(1.2)
    assert level["generator_cpu_cores"] == pytest.approx(1.2)
    assert level["words"]["count"] == 20
    assert level["window_seconds"] == pytest.approx(10.0)


def test_memory_is_what_the_server_held_while_all_played() -> None:
    level = figures(clip(105.0), clip(115.0))
    assert level["server_rss_mb"] == pytest.approx(900.0)
    never_all = {"streams": 9, "server_rss_mb": 0.0}
    assert memory_per_stream_kb([level, {"streams": 4, "server_rss_mb": 902.0}, never_all]) == pytest.approx(1000.0)


def test_a_level_says_how_late_finals_came() -> None:
    level = figures(clip(105.0, late=0.05), clip(108.0, late=0.25), clip(115.0, late=9.0))
    finals = level["finalize"]
    assert finals["count"] == 2
    assert finals["percentiles"]["max"] == pytest.approx(250.0)


def test_a_server_that_falls_behind_has_a_throughput_below_its_streams() -> None:
    level = figures(clip(110.0, slowness=2.0), clip(110.0, slowness=2.0))
    assert level["throughput"] == pytest.approx(0.96)  # 4.8 s of each
    assert level["finalize"]["percentiles"]["p50"] > 10_000


def test_a_level_in_which_not_all_ever_played_has_no_figures() -> None:
    level = level_figures(Run(2, [], GeneratorHealth(), (120.0, 110.0)), [], [], [])
    assert (level["throughput"], level["server_cpu_cores"], level["words"]["count"]) == (0.0, 0.0, 0)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [([], "name a folder of recordings"), (["--recordings", "{}"], "is not a folder; name one with --recordings")],
)
def test_without_a_folder_of_recordings_nothing_is_loaded(
    arguments: list[str],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delattr("benchmarks.__main__.load_recognizer")
    assert main([argument.format(tmp_path / "missing") for argument in arguments]) == 2
    assert why in capsys.readouterr().err
