"""Owns the acoustic network as it is served: few steps of many streams, with weights laid out once for that.

The same function as `AcousticModel`, which is built for training: there a library call a layer runs many steps, here
a step costs two matrix products a layer and little else. Where the processor multiplies bytes
in vectors the products are of 8-bit numbers, with ranges that do not depend on the batch: integer sums are exact, so a
stream gets the same bits whoever it shares a step with. Must not know words, streams or sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from .errors import InputError
from .model import AcousticModel, ModelConfig, ModelState

Precision = Literal["float32", "int8"]

# Inputs have unit variance (layer norm), but some units of a trained network reach 17 (of sqrt(384) = 19.6 at most):
# cutting off at 6 cost 1.6 % of the words, 256 levels over -18..18 none.
INPUT_RANGE = 18.0
# Weights use 7 bits: AVX2 adds pairs of products of bytes in 16 bits, and 2 * 255 * 63 is the most that fits.
WEIGHT_LEVELS = 63

Product = Callable[[Tensor], Tensor]  # [B, inputs] -> [B, outputs]


def best_precision() -> Precision:
    """``int8`` where this build and processor have vector instructions for it, else ``float32``."""
    supported = "fbgemm" in torch.backends.quantized.supported_engines and torch.cpu._is_avx2_supported()
    return "int8" if supported else "float32"


class StepFunction(Protocol):
    """What a recognizer needs of a network: `AcousticModel` and `Network` are two of them."""

    config: ModelConfig

    def initial_state(self, batch_size: int) -> ModelState:
        """State before the first sample."""

    def __call__(self, frames: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """See `AcousticModel.forward`."""


class Network:
    """`AcousticModel` for inference. Weights are shared by all callers; the state is theirs."""

    def __init__(self, model: AcousticModel, precision: Precision = "float32") -> None:
        """Packs the weights of ``model``. Raises `InputError` when this machine lacks ``precision``."""
        if precision == "int8" and best_precision() != "int8":
            raise InputError("this machine cannot compute in int8; use float32")
        self.config = model.config
        self.precision = precision
        self._model = model
        first = model.input_norm
        self._input_scale = first.weight.abs() + first.bias.abs() / INPUT_RANGE  # keeps the first inputs in range too
        self._input = product(model.input.weight, model.input.bias, precision, INPUT_RANGE, digits=2)
        self._output = product(model.output.weight, model.output.bias, precision, INPUT_RANGE, digits=2)
        self._norms = [(norm.get_parameter("weight"), norm.get_parameter("bias")) for norm in model.norms]
        affines = [(self._input_scale, torch.zeros_like(first.bias)), *self._norms[:-1]]
        self._layers = [_Layer(self.config, *pair, precision) for pair in zip(model.layers, affines, strict=True)]

    def initial_state(self, batch_size: int) -> ModelState:
        """State before the first sample."""
        return self._model.initial_state(batch_size)

    @torch.inference_mode()
    def __call__(self, frames: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Steps all streams: like `AcousticModel.forward`, shapes and all."""
        model, config = self._model, self.config
        windows, context = model.windows(frames, state)
        size = (config.hidden_size,)
        hidden, cell = state.hidden.unbind(), state.cell.unbind()
        outputs = []
        for step in range(windows.shape[1]):
            x = torch.relu(model.input_norm(self._input(windows[:, step])))
            normal = x / self._input_scale
            next_hidden, next_cell = [], []
            for layer, (scale, shift), h, c in zip(self._layers, self._norms, hidden, cell, strict=True):
                h, c = layer(normal, h, c)
                normal = nn.functional.layer_norm(x + h, size)
                x = torch.addcmul(shift, normal, scale)
                next_hidden.append(h)
                next_cell.append(c)
            hidden, cell = tuple(next_hidden), tuple(next_cell)
            outputs.append(self._output(x).view(len(x), -1, config.num_tokens))
        log_probs = torch.cat(outputs, dim=1).log_softmax(-1)
        return log_probs, ModelState(context, torch.stack(hidden), torch.stack(cell))


class _Layer:
    """One recurrent layer, for one step: ([B, H], [B, H], [B, H]) -> hidden and cell [B, H].

    ``affine`` [H], [H]: the scale and shift that turn what it is given, of unit variance, into what it was trained on.
    """

    def __init__(
        self, config: ModelConfig, layer: nn.Module, affine: tuple[Tensor, Tensor], precision: Precision
    ) -> None:
        scale, shift = affine
        inputs, recurrent = layer.get_parameter("weight_ih_l0"), layer.get_parameter("weight_hh_l0")
        input_bias = layer.get_parameter("bias_ih_l0") + inputs @ shift
        recurrent_bias = layer.get_parameter("bias_hh_l0")
        rows = torch.arange(len(inputs))
        if config.cell == "lstm":  # gates i f g o -> i f o g: those with a sigmoid side by side
            rows = rows.view(4, -1)[[0, 1, 3, 2]].flatten()
        self._cell = config.cell
        self._inputs = product((inputs * scale)[rows], input_bias[rows], precision, INPUT_RANGE)
        self._recurrent = product(recurrent[rows], recurrent_bias[rows], precision, 1.0)

    def __call__(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
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


def product(weight: Tensor, bias: Tensor, precision: Precision, reach: float, *, digits: int = 1) -> Product:
    """``x @ weight.T + bias`` as a function of x [B, K], for weight [N, K].

    ``int8`` rounds both factors, x cut off at -+reach, to ``digits`` digits of 8 bits.
    """
    if precision == "float32":
        transposed = weight.t().contiguous()
        return lambda x: torch.addmm(bias, x, transposed)
    multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
    step = 2 * reach / 255
    packed, rest = _pack(weight, bias)
    if digits == 1:
        return lambda x: multiply(x, step, 128, packed)
    unbiased, _ = _pack(weight, None)
    second, _ = _pack(rest, None)

    def in_two_digits(x: Tensor) -> Tensor:  # but for the product of both second digits
        rest = x - torch.fake_quantize_per_tensor_affine(x, step, 128, 0, 255)
        total: Tensor = multiply(x, step, 128, packed)
        return total.add_(multiply(rest, step / 255, 128, unbiased)).add_(multiply(x, step, 128, second))

    return in_two_digits


def _pack(weight: Tensor, bias: Tensor | None) -> tuple[object, Tensor]:
    """Weights rounded, a scale a row, in the layout of fbgemm; and what the rounding left."""
    step = weight.abs().amax(dim=1).clamp_min(1e-9) / WEIGHT_LEVELS
    rounded = torch.quantize_per_channel(weight, step, torch.zeros(len(weight), dtype=torch.long), 0, torch.qint8)
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "fbgemm"
    try:
        return torch.ops.quantized.linear_prepack(rounded, bias), weight - rounded.dequantize()
    finally:
        torch.backends.quantized.engine = engine
