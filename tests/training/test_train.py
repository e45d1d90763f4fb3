"""The recipe on a made-up corpus: it learns, it resumes exactly, and what it writes can be exported and served."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from streaming_asr.cli import main
from streaming_asr.errors import InputError
from streaming_asr.messages import Final
from streaming_asr.model import AcousticModel, load_model
from streaming_asr.ngram import NGram
from streaming_asr.recognizer import Recognizer
from streaming_asr.recordings import find_recordings, read_samples
from streaming_asr.training.export import export_model
from streaming_asr.training.train import TrainConfig, Trainer, read_config, train

from .corpus import CHORDS, LEXICON, write_corpus

RECIPES = Path(__file__).parents[2] / "recipes"
pytestmark = pytest.mark.timeout(300)
SETTINGS = {
    "model": {"num_layers": 1, "hidden_size": 32},
    "epochs": 24,
    "batch_seconds": 8.0,
    "learning_rate": 0.01,
    "warmup_steps": 5,
    "ctc_epochs": 16,
    "dropout": 0.0,
    "average_decay": 0.9,
    "augmentation": {
        "tempo": 0.05,
        "warp": 0.0,
        "gain": 0.2,
        "tilt": 0.0,
        "frequency_masks": 0,
        "time_mask_share": 0.0,
    },
}


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
    assert main([*arguments(corpus, tmp_path / "run"), "--dev", str(corpus / "audio")]) == 0
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
    recording = find_recordings([corpus / "audio"])[0]
    events = (stream := recognizer.stream()).accept(read_samples(recording.path)) + stream.finish()
    text = " ".join(event.text for event in events if isinstance(event, Final))
    assert text.split() == list(recording.words)


def test_a_stopped_run_resumes_to_the_same_weights(corpus: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**SETTINGS, "epochs": 3, "ctc_epochs": 1}))
    lexicon = corpus / "lexicon.txt"
    train([corpus / "audio"], lexicon, tmp_path / "whole", config=config)
    for _ in range(50):  # stops after every single step
        train([corpus / "audio"], lexicon, tmp_path / "pieces", config=config, max_hours=0.0)
    whole, pieces = (load_model(tmp_path / name / "model").state_dict() for name in ("whole", "pieces"))
    for name, tensor in whole.items():
        torch.testing.assert_close(pieces[name], tensor, atol=1e-3, rtol=1e-2)


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


def test_wrong_settings_are_refused_by_name(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"epochs": "many"}')
    with pytest.raises(InputError, match="epochs"):
        read_config(config)
    with pytest.raises(InputError, match="cannot read"):
        read_config(tmp_path / "missing.json")
    assert read_config(None) == TrainConfig()


def test_the_checkpoint_is_read_without_pickle(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    load = torch.load
    monkeypatch.setattr(
        torch, "load", lambda *args, **kwargs: (seen.append(kwargs["weights_only"]), load(*args, **kwargs))[1]
    )
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**SETTINGS, "epochs": 1}))
    for _ in range(2):
        train([corpus / "audio"], corpus / "lexicon.txt", tmp_path / "run", config=config, max_hours=0.0)
    assert seen == [True]
    assert Trainer.__doc__


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.json")), ids=lambda path: path.stem)
def test_every_recipe_makes_a_network(recipe: Path) -> None:
    config = read_config(recipe)
    with torch.device("meta"):
        weights = sum(p.numel() for p in AcousticModel(config.model).parameters())
    assert 5e6 < weights < 6e7
    assert config.augmentation.distorted > 0
