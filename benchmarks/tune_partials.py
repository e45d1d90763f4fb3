"""Steadiness of partials against their delay, for several rules of what is shown.

    python -m benchmarks.tune_partials DEV_DIR [DEV_DIR …] --limit 40 --rule 0,0,1,1 --rule 0.7,0.6,3,0.999

A rule is the probability from which a word is shown behind others, the probability and the number of steps from which
it is shown in their place, and the probability from which it is settled (`streaming_asr.partials`). The recognizer runs
in this process, with compute left out of every delay. Never point it at recordings that are for the final reading.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from streaming_asr.evaluate import count_word_errors
from streaming_asr.lexicon import Lexicon
from streaming_asr.manifest import LEXICON_FILE, SHIPPED_MODEL
from streaming_asr.model import load_model
from streaming_asr.partials import PartialRule
from streaming_asr.recordings import find_recordings, read_samples

from .align import Aligner
from .compute import play_in_process
from .material import load_recognizer, spread
from .replay import Clip
from .timeline import summarize


def parse_rule(text: str) -> PartialRule:
    """``PROBABILITY,CHANGE_PROBABILITY,CHANGE_STEPS,COMMIT_PROBABILITY``."""
    probability, change, steps, commit = text.split(",")
    return PartialRule(float(probability), float(change), int(steps), float(commit))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    parser.add_argument("--limit", type=int, default=40, help="recordings of a folder (default: %(default)s)")
    parser.add_argument("--rule", type=parse_rule, action="append", default=[], metavar="P,Q,N,C")
    options = parser.parse_args()
    aligner = Aligner(load_model(options.model), Lexicon.from_file(options.model / LEXICON_FILE))
    recognizer = load_recognizer(options.model)
    print("| recordings | rule | WER | retracted / shown | word latency p50 / p90 / p99 ms | first word p50 ms |")
    print("|---|---|---|---|---|---|")
    for folder in options.folders:
        recordings = spread(find_recordings([folder]), options.limit)
        clips = []
        for recording in recordings:
            samples = read_samples(recording.path)
            clips.append(Clip(recording.utterance, samples, aligner.align(samples, recording.words), recording.words))
        for rule in options.rule or [PartialRule()]:
            recognizer.partial_rule = rule
            timelines = [play_in_process(recognizer, clip).timeline for clip in clips]
            pairs = [(" ".join(clip.words), timeline.text) for clip, timeline in zip(clips, timelines, strict=True)]
            figures = summarize(timelines)
            words, first = figures.words.percentiles, figures.first_partial.percentiles
            print(
                f"| {folder.name}, {len(clips)} | {rule.probability:g}, {rule.change_probability:g}, "
                f"{rule.change_steps}, {rule.commit_probability:g} "
                f"| {100 * count_word_errors(pairs).wer:.2f} % | {100 * figures.retracted:.1f} % "
                f"| {words['p50']:.0f} / {words['p90']:.0f} / {words['p99']:.0f} | {first['p50']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
