"""Training the pronunciation guesser on a toy language whose spelling rules are known."""

from __future__ import annotations

import random

import pytest

from streaming_asr.errors import InputError
from streaming_asr.g2p import G2P
from streaming_asr.training.g2p import edit_distance, error_rates, split, train_g2p
from streaming_asr.training.lexicon import Pronunciation

RULES = {"b": "B", "k": "K", "t": "T", "sh": "SH", "x": "K S", "a": "AE", "i": "IH", "u": "AH"}


def toy_dictionary(size: int, seed: int) -> dict[str, list[Pronunciation]]:
    generator = random.Random(seed)
    found = {}
    for _ in range(size):
        parts = []
        for _ in range(generator.randint(1, 3)):
            parts += [generator.choice(["b", "k", "t", "sh", "x"]), generator.choice("aiu")]
        silent = generator.choice(["", "e"])
        found["".join(parts) + silent] = [tuple(" ".join(RULES[part] for part in parts).split())]
    return found


@pytest.fixture(scope="module")
def model() -> G2P:
    return train_g2p(toy_dictionary(400, 1), order=3, max_ngrams=10_000)


def test_rules_of_spelling_are_learnt(model: G2P) -> None:
    unseen = toy_dictionary(100, 2)
    phone_errors, word_errors = error_rates(model, unseen, list(unseen))
    assert phone_errors < 0.01
    assert word_errors < 0.03


def test_units_are_letters_with_their_phones(model: G2P) -> None:
    assert ("x", ("K", "S")) in model.units
    assert any(letters.endswith("e") and len(letters) > len(phones) for letters, phones in model.units)


def test_nothing_to_learn_is_an_input_error() -> None:
    with pytest.raises(InputError, match="aligned"):
        train_g2p({"a": [("B",) * 9]})


def test_a_stem_and_its_forms_are_held_out_together() -> None:
    known: dict[str, list[Pronunciation]] = {form: [("AA",)] for stem in "abcdefghij" for form in (stem, f"{stem}'s")}
    train, test = split(known, 0.3)
    assert len(test) == 6
    assert not {word[0] for word in train} & {word[0] for word in test}


@pytest.mark.parametrize(("left", "right", "distance"), [("", "abc", 3), ("abc", "abc", 0), ("abc", "xbcd", 2)])
def test_edit_distance(left: str, right: str, distance: int) -> None:
    assert edit_distance(left, right) == distance
