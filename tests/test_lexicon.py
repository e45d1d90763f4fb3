"""Lexicon text and prefix tree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streaming_asr.errors import InputError
from streaming_asr.lexicon import ROOT, Lexicon, LexiconTree, _read_plain
from streaming_asr.tokens import PHONE_ID

TEXT = "cat\tK AE T\ncats\tK AE T S\nkat\tK AE T\na\tAH\na\tEY\n"


def spelled(phones: str) -> tuple[int, ...]:
    return tuple(PHONE_ID[phone] for phone in phones.split())


def test_text_round_trip(tmp_path: Path) -> None:
    lexicon = Lexicon.from_text(TEXT)
    assert lexicon.words == ["cat", "cats", "kat", "a"]
    assert len(lexicon) == 4
    assert lexicon.pronunciations("a") == [spelled("AH"), spelled("EY")]
    assert lexicon.pronunciations("nothing") == []
    assert lexicon.fewest_phones().tolist() == [3, 4, 3, 1]
    assert Lexicon([("a", [1, 2]), ("b", [1] * 300), ("a", [2])]).fewest_phones().tolist() == [1, 255]
    assert lexicon.to_text() == TEXT
    lexicon.save(tmp_path / "lexicon.txt")
    assert Lexicon.from_file(tmp_path / "lexicon.txt").to_text() == TEXT


@pytest.mark.parametrize("text", ["cat K AE T", "cat\t", "cat\tK Q", "\tK", "two words\tK"])
def test_malformed_text(text: str) -> None:
    with pytest.raises(InputError):
        Lexicon.from_text(text)


def test_malformed_input(tmp_path: Path) -> None:
    (tmp_path / "lexicon.txt").write_bytes(b"\xff\tK\n")
    with pytest.raises(InputError, match="UTF-8"):
        Lexicon.from_file(tmp_path / "lexicon.txt")
    for pronunciation in ((), (0,), (40,)):
        with pytest.raises(InputError):
            Lexicon([("word", pronunciation)])
    with pytest.raises(InputError, match="at least one"):
        LexiconTree.build(Lexicon([]), np.zeros(0, np.float32))
    with pytest.raises(InputError, match="one finite"):
        LexiconTree.build(Lexicon.from_text(TEXT), np.zeros(3, np.float32))


pronunciation_lists = st.lists(
    st.tuples(st.sampled_from("uvwxyz"), st.lists(st.sampled_from([1, 2, 39]), min_size=1, max_size=5)),
    min_size=1,
    max_size=20,
)


def _columns(lexicon: Lexicon) -> list[object]:
    arrays = (lexicon.pronunciation_word, lexicon.offsets, lexicon.phones)
    return [lexicon.words, lexicon.word_id, *((array.tolist(), array.dtype) for array in arrays)]


PIECES = ["a", "b'c", "\t", "\tAH", "\tB AH", " ", "  ", "\n", "AH", "B", "ZH ", "XX", "AHH", "\r", "\v", "é", "\ta\n"]


@given(st.lists(st.sampled_from(PIECES) | st.sampled_from(["a\tAH\n", "bc\tB AH\n"]), max_size=12).map("".join))
@example("a\tAH\na\tB\nbc\tB ZH AH\n")
def test_a_file_reads_as_its_text_does(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "lexicon.txt"
    path.write_bytes(text.encode())
    try:
        expected = _columns(Lexicon.from_text(text))
    except InputError:
        with pytest.raises(InputError):
            Lexicon.from_file(path)
    else:
        assert _columns(Lexicon.from_file(path)) == expected


def test_a_plain_file_takes_the_short_way() -> None:
    assert _read_plain(b"a\tAH\nbc\tB AH\n") is not None
    assert _read_plain("é\tAH\n".encode()) is _read_plain(b"a\tXX\n") is _read_plain(b"a b\tAH\n") is None


@given(pronunciation_lists, st.integers(0, 1000))
def test_tree_holds_every_pronunciation_and_nothing_else(pairs: list[tuple[str, list[int]]], seed: int) -> None:
    lexicon = Lexicon(pairs)
    unigrams = np.random.default_rng(seed).standard_normal(len(lexicon)).astype(np.float32)
    tree = LexiconTree.build(lexicon, unigrams)
    arrays = tree.arrays
    seen = 0
    found: set[tuple[str, tuple[int, ...]]] = set()

    def walk(node: int, prefix: tuple[int, ...]) -> float:
        nonlocal seen
        seen += 1
        ends = arrays.end_word[arrays.first_end[node] : arrays.first_end[node + 1]].tolist()
        found.update((tree.words[word], prefix) for word in ends)
        children = range(arrays.first_child[node], arrays.first_child[node + 1])
        phones = [int(arrays.phone[child]) for child in children]
        assert phones == sorted(set(phones))
        assert int(arrays.child_mask[node]) == sum(1 << phone for phone in phones)
        best = max(
            [float(unigrams[word]) for word in ends]
            + [walk(child, (*prefix, phone)) for child, phone in zip(children, phones, strict=True)]
        )
        if node != ROOT:
            assert arrays.look_ahead[node] == best
        return best

    walk(ROOT, ())
    assert arrays.look_ahead[ROOT] == 0
    assert seen == tree.num_nodes
    assert found == {(word, tuple(phones)) for word, phones in pairs}
    assert len(arrays.end_word) == len(found)
