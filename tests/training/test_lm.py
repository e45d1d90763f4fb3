"""The build-lm recipe on a tiny text, end to end."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming_asr.errors import InputError
from streaming_asr.lexicon import Lexicon
from streaming_asr.ngram import NGram
from streaming_asr.training.lm import build_lm, choose_words, read_sentences

PROSE = "The cat sat on\nthe mat. The dog ran!\n\nMr. Cat's dog sat.\n\n" * 20
DICTIONARY = """the DH AH0
the(2) DH IY0
cat K AE1 T
dog D AO1 G
sat S AE1 T
ran R AE1 N
on AA1 N
mat M AE1 T
mister M IH1 S T ER0
zebra Z IY1 B R AH0
zebra's Z IY1 B R AH0 Z
"""


def write(folder: Path) -> tuple[Path, Path]:
    text, dictionary = folder / "text.txt", folder / "words.dict"
    text.write_text(PROSE + "Unpronounceable xyzzy.\n\n" * 9)
    dictionary.write_text(DICTIONARY)
    return text, dictionary


def test_text_and_dictionary_become_a_lexicon_and_a_model(tmp_path: Path) -> None:
    text, dictionary = write(tmp_path)
    build_lm([text], dictionary, tmp_path / "lm", order=3, min_counts=(1, 1, 1))
    words = (tmp_path / "lm" / "words.txt").read_text().split()
    lexicon = Lexicon.from_file(tmp_path / "lm" / "lexicon.txt")
    assert lexicon.words == words
    assert set(words) == {"the", "cat", "cat's", "dog", "sat", "ran", "on", "mat", "mister", "zebra"}
    assert len(lexicon.pronunciations("the")) == 2
    model = NGram.load(tmp_path / "lm" / "lm.safetensors")
    assert model.order == 3

    def score(sentence: str) -> float:
        total, state = 0.0, model.start_state
        for word in sentence.split():
            log_prob, state = model.score(state, lexicon.word_id[word])
            total += log_prob
        return total

    assert score("the cat sat on the mat") > score("mat the on sat cat the") + 5


def test_a_smaller_limit_makes_a_smaller_model(tmp_path: Path) -> None:
    text, dictionary = write(tmp_path)
    sizes = []
    for max_bytes in (10_000, 100):
        build_lm([text], dictionary, tmp_path / "lm", min_counts=(1, 1, 1), max_bytes=max_bytes)
        sizes.append(sum(NGram.load(tmp_path / "lm" / "lm.safetensors").counts))
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_prose_has_paragraphs_and_a_list_has_lines(tmp_path: Path, line_end: str) -> None:
    prose, listed = tmp_path / "prose.txt", tmp_path / "list.txt"
    prose.write_bytes(f"One\nline.{line_end}{line_end}Two\nlines.".replace("\n", line_end).encode())
    listed.write_bytes(f"one line{line_end}two lines{line_end}".encode())
    for path in (prose, listed):
        assert [sentence for block in read_sentences(path) for sentence in block] == ["one line", "two lines"]


def test_blocks_do_not_cut_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, _ = write(tmp_path)
    whole = [sentence for block in read_sentences(text) for sentence in block]
    monkeypatch.setattr("streaming_asr.training.lm.BLOCK_CHARACTERS", 97)
    assert [sentence for block in read_sentences(text) for sentence in block] == whole


def test_old_encodings_are_read(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_bytes("Café “so”.\n".encode("cp1252"))
    assert next(read_sentences(tmp_path / "old.txt")) == ["cafe so"]


def test_the_vocabulary_is_frequent_words_and_the_dictionary() -> None:
    known = {word: [("AA",)] for word in ("rare", "new", "new's")}
    counts = {"often": 9, "seldom": 2, "rare": 1}
    assert choose_words(counts, known, max_words=10, min_count=3) == ["often", "rare", "new"]
    assert choose_words(counts, known, max_words=2, min_count=1) == ["often", "seldom"]


def test_unusable_input_is_named(tmp_path: Path) -> None:
    text, dictionary = write(tmp_path)
    with pytest.raises(InputError, match="order 9"):
        build_lm([text], dictionary, tmp_path / "lm", order=9)
    with pytest.raises(InputError, match=r"missing\.txt"):
        build_lm([tmp_path / "missing.txt"], dictionary, tmp_path / "lm")
    with pytest.raises(InputError, match=r"missing\.dict"):
        build_lm([text], tmp_path / "missing.dict", tmp_path / "lm")
    (tmp_path / "empty").write_text("")
    with pytest.raises(InputError, match="no words"):
        build_lm([tmp_path / "empty"], dictionary, tmp_path / "lm")
    with pytest.raises(InputError, match="no pronunciations"):
        build_lm([text], tmp_path / "empty", tmp_path / "lm")
