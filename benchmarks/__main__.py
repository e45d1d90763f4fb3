"""Owns the run that ``make bench`` and ``streaming-asr bench`` make: starts the server, plays, writes the report."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import soundfile
import torch

from streaming_asr.calibration import processor
from streaming_asr.errors import InputError, StreamingAsrError
from streaming_asr.evaluate import count_word_errors
from streaming_asr.lexicon import Lexicon
from streaming_asr.manifest import LEXICON_FILE, SHIPPED_MODEL
from streaming_asr.network import Network
from streaming_asr.recognizer import Recognizer
from streaming_asr.recordings import find_recordings, read_samples

from .adapters import ADAPTERS
from .align import Aligner, read_ctm, speech_end
from .compute import (
    Played,
    Sample,
    compute_figures,
    cores,
    largest_rss,
    play_in_process,
    slope,
    throughput_against_gemm,
    watching,
)
from .engines import ENGINES, InProcessEngine
from .material import load_recognizer, spread
from .replay import Clip, Run, replay
from .report import figure_rows, page
from .serving import serve_command, serving
from .timeline import (
    Distribution,
    Timeline,
    added_latencies,
    finalize_latency,
    percentile,
    summarize,
    throughput,
    word_latencies,
)

ROOT = Path(__file__).resolve().parent.parent
ADDED_LIMIT_MS = 100.0
LEVELS = (2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 200, 240, 320, 400)
LONGEST_SECONDS = 16.0  # of a clip, so that a level of the ramp is short
LABELS = {  # key in "figures": what it is
    "streams_carried": "streams carried, p95 of added latency ≤ 100 ms",
    "gemm_share": "network against plain GEMM, best batch",
    "real_time_factor": "compute over audio, one stream, its end included",
    "block_p50_ms": "compute for 60 ms of one stream, p50, ms",
    "block_p99_ms": "compute for 60 ms of one stream, p99, ms",
    "memory_per_stream_kb": "memory a further stream, KB",
    "start_ms": "start to listening, warm, ms",
    "wer": "word error rate of the run",
    "retracted": "share of shown words retracted",
    "committed_retracted": "committed words retracted",
    "cut_early": "share of utterances cut early",
    "endpoint_missing": "ends not found",
    "words_used": "share of words used",
    "alignment_bias_ms": "aligned end after end of speech by energy, ms",
    "failed": "sessions failed",
    "texts_changed": "clips whose text under load differs from alone",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="streaming-asr bench", description=__doc__)
    parser.add_argument("--recordings", type=Path, metavar="DIR", help="audio to play")
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL, metavar="DIR", help="served, and used to align")
    parser.add_argument("--alignments", type=Path, metavar="CTM", help="word times from elsewhere instead")
    parser.add_argument("--url", help="measure a server that runs already")
    parser.add_argument("--engine", choices=sorted(ENGINES), help="measure a recognizer in this process instead, alone")
    parser.add_argument("--adapter", choices=sorted(ADAPTERS), default="native")
    parser.add_argument(
        "--header", action="append", default=[], metavar="NAME:VALUE", help="for the handshake; repeatable"
    )
    parser.add_argument("--server-pid", type=int, help="of --url's server, to read its CPU and memory")
    parser.add_argument("--clips", type=int, default=24, metavar="N", help="recordings to play (default: %(default)s)")
    parser.add_argument(
        "--streams", metavar="N,N,…", help=f"levels of the ramp (default: {','.join(map(str, LEVELS))})"
    )
    parser.add_argument("--hold-seconds", type=float, default=20.0, help="length of a level (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 clips, 2 streams: shows that it works")
    parser.add_argument("--label", default="", help="the run's name in the report")
    parser.add_argument("--compare", nargs="*", type=Path, default=[], metavar="JSON", help="other runs, for the page")
    parser.add_argument("--render", action="store_true", help="only make the page, from the files of --compare")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "bench", metavar="DIR")
    return parser


def load_clips(options: argparse.Namespace, recognizer: Recognizer) -> tuple[list[Clip], list[float]]:
    """Clips with word times, spread evenly over the folder, and how late the last aligned end is in each, seconds."""
    folder: Path = options.recordings
    try:
        found = [(item.utterance, item.path, item.words) for item in find_recordings([folder])]
    except InputError:  # no transcripts: what the model itself makes of a recording stands in for one
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".wav", ".flac", ".ogg", ".mp3"))
        found = [(path.stem, path, ()) for path in paths]
    found = [item for item in found if soundfile.info(item[1]).duration <= LONGEST_SECONDS]
    if not found:
        raise InputError(f"no recordings of at most {LONGEST_SECONDS:g} s in {folder}")
    found = spread(found, options.clips)
    aligner = Aligner(recognizer.model, Lexicon.from_file(options.model / LEXICON_FILE))
    elsewhere = read_ctm(options.alignments) if options.alignments else {}
    clips, bias = [], []
    for name, path, words in found:
        samples = read_samples(path)
        bare = Clip(name, samples)
        words = words or tuple(play_in_process(recognizer, bare).timeline.text.split())
        reference = elsewhere.get(name, ()) if options.alignments else aligner.align(samples, words)
        clips.append(Clip(name, samples, reference, words))
        if reference:
            bias.append(reference[-1].end - speech_end(samples))
    return clips, bias


def word_error_rate(clips: Sequence[Clip], timelines: Sequence[Timeline]) -> float | None:
    """Of what a run recognized; None without transcripts."""
    words = {clip.name: " ".join(clip.words) for clip in clips if clip.words}
    pairs = [(words[t.recording], t.text) for t in timelines if t.recording in words]
    return round(count_word_errors(pairs).wer, 5) if pairs else None


def level_figures(
    run: Run, alone: Sequence[Timeline], server: Sequence[Sample], generator: Sequence[Sample]
) -> dict[str, Any]:
    """One level of the ramp. Only what was spoken, settled or used while all streams were playing counts as loaded."""
    begin, end = run.window
    good = [t for t in run.timelines if t.done is not None]
    words = [word.seconds for t in good for word in word_latencies(t) if begin <= word.spoken_at <= end]
    ended = [t for t in good if t.finalize_sent is not None and begin <= t.finalize_sent <= end]
    texts = {t.recording: t.text for t in alone}
    return {
        "streams": run.num_streams,
        "added": dataclasses.asdict(Distribution.of_seconds(added_latencies(alone, run.timelines, run.window))),
        "words": dataclasses.asdict(Distribution.of_seconds(words)),
        "finalize": dataclasses.asdict(
            Distribution.of_seconds(late for t in ended if (late := finalize_latency(t)) is not None)
        ),
        "failed": len(run.timelines) - len(good),
        "errors": sorted({t.error for t in run.timelines if t.error}),
        "texts_changed": len({t.recording for t in good if texts.get(t.recording, t.text) != t.text}),
        "window_seconds": round(end - begin, 2),
        "throughput": round(throughput(run.timelines, run.window), 3),
        "server_cpu_cores": round(cores(server, run.window), 3),
        "generator_cpu_cores": round(cores(generator, run.window), 3),
        "server_rss_mb": round(largest_rss(server, run.window) / 1e6, 2),
        "generator": run.health.figures(),
    }


def memory_per_stream_kb(ramp: Sequence[Mapping[str, Any]]) -> float:
    """Slope of the resident memory of the levels that were looked at while all their streams played."""
    return round(slope([(v["streams"], 1000 * v["server_rss_mb"]) for v in ramp if v["server_rss_mb"]]), 1)


def example(timeline: Timeline) -> dict[str, Any]:
    """One session for the page; seconds of audio."""
    return {
        "recording": timeline.recording,
        "reference": [dataclasses.asdict(word) for word in timeline.reference],
        "shown": [
            {
                "at": round(m.received - timeline.origin, 3),
                "kind": m.kind,
                "words": m.words,
                "committed": m.num_committed,
            }
            for m in timeline.shown
        ],
    }


def machine() -> dict[str, Any]:
    """What the figures were made on."""
    return {
        "cpu": processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in ("torch", "numba", "websockets", "streaming-asr")},
        "torch_threads": torch.get_num_threads(),
    }


def revision() -> str:
    """The checkout's commit, marked when files differ from it."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"], cwd=ROOT, capture_output=True, text=True
        )
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


