import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks.report import line_plot, ticks, timeline_plot


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
