"""Owns when each word of a transcript was said: a CTC forced alignment with the project's own acoustic model.

A unidirectional model names a sound only once it has heard it, so its word ends lie *late*, and latencies measured
from them come out short. `speech_end` reads the end of speech from the energy alone; how far the last word's aligned
end lies after it is the bias, reported beside every figure that rests on an alignment. Alignments from elsewhere can
be read from a CTM file instead (`read_ctm`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from streaming_asr.features import FRAME_SHIFT_SECONDS, SAMPLE_RATE, Samples
from streaming_asr.lexicon import Lexicon
from streaming_asr.network import StepFunction
from streaming_asr.training.alignment import viterbi

from .material import network_outputs
from .timeline import TimedWord

SPEECH_BELOW_PEAK_DB = 30.0  # a 10 ms frame within this of the loudest counts as speech


class Aligner:
    """Aligns recordings with their words. The model runs over each once, as a whole."""

    def __init__(self, model: StepFunction, lexicon: Lexicon) -> None:
        self._model = model
        self._lexicon = lexicon
        self._frame_seconds = model.config.output_frame_seconds

    def align(self, samples: Samples, words: Sequence[str]) -> tuple[TimedWord, ...]:
        """float32 [N] at 16 kHz, and what is said in it. Empty when a word has no pronunciation or nothing fits."""
        pronunciations = [self._lexicon.pronunciations(word) for word in words]
        if not words or not all(pronunciations):
            return ()
        spans = viterbi(network_outputs(self._model, samples), pronunciations)
        delay = self._model.config.delay_frames * FRAME_SHIFT_SECONDS
        limit = len(samples) / SAMPLE_RATE

        def seconds(output: int) -> float:
            return max(0.0, min(limit, output * self._frame_seconds - delay))

        return tuple(
            TimedWord(word, seconds(span.first), seconds(span.last + 1))
            for word, span in zip(words, spans or (), strict=bool(spans))
        )


def speech_end(samples: Samples) -> float:
    """Seconds at which the last 10 ms frame ends that is within `SPEECH_BELOW_PEAK_DB` of the loudest. No model."""
    shift = round(FRAME_SHIFT_SECONDS * SAMPLE_RATE)
    num_frames = len(samples) // shift
    if num_frames == 0:
        return 0.0
    energy = (samples[: num_frames * shift].reshape(num_frames, shift).astype(np.float64) ** 2).mean(axis=1)
    loud = np.flatnonzero(energy >= energy.max() * 10 ** (-SPEECH_BELOW_PEAK_DB / 10))
    return float((loud[-1] + 1) * FRAME_SHIFT_SECONDS) if energy.max() > 0 else 0.0


def read_ctm(path: Path) -> dict[str, tuple[TimedWord, ...]]:
    """Alignments from a CTM file (NIST): ``RECORDING CHANNEL START DURATION WORD`` a line, seconds."""
    words: dict[str, list[TimedWord]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith(";;"):
            recording, _, start, duration, word, *_ = line.split()
            words.setdefault(recording, []).append(
                TimedWord(word.lower(), float(start), float(start) + float(duration))
            )
    return {recording: tuple(timed) for recording, timed in words.items()}
