"""Owns sounds without speech, as they are around a microphone: steady, tonal, and short. Pure: numbers in, samples out.

Each is float32 [num_samples] at 16 kHz, drawn from the generator that is passed in; but for steady ones a quiet room
(-70 dBFS) lies under it. Must not know the recognizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from streaming_asr.features import SAMPLE_RATE, Samples
from streaming_asr.training.distort import at_level, coloured_noise, faded

Noise = Callable[[int, np.random.Generator], Samples]

STEADY_DBFS = -30.0
ROOM_DBFS = -70.0
PEAK_DBFS = (-30.0, -6.0)  # of a sound over the room
DTMF_ROWS, DTMF_COLUMNS = (697, 770, 852, 941), (1209, 1336, 1477, 1633)  # Hz, ITU-T Q.23
VOCAL_TRACT = ((500, 120), (1500, 180), (2500, 250), (3500, 350))  # Hz: formants of a neutral vowel, and their widths
SCALE = (0, 2, 4, 5, 7, 9, 11)  # semitones of a major one
TRIAD = (0, 4, 7)


def without_speech() -> dict[str, Noise]:
    """Name and sound."""
    return {
        "digital silence": lambda n, rng: np.zeros(n, np.float32),
        "a quiet room (-70 dBFS)": lambda n, rng: at_level(coloured_noise(n, 1.0, rng), ROOM_DBFS),
        "white noise (-30 dBFS)": lambda n, rng: at_level(coloured_noise(n, 0.0, rng), STEADY_DBFS),
        "pink noise (-30 dBFS)": lambda n, rng: at_level(coloured_noise(n, 1.0, rng), STEADY_DBFS),
        "brown noise (-30 dBFS)": lambda n, rng: at_level(coloured_noise(n, 2.0, rng), STEADY_DBFS),
        "mains hum (-30 dBFS)": lambda n, rng: at_level(np.sign(np.sin(2 * np.pi * 50 * _seconds(n))), STEADY_DBFS),
        "pink noise in steps (-55 to -25 dBFS)": steps,
        "beeps": lambda n, rng: _over_room(n, rng, beep, (0.1, 2.0)),
        "telephone keys (DTMF)": lambda n, rng: _over_room(n, rng, dialling, (0.5, 2.0)),
        "two-tone sirens and sweeps": lambda n, rng: _over_room(n, rng, siren, (0.5, 2.0)),
        "melodies and chords": lambda n, rng: _over_room(n, rng, melody, (0.2, 1.5)),
        "knocks": lambda n, rng: _over_room(n, rng, knock, (0.2, 1.8)),
        "keyboard": lambda n, rng: _over_room(n, rng, typing, (0.3, 2.0)),
        "claps": lambda n, rng: _over_room(n, rng, clap, (0.2, 2.0)),
        "coughs": lambda n, rng: _over_room(n, rng, cough, (0.3, 2.0)),
        "breaths": lambda n, rng: _over_room(n, rng, breath, (0.5, 2.0)),
    }


def steps(num_samples: int, rng: np.random.Generator) -> Samples:
    """Pink noise that jumps to another loudness every 1 to 4 s."""
    x = at_level(coloured_noise(num_samples, 1.0, rng), 0.0)
    first = 0
    while first < num_samples:
        end = first + round(rng.uniform(1, 4) * SAMPLE_RATE)
        x[first:end] *= 10 ** (rng.uniform(-55, -25) / 20)
        first = end
    return x


# --- tonal ------------------------------------------------------------------------------------------------------------


def beep(rng: np.random.Generator) -> Samples:
    """One tone of 300 to 3500 Hz, 0.1 to 1 s: a sine, or as a buzzer gives it, with odd harmonics."""
    hertz, seconds = _log_uniform(300, 3500, rng), rng.uniform(0.1, 1.0)
    harmonics = range(1, int(SAMPLE_RATE / 2 / hertz) + 1, 2) if rng.random() < 0.5 else (1,)
    tones: Samples = np.sum([_tone(k * hertz, seconds) / k for k in harmonics], axis=0, dtype=np.float32)
    return tones


def dialling(rng: np.random.Generator) -> Samples:
    """3 to 11 keys of a telephone, 0.1 s each and as long apart."""
    pause = np.zeros(SAMPLE_RATE // 10, np.float32)
    keys = [
        _tone(rng.choice(DTMF_ROWS), 0.1) + _tone(rng.choice(DTMF_COLUMNS), 0.1) for _ in range(rng.integers(3, 12))
    ]
    return np.concatenate([part for key in keys for part in (key, pause)])


def siren(rng: np.random.Generator) -> Samples:
    """Two tones in turn, a fourth apart, 0.03 (telephones ring so) to 0.7 s each; or one that sweeps in 0.3 to 3 s."""
    pitch = rng.uniform(400, 1200)
    if rng.random() < 0.5:
        seconds = _log_uniform(0.03, 0.7, rng)
        tones = round(rng.uniform(1, 3) / seconds)
        return np.concatenate([_tone(pitch * (4 / 3 if turn % 2 else 1), seconds) for turn in range(tones)])
    period, sweeps = rng.uniform(0.3, 3), rng.integers(1, 5)
    time = _seconds(round(period * sweeps * SAMPLE_RATE))
    hertz = pitch * 2 ** np.sin(2 * np.pi * time / period)
    return faded(np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE))


def melody(rng: np.random.Generator) -> Samples:
    """4 to 12 notes of eight harmonics that decay like a plucked string's, of a major scale; each third a chord."""
    root, beat = rng.uniform(110, 330), rng.uniform(0.15, 0.5)
    count = int(rng.integers(4, 13))
    x = np.zeros(round((count + 3) * beat * SAMPLE_RATE))
    for at in range(count):
        note = rng.choice(SCALE) + 12 * rng.integers(0, 2)
        first = round(at * beat * SAMPLE_RATE)
        for interval in TRIAD if at % 3 == 0 else (0,):
            x[first:] += _note(root * 2 ** ((note + interval) / 12), len(x) - first, decay_seconds=2 * beat)
    return faded(x)


