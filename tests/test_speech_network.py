"""The network that tells speech from music computes what PyTorch would, frame by frame, and its file is checked."""

from pathlib import Path

import numpy as np
import pytest
import torch

from streaming_asr.errors import ModelError
from streaming_asr.features import NUM_MEL_BINS, Features
from streaming_asr.speech_network import DEAF, NUM_INPUTS, Carried, SpeechNetwork, score, shapes_of

SIZE = 5


def network() -> SpeechNetwork:
    rng = np.random.default_rng(0)
    return SpeechNetwork(**{n: rng.normal(0, 0.3, s).astype(np.float32) for n, s in shapes_of(SIZE).items()})


def frames(count: int) -> tuple[Features, Features]:
    """Energies, and those that count as 30 ms before."""
    now, before = np.random.default_rng(1).normal(10, 3, (2, count, NUM_MEL_BINS)).astype(np.float32)
    return now, before


def test_scores_are_those_of_gated_recurrent_units() -> None:
    weights, (now, before) = network(), frames(20)
    carried = Carried.start(weights)
    scores = [score(now[t], before[t], weights, carried) for t in range(20)]

    units = torch.nn.GRU(SIZE, SIZE)
    parameters = weights.gates.T, weights.carried.T, weights.gates_bias, weights.carried_bias
    with torch.inference_mode():
        for parameter, value in zip(units.parameters(), parameters, strict=True):
            parameter.copy_(torch.from_numpy(value.copy()))
        mean, mean_before = now.mean(1, keepdims=True), before.mean(1, keepdims=True)
        bins = (now - mean) / 3, (before - mean_before) / 3, (mean - 10) / 4, (mean - mean_before) / 2
        hidden = np.maximum(0, np.concatenate(bins, axis=1) @ weights.inputs + weights.inputs_bias)
        states = units(torch.from_numpy(hidden))[0].numpy()
    np.testing.assert_allclose(scores, states @ weights.score + weights.score_bias, atol=1e-3)


def test_streams_do_not_mind_each_other() -> None:
    weights, (now, before) = network(), frames(8)
    alone, first, second = (Carried.start(weights) for _ in range(3))
    expected = [score(now[t], before[t], weights, alone) for t in range(8)]
    heard = []
    for t in range(8):
        heard.append(score(now[t], before[t], weights, first))
        score(before[t], now[t], weights, second)
    assert heard == expected


def test_without_a_network_all_may_be_speech() -> None:
    now, before = frames(1)
    assert score(now[0], before[0], DEAF, Carried.start(DEAF)) == 1e9


def test_a_file_keeps_it(tmp_path: Path) -> None:
    network().save(tmp_path / "speech.safetensors")
    loaded = SpeechNetwork.load(tmp_path / "speech.safetensors")
    for before, after in zip(network(), loaded, strict=True):
        np.testing.assert_array_equal(after, before)


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "speech.safetensors"
    good = network()
    for changed in (
        good._replace(gates=good.gates[:, :-1]),
        good._replace(inputs=np.zeros((NUM_INPUTS - 1, SIZE), np.float32)),
        good._replace(score_bias=good.score_bias.astype(np.float16)),
        good._replace(score=np.full(SIZE, np.nan, np.float32)),
    ):
        SpeechNetwork(*map(np.ascontiguousarray, changed)).save(path)
        with pytest.raises(ModelError, match="do not fit"):
            SpeechNetwork.load(path)
