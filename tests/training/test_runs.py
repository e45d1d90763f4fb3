"""What all training runs do alike."""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path

import pytest
import torch

from streaming_asr.errors import InputError
from streaming_asr.training import runs
from streaming_asr.training.neural_lm import NeuralLMConfig
from streaming_asr.training.runs import bfloat16_where_fast, learning_rate, read_settings
from streaming_asr.training.train import TrainConfig

RECIPES = Path(__file__).parents[2] / "recipes"


def test_wrong_settings_are_refused_by_name(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"epochs": "many"}')
    with pytest.raises(InputError, match="epochs"):
        read_settings(config, TrainConfig)
    config.write_text('{"epocs": 3}')
    with pytest.raises(InputError, match="there is no setting 'epocs'"):
        read_settings(config, TrainConfig)
    config.write_text('{"epochs": 3, "model": {"cel": "gru"}}')
    with pytest.raises(InputError, match=r"there is no setting 'model\.cel'"):
        read_settings(config, TrainConfig)
    with pytest.raises(InputError, match="cannot read"):
        read_settings(tmp_path / "missing.json", TrainConfig)
    assert read_settings(None, TrainConfig) == TrainConfig()


def test_the_recipe_of_the_neural_lm_is_one() -> None:
    assert read_settings(RECIPES / "neural-lm.json", NeuralLMConfig).steps == 48_000


def test_the_learning_rate_goes_up_in_a_line_and_down_as_a_cosine() -> None:
    schedule = dataclasses.replace(TrainConfig(), learning_rate=1.0, final_learning_rate=0.2, warmup_steps=4)
    assert [learning_rate(schedule, step, 0.01 * step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert learning_rate(schedule, 50, 0.5) == pytest.approx(0.6)
    assert learning_rate(schedule, 100, 1.0) == pytest.approx(0.2)
    assert learning_rate(schedule, 101, 1.01) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("is_supported", "seconds", "is_used"), [(True, 0.4, True), (True, 0.9, False), (False, 0.4, False)]
)
def test_a_processor_computes_in_bfloat16_where_that_is_faster(
    is_supported: bool, seconds: float, is_used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: is_supported)
    clock = itertools.accumulate(itertools.cycle([0.0, 1.0, 0.0, seconds]))  # of a product in float32, and in bfloat16
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    runs._is_bfloat16_faster.cache_clear()
    with bfloat16_where_fast("cpu"):
        assert torch.is_autocast_enabled("cpu") == is_used
    runs._is_bfloat16_faster.cache_clear()
