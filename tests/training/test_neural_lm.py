"""The recipe of the neural language model, on a language of few words."""

from __future__ import annotations

import json
import logging
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from streaming_asr.errors import InputError
from streaming_asr.files import PART_SUFFIX
from streaming_asr.neural_lm import END, NO_PIECE, NeuralLM, PieceLM
from streaming_asr.ngram import vocabulary_fingerprint
from streaming_asr.training.neural_lm import (
    NeuralLMConfig,
    Text,
    learn_spelling,
    perplexity,
    train_neural_lm,
)

WORDS = ["the", "cat", "dog", "sees", "hears", "catalogue", "a"]
LEXICON = "the\tDH AH\ncat\tK AE T\ndog\tD AO G\nsees\tS IY Z\nhears\tHH IH R Z\ncatalogue\tK AE T AH L AO G\na\tAH\n"
SMALL = {
    "num_pieces": 40, "embedding_size": 16, "hidden_size": 24, "window": 12, "batch_windows": 16,
    "learning_rate": 0.02, "warmup_steps": 5, "sentence_starts": 1.0,
}  # fmt: skip


def language(sentences: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(sentences):
        first, second = rng.permutation(["cat", "dog"])
        lines.append(f"the {first} {rng.choice(['sees', 'hears'])} a {second}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lexicon.txt").write_text(LEXICON)
    (tmp_path / "text.txt").write_text(language(300, 1))
    (tmp_path / "dev.txt").write_text(language(30, 2))
    return tmp_path


def train(folder: Path, output: str, **config: object) -> None:
    (folder / "config.json").write_text(json.dumps(SMALL | config))
    train_neural_lm(
        [folder / "text.txt"], folder / "lexicon.txt", [folder / "dev.txt"], folder / output,
        config=folder / "config.json",
    )  # fmt: skip


def sentence_log_prob(lm: NeuralLM, sentence: str) -> float:
    rows, pending = lm.start_row[None].copy(), np.array([NO_PIECE], np.int32)
    total = 0.0
    for word in sentence.split():
        lm.settle(rows, pending)
        log_probs, rows, pending = lm.score(rows, np.array([WORDS.index(word)]), np.array([0]))
        total += float(log_probs[0])
    return total


def test_it_learns_a_language_and_says_true_probabilities(folder: Path) -> None:
    train(folder, "lm.safetensors", steps=400)
    lm = NeuralLM.load(folder / "lm.safetensors")
    assert (lm.num_words, lm.vocabulary) == (len(WORDS), vocabulary_fingerprint(WORDS))
    right = sentence_log_prob(lm, "the cat sees a dog")
    assert right == pytest.approx(2 * math.log(0.5), abs=0.7)  # of the words, not of the end
    for wrong in ("the cat sees a cat", "cat the sees a dog", "the catalogue sees a dog"):
        assert sentence_log_prob(lm, wrong) < right - 2


def test_a_stopped_run_goes_on_to_the_same_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(folder, "whole.safetensors", steps=30)
    with monkeypatch.context() as patched:
        save, saved = torch.save, []

        def save_until_stopped(state: dict[str, object], path: Path) -> None:
            saved.append(state["step"])
            save(state, path)
            if state["step"] == 13:
                raise KeyboardInterrupt

        patched.setattr(torch, "save", save_until_stopped)
        with pytest.raises(KeyboardInterrupt):
            train(folder, "parts.safetensors", steps=30, checkpoint_minutes=0)
    assert saved == list(range(1, 14))
    assert not (folder / "parts.safetensors").exists()
    killed = folder / f"parts.pt.0123{PART_SUFFIX}"
    killed.touch()
    train(folder, "parts.safetensors", steps=30)
    assert not killed.exists()
    whole, parts = (load_file(folder / f"{name}.safetensors") for name in ("whole", "parts"))
    assert {name: values.tobytes() for name, values in whole.items()} == {
        name: values.tobytes() for name, values in parts.items()
    }


def test_it_goes_on_from_another_one_with_other_text(folder: Path) -> None:
    train(folder, "general.safetensors", steps=400)
    (folder / "own.txt").write_text("a catalogue sees the dog\n" * 20)
    (folder / "config.json").write_text(json.dumps({**SMALL, "steps": 40, "num_pieces": 8192, "hidden_size": 768}))
    own = [folder / "own.txt"]
    train_neural_lm(
        own, folder / "lexicon.txt", own, folder / "own.safetensors",
        config=folder / "config.json", init=folder / "general.safetensors",
    )  # fmt: skip
    general, adapted = (load_file(folder / f"{name}.safetensors") for name in ("general", "own"))
    assert {name: values.shape for name, values in adapted.items()} == {n: v.shape for n, v in general.items()}
    assert adapted["pieces"].tolist() == general["pieces"].tolist()
    general_lm, adapted_lm = (NeuralLM.load(folder / f"{name}.safetensors") for name in ("general", "own"))
    sentence = "a catalogue sees the dog"
    assert sentence_log_prob(adapted_lm, sentence) > sentence_log_prob(general_lm, sentence) + 5
    seen, unseen = "the cat sees a dog", "dog a the sees cat"
    assert sentence_log_prob(adapted_lm, seen) > sentence_log_prob(adapted_lm, unseen) + 2  # not all is forgotten


def test_one_for_other_words_is_refused(folder: Path) -> None:
    train(folder, "lm.safetensors", steps=2)
    (folder / "lexicon.txt").write_text(LEXICON + "bird\tB ER D\n")
    text = [folder / "text.txt"]
    with pytest.raises(InputError, match=r"lm\.safetensors scores other words than .*lexicon\.txt has"):
        train_neural_lm(text, folder / "lexicon.txt", text, folder / "own.safetensors", init=folder / "lm.safetensors")


def test_it_logs_the_perplexity_of_held_out_text(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train(folder, "lm.safetensors", steps=400)
    row = json.loads(caplog.messages[-1])
    assert row["step"] == 400
    assert 1.2 < row["dev_perplexity"] < 1.6  # two free choices in six words: 4 ** (1 / 6) = 1.26


def test_perplexity_is_that_of_words_whatever_their_pieces() -> None:
    network = PieceLM(10, 4, 4, 1)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    sentences = [np.array([3, 4, 5, END], np.int16), np.array([6, END], np.int16)]
    assert perplexity(network, sentences, 4) == pytest.approx(10 ** (6 / 4))


def test_words_end_with_their_last_piece() -> None:
    spelling = learn_spelling(WORDS, [100, 50, 50, 10, 10, 0, 30], 40)
    pieces = np.split(spelling.pieces, np.cumsum(spelling.length)[:-1])
    spelled = [tuple(each.tolist()) for each in pieces]
    assert len(set(spelled)) == len(WORDS)
    assert not any(other[: len(one)] == one for one in spelled for other in spelled if one != other)


def test_windows_begin_where_sentences_or_words_do() -> None:
    words = ["a", "b", "ab"]
    spelling = learn_spelling(words, [5, 5, 1], 8)
    text = np.array([0, 1, 2, 4] * 200, np.int32)
    config = NeuralLMConfig(window=8, batch_windows=400, sentence_starts=1.0)
    source = Text(text, spelling, config, torch.device("cpu"))
    first = int(spelling.pieces[0])
    windows = source.windows(torch.Generator().manual_seed(1))
    assert windows.shape == (400, 8)
    assert set(windows[:, 0].tolist()) == {first}
    config = NeuralLMConfig(window=8, batch_windows=400, sentence_starts=0.0)
    windows = Text(text, spelling, config, torch.device("cpu")).windows(torch.Generator().manual_seed(1))
    assert len(set(windows[:, 0].tolist())) > 2


def test_what_is_wrong_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="fewer than a window"):
        train(folder, "lm.safetensors", window=10**6)
    with pytest.raises(InputError, match="pieces"):
        train(folder, "lm.safetensors", num_pieces=5000)
    with pytest.raises(InputError, match="num_pieces may be 32768 at most, not 32769"):
        train(folder, "lm.safetensors", num_pieces=32769)
    with pytest.raises(InputError, match=r"config\.json"):
        train(folder, "lm.safetensors", steps="many")
    text = [folder / "text.txt"]
    with pytest.raises(InputError, match=r"none\.txt: No such file"):
        train_neural_lm(text, folder / "none.txt", text, folder / "lm.safetensors")
    with pytest.raises(InputError, match=r"text\.txt: File exists"):
        train_neural_lm(text, folder / "lexicon.txt", text, folder / "text.txt" / "lm.safetensors")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(InputError, match="pip install"):
        train(folder, "lm.safetensors")
