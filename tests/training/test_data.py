from pathlib import Path

import numpy as np
import pytest

from streaming_asr.errors import InputError
from streaming_asr.recordings import find_recordings
from streaming_asr.training.data import (
    NO_AUGMENTATION,
    Augmentation,
    FeatureCache,
    augment,
    draw_tempo,
    length_buckets,
)
from tests.training.corpus import write_corpus

MEAN = np.full(80, 5.0, np.float32)
FEATURES = np.random.default_rng(0).uniform(1, 20, (400, 80)).astype(np.float16)


def test_cache_serves_what_was_extracted(tmp_path: Path) -> None:
    write_corpus(tmp_path / "audio", num_recordings=5)
    recordings = find_recordings([tmp_path / "audio"])
    first = FeatureCache(recordings, tmp_path / "cache")
    again = FeatureCache(recordings, tmp_path / "cache")
    for index in range(5):
        assert first[index].shape == (first.num_frames(index), 80)
        assert np.array_equal(first[index], again[index])
    mean, stddev = first.statistics()
    assert mean.shape == stddev.shape == (80,)
    assert (stddev > 0).all()


def test_cache_keeps_a_distorted_copy_of_the_same_length_beside_it(tmp_path: Path) -> None:
    write_corpus(tmp_path / "audio", num_recordings=3)
    recordings = find_recordings([tmp_path / "audio"])
    clean = FeatureCache(recordings, tmp_path / "cache")
    distorted = FeatureCache(recordings, tmp_path / "cache", distortion_seed=1)
    again = FeatureCache(recordings, tmp_path / "elsewhere", distortion_seed=1)
    for index in range(3):
        assert clean[index].shape == distorted[index].shape
        assert not np.array_equal(clean[index], distorted[index])
        assert np.array_equal(distorted[index], again[index])


def test_without_recordings_there_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no transcribed recordings"):
        find_recordings([tmp_path])


def test_no_augmentation_changes_nothing() -> None:
    same = augment(FEATURES, NO_AUGMENTATION, MEAN, 1.0, np.random.default_rng(0))
    assert np.array_equal(same, FEATURES.astype(np.float32))


def test_augmentation_stays_in_range_and_depends_on_the_seed() -> None:
    a, b, again = (augment(FEATURES, Augmentation(), MEAN, 1.05, np.random.default_rng(seed)) for seed in (1, 2, 1))
    assert np.array_equal(a, again)
    assert not np.array_equal(a, b)
    assert len(a) == len(b) == pytest.approx(400 / 1.05, abs=1)
    assert a.min() >= 0.0
    assert np.isfinite(a).all()


def test_masks_write_the_mean() -> None:
    policy = Augmentation(tempo=0, warp=0, gain=0, tilt=0, frequency_masks=2, time_mask_share=0.2)
    masked = augment(FEATURES, policy, MEAN, 1.0, np.random.default_rng(3))
    changed = masked != FEATURES.astype(np.float32)
    assert 0.02 < changed.mean() < 0.8
    assert (masked[changed] == 5.0).all()


def test_buckets_hold_everything_once_within_the_size() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(50, 500, 100).tolist()
    plans = [list(length_buckets(sizes, 2000, order)) for order in (None, np.random.default_rng(1))]
    for plan in plans:
        assert sorted(i for batch in plan for i in batch) == list(range(100))
    for batch in plans[0]:
        assert len(batch) * max(sizes[i] for i in batch) <= 2000
    lengths = [max(sizes[i] for i in batch) for batch in plans[0]]
    assert lengths == sorted(lengths)
    assert plans[0] != plans[1]


def test_no_tempo_reaches_beyond_the_last_frame() -> None:
    policy = Augmentation(tempo=0.3, warp=0.0, gain=0.0, tilt=0.0, frequency_masks=0, time_mask_share=0.0)
    for seed in range(300):
        num_frames = 2 + 7 * seed
        rng = np.random.default_rng(seed)
        stretched = augment(np.ones((num_frames, 80), np.float16), policy, MEAN, draw_tempo(policy, rng), rng)
        assert num_frames / 1.31 - 2 <= len(stretched) <= num_frames / 0.69 + 1
        assert (stretched == 1).all()
