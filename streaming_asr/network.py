"""Owns the acoustic network as it is served: few steps of many streams, with weights laid out once for that.

The same function as `AcousticModel`, which is built for training: there a library call a layer runs many steps, here
a step costs two matrix products a layer and little else. Where the processor multiplies bytes
in vectors the products are of 8-bit numbers, with ranges that do not depend on the batch: integer sums are exact, so a
stream gets the same bits whoever it shares a step with. Must not know words, streams or sockets.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from .errors import InputError
from .model import AcousticModel, ModelConfig, ModelState

Precision = Literal["float32", "int8"]
Device = Literal["cpu", "cuda"]

# Inputs have unit variance (layer norm), but some units of a trained network reach 17 (of sqrt(384) = 19.6 at most):
# cutting off at 6 cost 1.6 % of the words, 256 levels over -18..18 none.
INPUT_RANGE = 18.0
# Weights use 7 bits: AVX2 adds pairs of products of bytes in 16 bits, and 2 * 255 * 63 is the most that fits.
WEIGHT_LEVELS = 63

_Recorded = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]
RECORDED_ROWS = 3  # in a call that is recorded; any number works
IMAGES_AT_ONCE = 4  # convolutions are of so many, or a multiple: oneDNN keeps code for each number that it ever met
_changing = threading.Lock()  # settings of torch and of warnings, which are the whole process's
_multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32


def best_precision(device: Device = "cpu") -> Precision:
    """``int8`` on processors that have vector instructions for it, if this build has too, else ``float32``."""
    if device != "cpu":
        return "float32"
    supported = "fbgemm" in torch.backends.quantized.supported_engines and torch.cpu._is_avx2_supported()
    return "int8" if supported else "float32"


def find_device(name: Device) -> torch.device:
    """Raises `InputError` when this machine, or this build of torch, has no such device."""
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("there is no CUDA device here that this build of torch can use")
    return torch.device(name)


class StepFunction(Protocol):
    """What a recognizer needs of a network: `AcousticModel` and `Network` are two of them."""

    config: ModelConfig

    def initial_state(self, batch_size: int) -> ModelState:
        """State before the first sample."""

    def __call__(self, frames: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """See `AcousticModel.forward`."""


class Network:
    """`AcousticModel` for inference. Weights are shared by all callers; the state is theirs.

    A step is `recorded`.
    """

    def __init__(self, model: AcousticModel, precision: Precision = "float32") -> None:
        """Packs the weights of ``model``, on its device. Raises `InputError` when that has no such ``precision``."""
        if precision == "int8" and (best_precision() != "int8" or model.mean.device.type != "cpu"):
            raise InputError(f"this machine's {model.mean.device.type} cannot compute in int8; use float32")
        self.config = model.config
        self.precision = precision
        self._model = model
        frames = model.mean.new_zeros(RECORDED_ROWS, self.config.frames_per_step, self.config.num_mel_bins)
        self._step: _Recorded = recorded(_Step(model, precision), frames, *model.initial_state(RECORDED_ROWS))

    def initial_state(self, batch_size: int) -> ModelState:
        """State before the first sample."""
        return self._model.initial_state(batch_size)

    @torch.inference_mode()
    def __call__(self, frames: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Steps all streams: like `AcousticModel.forward`, shapes and all."""
        outputs = []
        for step in torch.split(frames.to(self._model.mean.device), self.config.frames_per_step, dim=1):
            log_probs, *parts = self._step(step, *state)
            state = ModelState(*parts)
            outputs.append(log_probs)
        return torch.cat(outputs, dim=1), state


