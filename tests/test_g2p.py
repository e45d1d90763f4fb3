"""Guessing pronunciations with a model small enough to check by hand, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_asr.errors import InputError, ModelError
from streaming_asr.g2p import G2P, LETTERS, G2PLevel, letter_by_letter
from streaming_asr.tokens import PHONES

# c = K or S, a = AE, h = HH, ch = CH; then begin 5, end 6.
UNITS: list[tuple[str, tuple[str, ...]]] = [
    ("c", ("K",)), ("c", ("S",)), ("a", ("AE",)), ("h", ("HH",)), ("ch", ("CH",)),
]  # fmt: skip
BEGIN, END, TOKENS = 5, 6, 7


def tiny_model() -> G2P:
    unigrams = G2PLevel(np.arange(TOKENS), np.log([0.2, 0.1, 0.2, 0.1, 0.1, 1e-9, 0.3]), np.full(TOKENS, np.log(0.5)))
    pairs = sorted([(BEGIN, 4, 0.6), (0, 2, 0.9), (2, END, 0.8)])
    bigrams = G2PLevel(
        np.array([first * TOKENS + second for first, second, _ in pairs]),
        np.log([probability for _, _, probability in pairs]),
        np.zeros(len(pairs)),
    )
    return G2P(UNITS, [unigrams, bigrams])


@pytest.mark.parametrize(("word", "phones"), [("ca", "K AE"), ("cha", "CH AE"), ("C-A!", "K AE"), ("ac", "AE K")])
def test_the_most_likely_units_that_spell_the_word_win(word: str, phones: str) -> None:
    assert tiny_model().pronounce(word) == [tuple(phones.split())]


def test_a_model_of_single_units_says_words_too() -> None:
    assert G2P(UNITS, tiny_model().levels[:1]).pronounce("ca") == [("K", "AE")]


@pytest.mark.parametrize("most_children", [255, 256])
def test_a_file_holds_any_number_of_children(most_children: int, tmp_path: Path) -> None:
    letters = ("a", ("AE",))
    unigrams = G2PLevel(np.arange(most_children), np.full(most_children, -1.0), np.zeros(most_children))
    G2P([letters] * (most_children - 2), [unigrams]).save(tmp_path / "g2p.safetensors")
    assert len(G2P.load(tmp_path / "g2p.safetensors").levels[0].key) == most_children


def test_variants_come_best_first_and_no_further_than_the_margin() -> None:
    model = tiny_model()
    assert model.pronounce("ac", variants=5) == [("AE", "K"), ("AE", "S")]
    assert model.pronounce("ac", variants=5, margin=0.5) == [("AE", "K")]


@pytest.mark.parametrize(
    ("word", "phones"), [("cz", "S IY Z IY"), ("ch", "S IY EY CH"), ("C.C.", "S IY S IY"), ("ach", "AE CH")]
)
def test_what_has_no_vowel_is_said_letter_by_letter(word: str, phones: str) -> None:
    assert tiny_model().pronounce(word, variants=3)[0] == tuple(phones.split())


def test_letters_have_their_names() -> None:
    assert sorted(LETTERS) == list("abcdefghijklmnopqrstuvwxyz")
    assert all(set(name.split()) <= set(PHONES) for name in LETTERS.values())
    assert letter_by_letter("qz") == ("K", "Y", "UW", "Z", "IY")


@pytest.mark.parametrize("word", ["", "'", "123", "a" * 65])
def test_unusable_words_are_input_errors(word: str) -> None:
    with pytest.raises(InputError, match="1 to 64 letters"):
        tiny_model().pronounce(word)


@given(st.text(alphabet="cah", min_size=1, max_size=12))
def test_any_word_of_known_letters_is_pronounced(word: str) -> None:
    assert tiny_model().pronounce(word)


def test_the_file_means_the_same(tmp_path: Path) -> None:
    model = tiny_model()
    model.save(tmp_path / "g2p.safetensors")
    loaded = G2P.load(tmp_path / "g2p.safetensors")
    assert loaded.units == model.units
    for one, other in zip(loaded.levels, model.levels, strict=True):
        assert one.key.tolist() == other.key.tolist()
        assert np.abs(one.log_prob - other.log_prob).max() < 0.05
    assert loaded.pronounce("chaca") == model.pronounce("chaca")


def test_absent_and_damaged_files_are_model_errors(tmp_path: Path) -> None:
    path = tmp_path / "g2p.safetensors"
    with pytest.raises(ModelError, match=r"g2p\.safetensors"):
        G2P.load(path)
    tiny_model().save(path)
    good = path.read_bytes()
    path.write_bytes(good[:-3])
    with pytest.raises(ModelError):
        G2P.load(path)
    path.write_bytes(good.replace(b"streaming_asr.g2p", b"streaming_asr.g2q"))
    with pytest.raises(ModelError, match="not a version"):
        G2P.load(path)
    path.write_bytes(good.replace(b"c K", b"c Q"))
    with pytest.raises(ModelError, match="phones"):
        G2P.load(path)
