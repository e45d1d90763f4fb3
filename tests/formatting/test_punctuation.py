"""The punctuation network: its file, its answers, and files that are none of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from streaming_asr.errors import ModelError
from streaming_asr.formatting.marks import MARKS
from streaming_asr.formatting.punctuation import FORMAT, VERSION, PunctuationNetwork, Punctuator
from streaming_asr.proc import read_stat

WORDS = ["the", "cat", "sat"]


@pytest.fixture(scope="module")
def punctuator() -> Punctuator:
    torch.manual_seed(1)
    return Punctuator(WORDS, PunctuationNetwork(len(WORDS), embedding_size=8, hidden_size=8, num_layers=1))


def test_a_mark_and_a_case_for_each_word(punctuator: Punctuator) -> None:
    marks, capitals = punctuator.punctuate(["the", "cat", "unheardof", "sat"])
    assert len(marks) == len(capitals) == 4
    assert set(marks) <= set(MARKS)
    assert punctuator.punctuate([]) == ([], [])


def test_words_before_are_heard_and_not_answered() -> None:
    torch.manual_seed(2)
    network = PunctuationNetwork(len(WORDS), embedding_size=8, hidden_size=8, num_layers=1)
    for weights in network.parameters():
        torch.nn.init.normal_(weights)
    decided = Punctuator(WORDS, network)
    words = ["sat", "the", "cat", "the", "cat", "sat"]
    heard = [decided.punctuate(words, before)[0] for before in ([], ["the", "cat", "sat"])]
    assert heard[1] == decided.punctuate(["the", "cat", "sat", *words])[0][3:]
    assert heard[0] != heard[1]
    assert decided.punctuate([], ["the"]) == ([], [])


def test_any_number_of_words_is_read_as_in_training(punctuator: Punctuator) -> None:
    torch.manual_seed(3)
    network = PunctuationNetwork(len(WORDS), embedding_size=8, hidden_size=8, num_layers=2).requires_grad_(False)
    for num_words in (1, 2, 15, 16, 17, 32, 50):
        words, endings = torch.randint(3, (1, num_words)), torch.randint(100, (1, num_words))
        expected = network.train()(words, endings)
        for mine, same in zip(network.eval()(words, endings), expected, strict=True):
            torch.testing.assert_close(mine, same)


def test_lengths_of_finals_fill_no_memory() -> None:
    """oneDNN keeps what it compiles for each length of a sequence: 0.8 MB, 50 MB for finals of 64 words at most."""
    punctuator = Punctuator(WORDS, PunctuationNetwork(len(WORDS)))
    punctuator.punctuate(["cat"])
    before = read_stat(Path("/proc/self")).resident_bytes
    for num_words in range(1, 65):
        punctuator.punctuate(["cat"] * num_words)
    assert read_stat(Path("/proc/self")).resident_bytes - before < 20e6


def test_a_word_after_the_end_of_a_sentence_is_capitalized(punctuator: Punctuator) -> None:
    network = PunctuationNetwork(len(WORDS), embedding_size=8, hidden_size=8, num_layers=1)
    network.load_state_dict(punctuator.network.state_dict())
    with torch.no_grad():
        network.out.weight.zero_()
        network.out.bias.copy_(torch.tensor([0.0, 0, 1, 0, 1, 0]))  # a full stop after each word, no capitals
    assert Punctuator(WORDS, network).punctuate(WORDS) == ([".", ".", "."], [False, True, True])


def test_a_word_is_known_by_its_ending_too(punctuator: Punctuator) -> None:
    features = punctuator.features(["walking", "talking", "cat", "the"])
    assert features[0].tolist() == [3, 3, 1, 0]
    assert features[1, 0] == features[1, 1] != features[1, 2]


def test_the_file_keeps_the_network_to_8_bits(punctuator: Punctuator, tmp_path: Path) -> None:
    path = tmp_path / "punctuation.safetensors"
    punctuator.save(path)
    loaded = Punctuator.load(path)
    assert loaded.words == WORDS
    for name, tensor in punctuator.network.state_dict().items():
        step = tensor.abs().max() / 127
        assert torch.allclose(loaded.network.state_dict()[name], tensor, atol=float(step)), name
    assert load_file(path)["word.weight"].dtype == np.int8


@pytest.mark.parametrize("damage", ["absent", "no safetensors", "other format", "a table less", "other sizes"])
def test_a_file_that_cannot_be_used_is_named(punctuator: Punctuator, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "punctuation.safetensors"
    metadata = {"format": FORMAT, "version": VERSION, "sizes": "[8, 8, 1]", "words": " ".join(WORDS)}
    punctuator.save(path)
    tensors = load_file(path)
    match damage:
        case "absent":
            path.unlink()
        case "no safetensors":
            path.write_bytes(b"words")
        case "other format":
            save_file(tensors, path, metadata | {"version": "0"})
        case "a table less":
            del tensors["word.weight.scale"]
            save_file(tensors, path, metadata)
        case "other sizes":
            save_file(tensors, path, metadata | {"sizes": "[8, 16, 1]"})
    with pytest.raises(ModelError, match=r"punctuation\.safetensors"):
        Punctuator.load(path)