class _Step(nn.Module):
    """One step of all streams: frames [B, frames_per_step, 80] and the parts of a state to log-probabilities
    [B, outputs_per_step, V] and the parts of the next.
    """

    _input_scale: Tensor

    def __init__(self, model: AcousticModel, precision: Precision) -> None:
        super().__init__()
        self._model = model
        # With the channels side by side an image gets the same bits whatever batch it is in, and is computed faster.
        if model.convolutions is not None:
            model.convolutions.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        first = model.input_norm
        scale = first.weight.abs() + first.bias.abs() / INPUT_RANGE  # keeps the first inputs in range too
        self.register_buffer("_input_scale", scale)
        self._input = product(model.input.weight, model.input.bias, precision, INPUT_RANGE, digits=2)
        self._output = product(model.output.weight, model.output.bias, precision, INPUT_RANGE, digits=2)
        self._layers = nn.ModuleList()
        shift = torch.zeros_like(scale)
        for layer, norm in zip(model.layers, model.norms, strict=True):
            self._layers.append(_Layer(model.config, layer, norm, (scale, shift), precision))
            scale, shift = norm.get_parameter("weight"), norm.get_parameter("bias")

    def forward(
        self, frames: Tensor, context: Tensor, hidden: Tensor, cell: Tensor, held: Tensor
    ) -> tuple[Tensor, ...]:
        model, config = self._model, self._model.config
        windows, context = model.windows(frames, ModelState(context, hidden, cell, held))
        seen = windows
        if model.convolutions is not None:  # never of a single image, which torch adds up in another order
            num_images = windows.shape[0]  # recorded as what it is in each call
            num_filled = (num_images + IMAGES_AT_ONCE - 1) // IMAGES_AT_ONCE * IMAGES_AT_ONCE
            spare = windows.new_zeros(IMAGES_AT_ONCE - 1, *windows.shape[1:])
            seen = model.convolutions(torch.cat((windows, spare))[:num_filled])[:num_images]
        x = torch.relu(model.input_norm(self._input(seen[:, 0])))
        normal = x / self._input_scale
        next_hidden, next_cell = [], []
        each_phase = (config.num_layers, -1, config.hidden_size)
        states = zip(hidden.reshape(each_phase).unbind(), cell.reshape(each_phase).unbind(), strict=True)
        for layer, (h, c) in zip(self._layers, states, strict=True):
            x, normal, h, c = layer(x, normal, h, c)
            next_hidden.append(h)
            next_cell.append(c)
        logits = self._output(x).unflatten(1, (config.outputs_per_step, config.num_tokens))
        log_probs, held = model.average(logits, held)
        hidden, cell = torch.stack(next_hidden).view(hidden.shape), torch.stack(next_cell).view(cell.shape)
        return log_probs, context, hidden, cell, held


