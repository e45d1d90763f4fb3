"""What all training runs do alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from streaming_asr.errors import InputError
from streaming_asr.training.neural_lm import NeuralLMConfig
from streaming_asr.training.runs import learning_rate, read_settings
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
