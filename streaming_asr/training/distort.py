"""Owns distorted copies of recordings: a room, a noise, a narrow channel. Must not know features or the model.

Every draw comes from the generator that is passed in, so that a copy can be made again. Rooms are noise that decays
exponentially behind a direct sound (Lebart et al. 2001); noises are coloured by a power law, or are other people
talking.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ..features import SAMPLE_RATE, Samples

# A recording of somebody else, for a background of voices.
Speech = Callable[[], Samples]

TELEPHONE_RATE = 8000
RAMP_SECONDS = 0.005  # in which a sound is faded in and out
MP3_COMPRESSION = (0.8, 0.9)  # libsndfile's scale at 16 kHz: 40 and 24 kbit/s


def distort(samples: Samples, rng: np.random.Generator, speech: Speech) -> Samples:
    """A copy of ``samples`` (float32 [N], 16 kHz) in a random room, noise and channel; each may be absent, not all.

    ``speech`` is called for recordings of other people, of any length, a few times at most.
    """
    room, noise, channel = rng.random(3) < (0.5, 0.6, 0.4)
    if not (room or noise or channel):
        noise = True
    x = samples
    if room:
        x = in_room(x, reverberation_seconds=rng.uniform(0.15, 0.7), direct_db=rng.uniform(-2, 10), rng=rng)
    if noise:
        babble = rng.random() < 0.3
        background = babble_noise(len(x), rng, speech) if babble else coloured_noise(len(x), rng.uniform(0, 2), rng)
        x = add_noise(x, background, snr_db=rng.uniform(8 if babble else 3, 25))
    if channel:
        x = over_telephone(x) if rng.random() < 0.4 else through_mp3(x, float(rng.choice(MP3_COMPRESSION)))
    return x


def in_room(x: Samples, *, reverberation_seconds: float, direct_db: float, rng: np.random.Generator) -> Samples:
    """``x`` with reverberation that falls by 60 dB in ``reverberation_seconds``.

    The direct sound is ``direct_db`` above it. As loud as before, and as long: the first arrival is not delayed.
    """
    length = int(reverberation_seconds * SAMPLE_RATE)
    decay = np.exp(-np.log(1000) / length * np.arange(length))
    response = rng.standard_normal(length) * decay
    response[: SAMPLE_RATE // 400] = 0  # nothing is reflected from nearer than 0.4 m
    response *= 10 ** (-direct_db / 20) / np.sqrt(np.sum(response**2))
    response[0] = 1
    size = len(x) + length
    wet = np.fft.irfft(np.fft.rfft(x, size) * np.fft.rfft(response, size), size)[: len(x)]
    return (wet * (_rms(x) / max(_rms(wet), 1e-9))).astype(np.float32)


def coloured_noise(num_samples: int, exponent: float, rng: np.random.Generator) -> Samples:
    """Noise with power falling by frequency to the ``exponent``: 0 white, 1 pink, 2 brown. Float32 [num_samples]."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequency = np.maximum(np.arange(len(spectrum)), num_samples * 50 / SAMPLE_RATE)  # flat below 50 Hz
    return np.fft.irfft(spectrum * frequency ** (-exponent / 2), num_samples).astype(np.float32)


def babble_noise(num_samples: int, rng: np.random.Generator, speech: Speech) -> Samples:
    """Three to six other people at once, each as loud as the others. Float32 [num_samples]."""
    total = np.zeros(num_samples, np.float32)
    for _ in range(rng.integers(3, 7)):
        voice = np.resize(np.roll(other := speech(), int(rng.integers(len(other)))), num_samples)
        total += voice / max(_rms(voice), 1e-9)
    return total


def add_noise(x: Samples, noise: Samples, snr_db: float) -> Samples:
    """``x`` with ``noise`` (as long) scaled to a signal-to-noise ratio over the whole recording."""
    gain = _rms(x) / max(_rms(noise), 1e-9) * 10 ** (-snr_db / 20)
    return (x + gain * noise).astype(np.float32)


def over_telephone(x: Samples) -> Samples:
    """``x`` as 8 kHz, 8-bit mu-law (ITU-T G.711's curve) would give it back, float32 [N] at 16 kHz."""
    narrow = np.clip(soxr.resample(x, SAMPLE_RATE, TELEPHONE_RATE), -1, 1)
    code = np.round(np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256) * 127)
    heard = np.sign(code) * np.expm1(np.abs(code) / 127 * np.log(256)) / 255
    return _fit(soxr.resample(heard.astype(np.float32), TELEPHONE_RATE, SAMPLE_RATE), len(x))


def through_mp3(x: Samples, compression: float) -> Samples:
    """``x`` encoded as MP3 at libsndfile's ``compression`` (0 best to 1) and decoded again, float32 [N]."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", SAMPLE_RATE, 1, "MPEG_LAYER_III", format="MP3", compression_level=compression,
        bitrate_mode="CONSTANT",
    ) as file:  # fmt: skip
        file.write(x)
    buffer.seek(0)
    decoded: Samples = soundfile.read(buffer, dtype="float32")[0]
    return _fit(decoded, len(x))


def at_level(x: NDArray[np.floating], dbfs: float) -> Samples:
    """Scaled to a root mean square of ``dbfs`` below full scale."""
    gain = 10 ** (dbfs / 20) / float(np.sqrt(np.mean(np.square(x))))
    return (x * gain).astype(np.float32)


def faded(x: NDArray[np.floating]) -> Samples:
    """``x`` [N] with a ramp at both ends."""
    ramp = np.minimum(1, np.arange(1, len(x) + 1) / (RAMP_SECONDS * SAMPLE_RATE))
    return (x * ramp * ramp[::-1]).astype(np.float32)


def level_of(x: NDArray[np.floating]) -> float:
    """The root mean square of ``x`` [N], in dB below full scale: -180 of nothing."""
    return 20 * float(np.log10(max(_rms(x) if len(x) else 0.0, 1e-9)))


def _fit(x: Samples, num_samples: int) -> Samples:
    return np.pad(x[:num_samples], (0, max(0, num_samples - len(x))))


def _rms(x: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
