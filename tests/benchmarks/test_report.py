import dataclasses
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from benchmarks.report import figure_rows, level_rows, line_plot, page, ticks, timeline_plot
from benchmarks.timeline import Distribution, summarize

FEW = dataclasses.asdict(Distribution.of_seconds([0.1, 0.2, 0.6]))
LEVEL = {
    "streams": 9, "added": FEW, "finalize": FEW, "throughput": 8.9, "server_cpu_cores": 1.2, "generator_cpu_cores": 0.7,
    "server_rss_mb": 900.0, "generator": {"is_late": False},
}  # fmt: skip


def result(**fields: Any) -> dict[str, Any]:
    alone = dataclasses.asdict(summarize([])) | {"words": FEW}
    return {
        "label": "<a run>", "machine": {"load_before": 0.25}, "revision": "r", "date": "d", "alone": alone,
        "unaware": alone, "ramp": [LEVEL], "generator": {"is_late": False}, "labels": {"words_used": "words used"},
        "figures": {"words_used": 0.9}, **fields,
    }  # fmt: skip


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.03), (-3, 870), (5, 5)])
def test_ticks_cover_the_data(low: float, high: float) -> None:
    made = ticks(low, high)
    assert made[0] <= low
    assert made[-1] >= high
    assert 2 <= len(made) <= 9


def test_plots_are_well_formed_and_escaped() -> None:
    plot = line_plot({"<b>": [(0, 1), (5, 3)], "none": []}, "x & y", "z", {"limit": 10})
    texts = [element.text for element in ElementTree.fromstring(plot).iter("text")]
    assert {"<b>", "x & y", "limit"} <= set(texts)
    assert "none" not in texts
    assert "no data" in line_plot({}, "", "")


def test_a_timeline_shows_every_message() -> None:
    shown = [
        {"at": 1.0, "kind": "partial", "words": ["turn", "of"], "committed": 1},
        {"at": 2.0, "kind": "final", "words": ["turn", "off"] * 20, "committed": 40},
    ]
    plot = timeline_plot({"reference": [{"word": "turn", "start": 0.2, "end": 0.6}], "shown": shown})
    assert len(list(ElementTree.fromstring(plot).iter("circle"))) == 2


def test_percentiles_say_how_many_are_behind_them() -> None:
    rows = {label: values for label, *values in figure_rows([result(), result(figures={})])}
    assert rows["load of the machine before"] == [0.25, 0.25]
    assert rows["word latency, of how many"] == rows["word latency, compute left out, of how many"] == [3, 3]
    assert rows["word latency, p50, ms"] == [200.0, 200.0]
    assert rows["finalize to final, of how many"] == [0, 0]
    assert rows["finalize to final, p95, ms"] == ["–", "–"]
    assert rows["words used"] == [0.9, "–"]


def test_a_level_has_a_row_in_which_runs_of_before_lack_figures() -> None:
    before = {key: value for key, value in LEVEL.items() if key not in ("finalize", "generator_cpu_cores")}
    assert level_rows([LEVEL, before]) == [
        [9, "200.0 / 560.0", 3, "200.0 / 560.0 / 600.0", 3, 8.9, 1.2, 0.7, 900.0],
        [9, "200.0 / 560.0", 3, "–", "–", 8.9, 1.2, "–", 900.0],
    ]


def test_the_page_shows_every_figure_and_level() -> None:
    text = page([result()])
    for shown in ("&lt;a run&gt;", "<td>words used</td><td>0.9</td>", "200.0 / 560.0 / 600.0", "load_before: 0.25"):
        assert shown in text
