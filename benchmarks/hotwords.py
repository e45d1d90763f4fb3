"""How often the words that matter are heard, and heard where nobody said them, with and without a list of them.

    python -m benchmarks.hotwords DIR [DIR ...] [--limit 100] [--unknown] [--rare -12.5] [--bonus 8] [--json]

Ten recordings at a time have one list: the rare words of all ten, so that most of a list is never said in a recording.
Rare are words of the references less likely than ``--rare`` by the language model's unigrams, without regard to what
was heard; those that the lexicon lacks are counted apart. ``--unknown`` takes all recordings in which one of these is
said, and the one after each.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from streaming_asr.evaluate import Result, count_word_errors, stream_recordings
from streaming_asr.hotwords import BONUS
from streaming_asr.messages import StreamOptions
from streaming_asr.recognizer import Recognizer
from streaming_asr.recordings import Recording, find_recordings

from .material import load_recognizer, spread

GROUP = 10  # recordings that share a list


def rare_words(recognizer: Recognizer, recordings: Iterable[Recording], rare: float) -> list[str]:
    """The words of the references that are in the lexicon and less likely than `rare`, and those that are not in it."""
    unigrams = recognizer.decoder.ngram.unigram_log_probs
    said = {word for recording in recordings for word in recording.words}
    return sorted(word for word in said if word not in recognizer.word_id or unigrams[recognizer.word_id[word]] < rare)


def hits_and_alarms(listed: Sequence[str], said: Sequence[str], heard: Sequence[str]) -> tuple[int, int, int]:
    """How often words of the list were said, heard where they were said, and heard too often."""
    references = Counter(word for word in said if word in listed)
    found = Counter(word for word in heard if word in listed)
    return references.total(), (references & found).total(), (found - references).total()


def measure(recognizer: Recognizer, recordings: Sequence[Recording], rare: float, use: bool) -> dict[str, Any]:
    """Recall and false alarms of the listed words, and the word error rate."""
    counts: Counter[str] = Counter()
    results: list[Result] = []
    for first in range(0, len(recordings), GROUP):
        group = recordings[first : first + GROUP]
        listed = rare_words(recognizer, group, rare)
        options = StreamOptions(hotwords=tuple(listed) if use else ())
        for result in stream_recordings(recognizer, group, options):
            results.append(result)
            for kind, words in (
                ("known", [word for word in listed if word in recognizer.word_id]),
                ("unknown", [word for word in listed if word not in recognizer.word_id]),
            ):
                said, hits, alarms = hits_and_alarms(words, result.recording.words, result.text.split())
                counts.update({f"{kind}_said": said, f"{kind}_hits": hits, f"{kind}_alarms": alarms})
    errors = count_word_errors((" ".join(result.recording.words), result.text) for result in results)
    return {
        "hotwords": use,
        "hours": round(sum(result.audio_seconds for result in results) / 3600, 3),
        "wer": round(errors.wer, 4),
        **counts,
        "recall": round(counts["known_hits"] / max(1, counts["known_said"]), 3),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.hotwords", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--limit", type=int, help="only so many recordings, taken evenly from all")
    parser.add_argument(
        "--unknown", action="store_true", help="only recordings with a word that the lexicon lacks, and their next"
    )
    parser.add_argument("--rare", type=float, default=-12.5, help="natural log of a unigram probability")
    parser.add_argument("--bonus", type=float, nargs="+", default=[BONUS], help="nats; several: one row each")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    recognizer = load_recognizer()
    recordings = find_recordings(options.folders)
    if options.unknown:
        chosen = [not recognizer.word_id.keys() >= set(recording.words) for recording in recordings]
        after = [False, *chosen]
        recordings = [recording for at, recording in enumerate(recordings) if chosen[at] or after[at]]
    if options.limit is not None:
        recordings = spread(recordings, options.limit)
    rows = [measure(recognizer, recordings, options.rare, use=False)]
    for bonus in options.bonus:
        recognizer.hotword_nats = bonus
        rows.append({"bonus": bonus} | measure(recognizer, recordings, options.rare, use=True))
    if options.json:
        print(json.dumps(rows))
        return 0
    print("| hotwords | recall | false alarms | outside the lexicon: recall | false alarms | word error rate |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        name = f"bonus {row['bonus']:g}" if row["hotwords"] else "none"
        parts = [
            f"{row[f'{kind}_hits']} of {row[f'{kind}_said']} | {row[f'{kind}_alarms']}" for kind in ("known", "unknown")
        ]
        print(f"| {name} | {' | '.join(parts)} | {row['wer']:.2%} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