# --- short ------------------------------------------------------------------------------------------------------------


def knock(rng: np.random.Generator) -> Samples:
    """30 ms of noise that decays in 5 ms."""
    return _burst(0.03, 0.005, rng)


def typing(rng: np.random.Generator) -> Samples:
    """3 to 20 keys of a keyboard, 0.08 to 0.3 s apart, each a click going down and a softer one going up."""
    parts = []
    for _ in range(rng.integers(3, 21)):
        down, up = _burst(rng.uniform(0.04, 0.1), 0.003, rng), 0.4 * _burst(rng.uniform(0.04, 0.2), 0.002, rng)
        parts += [rng.uniform(0.4, 1.0) * down, up]
    return np.concatenate(parts).astype(np.float32)


def clap(rng: np.random.Generator) -> Samples:
    """Noise around 1 to 2 kHz that decays in 10 to 40 ms."""
    decay = rng.uniform(0.01, 0.04)
    return _resonant(_burst(6 * decay, decay, rng), ((rng.uniform(1000, 2000), 800),))


def cough(rng: np.random.Generator) -> Samples:
    """One to three bursts of noise through a vocal tract, each at once there and gone in 0.2 to 0.4 s."""
    scale = rng.uniform(0.85, 1.2)
    formants = [(scale * hertz, 2 * width) for hertz, width in VOCAL_TRACT]
    bursts = []
    for _ in range(rng.integers(1, 4)):
        seconds = rng.uniform(0.2, 0.4)
        bursts.append(_resonant(_burst(seconds, seconds / 5, rng), formants))
    return np.concatenate(bursts)


def breath(rng: np.random.Generator) -> Samples:
    """Noise through a vocal tract that swells and fades in 0.5 to 1.5 s, at most 20 dB under full scale."""
    num_samples = round(rng.uniform(0.5, 1.5) * SAMPLE_RATE)
    noise = rng.standard_normal(num_samples) * np.sin(np.pi * np.arange(num_samples) / num_samples) ** 2
    return 0.1 * _resonant(noise, [(hertz, 4 * width) for hertz, width in VOCAL_TRACT])


# --- what they are made of --------------------------------------------------------------------------------------------


def _over_room(
    num_samples: int,
    rng: np.random.Generator,
    sound: Callable[[np.random.Generator], Samples],
    gap_seconds: tuple[float, float],
) -> Samples:
    """Sounds one after the other, each with a loudness of its own, over a quiet room; the last may be cut off."""
    x = at_level(coloured_noise(num_samples, 1.0, rng), ROOM_DBFS)
    first = 0
    while True:
        first += round(rng.uniform(*gap_seconds) * SAMPLE_RATE)
        if first >= num_samples:
            return x
        heard = sound(rng)[: num_samples - first]
        gain = 10 ** (rng.uniform(*PEAK_DBFS) / 20) / max(float(np.abs(heard).max()), 1e-9)
        x[first : first + len(heard)] += np.float32(gain) * heard
        first += len(heard)


def _seconds(num_samples: int) -> NDArray[np.float64]:
    """Time of each sample, float64 [num_samples]."""
    return np.arange(num_samples) / SAMPLE_RATE


def _log_uniform(low: float, high: float, rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _tone(hertz: float, seconds: float) -> Samples:
    return faded(np.sin(2 * np.pi * hertz * _seconds(round(seconds * SAMPLE_RATE))))


def _note(hertz: float, num_samples: int, decay_seconds: float) -> NDArray[np.float64]:
    """Eight harmonics, the k-th 1/k as loud and gone k times as fast. Float64 [num_samples]."""
    time = _seconds(num_samples)
    x = np.zeros(num_samples)
    for k in range(1, 9):
        x += np.sin(2 * np.pi * k * hertz * time) * np.exp(-k * time / decay_seconds) / k
    return x


def _burst(seconds: float, decay_seconds: float, rng: np.random.Generator) -> Samples:
    """White noise that is there at once and decays exponentially."""
    time = _seconds(round(seconds * SAMPLE_RATE))
    return (rng.standard_normal(len(time)) * np.exp(-time / decay_seconds)).astype(np.float32)


def _resonant(x: NDArray[np.floating], resonances: Sequence[tuple[float, float]]) -> Samples:
    """``x`` [N] through resonances in parallel: (Hz, width in Hz) of each."""
    hertz = np.fft.rfftfreq(2 * len(x), 1 / SAMPLE_RATE)
    response = sum(1 / (1 + 2j * (hertz - peak) / width) for peak, width in resonances)
    return np.fft.irfft(np.fft.rfft(x, 2 * len(x)) * response)[: len(x)].astype(np.float32)
