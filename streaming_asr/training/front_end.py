"""Owns the change of a trained model's front end: convolutions that first learn to say what its linear layer said.

So that training goes on from the same network, whose recurrent layers need not learn anew. Must not know the objective.
"""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import torch

from ..model import AcousticModel
from .data import Augmentation
from .dataset import DataSet

logger = logging.getLogger(__name__)

STEPS = 700
RECORDINGS, WINDOWS = 12, 1200  # of a batch; windows are drawn from all of the recordings
LEARNING_RATE, WARMUP_STEPS = 2e-3, 50


def with_convolutions(
    model: AcousticModel, channels: int, data: DataSet, policy: Augmentation, seed: int
) -> AcousticModel:
    """``model`` with convolutions of so many channels, fitted to what its first layer makes of ``data``."""
    torch.manual_seed(seed)
    fitted = AcousticModel(dataclasses.replace(model.config, channels=channels))
    assert fitted.convolutions
    fitted.load_state_dict({k: v for k, v in model.state_dict().items() if k != "input.weight"}, strict=False)
    front = [*fitted.convolutions.parameters(), *fitted.input.parameters(), *fitted.input_norm.parameters()]
    optimizer = torch.optim.Adam(front)
    rng = np.random.default_rng(seed)
    mean, _ = data.features.statistics()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / WARMUP_STEPS, 1 - step / STEPS)
        frames = data.batch(rng.choice(data.indices, RECORDINGS).tolist(), policy, mean, rng).frames
        windows = model.windows(frames, model.initial_state(len(frames)))[0].flatten(0, 1)
        windows = windows[torch.randperm(len(windows))[:WINDOWS]]
        with torch.no_grad():
            wanted = torch.relu(model.input_norm(model.input(windows)))
        error = ((torch.relu(fitted.input_norm(fitted.input(fitted.convolutions(windows)))) - wanted) ** 2).mean()
        optimizer.zero_grad()
        torch.autograd.backward(error)
        optimizer.step()
    logger.info("the convolutions leave %.1f %% of the variance", 100 * float(error.detach()) / float(wanted.var()))
    return fitted
