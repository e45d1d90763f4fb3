"""Owns what the commands measure with: which recordings, as which samples, and the recognizer as it is served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from streaming_asr.audio import Samples
from streaming_asr.features import extract
from streaming_asr.manifest import SHIPPED_MODEL
from streaming_asr.network import StepFunction
from streaming_asr.recognizer import Recognizer
from streaming_asr.stream import flush_silence

T = TypeVar("T")


def spread(items: Sequence[T], count: int) -> list[T]:
    """So many of the items, or all if they are fewer, in order and evenly from the first to the last."""
    count = min(count, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def to_pcm(samples: Samples) -> NDArray[np.int16]:
    """int16 [N] of float32 [N] in -1..1."""
    return np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)


def load_recognizer(folder: Path = SHIPPED_MODEL) -> Recognizer:
    """With one thread for what torch computes, as the server has."""
    torch.set_num_threads(1)
    return Recognizer.load(folder)


def network_outputs(network: StepFunction, samples: Samples) -> NDArray[np.float32]:
    """What the network makes of a whole recording, float32 [T, V]; as a stream that is finished gets it."""
    frames = extract(np.concatenate((samples, flush_silence(network.config.delay_frames))))
    frames = np.concatenate((frames, np.repeat(frames[-1:], -len(frames) % network.config.frames_per_step, axis=0)))
    with torch.inference_mode():
        outputs: NDArray[np.float32] = network(torch.from_numpy(frames)[None], network.initial_state(1))[0][0].numpy()
    return outputs
