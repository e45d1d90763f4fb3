"""The one command from a folder of recordings to a model that serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from streaming_asr.evaluate import count_word_errors, stream_recordings
from streaming_asr.recognizer import Recognizer
from streaming_asr.recordings import find_recordings
from tests.training.corpus import CHORDS, SETTINGS, write_corpus

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
NEURAL_LM = {"num_pieces": 12, "embedding_size": 8, "hidden_size": 8, "window": 4, "batch_windows": 8, "steps": 20}


def make(folder: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    """In the environment that the tests run in, whose installation is taken as it is."""
    installed = f"{sys.prefix}/.installed"
    command = ["make", "--no-print-directory", "-o", installed, "model", f"VENV={sys.prefix}", f"MODEL={folder}/chords"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *variables], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_a_folder_of_recordings_becomes_a_model_that_serves(tmp_path: Path) -> None:
    write_corpus(tmp_path / "train", 40)
    write_corpus(tmp_path / "dev", 8, seed=1)
    (tmp_path / "text.txt").write_text("".join(f"{' '.join(words)}\n" for words in product(CHORDS, repeat=4)))
    (tmp_path / "words.dict").write_text("".join(f"{word} {word.upper()}{1 - (word == 's')}\n" for word in CHORDS))
    for name, settings in (("acoustic", SETTINGS), ("neural-lm", NEURAL_LM)):
        (tmp_path / f"{name}.json").write_text(json.dumps(settings))
    variables = [
        f"RECORDINGS={tmp_path}/train", f"DEV={tmp_path}/dev", f"TEXT={tmp_path}/text.txt",
        f"PRONUNCIATIONS={tmp_path}/words.dict", f"ACOUSTIC={tmp_path}/acoustic.json",
        f"NEURAL_LM={tmp_path}/neural-lm.json",
    ]  # fmt: skip
    made = make(tmp_path, *variables)
    assert made.returncode == 0, made.stderr[-2000:]
    recognizer = Recognizer.load(tmp_path / "chords")
    assert recognizer.name == "chords"
    assert recognizer.decoder.neural_lm is not None
    results = stream_recordings(recognizer, find_recordings([tmp_path / "dev"]))
    assert count_word_errors((" ".join(result.recording.words), result.text) for result in results).wer < 0.6
    assert "streaming-asr" not in make(tmp_path, *variables).stdout  # all is made


def test_what_it_needs_is_said(tmp_path: Path) -> None:
    made = make(tmp_path, f"RECORDINGS={tmp_path}")
    assert made.returncode == 2
    assert "make model needs RECORDINGS=DIR DEV=DIR TEXT='FILE…' PRONUNCIATIONS=FILE" in made.stderr
    assert not any(tmp_path.iterdir())