async def measure(url: str, pid: int | None, clips: list[Clip], options: argparse.Namespace) -> dict[str, Any]:
    """One stream alone, with finalize and with endpointing, then more and more of them."""
    adapter = ADAPTERS[options.adapter]
    headers = dict(item.split(":", 1) for item in options.header)
    await replay(url, adapter, clips[:1], headers=headers)  # what the first session pays once is not measured
    say(f"one stream, {len(clips)} clips, {2 * sum(clip.seconds for clip in clips):.0f} s")
    alone = await replay(url, adapter, clips, headers=headers)
    ended = await replay(url, adapter, clips, end="endpoint", headers=headers)
    if all(timeline.done is None for timeline in alone.timelines):
        raise InputError(f"no session with {url} came to its end: {alone.timelines[0].error}")
    summary = summarize(alone.timelines)
    ends = summarize(ended.timelines)
    ramp = []
    past = 0
    levels = [int(n) for n in options.streams.split(",")] if options.streams else list(LEVELS)
    for num_streams in levels:
        async with watching(pid) as server, watching(os.getpid()) as generator:
            run = await replay(
                url, adapter, clips, num_streams=num_streams, hold_seconds=options.hold_seconds, headers=headers
            )
        level = level_figures(run, alone.timelines, server, generator)
        ramp.append(level)
        p95 = level["added"]["percentiles"].get("p95", float("inf"))
        latest = level["finalize"]["percentiles"].get("max", float("nan"))
        say(
            f"{num_streams} streams: p95 of added latency {p95:.0f} ms, latest final {latest:.0f} ms, "
            f"{level['throughput']:.1f} s of audio a second, {level['server_cpu_cores']:.2f} cores"
        )
        past += p95 > ADDED_LIMIT_MS or level["failed"] > 0
        if past == 2:  # one level further shows whether throughput collapses
            break
    carried = 0
    for level in ramp:
        if level["failed"] or not level["added"]["count"] or level["added"]["percentiles"]["p95"] > ADDED_LIMIT_MS:
            break
        carried = level["streams"]
    return {
        "alone": {
            **dataclasses.asdict(summary),
            "endpoint": dataclasses.asdict(ends.endpoint),
            "cut_early": ends.cut_early,
            "endpoint_missing": ends.endpoint_missing,
        },
        "ramp": ramp,
        "generator": alone.health.figures(),
        "example": example(next(t for t in alone.timelines if t.done is not None)),
        "figures": {
            "streams_carried": carried,
            "memory_per_stream_kb": memory_per_stream_kb(ramp) if pid else None,
            "wer": word_error_rate(clips, alone.timelines),
            "retracted": summary.retracted,
            "committed_retracted": summary.committed_retracted,
            "cut_early": ends.cut_early,
            "endpoint_missing": ends.endpoint_missing,
            "words_used": summary.words_used,
            "failed": summary.failed + ends.failed + sum(level["failed"] for level in ramp),
            "texts_changed": max((level["texts_changed"] for level in ramp), default=0),
        },
    }


