"""The neural language model: what is served says what was trained, and files that are none are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from streaming_asr.errors import ModelError
from streaming_asr.network import Precision, best_precision
from streaming_asr.neural_lm import END, NO_PIECE, NeuralLM, Rows, save_neural_lm
from tests.neural import NUM_PIECES, PIECES, expected, random_network, spelling


def score_one_by_one(lm: NeuralLM, words: list[int]) -> list[float]:
    rows: Rows = lm.start_row[None].copy()
    pending = np.array([NO_PIECE], np.int32)
    scores = []
    for word in words:
        lm.settle(rows, pending)
        log_probs, rows, pending = lm.score(rows, np.array([word]), np.array([0]))
        scores.append(float(log_probs[0]))
    return scores


SENTENCES = [[0, 1, 2], [3, 3, 4, 5], [5], [6, 0, 2, 6, 3, 1, 4]]  # 6: an unknown word


@pytest.mark.parametrize(("precision", "error"), [("float32", 0.03), (best_precision(), 0.15)])
def test_words_are_scored_as_the_network_was_trained_to(tmp_path: Path, precision: Precision, error: float) -> None:
    network = random_network()
    save_neural_lm(tmp_path / "lm.safetensors", network, spelling(), "")
    lm = NeuralLM.load(tmp_path / "lm.safetensors", precision)
    for words in SENTENCES:
        assert score_one_by_one(lm, words) == pytest.approx(expected(network, words), abs=error)


@pytest.mark.parametrize("before", SENTENCES)
def test_what_was_said_before_is_remembered(before: list[int]) -> None:
    network = random_network()
    lm = NeuralLM(network, spelling(), precision="float32")
    rows, pending = lm.start_row[None].copy(), np.array([NO_PIECE], np.int32)
    _, rows, pending = lm.score(rows, np.array(before[:1]), np.array([0]))
    context = lm.remember(rows[0], int(pending[0]), before[1:])
    pieces = [END, *(piece for word in before for piece in (PIECES[word] if word < len(PIECES) else [0])), END]
    with torch.inference_mode():
        scores = network(torch.tensor([pieces]))[0, -1, [PIECES[word][0] for word in range(2)]]
    told, _, _ = lm.score(lm.recall(context)[None], np.arange(2), np.zeros(2, np.int64))
    assert told.tolist() == pytest.approx(scores.tolist(), abs=0.03)
    assert told.tolist() != pytest.approx(lm.score(lm.start_row[None], np.arange(2), np.zeros(2, np.int64))[0].tolist())


def test_what_another_network_or_nobody_remembered_is_as_if_nothing_was_said() -> None:
    lm, other = (NeuralLM(random_network(seed), spelling()) for seed in (0, 1))
    context = lm.remember(lm.start_row, NO_PIECE, [0, 1])
    assert lm.recall(context).tobytes() != lm.start_row.tobytes()
    broken = context[:-2] + np.float16(np.nan).tobytes()
    for wrong in (b"", context[:-2], context + b"ab", other.remember(other.start_row, NO_PIECE, [0]), broken):
        assert lm.recall(wrong) is lm.start_row


def test_nobody_s_scores_depend_on_who_else_is_scored() -> None:
    lm = NeuralLM(random_network(), spelling())
    alone = [score_one_by_one(lm, words) for words in SENTENCES]
    rows = np.repeat(lm.start_row[None], len(SENTENCES), axis=0)
    pending = np.full(len(SENTENCES), NO_PIECE, np.int32)
    together: list[list[float]] = [[] for _ in SENTENCES]
    for at in range(max(map(len, SENTENCES))):
        going = np.array([index for index, words in enumerate(SENTENCES) if len(words) > at])
        some, late = rows[going], pending[going]
        lm.settle(some, late)
        words = np.array([SENTENCES[index][at] for index in going])
        log_probs, rows[going], pending[going] = lm.score(some, words, np.arange(len(going)))
        for index, log_prob in zip(going, log_probs, strict=True):
            together[index].append(float(log_prob))
    assert together == alone


@pytest.mark.parametrize("what", ["absent", "truncated", "format", "missing", "shape", "piece", "length", "nan"])
def test_files_that_are_no_neural_lm_are_refused_by_name(tmp_path: Path, what: str) -> None:
    path = tmp_path / "lm.safetensors"
    metadata = {"format": "streaming_asr.neural_lm", "version": "1", "vocabulary": ""}
    if what != "absent":
        save_neural_lm(path, random_network(), spelling(), "")
        tensors = load_file(path)
        if what == "format":
            metadata["version"] = "2"
        elif what == "missing":
            del tensors["bias"]
        elif what == "shape":
            tensors["bias"] = tensors["bias"][:-1]
        elif what == "piece":
            tensors["pieces"] = np.where(tensors["pieces"] == 7, NUM_PIECES, tensors["pieces"]).astype(np.uint16)
        elif what == "length":
            tensors["length"][0] = 0
        elif what == "nan":
            tensors["bias"][0] = np.nan
        save_file(tensors, path, metadata)
        if what == "truncated":
            path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"lm\.safetensors"):
        NeuralLM.load(path)
