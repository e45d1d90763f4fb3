"""How well marks and capitals of finals are guessed, and what that costs.

    python -m benchmarks.punctuation BOOK… [--model DIR]

Books are plain text, paragraphs apart by blank lines, and none of those that the model was trained on. They are cut as
finals are (`training.punctuation`); "inside" leaves out the end of each piece.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from streaming_asr.formatting.punctuation import Punctuator
from streaming_asr.formatting.writer import Formatter
from streaming_asr.manifest import PUNCTUATION_FILE, SHIPPED_MODEL
from streaming_asr.training.punctuation import Prose, evaluate, read_texts

LENGTHS = (15, 30, 60, 120)  # words of a final
TIMES = 50


def milliseconds(formatter: Formatter, prose: Prose, length: int) -> float:
    """Processor time to write a final of so many words: the median."""
    times = []
    for start in range(0, min(TIMES * length, len(prose.words) - length), length):
        began = time.thread_time()
        formatter.write(prose.words[start : start + length])
        times.append(time.thread_time() - began)
    return 1000 * sorted(times)[len(times) // 2]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.punctuation", description=__doc__)
    parser.add_argument("books", nargs="+", type=Path, metavar="BOOK")
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL, metavar="DIR", help="default: the one that ships")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    punctuator = Punctuator.load(options.model / PUNCTUATION_FILE)
    prose = read_texts(options.books)
    print(f"{len(prose.words)} words\n\n| | precision | recall | F1 | there |\n|---|---|---|---|---|")
    for name, score in evaluate(punctuator, prose).items():
        print(f"| {name} | {score.precision:.3f} | {score.recall:.3f} | {score.f1:.3f} | {score.there} |")
    print("\n| words of a final | ms of processor time |\n|---|---|")
    for length in LENGTHS:
        print(f"| {length} | {milliseconds(Formatter(punctuator), prose, length):.1f} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
