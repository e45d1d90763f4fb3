"""Hotwords: which words of a list get a bonus, and that a bonus brings a word out."""

import numpy as np

from streaming_asr.hotwords import (
    BONUS,
    COMMON_LOG_PROB,
    MAX_HOTWORD_CHARACTERS,
    MAX_HOTWORDS,
    fitting_hotwords,
    spoken_words,
    word_bonus,
)

WORD_ID = {"the": 0, "magna": 1, "carta": 2, "runnymede": 3, "o'brien": 4}
UNIGRAMS = np.array([-3, -13, -14, COMMON_LOG_PROB - 1, -12], np.float32)


def test_the_rare_words_of_phrases_get_a_bonus() -> None:
    bonus = word_bonus(["The Magna Carta", "not-in-the-lexicon", "O’Brien!"], WORD_ID, UNIGRAMS)
    assert bonus is not None
    assert bonus.tolist() == [0, BONUS, BONUS, 0, BONUS]


def test_no_word_no_bonus() -> None:
    for phrases in ([], [""], ["the"], ["elsewhere"], [" .,!"]):
        assert word_bonus(phrases, WORD_ID, UNIGRAMS) is None


def test_phrases_are_read_as_a_lexicon_writes_words() -> None:
    assert list(spoken_words(' "Well-known"  (O’Brien), x.')) == ["well", "known", "o'brien", "x"]


def test_a_list_from_outside_is_cut_to_what_fits() -> None:
    assert fitting_hotwords(["a", 7, None, "", "b" * (MAX_HOTWORD_CHARACTERS + 1), "c"]) == ("a", "c")
    assert fitting_hotwords(iter(["a"] * 1000)) == ("a",) * MAX_HOTWORDS
