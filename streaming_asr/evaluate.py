"""Owns word error rates: streams every recording of a folder through a recognizer and counts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jiwer

from .messages import Final, StreamOptions
from .recordings import Recording, read_samples

if TYPE_CHECKING:
    from .recognizer import Recognizer


@dataclass(frozen=True)
class Result:
    """One recording: what was said, what was recognized, and what it cost. Seconds throughout."""

    recording: Recording
    text: str
    audio_seconds: float
    compute_seconds: float


@dataclass(frozen=True)
class WordErrors:
    """Counts of an alignment of reference and hypothesis words."""

    words: int
    insertions: int
    deletions: int
    substitutions: int

    @property
    def wer(self) -> float:
        """Word error rate, 0 and up."""
        return (self.insertions + self.deletions + self.substitutions) / max(1, self.words)


def count_word_errors(pairs: Iterable[tuple[str, str]]) -> WordErrors:
    """Levenshtein alignment (jiwer) of (reference, hypothesis) texts, words split at blanks."""
    references, hypotheses = zip(*pairs, strict=True)
    output = jiwer.process_words(list(references), list(hypotheses))
    words = output.hits + output.substitutions + output.deletions
    return WordErrors(words, output.insertions, output.deletions, output.substitutions)


def stream_recordings(
    recognizer: Recognizer, recordings: Iterable[Recording], options: StreamOptions | None = None
) -> Iterator[Result]:
    """Streams each recording, in chunks of the model's step, as a live client would but as fast as it goes."""
    chunk = recognizer.chunk_ms * 16
    for recording in recordings:
        samples = read_samples(recording.path)
        began = time.perf_counter()
        stream = recognizer.stream(options)
        events = [e for first in range(0, len(samples), chunk) for e in stream.accept(samples[first : first + chunk])]
        events += stream.finish()
        seconds = time.perf_counter() - began
        text = " ".join(event.text for event in events if isinstance(event, Final) and event.text)
        yield Result(recording, text, len(samples) / 16000, seconds)
