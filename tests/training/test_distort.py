from collections.abc import Callable

import numpy as np
import pytest

from streaming_asr.features import Samples
from streaming_asr.training.distort import (
    add_noise,
    at_level,
    babble_noise,
    coloured_noise,
    distort,
    faded,
    in_room,
    level_of,
    over_telephone,
    through_mp3,
)

RATE = 16000
TONE: Samples = (0.1 * np.sin(2 * np.pi * 440 / RATE * np.arange(RATE))).astype(np.float32)


def rms(x: Samples) -> float:
    return float(np.sqrt(np.mean(x.astype(np.float64) ** 2)))


def band_power(x: Samples, low: float, high: float) -> float:
    frequencies = np.fft.rfftfreq(len(x), 1 / RATE)
    return float((np.abs(np.fft.rfft(x)) ** 2)[(frequencies >= low) & (frequencies < high)].sum())


def test_every_copy_has_the_same_length_and_comes_from_the_seed() -> None:
    def copy(seed: int) -> Samples:
        return distort(TONE, np.random.default_rng(seed), lambda: TONE[:3000])

    for seed in range(20):
        assert copy(seed).shape == TONE.shape
        assert copy(seed).dtype == np.float32
        assert np.array_equal(copy(seed), copy(seed))
        assert not np.array_equal(copy(seed), TONE)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 20.0])
def test_noise_is_as_loud_as_asked(snr_db: float) -> None:
    noise = coloured_noise(RATE, 1.0, np.random.default_rng(0))
    added = add_noise(TONE, noise, snr_db) - TONE
    assert 20 * np.log10(rms(TONE) / rms(added)) == pytest.approx(snr_db, abs=0.1)


def test_the_exponent_is_the_slope_of_the_spectrum() -> None:
    noise = coloured_noise(RATE * 4, 2.0, np.random.default_rng(0))
    octaves = band_power(noise, 500, 1000) / band_power(noise, 1000, 2000)  # brown: twice the power in the lower one
    assert octaves == pytest.approx(2.0, rel=0.15)


def test_a_room_rings_after_the_sound_and_adds_nothing_before_it() -> None:
    click = np.zeros(RATE, np.float32)
    click[4000] = 1
    heard = in_room(click, reverberation_seconds=0.5, direct_db=0, rng=np.random.default_rng(0))
    assert np.abs(heard[:4000]).max() < 1e-6
    assert np.argmax(np.abs(heard)) == 4000
    early, late = rms(heard[4100:5000]), rms(heard[4000 + RATE // 4 : 4000 + RATE // 4 + 900])
    assert 20 * np.log10(early / late) == pytest.approx(60 * (0.25 - 50 / RATE) / 0.5, abs=3)


def test_babble_holds_several_voices() -> None:
    calls = 0

    def voice() -> Samples:
        nonlocal calls
        calls += 1
        return TONE[:5000]

    assert babble_noise(8000, np.random.default_rng(0), voice).shape == (8000,)
    assert 3 <= calls <= 6


@pytest.mark.parametrize("channel", [over_telephone, lambda x: through_mp3(x, 0.9)])
def test_channels_keep_the_voice_and_lose_the_top(channel: Callable[[Samples], Samples]) -> None:
    noisy = add_noise(TONE, coloured_noise(RATE, 0.0, np.random.default_rng(0)), 10)
    heard = channel(noisy)
    assert heard.shape == noisy.shape
    assert band_power(heard, 400, 480) == pytest.approx(band_power(noisy, 400, 480), rel=0.2)
    assert band_power(heard, 7000, 8000) < 0.1 * band_power(noisy, 7000, 8000)


def test_digital_silence_is_no_error() -> None:
    silence = np.zeros(8000, np.float32)
    for seed in range(10):
        assert np.isfinite(distort(silence, np.random.default_rng(seed), lambda: silence)).all()


def test_a_level_is_a_root_mean_square_below_full_scale() -> None:
    x = at_level(np.random.default_rng(0).standard_normal(1000), -30)
    assert 20 * np.log10(rms(x)) == pytest.approx(-30, abs=0.01)
    assert level_of(x) == pytest.approx(-30, abs=0.01)
    assert level_of(np.zeros(10)) == level_of(np.zeros(0)) == pytest.approx(-180)


def test_what_is_faded_begins_and_ends_softly() -> None:
    x = faded(np.ones(1000))
    assert x[0] == x[-1] == pytest.approx(1 / 80)
    assert np.all(x[80:-80] == 1)
