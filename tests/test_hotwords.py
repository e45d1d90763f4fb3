"""Hotwords: which words of a list get a bonus, and that a bonus brings a word out."""

import string

import numpy as np

from streaming_asr.g2p import G2P, G2PLevel
from streaming_asr.hotwords import (
    BONUS,
    COMMON_LOG_PROB,
    MAX_HOTWORD_CHARACTERS,
    MAX_HOTWORDS,
    MAX_UNKNOWN_WORDS,
    Phrases,
    fitting_hotwords,
    pronounced,
    spoken_words,
    unknown_words,
    word_bonus,
    word_bonus_alone,
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


def test_where_nothing_else_is_wanted_the_words_of_phrases_are_about_as_likely_as_each_other() -> None:
    num_phones = np.array([2, 5, 3, 7, 5], np.uint8)
    bonus = word_bonus_alone(["The Magna Carta", "out-of-it", "Runnymede"], WORD_ID, UNIGRAMS, num_phones)
    assert bonus is not None
    assert bonus.tolist() == [0, BONUS, 6, 6, 0]  # most; two a phone; as likely as wanted; no hotword
    assert word_bonus_alone(["the"], WORD_ID, UNIGRAMS, num_phones) is None


def test_words_of_whole_phrases_are_told() -> None:
    phrases = Phrases(["Go", "go on", "turn the light off", "turn up", "O’Brien", " .,!"])

    def told(words: str, is_over: bool = True) -> str:
        return " ".join(words.split()[place] for place in phrases.places(words.split(), is_over))

    assert told("well go") == "go"
    assert told("go on go and o'brien") == "go on go o'brien"
    assert told("turn the turn the light off please turn the light of") == "turn the light off"
    assert told("up") == told("") == ""
    assert told("well go", is_over=False) == ""  # on
    assert told("go on turn the light", is_over=False) == "go on"
    assert told("go and turn up", is_over=False) == "go turn up"


def test_a_phrase_may_go_on_where_it_is_cut() -> None:
    phrases = Phrases(["go", "go on", "turn the light off"])
    assert all(phrases.may_go_on(words.split()) for words in ("go", "well turn the", "on and go"))
    assert [phrases.may_go_on(words.split()) for words in ("", "go on", "the light", "turn the light off")] == [
        False
    ] * 4


def test_what_is_settled_of_phrases_stays_whatever_is_said_next() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        phrases = Phrases(" ".join(rng.choice(list("abc"), rng.integers(1, 5))) for _ in range(rng.integers(1, 6)))
        words = rng.choice(list("abcd"), rng.integers(0, 12)).tolist()
        places = phrases.places(words)
        for end in range(len(words) + 1):
            settled = phrases.places(words[:end], is_over=False)
            assert places[: len(settled)] == settled


def test_phrases_are_read_as_a_lexicon_writes_words() -> None:
    assert list(spoken_words(' "Well-known"  (O’Brien), x.')) == ["well", "known", "o'brien", "x"]
    assert list(spoken_words("Café Zoë “Hermione,Granger” ‘tis the dogs' James’")) == [
        "cafe", "zoe", "hermione", "granger", "tis", "the", "dogs", "james",
    ]  # fmt: skip


def test_a_list_from_outside_is_cut_to_what_fits() -> None:
    assert fitting_hotwords(["a", 7, None, "", "b" * (MAX_HOTWORD_CHARACTERS + 1), "c"]) == ("a", "c")
    assert fitting_hotwords(iter(["a"] * 1000)) == ("a",) * MAX_HOTWORDS


def test_words_that_the_lexicon_lacks_are_those_that_letters_spell() -> None:
    phrases = ["the Krzyz", "krzyz O’Hare", "R2D2 42 Łódź 'tis " + "a" * 25, "b" * 24]
    assert unknown_words(phrases, WORD_ID) == ["krzyz", "o'hare", "tis", "b" * 24]
    many = [f"{a}{b}" for a in string.ascii_lowercase for b in string.ascii_lowercase]
    assert unknown_words([" ".join(many)], WORD_ID) == many[:MAX_UNKNOWN_WORDS]
    long = [f"{word:a>24}" for word in many]
    assert unknown_words([" ".join(long)], WORD_ID) == long[:29]  # 696 letters


def test_words_get_the_pronunciations_that_are_guessed() -> None:
    units = [("c", ("K",)), ("c", ("S",)), ("a", ("AE",))]
    levels = [
        G2PLevel(np.arange(5), np.array([-1.0, -2, -1, -9, -1]), np.zeros(5)),
        G2PLevel(np.array([0]), np.array([-9.0]), np.zeros(1)),
    ]
    g2p = G2P(units, levels)
    assert pronounced(["ca", "bb"], g2p).to_text() == "ca\tK AE\nca\tS AE\nbb\tB IY B IY\n"
