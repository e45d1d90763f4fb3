"""Owns a small network that says of each frame how surely speech, and no music, has been heard there; and its file.

Two layers, the second of gated recurrent units (Cho et al. 2014). A score depends on its frame and those before,
however the audio is cut. Must not know what is done with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from .compiled import njit_brief
from .errors import ModelError
from .features import NUM_MEL_BINS
from .tensor_file import read_tensors

FORMAT = "streaming_asr.speech_network"
VERSION = "2"  # 1: speech from -2.06 on
BIN_SCALE, LEVEL, LEVEL_SCALE, CHANGE_SCALE = 3.0, 10.0, 4.0, 2.0  # nepers
LARGEST = 4.97  # beyond, the fraction would leave -1..1
NUM_INPUTS = 2 * NUM_MEL_BINS + 2  # bins now and 30 ms ago, each less their mean; the mean, and its change


class SpeechNetwork(NamedTuple):
    """Weights, float32, with outputs last; H numbers are carried on from frame to frame. Shared by all streams."""

    inputs: NDArray[np.float32]  # [162, H]
    inputs_bias: NDArray[np.float32]  # [H]
    gates: NDArray[np.float32]  # [H, 3 H] reset, update, new
    gates_bias: NDArray[np.float32]  # [3 H]
    carried: NDArray[np.float32]  # [H, 3 H]
    carried_bias: NDArray[np.float32]  # [3 H]
    score: NDArray[np.float32]  # [H]
    score_bias: NDArray[np.float32]  # [1]

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file."""
        save_file(self._asdict(), path, {"format": FORMAT, "version": VERSION})

    @classmethod
    def load(cls, path: str | Path) -> SpeechNetwork:
        """Reads what `save` wrote. Raises `ModelError` when the file is damaged or its tensors do not fit."""
        _, tensors = read_tensors(path, FORMAT, VERSION)
        size = len(tensors.get("score", ()))
        shapes = shapes_of(size)
        if {name: tensor.shape for name, tensor in tensors.items()} != shapes or not all(
            tensor.dtype == np.float32 and np.isfinite(tensor).all() for tensor in tensors.values()
        ):
            raise ModelError(f"{path}: tensors do not fit together")
        return cls(**tensors)


def shapes_of(size: int) -> dict[str, tuple[int, ...]]:
    """Of the tensors of a network that carries so many numbers on."""
    return {
        "inputs": (NUM_INPUTS, size),
        "inputs_bias": (size,),
        "gates": (size, 3 * size),
        "gates_bias": (3 * size,),
        "carried": (size, 3 * size),
        "carried_bias": (3 * size,),
        "score": (size,),
        "score_bias": (1,),
    }


# Of models without one: all may be speech.
DEAF = SpeechNetwork(**{name: np.zeros(shape, np.float32) for name, shape in shapes_of(1).items()})._replace(
    score_bias=np.full(1, 1e9, np.float32)
)


class Carried(NamedTuple):
    """What a network carries on in one stream, and where it computes."""

    state: NDArray[np.float32]  # [H]
    inputs: NDArray[np.float32]  # [162]
    hidden: NDArray[np.float32]  # [H]
    gates: NDArray[np.float32]  # [2, 3 H]

    @classmethod
    def start(cls, network: SpeechNetwork) -> Carried:
        """Before the first frame."""
        size = len(network.score)
        zeros = (np.zeros(shape, np.float32) for shape in (size, NUM_INPUTS, size, (2, 3 * size)))
        return cls(*zeros)


@njit_brief()
def score(energies: Any, before: Any, network: Any, carried: Any) -> Any:
    """How surely the frame with ``energies`` float32 [80] is speech's, nats; ``before`` as many, 30 ms ago."""
    weights, weights_bias, gates, gates_bias, carried_weights, carried_bias, score_weights, score_bias = network
    state, inputs, hidden, sums = carried
    mean, mean_before = np.float32(0), np.float32(0)
    for bin_ in range(NUM_MEL_BINS):
        mean += energies[bin_]
        mean_before += before[bin_]
    mean, mean_before = mean / np.float32(NUM_MEL_BINS), mean_before / np.float32(NUM_MEL_BINS)
    for bin_ in range(NUM_MEL_BINS):
        inputs[bin_] = (energies[bin_] - mean) / np.float32(BIN_SCALE)
        inputs[NUM_MEL_BINS + bin_] = (before[bin_] - mean_before) / np.float32(BIN_SCALE)
    inputs[2 * NUM_MEL_BINS] = (mean - np.float32(LEVEL)) / np.float32(LEVEL_SCALE)
    inputs[2 * NUM_MEL_BINS + 1] = (mean - mean_before) / np.float32(CHANGE_SCALE)
    _multiply(inputs, weights, weights_bias, hidden)
    for h in range(len(hidden)):
        hidden[h] = max(hidden[h], np.float32(0))
    _multiply(hidden, gates, gates_bias, sums[0])
    _multiply(state, carried_weights, carried_bias, sums[1])
    size = len(state)
    for n in range(2 * size):
        sums[0, n] = np.float32(0.5) + np.float32(0.5) * _tanh(np.float32(0.5) * (sums[0, n] + sums[1, n]))
    total = score_bias[0]
    for h in range(size):
        new = _tanh(sums[0, 2 * size + h] + sums[0, h] * sums[1, 2 * size + h])
        state[h] = new + sums[0, size + h] * (state[h] - new)
    for h in range(size):
        total += state[h] * score_weights[h]
    return total


@njit_brief()
def _multiply(x: Any, weights: Any, bias: Any, y: Any) -> None:
    """``y`` [N] becomes ``x`` [M] times ``weights`` [M, N], and ``bias``; sums in an order of their own each."""
    for n in range(len(y)):
        y[n] = bias[n]
    for m in range(len(x)):
        for n in range(len(y)):
            y[n] += x[m] * weights[m, n]


@njit_brief()
def _tanh(x: Any) -> Any:
    """Within 0.0001: seven terms of Lambert's continued fraction, which compilers do for many numbers at once."""
    x = min(max(x, np.float32(-LARGEST)), np.float32(LARGEST))
    square = x * x
    above = np.float32(135135) + square * (np.float32(17325) + square * (np.float32(378) + square))
    below = np.float32(135135) + square * (np.float32(62370) + square * (np.float32(3150) + square * np.float32(28)))
    return x * above / below
