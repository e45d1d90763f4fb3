import pytest
import torch

from streaming_asr import network
from streaming_asr.errors import InputError
from streaming_asr.model import AcousticModel, Cell, ModelConfig
from streaming_asr.network import Network, best_precision, find_device

FRAMES = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(1)) * 10
SHAPES: list[tuple[Cell, int, int]] = [("lstm", 0, 1), ("gru", 0, 1), ("rnn", 0, 1), ("lstm", 32, 1), ("lstm", 32, 2)]
needs_int8 = pytest.mark.skipif(best_precision() != "int8", reason="this processor has no fast 8-bit products")


def tiny(cell: Cell, channels: int = 0, phases: int = 1) -> AcousticModel:
    torch.manual_seed(0)
    config = ModelConfig(cell=cell, num_layers=2, hidden_size=48, channels=channels, phases=phases)
    model = AcousticModel(config).eval().requires_grad_(False)
    model.mean.fill_(5.0)
    model.inverse_stddev.fill_(0.3)
    for norm in (model.input_norm, *model.norms):
        norm.get_parameter("weight").uniform_(0.3, 2.0)
        norm.get_parameter("bias").uniform_(-0.5, 0.5)
    return model


@pytest.mark.parametrize(("cell", "channels", "phases"), SHAPES)
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_it_computes_what_was_trained_under_any_chunking(cell: Cell, channels: int, phases: int, steps: int) -> None:
    model = tiny(cell, channels, phases)
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
@pytest.mark.parametrize(("cell", "channels", "phases"), SHAPES)
def test_int8_is_close(cell: Cell, channels: int, phases: int) -> None:
    model = tiny(cell, channels, phases)
    expected, _ = model(FRAMES, model.initial_state(3))
    found, _ = Network(model, "int8")(FRAMES, model.initial_state(3))
    divergence = (expected.exp() * (expected - found)).sum(-1).mean()
    assert 0 < float(divergence) < 5e-3


@needs_int8
def test_int8_holds_the_largest_inputs() -> None:
    weight = torch.ones(16, 64)
    largest = torch.full((3, 64), network.INPUT_RANGE)
    multiply = network.product(weight, torch.zeros(16), "int8", network.INPUT_RANGE)
    torch.testing.assert_close(multiply(largest), largest @ weight.t(), atol=0, rtol=0.01)
    torch.testing.assert_close(multiply(-largest), -largest @ weight.t(), atol=0, rtol=0.01)


@needs_int8
def test_a_second_digit_is_worth_a_hundred_times_the_first() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(16, 64, generator=generator), torch.arange(16.0)
    x = 3 * torch.randn(5, 64, generator=generator)
    exact = torch.addmm(bias, x, weight.t())
    one, two = ((network.product(weight, bias, "int8", 12.0, digits=d)(x) - exact).abs().max() for d in (1, 2))
    assert 50 * two < one < 2


@needs_int8
@pytest.mark.parametrize(("cell", "channels", "phases"), SHAPES)
def test_int8_gives_a_stream_the_same_bits_in_any_company(cell: Cell, channels: int, phases: int) -> None:
    served = Network(tiny(cell, channels, phases), "int8")
    many = torch.cat((FRAMES, FRAMES * 100, FRAMES - 3, FRAMES.flip(1)))
    together, state = served(many, served.initial_state(12))
    for first, last in [*((alone, alone + 1) for alone in range(12)), (3, 5), (4, 11)]:
        fewer, own = served(many[first:last], served.initial_state(last - first))
        assert torch.equal(fewer, together[first:last])
        assert torch.equal(own.hidden, state.hidden[:, first:last])


def test_a_precision_that_the_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "best_precision", lambda: "float32")
    with pytest.raises(InputError, match="int8"):
        Network(tiny("lstm"), "int8")


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_all_of_it_stays_on_the_device_of_the_weights(cell: Cell) -> None:
    """On a device without memory, which refuses to compute with tensors from any other."""
    served = Network(tiny(cell).to("meta"))
    state = served.initial_state(3)
    for _ in range(2):
        log_probs, state = served(FRAMES[:, :12].to("meta"), state)
    assert {tensor.device.type for tensor in (log_probs, *state)} == {"meta"}
    assert log_probs.shape == (3, 4, served.config.num_tokens)


def test_what_a_machine_lacks_is_refused() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            find_device("cuda")
    with pytest.raises(InputError, match="meta cannot compute in int8"):
        Network(tiny("lstm").to("meta"), "int8")
    assert best_precision("cuda") == "float32"
