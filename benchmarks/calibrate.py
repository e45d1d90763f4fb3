"""Fits word confidences to held-out recordings and prints the decoder options that hold the fit.

    python -m benchmarks.calibrate MODEL_DIR DEV_DIR [DEV_DIR …] --limit 120

Logistic regression (Platt 1999) of whether a word is right on its acoustic score and the log odds of its vote. The fit
is of every other recording of each folder; the expected calibration error that is printed, of the rest. Never point it
at recordings that are for the final reading.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import jiwer
import numpy as np
from numpy.typing import NDArray

from streaming_asr.decoder import DecodedWord, log_odds
from streaming_asr.recognizer import Recognizer
from streaming_asr.recordings import find_recordings, read_samples

from .material import load_recognizer, network_outputs, spread

BINS = 10
NEWTON_STEPS = 50
RIDGE = 1e-3

Pair = tuple[DecodedWord, bool]  # a recognized word, and whether it is right


def right_words(reference: Sequence[str], recognized: Sequence[str]) -> list[bool]:
    """For each recognized word, whether the reference has it there."""
    right = [False] * len(recognized)
    if reference and recognized:
        for chunk in jiwer.process_words(" ".join(reference), " ".join(recognized)).alignments[0]:
            if chunk.type == "equal":
                right[chunk.hyp_start_idx : chunk.hyp_end_idx] = [True] * (chunk.hyp_end_idx - chunk.hyp_start_idx)
    return right


def calibration_error(pairs: Sequence[tuple[float, bool]]) -> float:
    """Expected calibration error (Guo et al., ICML 2017) over equal bins of confidence, 0..1."""
    confidence, right = np.array([c for c, _ in pairs]), np.array([float(ok) for _, ok in pairs])
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    total = 0.0
    for number in range(BINS):
        inside = bins == number
        if inside.any():
            total += inside.sum() * abs(confidence[inside].mean() - right[inside].mean())
    return float(total / max(1, len(pairs)))


def fit(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """Weights of 1, the acoustic score and the log odds of the vote, by Newton's method."""
    inputs = _inputs(pairs)
    right = np.array([float(ok) for _, ok in pairs])
    weights = np.zeros(3)
    for _ in range(NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (probability - right) + RIDGE * weights
        curvature = (inputs.T * (probability * (1 - probability))) @ inputs + RIDGE * np.eye(3)
        weights -= np.linalg.solve(curvature, gradient)
    return weights


def _inputs(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    return np.array([[1.0, min(word.acoustic, 0.0), log_odds(word.vote)] for word, _ in pairs])


def _recognized(recognizer: Recognizer, folder: Path, limit: int) -> Iterator[list[Pair]]:
    decoder = recognizer.decoder
    for recording in spread(find_recordings([folder]), limit):
        state = decoder.start()
        decoder.step(state, network_outputs(recognizer.model, read_samples(recording.path)))
        words = decoder.finish(state)[0].words
        right = right_words(recording.words, [recognizer.words[word.word_id] for word in words])
        yield list(zip(words, right, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=120, help="recordings of a folder (default: %(default)s)")
    options = parser.parse_args()
    recognizer = load_recognizer(options.model)
    folders = [list(_recognized(recognizer, folder, options.limit)) for folder in options.folders]
    weights = fit([pair for recordings in folders for recording in recordings[::2] for pair in recording])
    for folder, recordings in zip(options.folders, folders, strict=True):
        held_out = [pair for recording in recordings[1::2] for pair in recording]
        chances = (1 / (1 + np.exp(-_inputs(held_out) @ weights))).tolist()
        after = calibration_error([(chance, ok) for chance, (_, ok) in zip(chances, held_out, strict=True)])
        before = calibration_error([(word.confidence, ok) for word, ok in held_out])
        print(
            f"{folder}: {len(held_out)} words, calibration error {after:.3f}; {before:.3f} with the options there are"
        )
    names = ("confidence_bias", "confidence_acoustic", "confidence_vote")
    print(json.dumps(dict(zip(names, np.round(weights, 3).tolist(), strict=True))))


if __name__ == "__main__":
    main()
