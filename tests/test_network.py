import pytest
import torch

from streaming_asr import network
from streaming_asr.errors import InputError
from streaming_asr.model import AcousticModel, Cell, ModelConfig
from streaming_asr.network import Network, Precision, best_precision

FRAMES = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(1)) * 10
CELLS = ["lstm", "gru", "rnn"]
needs_int8 = pytest.mark.skipif(best_precision() != "int8", reason="this processor has no fast 8-bit products")


def tiny(cell: Cell) -> AcousticModel:
    torch.manual_seed(0)
    model = AcousticModel(ModelConfig(cell=cell, num_layers=2, hidden_size=48)).eval().requires_grad_(False)
    model.mean.fill_(5.0)
    model.inverse_stddev.fill_(0.3)
    for norm in (model.input_norm, *model.norms):
        norm.get_parameter("weight").uniform_(0.3, 2.0)
        norm.get_parameter("bias").uniform_(-0.5, 0.5)
    return model


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_it_computes_what_was_trained_under_any_chunking(cell: Cell, steps: int) -> None:
    model = tiny(cell)
    expected, last = model(FRAMES, model.initial_state(3))
    served = Network(model)
    state, parts = served.initial_state(3), []
    for first in range(0, 60, 6 * steps):
        log_probs, state = served(FRAMES[:, first : first + 6 * steps], state)
        parts.append(log_probs)
    torch.testing.assert_close(torch.cat(parts, 1), expected, atol=1e-5, rtol=0)
    for got, wanted in zip(state, last, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=0)


@needs_int8
@pytest.mark.parametrize("cell", CELLS)
def test_int8_is_close(cell: Cell) -> None:
    model = tiny(cell)
    expected, _ = model(FRAMES, model.initial_state(3))
    found, _ = Network(model, "int8")(FRAMES, model.initial_state(3))
    divergence = (expected.exp() * (expected - found)).sum(-1).mean()
    assert 0 < float(divergence) < 5e-3


@needs_int8
def test_int8_holds_the_largest_inputs() -> None:
    weight = torch.ones(16, 64)
    multiply = network.product(weight, torch.zeros(16), "int8", 2.0)
    torch.testing.assert_close(multiply(torch.full((3, 64), 2.0)), torch.full((3, 16), 128.0), atol=1.0, rtol=0)
    torch.testing.assert_close(multiply(torch.full((3, 64), -2.0)), torch.full((3, 16), -128.0), atol=1.0, rtol=0)


@pytest.mark.parametrize("precision", ["float32", pytest.param("int8", marks=needs_int8)])
def test_a_stream_gets_the_same_numbers_in_any_company(precision: Precision) -> None:
    served = Network(tiny("lstm"), precision)
    loud = FRAMES.clone()
    loud[0] *= 100
    together, _ = served(loud, served.initial_state(3))
    alone, _ = served(loud[1:2], served.initial_state(1))
    torch.testing.assert_close(together[1:2], alone, atol=1e-3 if precision == "int8" else 1e-5, rtol=0)


def test_a_precision_that_the_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "best_precision", lambda: "float32")
    with pytest.raises(InputError, match="int8"):
        Network(tiny("lstm"), "int8")
