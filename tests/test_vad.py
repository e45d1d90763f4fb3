import numpy as np
import pytest
from numpy.typing import NDArray

from streaming_asr.features import FeatureStream
from streaming_asr.training.distort import coloured_noise
from streaming_asr.vad import CHANGING, Signs, VoiceActivityDetector


def voice(seconds: float, pitch: float = 120.0) -> NDArray[np.float32]:
    """A buzz with vowel-like formants: what webrtcvad takes for speech."""
    time = np.arange(int(seconds * 16000)) / 16000
    buzz = sum(
        np.exp(-((k * pitch - 500) ** 2) / 9e4) * np.sin(2 * np.pi * k * pitch * time) for k in range(1, 30)
    ) + 0.3 * sum(np.exp(-((k * pitch - 1500) ** 2) / 9e4) * np.sin(2 * np.pi * k * pitch * time) for k in range(1, 30))
    envelope = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * time)
    return np.asarray(0.2 * buzz * envelope, np.float32)


def hiss(seconds: float, level: float = 1e-3) -> NDArray[np.float32]:
    return (level * np.random.default_rng(0).standard_normal(int(seconds * 16000))).astype(np.float32)


def decide(samples: NDArray[np.float32], size: int = 960) -> Signs:
    features, detector = FeatureStream(), VoiceActivityDetector()
    results = [
        detector.accept(samples[i : i + size], features.accept(samples[i : i + size]))
        for i in range(0, len(samples), size)
    ]
    return np.concatenate(results)


def test_a_voice_in_silence_is_found() -> None:
    voiced, wake, changing = decide(np.concatenate((hiss(1), voice(1) + hiss(1), hiss(1)))).T
    assert not voiced[:95].any()
    assert voiced[115:190].all()
    assert not voiced[220:].any()
    assert wake[100:110].any(), "the onset must wake at once"
    assert changing[100:115].any()
    assert not changing[:95].any()
    assert not changing[230:].any()


@pytest.mark.parametrize("size", [1, 159, 160, 161, 320, 1200, 48000])
def test_chunking_changes_nothing(size: int) -> None:
    samples = np.concatenate((hiss(0.3, 2e-3), voice(0.3), voice(0.3, 200) * 0.1))
    expected = decide(samples)
    got = decide(samples, size)
    assert np.array_equal(got, expected)


def test_a_sound_that_webrtcvad_does_not_know_still_wakes() -> None:
    click = np.zeros(1600, np.float32)
    click[400:700] = 0.05 * np.sign(np.random.default_rng(1).standard_normal(300))
    _, wake, _ = decide(np.concatenate((hiss(1, 1e-3), hiss(0.1, 1e-3) + click, hiss(0.5, 1e-3)))).T
    assert wake[100:112].any()


def test_steady_noise_becomes_the_floor() -> None:
    detector_quiet = np.zeros((1000, 80), np.float32) + 2.0
    detector = VoiceActivityDetector()
    silence = np.zeros(160000, np.float32)
    detector.accept(silence, detector_quiet)
    louder = detector_quiet + 3.0
    _, wake, changing = detector.accept(silence, louder).T
    assert wake[:100].all()
    assert changing[10:100].all()
    assert not wake[600:].any()
    assert not changing[600:].any()


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("level", [3e-4, 0.2])
def test_steady_noise_of_any_colour_does_not_change_though_it_passes_for_voice(exponent: float, level: float) -> None:
    noise = coloured_noise(16000 * 20, exponent, np.random.default_rng(3))
    assert not decide(level * noise / np.std(noise))[:, CHANGING].any()


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_a_voice_in_noise_of_its_own_strength_changes(exponent: float) -> None:
    speech = np.concatenate((hiss(1), voice(1), hiss(0.5)))
    noise = coloured_noise(len(speech), exponent, np.random.default_rng(3))
    assert decide(speech + noise * np.std(voice(1)) / np.std(noise))[100:210, CHANGING].any()
