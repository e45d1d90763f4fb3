"""Owns the ``train-speech-network`` recipe: recordings of speech, and of other sounds, in, a `SpeechNetwork` out.

A score is to be high somewhere in each part of a word, and low all through each half second of other sound, whatever
the microphone: bins are coloured, shifted and masked at random. At the end scores are moved so that those of hardly any
lone word are below 0, where `tones` parts them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, pad, softplus

from ..errors import InputError
from ..features import NUM_MEL_BINS, Features
from ..recordings import find_recordings
from ..speech_network import BIN_SCALE, CHANGE_SCALE, LEVEL, LEVEL_SCALE, NUM_INPUTS, SpeechNetwork
from ..tones import EDGE_FRAMES, SCORE_FRAMES, STILL_FRAMES
from .speech_streams import STREAM_SECONDS, Sounds, Stream, find_audio, make_lone_word, make_stream

logger = logging.getLogger(__name__)

SIZE = 32  # gated recurrent units
BATCH = 32  # streams
PEAK_LEARNING_RATE, LAST_LEARNING_RATE, WARM_UP_STEPS = 3e-3, 2e-5, 30
MAX_GRADIENT_NORM = 1.0
REPORTED_STEPS = 50
LONE_WORDS, LOST_SHARE = 10_000, 0.002  # made up for the last bias; of them that have no score over 0


class Network(nn.Module):
    """`SpeechNetwork` as PyTorch learns it."""

    def __init__(self, size: int = SIZE) -> None:
        super().__init__()
        self.inputs = nn.Linear(NUM_INPUTS, size)
        self.units = nn.GRU(size, size, batch_first=True)
        self.score = nn.Linear(size, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Scores [B, T] of frames float32 [B, T, 80]."""
        mean = frames.mean(-1, keepdim=True)
        bins = (frames - mean) / BIN_SCALE
        bins_before, mean_before = (torch.cat((x[:, :STILL_FRAMES], x[:, :-STILL_FRAMES]), 1) for x in (bins, mean))
        inputs = (bins, bins_before, (mean - LEVEL) / LEVEL_SCALE, (mean - mean_before) / CHANGE_SCALE)
        states, _ = self.units(torch.relu(self.inputs(torch.cat(inputs, -1))))
        scores: Tensor = self.score(states)[..., 0]
        return scores

    def exported(self, least: float) -> SpeechNetwork:
        """The same, as it is served: with scores that are less by ``least``."""
        weights = {name: np.array(tensor.numpy().T, order="C") for name, tensor in self.state_dict().items()}
        return SpeechNetwork(
            inputs=weights["inputs.weight"],
            inputs_bias=weights["inputs.bias"],
            gates=weights["units.weight_ih_l0"],
            gates_bias=weights["units.bias_ih_l0"],
            carried=weights["units.weight_hh_l0"],
            carried_bias=weights["units.bias_hh_l0"],
            score=weights["score.weight"][:, 0],
            score_bias=weights["score.bias"] - np.float32(least),
        )


def augment(frames: Features, rng: np.random.Generator) -> Features:
    """A copy of float32 [T, 80] as another voice, microphone or place may give it."""
    bins = np.arange(NUM_MEL_BINS)
    colour = np.full(NUM_MEL_BINS, rng.normal(0, 1))
    for waves in (1, 2, 3, 4, 6):
        colour += rng.normal(0, 0.45) * np.cos(np.pi * waves * bins / NUM_MEL_BINS + rng.uniform(0, 2 * np.pi))
    changed: Features = frames + colour.astype(np.float32)
    if rng.random() < 0.5:
        changed = changed[:, (bins - rng.integers(-3, 4)).clip(0, NUM_MEL_BINS - 1)]
    if rng.random() < 0.3:  # noise
        level = rng.uniform(1, 9) + rng.normal(0, 0.5, NUM_MEL_BINS)
        noise = level.astype(np.float32) + np.float32(0.4) * rng.standard_normal(changed.shape, np.float32)
        changed = np.logaddexp(changed, noise, dtype=np.float32)
    if rng.random() < 0.3:
        first = int(rng.integers(70))
        changed[:, first : first + int(rng.integers(1, 10))] = changed.min(axis=1, keepdims=True)
    return changed