def play_all_in_process(engine: InProcessEngine, clips: Sequence[Clip]) -> list[Played]:
    """Each clip once."""
    play_in_process(engine, clips[0])  # what the first pays once is not measured
    return [play_in_process(engine, clip) for clip in clips]


def measure_engine(engine: InProcessEngine, clips: Sequence[Clip]) -> dict[str, Any]:
    """A recognizer in this process on the audio's own clock: compute takes no time but is counted."""
    played = play_all_in_process(engine, clips)
    summary = summarize([one.timeline for one in played])
    alone = dataclasses.asdict(summary)
    return {
        "model": engine.name,
        "adapter": "in process",
        "alone": alone,
        "unaware": alone,
        "ramp": [],
        "generator": {"is_late": False},
        "figures": {
            "wer": word_error_rate(clips, [one.timeline for one in played]),
            **compute_figures(played),
            "retracted": summary.retracted,
            "committed_retracted": summary.committed_retracted,
            "words_used": summary.words_used,
        },
    }


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as one JSON-ready object. Raises `InputError`, before anything is loaded, without a folder."""
    if options.recordings is None:
        raise InputError("name a folder of recordings: --recordings DIR, or make bench RECORDINGS=DIR")
    if not options.recordings.is_dir():
        raise InputError(f"{options.recordings} is not a folder; name one with --recordings")
    if options.quick:
        options.clips, options.hold_seconds, options.streams = 2, 3.0, options.streams or "2"
    recognizer = load_recognizer(options.model)
    result: dict[str, Any] = {
        "machine": machine(),
        "revision": revision(),
        "date": datetime.now(UTC).isoformat("T", "seconds"),
    }
    clips, bias = load_clips(options, recognizer)
    about = {
        "label": options.label,
        "quick": options.quick,
        "clips": len(clips),
        "audio_seconds": round(sum(clip.seconds for clip in clips), 2),
        "labels": LABELS,
    }
    if options.engine:
        engine = recognizer if options.engine == "ours" else ENGINES[options.engine]()
        return {**result, **about, **measure_engine(engine, clips)}
    played = play_all_in_process(recognizer, clips)
    assert isinstance(recognizer.model, Network)
    gemm = throughput_against_gemm(recognizer.model, (1, 8, 32, 64), rounds=5 if options.quick else 200)
    if options.url:
        measured = asyncio.run(measure(options.url, options.server_pid, clips, options))
        start = None
    else:
        with serving(serve_command(options.model)):  # fills caches of compiled code and files: the next start is warm
            pass
        with serving(serve_command(options.model)) as (url, pid, took):
            measured = asyncio.run(measure(url, pid, clips, options))
            start = round(1000 * took, 1)
    measured["figures"] |= {
        "gemm_share": max(gemm.values()),
        **compute_figures(played),
        "start_ms": start,
        "alignment_bias_ms": round(1000 * percentile(bias, 50), 1) if bias else None,
    }
    unaware = dataclasses.asdict(summarize([one.timeline for one in played]))
    return {
        **result,
        **about,
        "adapter": options.adapter,
        "model": recognizer.name,
        "gemm_share_by_batch": gemm,
        "unaware": unaware,
        **measured,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        results = [] if options.render else [run(options)]
        results += [json.loads(path.read_text()) for path in options.compare]
        if not results:
            raise InputError("--render needs files to render: name them with --compare")
    except (StreamingAsrError, OSError, ValueError) as error:
        print(f"streaming-asr bench: {error}", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.render:
        (options.output / "result.json").write_text(json.dumps(results[0], indent=1) + "\n")
        for label, value in figure_rows(results[:1]):
            if value != "–":
                print(f"{label}: {value}")
    (options.output / "report.html").write_text(page(results), encoding="utf-8")
    print(f"written: {options.output}/report.html" + ("" if options.render else f" and {options.output}/result.json"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
