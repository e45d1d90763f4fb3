"""Owns the acoustic features: 80 log-mel energies every 10 ms, one implementation for training and serving.

Kaldi's filter bank (`compute-fbank-feats` without dither): each frame is centred, pre-emphasized and windowed, and its
power spectrum summed in triangles on the mel scale. No operation looks beyond its frame, so the result has the same
bits under any chunking of the samples. Must not know the model: what is stacked or normalized is the model's business.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import njit_brief

SAMPLE_RATE = 16_000
NUM_MEL_BINS = 80
FRAME_SHIFT_SAMPLES = 160  # 10 ms
FRAME_LENGTH_SAMPLES = 400  # 25 ms
FRAME_SHIFT_SECONDS = FRAME_SHIFT_SAMPLES / SAMPLE_RATE
# Log energy, on the 16-bit integer scale, under which a bin holds no more than quantization noise. Digital silence
# would otherwise read as log(1e-7), far from anything that a microphone gives.
LOG_ENERGY_FLOOR = 0.0

FULL_SCALE = np.float32(32768)  # of 16-bit integers
PREEMPHASIS = np.float32(0.97)
WINDOW_EXPONENT = 0.85  # of a Hann window: Povey's, which is not zero slope at its ends
FFT_SAMPLES = 512
LOWEST_HERTZ, HIGHEST_HERTZ = 20.0, 7600.0
FRAMES_AT_ONCE = 1000  # of a long recording, to bound memory

Samples = NDArray[np.float32]
Features = NDArray[np.float32]


class MelFilters(NamedTuple):
    """Triangles over the bins of a power spectrum: filter m weighs bins ``first[m]`` and on."""

    first: NDArray[np.int64]  # [80]
    start: NDArray[np.int64]  # [81]; the weights of filter m are weights[start[m] : start[m + 1]]
    weights: NDArray[np.float32]  # [W]


def _mel_filters() -> MelFilters:
    """Peaks equally spaced on O'Shaughnessy's mel scale, each filter falling to zero at its neighbours' peaks."""
    edges = np.linspace(_mel(np.float64(LOWEST_HERTZ)), _mel(np.float64(HIGHEST_HERTZ)), NUM_MEL_BINS + 2)
    bins = _mel(np.arange(FFT_SAMPLES // 2) * SAMPLE_RATE / FFT_SAMPLES)
    left, peak, right = (edges[at : at + NUM_MEL_BINS, None] for at in range(3))
    triangles = np.minimum((bins - left) / (peak - left), (right - bins) / (right - peak))  # [80, 256]
    inside = triangles > 0
    start = np.concatenate(([0], np.cumsum(inside.sum(axis=1))))
    return MelFilters(inside.argmax(axis=1), start, triangles[inside].astype(np.float32))


def _mel(hertz: Any) -> Any:
    return 1127.0 * np.log1p(hertz / 700.0)


_FILTERS = _mel_filters()
_HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME_LENGTH_SAMPLES) / (FRAME_LENGTH_SAMPLES - 1))
_WINDOW = (_HANN**WINDOW_EXPONENT).astype(np.float32)


@njit_brief()
def _cut(samples: Any, window: Any, frames: Any) -> None:
    """Writes the windowed frames of float32 [N] into [T, 512], of which the end stays as it is."""
    for t in range(frames.shape[0]):
        first = t * FRAME_SHIFT_SAMPLES
        mean = np.float32(0.0)
        for n in range(FRAME_LENGTH_SAMPLES):
            mean += samples[first + n]
        mean /= np.float32(FRAME_LENGTH_SAMPLES)
        before = samples[first] - mean
        for n in range(FRAME_LENGTH_SAMPLES):
            now = samples[first + n] - mean
            frames[t, n] = (now - PREEMPHASIS * before) * window[n] * FULL_SCALE
            before = now


@njit_brief()
def _log_mel(spectrum: Any, filters: Any, features: Any) -> None:
    """Writes the logs of complex64 [T, 257] through the filters into [T, 80]."""
    for t in range(features.shape[0]):
        for m in range(NUM_MEL_BINS):
            energy = np.float32(0.0)
            offset = filters.first[m] - filters.start[m]
            for w in range(filters.start[m], filters.start[m + 1]):
                bin_ = spectrum[t, offset + w]
                energy += filters.weights[w] * (bin_.real * bin_.real + bin_.imag * bin_.imag)
            features[t, m] = max(np.log(max(energy, np.float32(1e-10))), np.float32(LOG_ENERGY_FLOOR))


class FeatureStream:
    """Turns one stream's samples into log-mel frames.

    Frame ``t`` covers samples ``[160 t, 160 t + 400)`` and is emitted as soon as its last sample is there.
    """

    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)  # from the next frame's first sample on

    def accept(self, samples: Samples) -> Features:
        """Feeds ``samples`` (float32 [N], 16 kHz, -1..1); returns the frames they complete (float32 [T, 80])."""
        samples = np.concatenate((self._rest, samples))
        num_frames = max(0, 1 + (len(samples) - FRAME_LENGTH_SAMPLES) // FRAME_SHIFT_SAMPLES)
        self._rest = samples[num_frames * FRAME_SHIFT_SAMPLES :].copy()
        features = np.empty((num_frames, NUM_MEL_BINS), np.float32)
        for first in range(0, num_frames, FRAMES_AT_ONCE):
            part = features[first : first + FRAMES_AT_ONCE]
            frames = np.zeros((len(part), FFT_SAMPLES), np.float32)
            _cut(samples[first * FRAME_SHIFT_SAMPLES :], _WINDOW, frames)
            _log_mel(np.fft.rfft(frames, axis=1), _FILTERS, part)
        return features


def extract(samples: Samples) -> Features:
    """Features of a whole recording: the stream fed all at once (float32 [N] to float32 [T, 80])."""
    return FeatureStream().accept(samples)
