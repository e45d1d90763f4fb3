"""The recipe on a made-up corpus: it learns, it resumes exactly, and what it writes can be exported and served."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from streaming_asr.cli import main
from streaming_asr.errors import InputError
from streaming_asr.features import extract
from streaming_asr.files import PART_SUFFIX
from streaming_asr.messages import Final
from streaming_asr.model import AcousticModel, ModelConfig, ModelState, load_model
from streaming_asr.ngram import NGram
from streaming_asr.recognizer import Recognizer
from streaming_asr.recordings import find_recordings, read_samples
from streaming_asr.tokens import BLANK, NUM_TOKENS, PHONE_ID
from streaming_asr.training import front_end
from streaming_asr.training.data import NO_AUGMENTATION, Augmentation
from streaming_asr.training.dataset import Cut, DataSet, read_pronunciations
from streaming_asr.training.export import export_model
from streaming_asr.training.runs import read_settings
from streaming_asr.training.train import Plan, TrainConfig, Trainer, train
from tests.training.corpus import CHORDS, LEXICON, SETTINGS, write_corpus

RECIPES = Path(__file__).parents[2] / "recipes"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder / "audio", 40)
    (folder / "lexicon.txt").write_text(LEXICON)
    (folder / "config.json").write_text(json.dumps(SETTINGS))
    return folder


def arguments(corpus: Path, output: Path, config: Path | None = None) -> list[str]:
    return [
        *("train", str(corpus / "audio"), "--lexicon", str(corpus / "lexicon.txt")),
        *("--config", str(config or corpus / "config.json"), "--output", str(output)),
    ]


def test_it_learns_exports_and_recognizes(corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**SETTINGS, "seed": 3}))  # so few steps end well with one seed and not with another
    assert main([*arguments(corpus, tmp_path / "run", config), "--dev", str(corpus / "audio")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    dev = [row["dev_per"] for row in rows if "dev_per" in row]
    assert dev[-1] < 0.1 < dev[0]

    arpa = tmp_path / "lm.arpa"
    words = [*CHORDS, "<s>", "</s>", "<unk>"]
    arpa.write_text(
        f"\\data\\\nngram 1={len(words)}\n\n\\1-grams:\n" + "".join(f"-0.7\t{w}\n" for w in words) + "\n\\end\\\n"
    )
    NGram.from_arpa(arpa, list(CHORDS)).save(tmp_path / "lm.safetensors")
    exported = tmp_path / "model"
    export_model(
        tmp_path / "run" / "model", corpus / "lexicon.txt", tmp_path / "lm.safetensors", exported, name="chords"
    )
    recognizer = Recognizer.load(exported)
    assert recognizer.name == "chords"
    assert recognizer.model.config.phases == recognizer.model.config.outputs_per_step == 2
    recording = find_recordings([corpus / "audio"])[0]
    events = (stream := recognizer.stream()).accept(read_samples(recording.path)) + stream.finish()
    text = " ".join(event.text for event in events if isinstance(event, Final))
    assert text.split() == list(recording.words)


def test_a_stopped_run_resumes_to_the_same_weights(corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**SETTINGS, "epochs": 3, "ctc_epochs": 1, "consistency": 0.2, "dropout": 0.3}))
    lexicon = corpus / "lexicon.txt"
    train([corpus / "audio"], lexicon, tmp_path / "whole", config=config)
    (tmp_path / "pieces").mkdir()
    killed = tmp_path / "pieces" / f"checkpoint.pt.0123{PART_SUFFIX}"
    killed.touch()
    for _ in range(50):  # stops after every single step
        train([corpus / "audio"], lexicon, tmp_path / "pieces", config=config, max_hours=0.0)
    whole, pieces = (load_model(tmp_path / name / "model").state_dict() for name in ("whole", "pieces"))
    for name, tensor in whole.items():
        torch.testing.assert_close(pieces[name], tensor, atol=1e-3, rtol=1e-2)
    assert not killed.exists()


def test_who_prepares_the_batches_makes_no_difference(corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    weights = []
    for workers in (0, 2):
        config.write_text(json.dumps({**SETTINGS, "epochs": 2, "workers": workers}))
        train([corpus / "audio"], corpus / "lexicon.txt", tmp_path / str(workers), config=config)
        weights.append(load_model(tmp_path / str(workers) / "model").state_dict())
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, atol=1e-3, rtol=1e-2)


def test_fewer_batches_than_processes_are_refused(corpus: Path, tmp_path: Path) -> None:
    data = DataSet([corpus / "audio"], read_pronunciations(corpus / "lexicon.txt"), tmp_path / "features", SHAPE)
    config = dataclasses.replace(read_settings(corpus / "config.json", TrainConfig), batch_seconds=1000.0)
    mean, _ = data.features.statistics()
    assert Plan(config, data, mean).num_batches(0) == 1
    with pytest.raises(InputError, match="2 processes cannot share the 1 batches"):
        Plan(config, data, mean, world_size=2).num_batches(0)


def test_a_corpus_of_low_weight_that_is_not_there_is_refused(corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**SETTINGS, "epochs": 0.1, "low_weight": ["2"]}))  # the chapter's folder
    train([corpus / "audio"], corpus / "lexicon.txt", tmp_path / "run", config=config)
    config.write_text(json.dumps({**SETTINGS, "low_weight": ["2", "3"]}))
    with pytest.raises(InputError, match="low_weight: no recording lies in a folder named '3'"):
        train([corpus / "audio"], corpus / "lexicon.txt", tmp_path / "other", config=config)
    assert not (tmp_path / "other").exists()


def test_a_run_goes_on_with_what_its_config_says_now(corpus: Path, tmp_path: Path) -> None:
    data = DataSet([corpus / "audio"], read_pronunciations(corpus / "lexicon.txt"), tmp_path / "features", SHAPE)
    config = read_settings(corpus / "config.json", TrainConfig)
    for decay in (0.1, 0.3):
        trainer = Trainer(dataclasses.replace(config, weight_decay=decay), data, None, tmp_path / "run")
        trainer.save()
        assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [decay, 0.0]


SHAPE = ModelConfig()


class Hears(AcousticModel):
    """Is surest of one phone in every frame."""

    def __init__(self, phone: str) -> None:
        super().__init__(ModelConfig(num_layers=1, hidden_size=2))
        self.phone = phone

    def forward(self, frames: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        log_probs = torch.full((1, frames.shape[1] // 3, NUM_TOKENS), -5.0)
        log_probs[..., BLANK] = -1.0
        log_probs[..., PHONE_ID[self.phone]] = -0.5
        return log_probs, state


def test_targets_become_the_pronunciations_that_a_model_hears(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_text("ah\tIY\nah\tAH\niy\tIY\ns\tS\n")
    pronunciations = read_pronunciations(tmp_path / "lexicon.txt")
    assert pronunciations["ah"] == [[PHONE_ID["IY"]], [PHONE_ID["AH"]]]
    for phone in ("AH", "IY"):
        data = DataSet([corpus / "audio"], pronunciations, tmp_path / "features", SHAPE)
        data.realign(Hears(phone), pronunciations, tmp_path / phone)
        expected = {"ah": PHONE_ID[phone], "iy": PHONE_ID["IY"], "s": PHONE_ID["S"]}
        for index in data.indices:
            assert data.targets[index] == [expected[word] for word in data.recordings[index].words]
    again = DataSet([corpus / "audio"], pronunciations, tmp_path / "features", SHAPE)
    again.realign(Hears("S"), pronunciations, tmp_path / "AH")  # what is kept is not heard again
    assert PHONE_ID["AH"] in (again.targets[0] or [])
    fewer = {word: variants[:1] for word, variants in pronunciations.items()}  # but it is for another lexicon
    again.realign(Hears("AH"), fewer, tmp_path / "AH")
    assert PHONE_ID["AH"] not in (again.targets[0] or [])
    write_corpus(tmp_path / "more", 41)  # and for other recordings
    more = DataSet([tmp_path / "more"], pronunciations, tmp_path / "features", SHAPE)
    more.realign(Hears("IY"), pronunciations, tmp_path / "AH")
    assert PHONE_ID["AH"] not in (more.targets[0] or [])


def test_two_views_of_a_recording_differ_in_all_but_their_pace_and_words(corpus: Path, tmp_path: Path) -> None:
    pronunciations = read_pronunciations(corpus / "lexicon.txt")
    data = DataSet([corpus / "audio"], pronunciations, tmp_path / "features", SHAPE, distortion_seed=1)
    data.realign(Hears("AH"), pronunciations, tmp_path / "targets")
    for index in data.indices:
        data.cuts[index] = [Cut(data.features.num_frames(index) - 50, len(data.targets[index] or []) - 1)]
        data._peers.setdefault(data.recordings[index].speaker, []).append(index)
    mean, policy = np.zeros(80, np.float32), Augmentation(distorted=0.5, spliced=0.5)
    batch = data.batch(data.indices[:8], policy, mean, np.random.default_rng(0), num_views=2)
    for values in (batch.num_frames, batch.targets, batch.target_lengths):
        assert torch.equal(*values.chunk(2))
    assert not any(torch.equal(a, b) for a, b in zip(*batch.frames.chunk(2), strict=True))
    same = data.batch(data.indices[:8], NO_AUGMENTATION, mean, np.random.default_rng(0), num_views=2)
    assert torch.equal(*same.frames.chunk(2))


def test_half_a_recording_goes_on_as_another_one_of_the_speaker_with_its_labels(corpus: Path, tmp_path: Path) -> None:
    data = DataSet([corpus / "audio"], read_pronunciations(corpus / "lexicon.txt"), tmp_path / "features", SHAPE)
    data.realign(Hears("AH"), read_pronunciations(corpus / "lexicon.txt"), tmp_path / "targets")
    first, second = data.indices[:2]
    for index in (first, second):
        data.cuts[index] = [Cut(data.features.num_frames(index) - 50, len(data.targets[index] or []) - 1)]
    policy = dataclasses.replace(NO_AUGMENTATION, spliced=1.0)
    mean, rng = np.zeros(80, np.float32), np.random.default_rng(0)
    data._peers = {data.recordings[first].speaker: [second], data.recordings[second].speaker: [second]}
    batch = data.batch([first], policy, mean, rng)
    length = data.features.num_frames(first)
    assert batch.targets[0].tolist() == [*(data.targets[first] or [])[:-1], (data.targets[second] or [])[-1]]
    np.testing.assert_array_equal(batch.frames[0, : length - 50], data.features[first][:-50])
    np.testing.assert_array_equal(batch.frames[0, length - 50 : length], data.features[second][-50:])
    alone = data.batch([second], policy, mean, rng)  # has no other to go on as
    assert alone.targets[0].tolist() == data.targets[second]


def test_a_run_goes_on_from_another_runs_model(corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**SETTINGS, "epochs": 1}))
    assert main(arguments(corpus, tmp_path / "first", config)) == 0
    config.write_text(json.dumps({**SETTINGS, "epochs": 1, "learning_rate": 0, "final_learning_rate": 0}))
    assert main([*arguments(corpus, tmp_path / "second", config), "--init", str(tmp_path / "first" / "model")]) == 0
    first, second = (load_model(tmp_path / name / "model").state_dict() for name in ("first", "second"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor)


def test_convolutions_take_the_place_of_a_linear_layer(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_end, "STEPS", 100)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**SETTINGS, "epochs": 1}))
    assert main(arguments(corpus, tmp_path / "first", config)) == 0
    settings = {**SETTINGS, "epochs": 1, "learning_rate": 0, "final_learning_rate": 0}
    config.write_text(json.dumps({**settings, "model": {"num_layers": 1, "hidden_size": 32, "channels": 8}}))
    assert main([*arguments(corpus, tmp_path / "second", config), "--init", str(tmp_path / "first" / "model")]) == 0
    first, second = (load_model(tmp_path / name / "model") for name in ("first", "second"))
    assert second.config.channels == 8
    frames = torch.from_numpy(extract(read_samples(find_recordings([corpus / "audio"])[0].path)))[None, :60]
    with torch.inference_mode():
        before, after = (model(frames, model.initial_state(1))[0] for model in (first, second))
    assert float((after - before).abs().mean()) < 0.75 * float((before - before.mean(1, keepdim=True)).abs().mean())
    for name, tensor in first.layers.state_dict().items():
        torch.testing.assert_close(second.layers.state_dict()[name], tensor)


def test_two_processes_train_together(corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**SETTINGS, "epochs": 1}))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "0"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "streaming_asr.cli"]
    command += arguments(corpus, tmp_path / "run", config)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    load_model(tmp_path / "run" / "model")


def test_the_checkpoint_is_read_without_pickle(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    load = torch.load

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["weights_only"])
        return load(*args, **kwargs)

    monkeypatch.setattr(torch, "load", watched)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**SETTINGS, "epochs": 1}))
    for _ in range(2):
        train([corpus / "audio"], corpus / "lexicon.txt", tmp_path / "run", config=config, max_hours=0.0)
    assert seen == [True]


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("[0-9]*.json")), ids=lambda path: path.stem)
def test_every_recipe_makes_a_network(recipe: Path) -> None:
    config = read_settings(recipe, TrainConfig)
    with torch.device("meta"):
        weights = sum(p.numel() for p in AcousticModel(config.model).parameters())
    assert 5e6 < weights < 6e7
    assert config.augmentation.distorted > 0


def test_the_cells_are_trained_alike() -> None:
    configs = {cell: read_settings(RECIPES / "cells" / f"{cell}.json", TrainConfig) for cell in ("lstm", "gru", "rnn")}
    assert {cell: config.model.cell for cell, config in configs.items()} == {cell: cell for cell in configs}
    alike = {dataclasses.replace(c, model=dataclasses.replace(c.model, cell="lstm")) for c in configs.values()}
    assert len(alike) == 1
