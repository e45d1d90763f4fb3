import itertools
from pathlib import Path

import kaldi_native_fbank
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_asr.features import FRAME_LENGTH_SAMPLES, FRAME_SHIFT_SAMPLES, NUM_MEL_BINS, FeatureStream, extract
from streaming_asr.recordings import read_samples

DEMO = Path(__file__).parents[1] / "examples" / "demo.wav"

SAMPLES = np.random.default_rng(0).uniform(-0.5, 0.5, 8000).astype(np.float32)
WHOLE = extract(SAMPLES)


def test_frame_count_and_shape() -> None:
    expected = 1 + (len(SAMPLES) - FRAME_LENGTH_SAMPLES) // FRAME_SHIFT_SAMPLES
    assert WHOLE.shape == (expected, NUM_MEL_BINS)
    assert extract(SAMPLES[: FRAME_LENGTH_SAMPLES - 1]).shape == (0, NUM_MEL_BINS)
    assert extract(SAMPLES[:FRAME_LENGTH_SAMPLES]).shape == (1, NUM_MEL_BINS)


@pytest.mark.parametrize("size", [1, 159, 160, 161, 320, 1200])
def test_chunking_changes_nothing(size: int) -> None:
    stream = FeatureStream()
    parts = [stream.accept(SAMPLES[first : first + size]) for first in range(0, len(SAMPLES), size)]
    assert np.array_equal(np.concatenate(parts), WHOLE)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, len(SAMPLES)), max_size=8))
def test_any_chunking_changes_nothing(cuts: list[int]) -> None:
    stream = FeatureStream()
    edges = [0, *sorted(cuts), len(SAMPLES)]
    parts = [stream.accept(SAMPLES[a:b]) for a, b in itertools.pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), WHOLE)


def test_it_is_the_filter_bank_of_kaldi() -> None:
    """But for rounding, which shows where a bin holds next to nothing."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0.0
    options.mel_opts.num_bins = NUM_MEL_BINS
    options.mel_opts.low_freq, options.mel_opts.high_freq = 20.0, 7600.0
    bank = kaldi_native_fbank.OnlineFbank(options)
    speech = read_samples(DEMO)
    bank.accept_waveform(16000, (speech * 32768).tolist())
    expected = np.maximum([bank.get_frame(frame) for frame in range(bank.num_frames_ready)], 0.0)
    difference = np.abs(extract(speech) - expected)
    assert difference.max() < 5e-3
    assert difference.mean() < 2e-5


def test_frames_are_emitted_as_soon_as_complete() -> None:
    stream = FeatureStream()
    assert len(stream.accept(SAMPLES[: FRAME_LENGTH_SAMPLES - 1])) == 0
    assert len(stream.accept(SAMPLES[FRAME_LENGTH_SAMPLES - 1 : FRAME_LENGTH_SAMPLES])) == 1


def test_digital_silence_is_the_floor() -> None:
    assert extract(np.zeros(800, np.float32)).max() == 0.0


def test_a_tone_peaks_in_its_mel_bin() -> None:
    time = np.arange(1600) / 16000
    low = extract(np.sin(2 * np.pi * 300 * time).astype(np.float32)).mean(0).argmax()
    high = extract(np.sin(2 * np.pi * 3000 * time).astype(np.float32)).mean(0).argmax()
    assert low < 15 < 45 < high
