"""Owns how results look: one HTML page without scripts or requests, plots as inline SVG. Pure: results in, text out."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

COLORS = ("#1f6feb", "#d1491b", "#1a7f37", "#8250df", "#9a6700", "#bf3989")
Points = Sequence[Sequence[float]]
WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 14, 44
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:1000px;padding:0 1rem;color:#1f2328;background:#fff}
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.2rem}table{border-collapse:collapse;margin:.6rem 0}
td,th{padding:.25rem .8rem;border-bottom:1px solid #d8dee4;text-align:left}td+td,th+th{text-align:right}
svg{max-width:100%;height:auto}.note{color:#59636e}.warn{padding:.5rem 1rem;
background:#fff1e5;border-left:4px solid #d1491b}
svg text{font:12px system-ui,sans-serif;fill:#59636e}
"""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover low..high."""
    span = max(high - low, 1e-9)
    rough = span / count
    power = math.pow(10.0, _floor_log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = int(low // step)
    return [round(step * k, 10) for k in range(first, int(high // step) + 2)]


def _floor_log10(value: float) -> int:
    return math.floor(math.log10(value))


def line_plot(lines: Mapping[str, Points], x_label: str, y_label: str, marks: Mapping[str, float] | None = None) -> str:
    """An SVG of named lines; ``marks`` are horizontal lines. Empty lines are left out."""
    lines = {name: points for name, points in lines.items() if points}
    marks = marks or {}
    if not lines:
        return '<p class="note">no data</p>'
    xs = [point[0] for points in lines.values() for point in points]
    ys = [point[1] for points in lines.values() for point in points] + list(marks.values())
    x_ticks, y_ticks = ticks(min(0.0, *xs), max(xs)), ticks(min(0.0, *ys), max(ys))
    x0, x1, y0, y1 = x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1]

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM),
        )

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 20 * len(lines)}" width="{WIDTH}" role="img">']
    for y in y_ticks:
        _, v = at(x0, y)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{v:.1f}" y2="{v:.1f}" stroke="#d8dee4"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{v + 4:.1f}" text-anchor="end">{y:g}</text>')
    for x in x_ticks:
        u, _ = at(x, y0)
        parts.append(f'<text x="{u:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">{html.escape(x_label)}</text>')
    parts.append(
        f'<text transform="translate(14 {HEIGHT / 2 - 15}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text>"
    )
    for name, y in marks.items():
        _, v = at(x0, y)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{v:.1f}" y2="{v:.1f}" stroke="#d1491b" '
            f'stroke-dasharray="5 4"/>'
            f'<text x="{WIDTH - RIGHT}" y="{v - 4:.1f}" text-anchor="end">{html.escape(name)}</text>'
        )
    for index, (name, points) in enumerate(lines.items()):
        color = COLORS[index % len(COLORS)]
        places = [at(p[0], p[1]) for p in points]
        path = " ".join(f"{u:.1f},{v:.1f}" for u, v in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        if len(points) <= 30:
            parts += [f'<circle cx="{u:.1f}" cy="{v:.1f}" r="3" fill="{color}"/>' for u, v in places]
        row = HEIGHT + 20 * index + 8
        parts.append(f'<rect x="{LEFT}" y="{row - 9}" width="12" height="12" fill="{color}"/>')
        parts.append(f'<text x="{LEFT + 18}" y="{row + 2}">{html.escape(name)}</text>')
    return "".join([*parts, "</svg>"])


def timeline_plot(timeline: Mapping[str, Any]) -> str:
    """One utterance: each reference word as spoken, above; each message when it came, below. Seconds of audio."""
    reference, shown = timeline["reference"], timeline["shown"]
    if not shown:
        return '<p class="note">nothing was shown</p>'
    end: float = max([word["end"] for word in reference] + [message["at"] for message in shown]) + 0.1
    width, row = 980, 17
    left, right = 60, 20
    height = 66 + row * len(shown)

    def at(seconds: float) -> float:
        return left + seconds / end * (width - left - right)

    parts = [f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img">']
    for second in range(int(end) + 1):
        parts.append(f'<line x1="{at(second):.1f}" x2="{at(second):.1f}" y1="18" y2="{height}" stroke="#eaeef2"/>')
        parts.append(f'<text x="{at(second):.1f}" y="12" text-anchor="middle">{second} s</text>')
    for word in reference:
        x, w = at(word["start"]), max(2.0, at(word["end"]) - at(word["start"]))
        parts.append(f'<rect x="{x:.1f}" y="38" width="{w:.1f}" height="10" fill="#54aeff" stroke="#fff"/>')
        parts.append(f'<text x="{x:.1f}" y="34" style="font-size:10px">{html.escape(word["word"])}</text>')
    for index, message in enumerate(shown):
        y = 66 + row * index
        x = at(message["at"])
        final = message["kind"] == "final"
        words = message["words"]
        kept, loose = " ".join(words[: message["committed"]]), " ".join(words[message["committed"] :])
        if len(kept) + len(loose) > 46:  # the end of it, as a live line shows it
            kept = "…" + kept[-max(0, 45 - len(loose)) :] if len(loose) < 45 else "…"
            loose = loose[-45:]
        anchor = "end" if x > width * 0.62 else "start"
        dx = -8 if anchor == "end" else 8
        parts.append(f'<circle cx="{x:.1f}" cy="{y - 4}" r="4" fill="{"#1a7f37" if final else "#d1491b"}"/>')
        parts.append(
            f'<text x="{x + dx:.1f}" y="{y}" text-anchor="{anchor}" style="font-size:11px">'
            f'<tspan fill="#1f2328" font-weight="600">{html.escape(kept)}</tspan> {html.escape(loose)}</text>'
        )
    return "".join([*parts, "</svg>"])


def _table(rows: Sequence[Sequence[object]], head: Sequence[str]) -> str:
    top = "".join(f"<th>{html.escape(str(cell))}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><tr>{top}</tr>{body}</table>"


def _name(result: Mapping[str, Any]) -> str:
    return str(result.get("label") or f"{result['model']} {str(result['revision'])[:8]}")


DISTRIBUTIONS = {
    "words": "word latency",
    "first_partial": "first partial, from the first word's start",
    "finalize": "finalize to final",
    "endpoint": "speech end to final by endpointing",
}


LEVEL_HEAD = (
    "streams", "added p50 / p95, ms", "words", "finalize to final p50 / p95 / max, ms", "clips ended",
    "s of audio recognized a second", "cores of the server", "cores of the generator", "resident MB of the server",
)  # fmt: skip


def level_rows(ramp: Sequence[Mapping[str, Any]]) -> list[list[object]]:
    """A row for each level of the ramp, see `LEVEL_HEAD`; a dash for what a run did not measure."""

    def of(distribution: Mapping[str, Any], *names: str) -> list[object]:
        values = [distribution["percentiles"].get(name, "–") for name in names]
        return [" / ".join(map(str, values)), distribution["count"]]

    return [
        [
            level["streams"],
            *of(level["added"], "p50", "p95"),
            *(of(level["finalize"], "p50", "p95", "max") if "finalize" in level else "––"),
            level["throughput"],
            level["server_cpu_cores"],
            level.get("generator_cpu_cores", "–"),
            level["server_rss_mb"],
        ]
        for level in ramp
    ]


def figure_rows(results: Sequence[Mapping[str, Any]]) -> list[list[object]]:
    """A label and the value of each result; a dash for what one did not measure. Labels are those of the first."""
    rows: list[list[object]] = [["load of the machine before", *[r["machine"]["load_before"] for r in results]]]
    distributions = {label: [result["alone"][key] for result in results] for key, label in DISTRIBUTIONS.items()}
    distributions["word latency, compute left out"] = [result["unaware"]["words"] for result in results]
    for label, found in distributions.items():
        rows.append([f"{label}, of how many", *[distribution["count"] for distribution in found]])
        for percent in ("p50", "p90", "p95", "p99"):
            rows.append([f"{label}, {percent}, ms", *[d["percentiles"].get(percent, "–") for d in found]])
    for key, label in results[0]["labels"].items():
        rows.append([label, *[result["figures"].get(key, "–") for result in results]])
    return rows


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """The whole page: the first result in full, and all of them side by side."""
    main = results[0]
    alone, ramp = main["alone"], main["ramp"]
    parts = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>Latency report</title><style>{STYLE}</style>",
        f"<h1>Latency report: {html.escape(_name(main))}</h1>",
        f"<p class='note'>{html.escape(', '.join(f'{k}: {v}' for k, v in main['machine'].items()))}; "
        f"revision {html.escape(str(main['revision']))}; {html.escape(str(main['date']))}</p>",
    ]
    late = [level["streams"] for level in ramp if level["generator"]["is_late"]]
    if main["generator"]["is_late"]:
        late.insert(0, 1)
    if late:
        parts.append(
            f"<p class='warn'>The load generator itself was late with {', '.join(map(str, late))} stream(s): "
            "latencies there are partly its own.</p>"
        )
    if main.get("quick"):
        parts.append("<p class='warn'>A quick run: it shows that everything works, its figures mean nothing.</p>")
    head = ["", *[_name(result) for result in results]]
    parts += ["<h2>Figures</h2>", _table(figure_rows(results), head)]
    parts.append(
        f"<p class='note'>Word ends are from a forced alignment; {100 * alone['words_used']:.1f} % of the words spoken "
        "were recognized and are used. The last word's aligned end lies "
        f"{main['figures'].get('alignment_bias_ms', '–')} ms after the "
        "end of speech by energy (median): positive values make latencies look that much shorter.</p>"
    )
    cdfs = {f"{_name(r)}: words": r["alone"]["words"]["cdf"] for r in results}
    cdfs |= {f"{_name(r)}: words, compute left out": r["unaware"]["words"]["cdf"] for r in results}
    parts += ["<h2>Word latency, one stream</h2>", line_plot(cdfs, "ms from word end to receipt", "share of words")]
    ends = {DISTRIBUTIONS[key]: alone[key]["cdf"] for key in ("finalize", "endpoint", "first_partial")}
    parts += ["<h2>First and last words, one stream</h2>", line_plot(ends, "ms", "share of sessions")]
    added = {
        f"{_name(r)}: {p}": [
            (level["streams"], level["added"]["percentiles"][p]) for level in r["ramp"] if level["added"]["count"]
        ]
        for r in results
        for p in ("p50", "p95")
    }
    parts += ["<h2>Added latency against streams</h2>", line_plot(added, "live streams", "ms added", {"limit": 100.0})]
    flow = {
        f"{_name(r)}: audio recognized a second": [(v["streams"], v["throughput"]) for v in r["ramp"]] for r in results
    }
    parts += ["<h2>Throughput against streams</h2>", line_plot(flow, "live streams", "s of audio a second")]
    cost = {f"{_name(r)}: server CPU": [(v["streams"], v["server_cpu_cores"]) for v in r["ramp"]] for r in results}
    parts += ["<h2>CPU against streams</h2>", line_plot(cost, "live streams", "cores")]
    if ramp:
        parts += ["<h2>Each level, while all of its streams played</h2>", _table(level_rows(ramp), LEVEL_HEAD)]
    if main.get("example"):
        parts += [
            f"<h2>One utterance: {html.escape(main['example']['recording'])}</h2>",
            "<p class='note'>Blue: words as spoken. Red: partials, when they came. Green: finals. Bold: committed.</p>",
            timeline_plot(main["example"]),
        ]
    return "\n".join([*parts, "</html>\n"])