class _Layer(nn.Module):
    """One recurrent layer, its residual connection and its norm.

    ``affine`` [H], [H]: the scale and shift that turn normal values, of unit variance, into what it was trained on.
    """

    def __init__(
        self,
        config: ModelConfig,
        layer: nn.Module,
        norm: nn.Module,
        affine: tuple[Tensor, Tensor],
        precision: Precision,
    ) -> None:
        super().__init__()
        scale, shift = affine
        inputs, recurrent = layer.get_parameter("weight_ih_l0"), layer.get_parameter("weight_hh_l0")
        input_bias = layer.get_parameter("bias_ih_l0") + inputs @ shift
        recurrent_bias = layer.get_parameter("bias_hh_l0")
        rows = torch.arange(len(inputs))
        if config.cell == "lstm":  # gates i f g o -> i f o g: those with a sigmoid side by side
            rows = rows.view(4, -1)[[0, 1, 3, 2]].flatten()
        self._cell = config.cell
        self._scale, self._shift = norm.get_parameter("weight"), norm.get_parameter("bias")
        self._inputs = product((inputs * scale)[rows], input_bias[rows], precision, INPUT_RANGE)
        self._recurrent = product(recurrent[rows], recurrent_bias[rows], precision, 1.0)

    def forward(self, x: Tensor, normal: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the layer below its output and that before scale and shift, and a state, all [B, H], to its own."""
        hidden, cell = self._step(normal, hidden, cell)
        normal = nn.functional.layer_norm(x + hidden, hidden.shape[1:])
        return torch.addcmul(self._shift, normal, self._scale), normal, hidden, cell

    def _step(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        size = hidden.shape[1]
        accepted, remembered = self._inputs(x), self._recurrent(hidden)
        if self._cell == "gru":
            gates = torch.sigmoid(accepted[:, : 2 * size] + remembered[:, : 2 * size])
            reset, update = gates.chunk(2, dim=1)
            new = torch.tanh(torch.addcmul(accepted[:, 2 * size :], reset, remembered[:, 2 * size :]))
            return torch.lerp(new, hidden, update), cell
        gates = accepted.add_(remembered)
        if self._cell == "rnn":
            return torch.tanh(gates), cell
        accept, forget, emit = torch.sigmoid(gates[:, : 3 * size]).chunk(3, dim=1)
        cell = torch.addcmul(forget * cell, accept, torch.tanh(gates[:, 3 * size :]))
        return emit * torch.tanh(cell), cell


def recorded(module: nn.Module, *example: Tensor) -> Callable[..., Any]:
    """``module``, called once as in ``example`` (`torch.jit.trace`) and from then on as one call.

    There is no Python between its operations: other threads' Python neither waits for it nor holds it up.
    """
    trace: Callable[..., Any] = torch.jit.trace
    with _changing, torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes that the config settles; what is to replace `trace` needs a compiler
        # A call of `forward` goes past what a `Module` does at a call.
        forward: Callable[..., Any] = trace(module, example, check_trace=False).forward
    return forward


def product(weight: Tensor, bias: Tensor, precision: Precision, reach: float, *, digits: int = 1) -> nn.Module:
    """``x @ weight.T + bias`` of x [B, K], for weight [N, K].

    ``int8`` rounds both factors, x cut off at -+reach, to ``digits`` digits of 8 bits.
    """
    if precision == "float32":
        return _Float32Product(weight, bias)
    return _Int8Product(weight, bias, reach) if digits == 1 else _TwoDigitProduct(weight, bias, reach)


class _Float32Product(nn.Module):
    _transposed: Tensor
    _bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("_transposed", weight.t().contiguous())
        self.register_buffer("_bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self._bias, x, self._transposed)


class _Int8Product(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor | None, reach: float) -> None:
        super().__init__()
        self._step = 2 * reach / 255
        self._packed = _pack(_rounded(weight), bias)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _multiply(x, self._step, 128, self._packed)
        return y


class _TwoDigitProduct(nn.Module):
    """But for the product of both second digits."""

    def __init__(self, weight: Tensor, bias: Tensor, reach: float) -> None:
        super().__init__()
        self._step = 2 * reach / 255
        self._first = _Int8Product(weight, bias, reach)
        self._second_of_x = _Int8Product(weight, None, reach / 255)
        self._second_of_weight = _Int8Product(weight - _rounded(weight).dequantize(), None, reach)

    def forward(self, x: Tensor) -> Tensor:
        rest = x - torch.fake_quantize_per_tensor_affine(x, self._step, 128, 0, 255)
        y: Tensor = self._first(x) + self._second_of_x(rest) + self._second_of_weight(x)
        return y


def _rounded(weight: Tensor) -> Tensor:
    """To `WEIGHT_LEVELS` on either side of 0, a scale a row."""
    least, most = torch.aminmax(weight, dim=1)
    step = torch.maximum(most, -least).clamp_min(1e-9) / WEIGHT_LEVELS
    return torch.quantize_per_channel(weight, step, torch.zeros(len(weight), dtype=torch.long), 0, torch.qint8)


def _pack(rounded: Tensor, bias: Tensor | None) -> object:
    """In the layout of fbgemm."""
    with _changing:
        engine = torch.backends.quantized.engine
        torch.backends.quantized.engine = "fbgemm"
        try:
            return torch.ops.quantized.linear_prepack(rounded, bias)
        finally:
            torch.backends.quantized.engine = engine
