"""Owns the features of recordings to train on: extracted once, by the code that serves, and augmented each time.

They are cached as float16: of the recordings as they are, and of distorted copies. Must not know targets or the model.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..features import FRAME_LENGTH_SAMPLES, NUM_MEL_BINS, extract
from ..recordings import Recording, read_samples
from .distort import distort

logger = logging.getLogger(__name__)

# Digital silence after each recording, so that its last sound is followed by the frames that a stream's end gives it.
TAIL_SAMPLES = FRAME_LENGTH_SAMPLES

Half = NDArray[np.float16]


@dataclass(frozen=True)
class _Job:
    path: Path
    distortion_seed: tuple[int, int] | None
    others: tuple[Path, ...]  # recordings to draw background voices from


def _extract(job: _Job) -> Half:
    samples = read_samples(job.path)
    if job.distortion_seed:
        rng = np.random.default_rng(job.distortion_seed)
        samples = distort(samples, rng, lambda: read_samples(job.others[rng.integers(len(job.others))]))
    return extract(np.concatenate((samples, np.zeros(TAIL_SAMPLES, np.float32)))).astype(np.float16)


class FeatureCache:
    """Features of many recordings in one memory-mapped float16 array [all frames, 80], made on first use.

    With ``distortion_seed``, of a distorted copy of each, of the same length.
    """

    def __init__(self, recordings: Sequence[Recording], folder: Path, distortion_seed: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        names = "\n".join(str(recording.path) for recording in recordings)
        if distortion_seed is not None:
            names += f"\ndistorted {distortion_seed}"
        stem = hashlib.sha256(names.encode()).hexdigest()[:16]
        array_path, index_path = folder / f"{stem}.f16", folder / f"{stem}.json"
        if not index_path.exists():
            logger.info("extracting features of %d recordings", len(recordings))
            offsets = [0]
            with open(array_path, "wb") as file, concurrent.futures.ProcessPoolExecutor() as pool:
                for features in pool.map(_extract, _jobs(recordings, distortion_seed), chunksize=16):
                    features.tofile(file)
                    offsets.append(offsets[-1] + len(features))
            index_path.write_text(json.dumps(offsets))
        self._offsets = json.loads(index_path.read_text())
        self._frames: Half = np.memmap(array_path, np.float16, "r", shape=(self._offsets[-1], NUM_MEL_BINS))

    def __getitem__(self, index: int) -> Half:
        return self._frames[self._offsets[index] : self._offsets[index + 1]]

    def num_frames(self, index: int) -> int:
        """Frames of 10 ms in recording ``index``."""
        return int(self._offsets[index + 1] - self._offsets[index])

    def statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of each mel bin, from every 10th frame, float32 [80] each."""
        sample = np.asarray(self._frames[::10], np.float32)
        return sample.mean(0), sample.std(0)


def _jobs(recordings: Sequence[Recording], distortion_seed: int | None) -> Iterator[_Job]:
    for index, recording in enumerate(recordings):
        if distortion_seed is None:
            yield _Job(recording.path, None, ())
        else:
            chosen = np.random.default_rng((distortion_seed, index)).integers(len(recordings), size=8)
            others = tuple(recordings[other].path for other in chosen)
            yield _Job(recording.path, (distortion_seed, index), others)


@dataclass(frozen=True)
class Augmentation:
    """How far training features are distorted. All draws are uniform, independent a recording."""

    distorted: float = 0.25  # share of recordings heard as their copy in a room, in noise or through a channel
    spliced: float = 0.5  # share of those with a known pause that go on from there as another one of the speaker does
    tempo: float = 0.12  # stretched in time by 1 -+ this
    warp: float = 0.1  # mel axis stretched by 1 -+ this: vocal-tract length
    gain: float = 1.5  # added to every log energy, -+ (1.5 is 6.5 dB)
    tilt: float = 1.0  # the same, a slope over the mel axis, -+ at its ends
    frequency_masks: int = 2
    frequency_mask_bins: int = 16
    time_mask_share: float = 0.06  # of the frames, in masks of at most 30 frames


NO_AUGMENTATION = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0.0)


def draw_tempo(policy: Augmentation, rng: np.random.Generator) -> float:
    """How much shorter a recording is to become."""
    return 1 + float(rng.uniform(-policy.tempo, policy.tempo)) if policy.tempo else 1.0


def augment(
    features: Half, policy: Augmentation, mean: NDArray[np.float32], tempo: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """A distorted copy: float16 [T, 80] to float32 [T / tempo, 80].

    Masks (SpecAugment, arXiv 1904.08779) write ``mean``.
    """
    x = features.astype(np.float32)
    if tempo != 1.0:
        x = _stretch(x, tempo)
    if policy.warp:
        x = _warp(x, 1 + rng.uniform(-policy.warp, policy.warp))
    if policy.gain or policy.tilt:
        slope = rng.uniform(-policy.tilt, policy.tilt) * np.linspace(-1, 1, NUM_MEL_BINS, dtype=np.float32)
        x = np.maximum(x + rng.uniform(-policy.gain, policy.gain) + slope, 0.0).astype(np.float32)
    for _ in range(policy.frequency_masks):
        width = int(rng.integers(policy.frequency_mask_bins + 1))
        first = int(rng.integers(NUM_MEL_BINS - width + 1))
        x[:, first : first + width] = mean[first : first + width]
    for _ in range(round(policy.time_mask_share * len(x) / 15)):
        width = int(rng.integers(31))
        first = int(rng.integers(max(1, len(x) - width)))
        x[first : first + width] = mean
    return x


def _stretch(x: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    positions = np.arange(0, len(x) - 1, factor)
    left = np.minimum(positions.astype(np.int64), len(x) - 2)  # arange may reach its end by rounding
    weight = (positions - left).astype(np.float32)[:, None]
    stretched: NDArray[np.float32] = x[left] * (1 - weight) + x[left + 1] * weight
    return stretched


def _warp(x: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    positions = np.clip(np.arange(NUM_MEL_BINS, dtype=np.float32) * factor, 0, NUM_MEL_BINS - 1.001)
    left = positions.astype(np.int64)
    weight = positions - left
    warped: NDArray[np.float32] = x[:, left] * (1 - weight) + x[:, left + 1] * weight
    return warped


def length_buckets(
    num_frames: Sequence[int], frames_per_batch: int, rng: np.random.Generator | None
) -> Iterator[list[int]]:
    """Batches of recordings of like length, each of about ``frames_per_batch`` frames.

    Shuffled by ``rng``; in order of length, shortest first, without one (a curriculum for the first epoch).
    """
    jitter = rng.uniform(0.95, 1.05, len(num_frames)) if rng else np.ones(len(num_frames))
    order = np.argsort(np.asarray(num_frames) * jitter, kind="stable")
    batches: list[list[int]] = [[]]
    for index in order.tolist():
        if batches[-1] and num_frames[index] * (len(batches[-1]) + 1) > frames_per_batch:
            batches.append([])
        batches[-1].append(index)
    if rng:
        rng.shuffle(batches)
    yield from batches
