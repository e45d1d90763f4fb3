"""Owns the acoustic model: log-mel frames and a state in, token log-probabilities and the next state out.

A stack of unidirectional recurrent layers that steps once per ``frames_per_step`` (60 ms) and predicts
``outputs_per_step`` (2) output frames of 30 ms at each step: the low rate halves the cost of recurrence, the two
predictions keep the output fine enough for phones (multi-frame prediction: Vanhoucke et al., ICASSP 2013; lower frame
rate: Pundak and Sainath, Interspeech 2016). No step sees any audio after its own 60 ms; one with look-ahead names the
sounds of ``lookahead_frames`` before.

Where a step happens to begin matters to what it makes of a sound. A model of several ``phases`` reads each stream as
often with the same weights, each time an output frame later in its steps, and averages the log-probabilities: an
ensemble of one network, which has all readings of an output frame ``phases - 1`` output frames late.

The state is an explicit value (`ModelState`); the module holds none. Must not know words, streams or sockets.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, NamedTuple

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from .errors import ModelError
from .features import FRAME_SHIFT_SECONDS, NUM_MEL_BINS
from .manifest import MANIFEST_FILE, read_manifest, read_verified
from .tokens import BLANK, NUM_TOKENS

Cell = Literal["lstm", "gru", "rnn"]
_CELLS: dict[str, type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn": nn.RNN,
}


MAX_LAYERS = 64
NUM_CONVOLUTIONS = 3
FREQUENCY_STRIDE = 1, 2  # time, frequency
SURELY_NOT = -20.0  # log-probability of all but blank before the first sample
FEWEST_FRAMES = 7  # that these leave something of


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the network. Frames are log-mel frames of 10 ms."""

    cell: Cell = "lstm"
    num_layers: int = 5
    hidden_size: int = 512
    frames_per_step: int = 6  # 60 ms a step
    context_frames: int = 3  # past frames that a step sees again beside its own
    lookahead_frames: int = 0  # how much older the sounds are that a step names than the frames that it gets
    channels: int = 0  # of the convolutions over what a step sees; 0: none
    outputs_per_step: int = 2  # output frames a step, 30 ms each
    phases: int = 1  # readings of a stream, an output frame apart, that are averaged; outputs_per_step at most
    num_tokens: int = NUM_TOKENS
    num_mel_bins: int = NUM_MEL_BINS

    def __post_init__(self) -> None:
        if self.cell not in _CELLS:
            raise ModelError(f"unknown cell {self.cell!r}; one of {', '.join(_CELLS)}")
        if isinstance(self.num_layers, int) and self.num_layers > MAX_LAYERS:
            raise ModelError(f"num_layers must be at most {MAX_LAYERS}, not {self.num_layers}")
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name in ("lookahead_frames", "channels") else 1
            if field.name != "cell" and not (isinstance(value, int) and least <= value <= 65536):
                raise ModelError(f"{field.name} must be a whole number from {least} to 65536, not {value!r}")
        if self.frames_per_step % self.outputs_per_step:
            raise ModelError("frames_per_step must be a multiple of outputs_per_step, or words would drift")
        if self.num_mel_bins != NUM_MEL_BINS or self.num_tokens != NUM_TOKENS:
            raise ModelError(f"num_mel_bins must be {NUM_MEL_BINS} and num_tokens {NUM_TOKENS}, as in all else here")
        if self.lookahead_frames > self.context_frames:
            raise ModelError("lookahead_frames must not exceed context_frames: what a step names it must see")
        if self.phases > self.outputs_per_step:
            raise ModelError("phases must not exceed outputs_per_step: the readings would repeat themselves")
        if self.channels and self.window_frames < FEWEST_FRAMES:
            raise ModelError(f"convolutions need {FEWEST_FRAMES} frames a step at least")

    @property
    def window_frames(self) -> int:
        """Frames that a step sees."""
        return self.context_frames + self.frames_per_step

    @property
    def frames_per_output(self) -> int:
        """Frames for each output frame."""
        return self.frames_per_step // self.outputs_per_step

    @property
    def phase_frames(self) -> int:
        """Frames from the first reading of a stream to the last one."""
        return (self.phases - 1) * self.frames_per_output

    @property
    def delay_frames(self) -> int:
        """Frames that the first output of a step lies before the step's first frame."""
        return self.lookahead_frames + self.phase_frames

    @property
    def step_seconds(self) -> float:
        """Audio per step."""
        return self.frames_per_step * FRAME_SHIFT_SECONDS

    @property
    def output_frame_seconds(self) -> float:
        """Audio per output frame."""
        return self.step_seconds / self.outputs_per_step


