import dataclasses
import json
from pathlib import Path

import pytest
import torch

from streaming_asr.errors import ModelError
from streaming_asr.model import AcousticModel, Cell, ModelConfig, load_model, save_model
from streaming_asr.tokens import BLANK


def tiny(cell: Cell = "lstm", phases: int = 1) -> AcousticModel:
    torch.manual_seed(0)
    config = ModelConfig(cell=cell, num_layers=2, hidden_size=16, phases=phases)
    model = AcousticModel(config).eval().requires_grad_(False)
    model.mean.fill_(5.0)
    model.inverse_stddev.fill_(0.3)
    return model


FRAMES = torch.rand(3, 60, 80, generator=torch.Generator().manual_seed(1)) * 10


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("phases", [1, 2])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_streaming_equals_offline(cell: Cell, phases: int, steps: int) -> None:
    model = tiny(cell, phases)
    whole, last = model(FRAMES, model.initial_state(3))
    state, parts = model.initial_state(3), []
    for first in range(0, 60, 6 * steps):
        log_probs, state = model(FRAMES[:, first : first + 6 * steps], state)
        parts.append(log_probs)
    assert whole.shape == (3, 20, 40)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-5, rtol=0)
    for got, expected in zip(state, last, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_no_step_sees_later_audio(cell: Cell) -> None:
    model = tiny(cell)
    changed = FRAMES.clone()
    changed[:, 36:] += 1
    a, _ = model(FRAMES, model.initial_state(3))
    b, _ = model(changed, model.initial_state(3))
    assert torch.equal(a[:, :12], b[:, :12])
    assert not torch.equal(a[:, 12:], b[:, 12:])


def test_streams_in_a_batch_do_not_touch_each_other() -> None:
    model = tiny()
    together, _ = model(FRAMES, model.initial_state(3))
    alone, _ = model(FRAMES[1:2], model.initial_state(1))
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


def test_outputs_are_the_mean_of_readings_an_output_frame_apart() -> None:
    config = ModelConfig(num_layers=2, hidden_size=16, outputs_per_step=3, phases=2)
    torch.manual_seed(0)
    averaged, once = AcousticModel(config).eval(), AcousticModel(dataclasses.replace(config, phases=1)).eval()
    once.load_state_dict(averaged.state_dict())
    got, _ = averaged(FRAMES, averaged.initial_state(3))
    first, _ = once(FRAMES, once.initial_state(3))
    silence = torch.zeros(3, config.frames_per_output, 80)  # as before the first sample
    late, _ = once(torch.cat((silence, FRAMES), dim=1)[:, : FRAMES.shape[1]], once.initial_state(3))
    assert config.delay_frames == config.frames_per_output == 2
    torch.testing.assert_close(got[:, 1:], ((first[:, :-1] + late[:, 1:]) / 2).log_softmax(-1))
    assert (got[:, 0].argmax(-1) == BLANK).all()  # nothing is heard before the first sample


@pytest.mark.parametrize("phases", [1, 2])
def test_log_probs_are_normalized(phases: int) -> None:
    model = tiny(phases=phases)
    log_probs, _ = model(FRAMES, model.initial_state(3))
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3, 20))


def test_saved_model_loads_the_same(tmp_path: Path) -> None:
    model = tiny()
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    a, _ = model(FRAMES, model.initial_state(3))
    b, _ = loaded(FRAMES, loaded.initial_state(3))
    torch.testing.assert_close(a, b, atol=1e-2, rtol=0)  # half-precision weights


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    save_model(tiny(), tmp_path)
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole = weights.read_bytes()
    for damaged in (whole[:-1], b"", whole[:100] + b"x" + whole[101:]):
        weights.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"model\.safetensors.*SHA-256"):
            load_model(tmp_path)
    weights.write_bytes(whole)
    manifest = json.loads(config.read_text())
    config.write_text(json.dumps({**manifest, "model": {**manifest["model"], "hidden_size": 32}}))
    with pytest.raises(ModelError, match="does not hold the network"):
        load_model(tmp_path)
    config.write_text("{")
    with pytest.raises(ModelError, match=r"config\.json"):
        load_model(tmp_path)
    config.unlink()
    with pytest.raises(ModelError, match=r"cannot read .*config\.json"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"cell": "tanh"},
        {"num_layers": 0},
        {"hidden_size": 1.5},
        {"context_frames": 0},
        {"channels": -1},
        {"phases": 0},
        {"phases": 3},
        {"channels": 8, "frames_per_step": 3},
        {"num_mel_bins": 40},
        {"num_tokens": 50},
        {"frames_per_step": 7},
    ],
)
def test_impossible_configs_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        ModelConfig(**change)  # type: ignore[arg-type]
