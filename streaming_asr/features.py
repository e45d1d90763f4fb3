"""Owns the acoustic features: 80 log-mel energies every 10 ms, one implementation for training and serving.

The filter bank is kaldi-native-fbank's, which is bit-exact under any chunking of the samples. Must not know the
model: what is stacked or normalized is the model's business.
"""

from __future__ import annotations

import kaldi_native_fbank
import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000
NUM_MEL_BINS = 80
FRAME_SHIFT_SAMPLES = 160  # 10 ms
FRAME_LENGTH_SAMPLES = 400  # 25 ms
FRAME_SHIFT_SECONDS = FRAME_SHIFT_SAMPLES / SAMPLE_RATE
# Log energy, on the 16-bit integer scale, under which a bin holds no more than quantization noise. Digital silence
# would otherwise read as log(1e-7), far from anything that a microphone gives.
LOG_ENERGY_FLOOR = 0.0

Samples = NDArray[np.float32]
Features = NDArray[np.float32]


def _options() -> kaldi_native_fbank.FbankOptions:
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = SAMPLE_RATE
    options.frame_opts.frame_shift_ms = 1000 * FRAME_SHIFT_SECONDS
    options.frame_opts.frame_length_ms = 1000 * FRAME_LENGTH_SAMPLES / SAMPLE_RATE
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = True  # frame t covers samples [160 t, 160 t + 400): no look-ahead, no reflection
    options.mel_opts.num_bins = NUM_MEL_BINS
    options.mel_opts.low_freq = 20.0
    options.mel_opts.high_freq = 7600.0
    return options


class FeatureStream:
    """Turns one stream's samples into log-mel frames.

    Frame ``t`` covers samples ``[160 t, 160 t + 400)`` and is emitted as soon as its last sample is there.
    """

    def __init__(self) -> None:
        self._fbank = kaldi_native_fbank.OnlineFbank(_options())
        self._taken = 0

    def accept(self, samples: Samples) -> Features:
        """Feeds ``samples`` (float32 [N], 16 kHz, -1..1); returns the frames they complete (float32 [T, 80])."""
        if samples.size:
            self._fbank.accept_waveform(SAMPLE_RATE, (samples * 32768.0).tolist())
        num_ready = self._fbank.num_frames_ready
        frames = np.empty((num_ready - self._taken, NUM_MEL_BINS), np.float32)
        for row in range(len(frames)):
            frames[row] = self._fbank.get_frame(self._taken + row)
        self._fbank.pop(len(frames))
        self._taken = num_ready
        return np.maximum(frames, LOG_ENERGY_FLOOR, out=frames)


def extract(samples: Samples) -> Features:
    """Features of a whole recording: the stream fed all at once (float32 [N] to float32 [T, 80])."""
    return FeatureStream().accept(samples)
