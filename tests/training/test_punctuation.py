"""Prose as what is to be guessed, and the train-punctuation recipe on a made-up language."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from streaming_asr.cli import main
from streaming_asr.errors import InputError
from streaming_asr.formatting.marks import MARKS, SENTENCE_MARKS
from streaming_asr.formatting.punctuation import PunctuationNetwork, Punctuator
from streaming_asr.training.punctuation import (
    LONGEST_PIECE,
    Prose,
    Score,
    balance,
    cut,
    evaluate,
    read_prose,
    train_punctuation,
)

STATEMENT, QUESTION = "So Alice went home, and slept. ", "Why is it so? "


def as_text(prose: Prose) -> str:
    """The words with what is to be guessed of them."""
    rows = zip(prose.words, prose.capitals, prose.marks, strict=True)
    return " ".join((word.capitalize() if capital else word) + MARKS[mark] for word, capital, mark in rows)


@pytest.mark.parametrize(
    ("text", "guessed"),
    [
        ("He came in; she had left: at 5.", "He came in. She had left, at five."),
        ("“Stop!” he said. “Never!”", "Stop, he said. Never."),
        ("Mr. Smith, the prop. and others--all of them.", "Mister Smith, the prop and others, all of them."),
        (
            'He said, "Here is John." "John," said Ann, "look here."',
            "He said, here is John. John, said Ann, look here.",
        ),
        ("What is it?\n\nNothing!", "What is it? Nothing."),
        ("CHAPTER THE FIRST.\n\nNo end\n\nIt was.", "It was."),
        ("Roses are red,\nViolets are blue,\nAnd so on.\n\nIt was.", "It was."),
        ("", ""),
    ],
)
def test_prose_is_read_as_it_would_be_heard_and_written(text: str, guessed: str) -> None:
    assert as_text(read_prose(text)) == guessed


def test_pieces_hold_every_word_once_and_mostly_end_with_a_sentence() -> None:
    prose = read_prose((STATEMENT + QUESTION) * 500)
    spans = cut(prose.marks, np.random.default_rng(0))
    assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
    assert spans[-1][1] == len(prose.words)
    assert max(end - start for start, end in spans) <= LONGEST_PIECE
    ended = sum(MARKS[prose.marks[end - 1]] in SENTENCE_MARKS for _, end in spans) / len(spans)
    assert 0.7 < ended < 0.9


def test_scores() -> None:
    score = Score(guessed=3, right=2, there=5)
    assert (score.precision, score.recall, score.f1) == pytest.approx((2 / 3, 2 / 5, 2 * 2 / (3 + 5)))
    assert Score(0, 0, 0).f1 == 0


def test_balanced_it_guesses_each_mark_as_often_as_it_is_there() -> None:
    rng = np.random.default_rng(0)
    vocabulary = [f"w{index}" for index in range(500)]
    marks = rng.choice(len(MARKS), 4000, p=[0.8, 0.1, 0.07, 0.03]).astype(np.int8)
    prose = Prose(rng.choice(vocabulary, 4000).tolist(), marks, np.zeros(4000, np.bool_))
    torch.manual_seed(0)
    punctuator = Punctuator(vocabulary, PunctuationNetwork(len(vocabulary), 8, 8, 1))
    with torch.no_grad():
        punctuator.network.out.weight *= 100  # as sure of itself as one that is trained
    balance(punctuator, prose)
    scores = evaluate(punctuator, prose)
    for mark in MARKS[1:]:
        assert 0.8 < scores[mark].guessed / scores[mark].there < 1.25


def test_it_learns_a_language_of_two_sentences(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("train.txt", 1200), ("dev.txt", 250)):
        (tmp_path / name).write_text("".join(rng.choice([STATEMENT, QUESTION], count)))
    output = tmp_path / "punctuation.safetensors"
    paths = [str(tmp_path / name) for name in ("train.txt", "dev.txt")]
    caplog.set_level(logging.INFO)
    assert main(["train-punctuation", paths[0], "--dev", paths[1], "--output", str(output)]) == 0
    assert "F1 on" in caplog.messages[-1]
    punctuator = Punctuator.load(output)
    scores = evaluate(punctuator, read_prose((tmp_path / "dev.txt").read_text()))
    assert min(scores[name].f1 for name in (",", ".", "?", "capitals", "inside .")) > 0.9
    marks, capitals = punctuator.punctuate(["so", "alice", "went", "home", "and", "slept", "why", "is", "it", "so"])
    assert marks == ["", "", "", ",", "", ".", "", "", "", "?"]
    assert capitals == [True, True, False, False, False, False, True, False, False, False]


def test_too_little_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text(STATEMENT)
    with pytest.raises(InputError, match="1000 words"):
        train_punctuation([tmp_path / "short.txt"], [tmp_path / "short.txt"], tmp_path / "out")
    with pytest.raises(InputError, match=r"missing\.txt"):
        train_punctuation([tmp_path / "missing.txt"], [tmp_path / "short.txt"], tmp_path / "out")