class ModelState(NamedTuple):
    """What one batch of streams carries from step to step. B streams, P phases, L layers, H hidden units."""

    context: Tensor  # [B, context_frames + phase_frames, 80] the last frames seen, normalized
    hidden: Tensor  # [L, B, P * H]
    cell: Tensor  # [L, B, P * H]; unused (zero) for GRU and plain RNN
    held: Tensor  # [B, P - 1, V] sums of log-probabilities of output frames that not all phases have read yet


class LockedDropout(nn.Module):
    """Dropout with one mask for all steps of a sequence (Gal and Ghahramani, arXiv 1512.05287).

    A mask a step would take a visible share of training on a CPU to draw.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """float32 [B, S, H] to the same; unchanged outside training."""
        if not (self.training and self.probability):
            return x
        keep = 1 - self.probability
        return x * (x.new_empty(len(x), 1, x.shape[2]).bernoulli_(keep) / keep)


class Convolutions(nn.Module):
    """Turns each window, an image of time and frequency, into features that hold when a voice is shifted a little.

    Three layers of 3 x 3, each of which halves the frequency axis; a window has its own, so that no state passes from
    step to step. Convolutions ahead of LSTMs: Sainath et al., ICASSP 2015 (CLDNN).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.window_frames = config.window_frames
        inputs = [1, *[config.channels] * (NUM_CONVOLUTIONS - 1)]
        self.layers = nn.ModuleList(nn.Conv2d(size, config.channels, 3, stride=FREQUENCY_STRIDE) for size in inputs)
        num_bins = config.num_mel_bins
        for _ in inputs:
            num_bins = (num_bins - 1) // 2
        self.num_features = config.channels * (config.window_frames - 2 * len(inputs)) * num_bins
        self.norm = nn.LayerNorm(self.num_features)

    def forward(self, windows: Tensor) -> Tensor:
        """float32 [..., window * 80] to [..., num_features]."""
        x = windows.reshape(-1, 1, self.window_frames, windows.shape[-1] // self.window_frames)
        for layer in self.layers:
            # With the channels side by side a CPU takes half the time, for the gradients too.
            weight = layer.get_parameter("weight").contiguous(memory_format=torch.channels_last)
            x = torch.relu(nn.functional.conv2d(x, weight, layer.get_parameter("bias"), stride=FREQUENCY_STRIDE))
        features: Tensor = self.norm(x.reshape(*windows.shape[:-1], -1))
        return features


class AcousticModel(nn.Module):
    """See the module's docstring. Build one from a config, or read one with `load_model`."""

    mean: Tensor
    inverse_stddev: Tensor

    def __init__(self, config: ModelConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.register_buffer("mean", torch.zeros(config.num_mel_bins))
        self.register_buffer("inverse_stddev", torch.ones(config.num_mel_bins))
        self.convolutions = Convolutions(config) if config.channels else None
        inputs = config.window_frames * config.num_mel_bins
        self.input = nn.Linear(self.convolutions.num_features if self.convolutions else inputs, size)
        self.input_norm = nn.LayerNorm(size)
        self.layers = nn.ModuleList(_CELLS[config.cell](size, size, batch_first=True) for _ in range(config.num_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(config.num_layers))
        self.output = nn.Linear(size, config.outputs_per_step * config.num_tokens)
        self.dropout = LockedDropout(dropout)

    def with_phases(self, phases: int) -> AcousticModel:
        """The same weights, with so many readings of each stream. Raises `ModelError` if they cannot be that many."""
        model = AcousticModel(replace(self.config, phases=phases))
        model.load_state_dict(self.state_dict())
        return model.eval().requires_grad_(False)

    def initial_state(self, batch_size: int) -> ModelState:
        """State before the first sample."""
        config, like = self.config, self.mean
        shape = (config.num_layers, batch_size, config.phases * config.hidden_size)
        held = like.new_full((batch_size, config.phases - 1, config.num_tokens), SURELY_NOT)
        held[..., BLANK] = 0.0
        return ModelState(
            like.new_zeros(batch_size, config.context_frames + config.phase_frames, config.num_mel_bins),
            like.new_zeros(shape),
            like.new_zeros(shape),
            held,
        )

    def windows(self, frames: Tensor, state: ModelState) -> tuple[Tensor, Tensor]:
        """What each step sees, normalized, [B * P, S, window * 80], and the next context; takes what `forward` does."""
        config = self.config
        frames = (frames.to(self.mean.device) - self.mean) * self.inverse_stddev
        joined = torch.cat((state.context, frames), dim=1)
        first_frames = range(config.phase_frames, -1, -config.frames_per_output)  # the later a phase, the older
        phases = [joined[:, first:].unfold(1, config.window_frames, config.frames_per_step) for first in first_frames]
        # each [B, S, 80, window] -> [B, P, S, window, 80] -> [B * P, S, window * 80]
        windows = torch.stack([phase.transpose(2, 3) for phase in phases], dim=1).flatten(3).flatten(0, 1)
        return windows, joined[:, frames.shape[1] :]

    def average(self, logits: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
        """Of all phases' logits, [B * P, S * outputs_per_step, V], log-probabilities [B, S * outputs_per_step, V], and
        what is to be held for the next step.
        """
        log_probs = logits.log_softmax(-1)
        last = self.config.phases - 1
        if not last:
            return log_probs, held
        total = nn.functional.pad(held, (0, 0, 0, log_probs.shape[1]))
        for phase in range(last + 1):
            total = total + nn.functional.pad(log_probs[phase :: last + 1], (0, 0, last - phase, phase))
        return (total[:, :-last] / (last + 1)).log_softmax(-1), total[:, -last:]

    def forward(self, frames: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Steps all streams over the same number of steps, on the device of the weights, where the results stay.

        frames: float32 [B, S * frames_per_step, 80], log-mel as `features` makes them.
        Returns log-probabilities, float32 [B, S * outputs_per_step, V], and the next state.
        """
        config = self.config
        windows, context = self.windows(frames, state)
        seen = self.convolutions(windows) if self.convolutions else windows
        x = self.dropout(torch.relu(self.input_norm(self.input(seen))))
        hidden, cell = [], []
        each_phase = (config.num_layers, 1, len(x), config.hidden_size)
        states = zip(state.hidden.view(each_phase), state.cell.view(each_phase), strict=True)
        for norm, layer, (h, c) in zip(self.norms, self.layers, states, strict=True):
            if config.cell == "lstm":
                y, (h, c) = layer(x, (h, c))
            else:
                y, h = layer(x, h)
            hidden.append(h)
            cell.append(c)
            x = norm(x + self.dropout(y))
        logits = self.output(x).view(len(x), -1, config.num_tokens)
        log_probs, held = self.average(logits, state.held)
        return log_probs, ModelState(
            context, torch.cat(hidden).view(state.hidden.shape), torch.cat(cell).view(state.cell.shape), held
        )


WEIGHTS_FILE = "model.safetensors"


def save_model(model: AcousticModel, folder: Path) -> None:
    """Writes ``model.safetensors`` (half precision) and ``config.json`` (shape, and the SHA-256 of the weights)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().half().contiguous() for name, tensor in model.state_dict().items()}
    payload = safetensors.torch.save(tensors)
    (folder / WEIGHTS_FILE).write_bytes(payload)
    manifest = {"model": asdict(model.config), "sha256": hashlib.sha256(payload).hexdigest()}
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")


def load_model(folder: Path) -> AcousticModel:
    """Reads what `save_model` wrote, as float32, for inference.

    Raises `ModelError`, naming the file, when one is missing, damaged, or does not fit the other.
    """
    config_path, weights_path = folder / MANIFEST_FILE, folder / WEIGHTS_FILE
    manifest = read_manifest(folder)
    try:
        config = ModelConfig(**manifest.model)
    except (ModelError, TypeError) as error:
        raise ModelError(f"{config_path} is not a model's config: {error}") from error
    payload = read_verified(weights_path, manifest.sha256)
    try:
        tensors = {name: tensor.float() for name, tensor in safetensors.torch.load(payload).items()}
        with torch.device("meta"):  # so that a config cannot ask for memory that the file does not fill
            model = AcousticModel(config)
        model.load_state_dict(tensors, assign=True)
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise ModelError(f"{weights_path} does not hold the network that {config_path} describes: {error}") from error
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ModelError(f"{weights_path} holds a number that is infinite or none")
    return model.eval().requires_grad_(False)
