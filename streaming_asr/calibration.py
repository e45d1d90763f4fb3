"""Owns the measurement at start of what a step costs on this machine, which takes a fraction of a second, and the file
that can keep it.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from .admission import StepCost
from .decoder import Decoder
from .errors import InputError
from .features import SAMPLE_RATE, FeatureStream
from .files import replacing
from .lexicon import LexiconTree
from .network import StepFunction
from .tokens import BLANK, NUM_TOKENS
from .vad import VoiceActivityDetector

BATCH = 32  # streams in the larger of the two steps of the network that are compared,
SEARCHES = 4  # and of the two of the search
ROUNDS = 2  # the shortest counts: what else runs on the machine only ever adds
SPOKEN_FRAMES = 60  # of made-up speech, after which the search has as much in hand as in speech
FRONT_SECONDS = 0.5


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds."""

    measured: str  # what, and where
    cost: StepCost


def kept_cost(path: Path, subject: str, measure: Callable[[], StepCost]) -> StepCost:
    """The cost in the file if it is this ``subject``'s on such a processor; else what is measured now, and kept there.

    Raises `InputError` when the file cannot be read or written, or holds something else.
    """
    measured = f"{subject}, on {processor()}"
    try:
        if path.exists():
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
            if kept.measured == measured:
                return kept.cost
        cost = measure()
        with replacing(path) as file:
            file.write(msgspec.json.format(msgspec.json.encode(_Kept(measured, cost))) + b"\n")
    except OSError as error:
        raise InputError(f"the calibration cannot be kept in {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InputError(f"{path} is not a calibration: {error}") from error
    return cost


def processor() -> str:
    """Its model, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def measure_step(model: StepFunction, decoder: Decoder) -> StepCost:
    """Times the front end, the network and the search on made-up sound and speech."""
    config = model.config
    outputs = config.outputs_per_step
    one, many = (_shortest(network_step(model, size)) for size in (1, BATCH))
    per_stream = max(0.0, many - one) / (BATCH - 1)
    alone, together = (_shortest(_searches(decoder, size, outputs)) * outputs / SPOKEN_FRAMES for size in (1, SEARCHES))
    searched = max(0.0, together - alone) / (SEARCHES - 1)
    front = _shortest(_front_end) / FRONT_SECONDS * config.step_seconds
    fixed = max(0.0, one - per_stream) + max(0.0, alone - searched)
    return StepCost(fixed, per_stream + front + searched, config.step_seconds)


def _searches(decoder: Decoder, num_streams: int, outputs: int) -> Callable[[], None]:
    """So many searches side by side, to be timed."""
    speech = np.stack([made_up_speech(decoder.tree, SPOKEN_FRAMES, seed) for seed in range(num_streams)])

    def search() -> None:
        states = [decoder.start() for _ in speech]
        for first in range(0, SPOKEN_FRAMES, outputs):
            decoder.step_many(states, speech[:, first : first + outputs])
            decoder.best_many(states)

    return search


def made_up_speech(tree: LexiconTree, num_frames: int, seed: int = 0) -> NDArray[np.float32]:
    """Log posteriors [num_frames, V] as unsure as those of real speech, along a path through the lexicon tree."""
    rng = np.random.default_rng(seed)
    arrays = tree.arrays
    logits = rng.normal(-11.0, 2.0, (num_frames, NUM_TOKENS))
    node = 0
    for frame in range(num_frames):
        if frame % 3:
            logits[frame, BLANK] = 0.0
            continue
        first, end = arrays.first_child[node], arrays.first_child[node + 1]
        node = int(rng.integers(first, end)) if first < end else int(rng.integers(arrays.first_child[1]) + 1)
        logits[frame, arrays.phone[node]] = 0.0
        logits[frame, BLANK] = -1.0
        logits[frame, rng.integers(1, NUM_TOKENS)] = -2.0
    log_total = np.log(np.exp(logits).sum(axis=1, keepdims=True))
    posteriors: NDArray[np.float32] = (logits - log_total).astype(np.float32)
    return posteriors


def network_step(model: StepFunction, batch: int) -> Callable[[], None]:
    """One step of the network for so many streams, to be timed."""
    frames = torch.randn(batch, model.config.frames_per_step, model.config.num_mel_bins)
    state = model.initial_state(batch)

    def step() -> None:
        with torch.inference_mode():
            model(frames, state)[0].cpu()  # waits for other devices

    return step


def _front_end() -> None:
    sound = np.random.default_rng(0).normal(0.0, 0.1, round(FRONT_SECONDS * SAMPLE_RATE)).astype(np.float32)
    features, vad = FeatureStream(), VoiceActivityDetector()
    for piece in np.array_split(sound, round(FRONT_SECONDS / 0.04)):
        vad.accept(piece, features.accept(piece))


def _shortest(work: Callable[[], None]) -> float:
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
