"""Word error rate of digits, spelled names and commands, said by speech synthesizers: flite and espeak-ng.

    python -m benchmarks.commands [--json]

What is said is `commands.txt`. Synthetic voices are no people: the table shows whether short phrases without a
sentence around them are understood at all, and what a list of hotwords does for them, not how well anybody is heard:
none, all words of the phrases of a kind, these and nothing else, or the phrases and nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streaming_asr.evaluate import count_word_errors, stream_recordings
from streaming_asr.messages import StreamOptions
from streaming_asr.recognizer import Recognizer
from streaming_asr.recordings import Recording

from .material import load_recognizer

LISTS = ("none", "words", "only words", "only phrases")
PHRASES = Path(__file__).with_suffix(".txt")
VOICES = {
    "flite slt": ("flite", "-voice", "slt"),
    "flite rms": ("flite", "-voice", "rms"),
    "flite awb": ("flite", "-voice", "awb"),
    "espeak-ng en-us": ("espeak-ng", "-v", "en-us"),
}


@dataclass(frozen=True)
class Phrase:
    """Something to say, in lower-case words; a single letter is said by its name."""

    kind: str
    words: tuple[str, ...]


def read_phrases(text: str) -> list[Phrase]:
    """The lines of `commands.txt`: kind, tab, words; ``#`` begins a remark."""
    lines = (line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))
    return [Phrase(kind, tuple(words.split())) for kind, words in lines]


def say(phrase: Phrase, voice: Sequence[str], path: Path) -> None:
    """Writes the phrase as WAV. Commas keep letters and digits apart, as people do."""
    text = (" " if phrase.kind == "commands" else ", ").join(phrase.words)
    file = str(path)
    command = [*voice, "-t", text, "-o", file] if voice[0] == "flite" else [*voice, "-w", file, text]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def options_of(said: Sequence[Recording], hotwords: str) -> StreamOptions:
    """With one of `LISTS` of what was said."""
    if hotwords == "none":
        return StreamOptions()
    if hotwords == "only phrases":
        listed = {" ".join(recording.words) for recording in said}
    else:
        listed = {word for recording in said for word in recording.words}
    return StreamOptions(hotwords=tuple(sorted(listed)[:100]), only_hotwords=hotwords.startswith("only"))


def measure(recognizer: Recognizer, recordings: dict[str, list[Recording]], hotwords: str) -> list[dict[str, Any]]:
    """One row a kind of phrase, over all voices."""
    rows = []
    for kind, said in recordings.items():
        results = list(stream_recordings(recognizer, said, options_of(said, hotwords)))
        errors = count_word_errors((" ".join(result.recording.words), result.text) for result in results)
        right = sum(result.text.split() == list(result.recording.words) for result in results)
        rows.append(
            {
                "kind": kind,
                "hotwords": hotwords,
                "phrases": len(results),
                "words": errors.words,
                "wer": round(errors.wer, 4),
                "phrases_right": round(right / len(results), 3),
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.commands", description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    phrases = read_phrases(PHRASES.read_text())
    with tempfile.TemporaryDirectory() as folder:
        recordings: dict[str, list[Recording]] = {}
        for voice, command in VOICES.items():
            for number, phrase in enumerate(phrases):
                path = Path(folder) / f"{voice.replace(' ', '-')}-{number}.wav"
                try:
                    say(phrase, command, path)
                except FileNotFoundError:
                    print(f"benchmarks.commands: install {command[0]}", file=sys.stderr)
                    return 1
                recordings.setdefault(phrase.kind, []).append(Recording(path.stem, voice, path, phrase.words))
        recognizer = load_recognizer()
        rows = [row for hotwords in LISTS for row in measure(recognizer, recordings, hotwords)]
    for row in rows:
        print(json.dumps(row) if options.json else "  ".join(f"{name} {value}" for name, value in row.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