def loss_of(scores: Tensor, groups: NDArray[np.int64], is_speech: NDArray[np.bool_]) -> Tensor:
    """Of scores [B, T], as `Stream` has groups and speech [B, T]; mostly of each group's highest."""
    scores, groups, is_speech = scores[:, EDGE_FRAMES:], groups[:, :-EDGE_FRAMES], is_speech[:, :-EDGE_FRAMES]
    is_in = groups >= 0
    numbers = np.arange(len(groups))[:, None] * groups.shape[1] + groups
    distinct, first, of_frame = np.unique(numbers[is_in], return_index=True, return_inverse=True)
    of_frames = scores[torch.from_numpy(is_in)]
    highest = torch.full((len(distinct),), -1e9).scatter_reduce(0, torch.from_numpy(of_frame), of_frames, "amax")
    frames_speak = torch.from_numpy(is_speech[is_in])
    speak = frames_speak[torch.from_numpy(first)]
    missed, taken = softplus(-highest[speak]), softplus(highest[~speak])
    return (
        2 * _mean(missed)
        + 0.3 * _mean(missed**2)  # no word is to be lost
        + _mean(taken)
        + 0.2 * _mean(softplus(-of_frames[frames_speak]))
        + 0.3 * _mean(softplus(of_frames[~frames_speak]))
    )


def _mean(x: Tensor) -> Tensor:
    return x.sum() / max(1, len(x))


def train_speech_network(
    speech: Path, other: Path, output: Path, *, hours: float = 7.0, steps: int = 1200, seed: int = 1
) -> None:
    """Writes ``output``; on one machine the same weights for the same ``seed``.

    :param speech: transcribed recordings, as `recordings` finds them.
    :param other: audio files without speech: music, noises.
    :param hours: of streams that are made up before the first step.
    :param steps: of 32 streams each.
    :raises InputError: a folder has no audio, no changing sound is in the speech, or a file cannot be read.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    sounds = Sounds(find_recordings([speech]), find_audio(other), rng)
    streams = [make_stream(sounds, rng) for _ in range(max(1, round(hours * 3600 / STREAM_SECONDS)))]
    logger.info("%d streams of %d s", len(streams), STREAM_SECONDS)
    network = fit(streams, steps, rng)
    least = least_score(network, (make_lone_word(sounds, rng) for _ in range(LONE_WORDS)))
    logger.info("lone words have %.2f at least", least)
    network.exported(least).save(output)


def fit(streams: Sequence[Stream], steps: int, rng: np.random.Generator) -> Network:
    """A network that has read so many batches of ``streams``, all as often."""
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters())
    order: list[int] = []
    losses = 0.0
    for step in range(steps):
        for parameters in optimizer.param_groups:
            falling = PEAK_LEARNING_RATE * (1 - step / steps) ** 0.8
            parameters["lr"] = min(1.0, (step + 1) / WARM_UP_STEPS) * falling + LAST_LEARNING_RATE
        if len(order) < BATCH:
            order += rng.permutation(len(streams)).tolist()
        batch, order = [streams[index] for index in order[:BATCH]], order[BATCH:]
        frames = np.stack([augment(stream.frames.astype(np.float32), rng) for stream in batch])  # [B, T, 80]
        groups, is_speech = (np.stack([getattr(s, name) for s in batch]) for name in ("groups", "is_speech"))
        loss = loss_of(network(torch.from_numpy(frames)), groups, is_speech)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        losses += loss.item()
        if (step + 1) % REPORTED_STEPS == 0:
            logger.info("step %d of %d, loss %.3f", step + 1, steps, losses / REPORTED_STEPS)
            losses = 0.0
    return network


def least_score(network: Network, words: Iterable[Stream]) -> float:
    """What all but `LOST_SHARE` of the words reach by the mean over which scores are averaged, where it is asked for.

    :raises InputError: it is asked for in none of them.
    """
    highest = []
    for word in words:
        known = np.flatnonzero(word.groups >= 0) + EDGE_FRAMES
        known = known[known < len(word.frames)]
        if len(known):
            with torch.inference_mode():
                scores = network(torch.from_numpy(word.frames.astype(np.float32))[None])
                means = avg_pool1d(pad(scores, (SCORE_FRAMES - 1, 0), mode="replicate"), SCORE_FRAMES, 1)
            highest.append(float(means[0, known].max()))
    if not highest:
        raise InputError("no recording of speech has sound that changes")
    return float(np.quantile(highest, LOST_SHARE))
