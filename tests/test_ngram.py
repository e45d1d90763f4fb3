"""N-gram language model: ARPA arithmetic, round trip, damaged files."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from streaming_asr.errors import InputError, ModelError
from streaming_asr.ngram import NO_UNIGRAM, NGram, _quantize, vocabulary_fingerprint

WORDS = ["a", "b", "c", "d"]
VOCABULARY = [*WORDS, "<s>", "</s>", "<unk>"]
Table = dict[tuple[str, ...], tuple[float, float]]  # n-gram -> log10 probability, log10 back-off weight


def arpa_text(table: Table) -> str:
    order = max(len(ngram) for ngram in table)
    lines = ["\\data\\"]
    lines += [f"ngram {n}={sum(len(ngram) == n for ngram in table)}" for n in range(1, order + 1)]
    for n in range(1, order + 1):
        lines += ["", f"\\{n}-grams:"]
        for ngram, (log_prob, backoff) in table.items():
            if len(ngram) == n:
                suffix = f"\t{backoff:.3f}" if backoff else ""
                lines.append(f"{log_prob:.3f}\t{' '.join(ngram)}{suffix}")
    return "\n".join([*lines, "", "\\end\\", ""])


def brute_force(table: Table, context: tuple[str, ...], word: str) -> float:
    """Natural log probability by the definition of back-off."""
    order = max(len(ngram) for ngram in table)
    context = context[len(context) - min(len(context), order - 1) :]
    total = 0.0
    while (*context, word) not in table:
        total += table.get(context, (0.0, 0.0))[1]
        context = context[1:]
    return (total + table[*context, word][0]) * math.log(10)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    order = draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)

    def entry(n: int) -> tuple[float, float]:
        backoff = 0.0 if n == order or rng.random() < 0.4 else round(float(-rng.random()), 3)
        return round(float(-3 * rng.random()), 3), backoff

    table = {(word,): entry(1) for word in VOCABULARY}
    for n in range(2, order + 1):
        for _ in range(draw(st.integers(0, 40))):
            ngram = tuple(rng.choice(VOCABULARY, n).tolist())
            table[ngram] = entry(n)  # prefixes and suffixes may be missing on purpose
    if max(len(ngram) for ngram in table) < order:  # the last orders are empty
        order = max(len(ngram) for ngram in table)
    return {ngram: (log_prob, backoff if len(ngram) < order else 0.0) for ngram, (log_prob, backoff) in table.items()}


@settings(max_examples=60, deadline=None)
@given(table=tables(), seed=st.integers(0, 1000))
def test_scores_equal_backoff_arithmetic(table: Table, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("lm")
    (folder / "lm.arpa").write_text(arpa_text(table))
    made = NGram.from_arpa(folder / "lm.arpa", WORDS)
    made.save(folder / "lm.safetensors")
    loaded = NGram.load(folder / "lm.safetensors")
    arrays, loaded_arrays = made.arrays._asdict(), loaded.arrays._asdict()
    for left, right in zip(arrays.values(), loaded_arrays.values(), strict=True):
        np.testing.assert_array_equal(left, right)
        assert left.dtype == right.dtype
    rng = np.random.default_rng(seed)
    for lm in (made, loaded):
        state = lm.start_state
        history: tuple[str, ...] = ("<s>",)
        for _ in range(60):
            word = str(rng.choice(VOCABULARY))
            expected = brute_force(table, history, word)
            score, state = lm.score(state, VOCABULARY.index(word))
            assert score == pytest.approx(expected, abs=1e-4)
            history = (*history, word)


def unigrams(words: list[str]) -> Table:
    return {(word,): (-1.0, 0.0) for word in words}


def test_words_the_arpa_lacks_get_unk_and_others_are_dropped(tmp_path: Path) -> None:
    table = unigrams(["<unk>", "b", "other", "</s>"])
    table |= {("b", "other"): (-0.5, 0.0), ("b", "b"): (-0.25, 0.0)}
    (tmp_path / "lm.arpa.gz").write_bytes(gzip.compress(arpa_text(table).encode()))
    lm = NGram.from_arpa(tmp_path / "lm.arpa.gz", WORDS)
    assert lm.counts == [7, 1]
    assert (lm.num_words, lm.bos, lm.eos, lm.unk, lm.order) == (4, 4, 5, 6, 2)
    assert lm.score(0, 0)[0] == pytest.approx(-math.log(10))
    assert lm.vocabulary == vocabulary_fingerprint(WORDS)
    state = lm.score(0, 1)[1]
    assert lm.score(state, 1)[0] == pytest.approx(-0.25 * math.log(10))
    del table[("<unk>",)]
    (tmp_path / "lm.arpa").write_text(arpa_text(table))
    assert NGram.from_arpa(tmp_path / "lm.arpa", WORDS).score(0, 0)[0] == NO_UNIGRAM


def test_contexts_without_effect_share_the_root_state(tmp_path: Path) -> None:
    table = unigrams(VOCABULARY) | {("a", "b"): (-0.5, 0.0)}
    (tmp_path / "lm.arpa").write_text(arpa_text(table))
    lm = NGram.from_arpa(tmp_path / "lm.arpa", WORDS)
    assert lm.score(0, 1)[1] == 0
    assert lm.score(0, 0)[1] != 0


def test_many_words_are_stored_in_three_bytes(tmp_path: Path) -> None:
    words = [f"w{index}" for index in range(70000)]
    table = unigrams(["</s>", words[0], words[-1]]) | {(words[0], words[-1]): (-0.5, 0.0)}
    (tmp_path / "lm.arpa").write_text(arpa_text(table))
    lm = NGram.from_arpa(tmp_path / "lm.arpa", words)
    lm.save(tmp_path / "lm.safetensors")
    assert load_file(tmp_path / "lm.safetensors")["word"].shape == (1, 3)
    loaded = NGram.load(tmp_path / "lm.safetensors")
    assert loaded.score(1, 69999)[0] == pytest.approx(-0.5 * math.log(10), abs=1e-5)


def test_size_on_disk(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    words = [f"w{index}" for index in range(100)]
    table: Table = {(word,): (float(-rng.random()), -0.1) for word in [*words, "<s>", "</s>", "<unk>"]}
    for pair in rng.choice(10000, 2000, replace=False):
        table[(words[pair // 100], words[pair % 100])] = (float(-rng.random()), float(-rng.random()))
        for third in rng.choice(100, 5, replace=False):
            table[(words[pair // 100], words[pair % 100], words[third])] = (float(-rng.random()), 0.0)
    (tmp_path / "lm.arpa").write_text(arpa_text(table))
    NGram.from_arpa(tmp_path / "lm.arpa", words).save(tmp_path / "lm.safetensors")
    fixed = 103 * 12 + 8 * 1024 + 1024  # unigrams, codebooks, header
    assert (tmp_path / "lm.safetensors").stat().st_size <= 3 * 10000 + 8 * 2000 + fixed


def test_quantization_error_is_small() -> None:
    values = -np.random.default_rng(0).gamma(2.0, 1.5, 100000).astype(np.float32)
    values[:100] = 0.0
    codebook, codes = _quantize(values, keep_zero=True)
    assert float(np.sqrt(np.mean((codebook[codes] - values) ** 2))) < 0.02
    assert (codebook[codes[:100]] == 0.0).all()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "without"),
        ("\\data\\\n\\1-grams:\n-1 a\n", "without"),
        ("\\data\\\n\\end\\\n", "no n-grams"),
        ("\\data\\\n\\2-grams:\n", "unexpected section"),
        ("\\data\\\n\\1-grams:\nx a\n\\end\\\n", "line 3: not an 1-gram"),
        ("\\data\\\n\\1-grams:\n-1 a 0 0\n\\end\\\n", "line 3: not an 1-gram"),
        ("\\data\\\n\\1-grams:\nnan a\n\\end\\\n", "not finite"),
    ],
)
def test_malformed_arpa(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text(text)
    with pytest.raises(InputError, match=reason):
        NGram.from_arpa(tmp_path / "lm.arpa", WORDS)


def test_truncated_gzip_and_bad_words(tmp_path: Path) -> None:
    (tmp_path / "lm.gz").write_bytes(gzip.compress(arpa_text(unigrams(VOCABULARY)).encode())[:-12])
    with pytest.raises(InputError, match="gzip"):
        NGram.from_arpa(tmp_path / "lm.gz", WORDS)
    with pytest.raises(InputError, match="distinct"):
        NGram.from_arpa(tmp_path / "lm.gz", ["a", "a"])
    with pytest.raises(InputError, match="distinct"):
        NGram.from_arpa(tmp_path / "lm.gz", ["<s>"])


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "lm.safetensors"
    with pytest.raises(ModelError, match=r"lm\.safetensors"):
        NGram.load(path)
    path.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"lm\.safetensors"):
        NGram.load(path)
    table = unigrams(VOCABULARY) | {("a", "b"): (-0.5, -0.5), ("a", "c"): (-1, 0), ("a", "b", "c"): (-0.1, 0)}
    (tmp_path / "lm.arpa").write_text(arpa_text(table))
    NGram.from_arpa(tmp_path / "lm.arpa", WORDS).save(path)
    metadata = {"format": "streaming_asr.ngram", "version": "1"}
    good = load_file(path)

    def damaged(name: str, value: np.ndarray | None, metadata: dict[str, str] = metadata) -> None:
        tensors = {key: tensor for key, tensor in good.items() if key != name}
        save_file(tensors if value is None else tensors | {name: value}, path, metadata)
        with pytest.raises(ModelError, match=str(path)):
            NGram.load(path)

    damaged("word", None)
    damaged("word", good["word"], {"format": "streaming_asr.ngram", "version": "2"})
    damaged("word", good["word"].astype(np.int64))
    damaged("word", good["word"] + np.uint16(100))
    damaged("word", good["word"][[1, 0, 2]])
    damaged("word", good["word"][:-1])
    damaged("first_child", good["first_child"][::-1].copy())
    damaged("first_child", np.zeros_like(good["first_child"]))
    shifted = good["first_child"].copy()
    shifted[3] += 1
    damaged("first_child", shifted)
    damaged("level_start", good["level_start"][::-1].copy())
    damaged("level_start", np.arange(20))
    damaged("level_start", np.array([0, 1, 2, 3, 11]))
    damaged("unigram_log_prob", good["unigram_log_prob"] * np.float32(np.nan))


def test_score_checks_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "lm.arpa").write_text(arpa_text(unigrams(VOCABULARY)))
    lm = NGram.from_arpa(tmp_path / "lm.arpa", WORDS)
    for state, word in ((0, 7), (0, -1), (-1, 0), (1, 0)):
        with pytest.raises(InputError):
            lm.score(state, word)
    assert lm.start_state == 0
