"""The sounds without speech are what their names say, and the same every time."""

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.noises import (
    Noise,
    beep,
    breath,
    clap,
    cough,
    dialling,
    knock,
    melody,
    siren,
    steps,
    typing,
    without_speech,
)
from streaming_asr.features import SAMPLE_RATE, Samples

RNG = np.random.default_rng


def loudest_hertz(x: Samples) -> float:
    return float(np.abs(np.fft.rfft(x)).argmax() * SAMPLE_RATE / len(x))


def decibels(x: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(x, dtype=np.float64))))


@pytest.mark.parametrize(("name", "noise"), without_speech().items())
def test_a_sound_is_as_long_as_asked_for_and_the_same_every_time(name: str, noise: Noise) -> None:
    x = noise(3 * SAMPLE_RATE, RNG(1))
    assert x.shape == (3 * SAMPLE_RATE,)
    assert x.dtype == np.float32
    assert np.abs(x).max() <= 1
    assert np.array_equal(x, noise(3 * SAMPLE_RATE, RNG(1)))
    assert np.any(x) == (name != "digital silence")


def test_noise_in_steps_changes_its_loudness_and_stays_in_its_range() -> None:
    x = steps(20 * SAMPLE_RATE, RNG(0))
    levels = [decibels(part) for part in x.reshape(-1, SAMPLE_RATE // 2)]
    assert max(levels) - min(levels) > 15
    assert -60 < min(levels) < max(levels) < -20


@pytest.mark.parametrize("seed", range(10))
def test_a_beep_has_one_pitch(seed: int) -> None:
    x = beep(RNG(seed))
    half = len(x) // 2
    assert 0.1 <= len(x) / SAMPLE_RATE <= 1
    assert loudest_hertz(x[:half]) == pytest.approx(loudest_hertz(x[half:]), abs=2 * SAMPLE_RATE / half)


def test_a_key_of_a_telephone_is_a_row_and_a_column() -> None:
    key = dialling(RNG(0))[: SAMPLE_RATE // 10]
    assert min(abs(loudest_hertz(key) - hertz) for hertz in (697, 770, 852, 941, 1209, 1336, 1477, 1633)) < 10
    spectrum = np.abs(np.fft.rfft(key))
    assert spectrum[60:100].max() == pytest.approx(spectrum[115:170].max(), rel=0.5)
    assert spectrum[200:].max() < 0.1 * spectrum.max()


def test_sirens_and_melodies_move() -> None:
    for sound in (siren, melody):
        x = sound(RNG(0))
        parts = x[: len(x) // 320 * 320].reshape(-1, 320)
        assert len({loudest_hertz(part) for part in parts}) > 1


@pytest.mark.parametrize("sound", [knock, clap, cough])
def test_what_strikes_is_there_at_once_and_decays(sound: Callable[[np.random.Generator], Samples]) -> None:
    x = sound(RNG(0))[: SAMPLE_RATE // 5]
    third = len(x) // 3
    assert decibels(x[:third]) > decibels(x[2 * third :]) + 10


def test_typing_is_mostly_silent_and_a_breath_is_not() -> None:
    def loud(x: Samples) -> float:
        return float(np.mean(np.abs(x) > 0.05 * np.abs(x).max()))

    assert loud(typing(RNG(0))) < 0.15
    assert loud(breath(RNG(0))) > 0.4
