"""The search graph of a model folder, read from its files or from what was kept of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from streaming_asr import search_graph
from streaming_asr.errors import ModelError
from streaming_asr.lexicon import Lexicon
from streaming_asr.search_graph import SearchGraph, cache_path, read_graph
from tests.searching import LEXICON, random_ngram


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a model, as far as the search goes; nothing of it is kept yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder, LEXICON, seed=1)
    return folder


def write(folder: Path, text: str, seed: int) -> None:
    lexicon = Lexicon.from_text(text)
    lexicon.save(folder / "lexicon.txt")
    random_ngram(lexicon, folder, seed).save(folder / "lm.safetensors")
    names = ("lexicon.txt", "lm.safetensors")
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "config.json").write_text(json.dumps({"model": {}, "sha256": "", "files": files}))


def contents(graph: SearchGraph) -> dict[str, Any]:
    arrays = {**graph.tree.arrays._asdict(), **graph.ngram.arrays._asdict(), **graph.lexicon.to_arrays()}
    return {name: (array.dtype, array.tolist()) for name, array in arrays.items()}


def test_what_is_kept_is_what_the_files_hold(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = read_graph(folder)
    monkeypatch.setattr(search_graph, "_read_files", lambda folder: pytest.fail("read once more"))
    kept = read_graph(folder)
    assert contents(kept) == contents(first)
    assert kept.lexicon.words == kept.tree.words == first.lexicon.words
    assert kept.lexicon.word_id == first.lexicon.word_id
    assert kept.lexicon.to_text() == first.lexicon.to_text() == LEXICON
    assert (kept.ngram.start_state, kept.ngram.vocabulary) == (first.ngram.start_state, first.ngram.vocabulary)
    arrays: list[NDArray[Any]] = [*kept.tree.arrays, *kept.ngram.arrays]
    for array in arrays:
        assert array.flags.writeable  # for a read-only one the search would be compiled a second time
        assert array.flags.c_contiguous


def test_a_model_that_changed_is_read_anew(folder: Path) -> None:
    before = contents(read_graph(folder))
    write(folder, LEXICON + "beet\tB T\n", seed=2)
    after = read_graph(folder)
    assert contents(after) != before
    assert after.lexicon.pronunciations("beet") == Lexicon.from_text(LEXICON + "beet\tB T\n").pronunciations("beet")
    assert contents(read_graph(folder)) == contents(after)
    assert len(list(cache_path(folder).parent.iterdir())) == 1  # in place of the other


def test_a_damaged_copy_is_written_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = contents(read_graph(folder))
    path = cache_path(folder)
    good = path.read_bytes()
    for damaged in (b"", b"nothing", good[: len(good) // 2], good[:-30]):
        path.write_bytes(damaged)
        assert contents(read_graph(folder)) == expected
        with monkeypatch.context() as patch:
            patch.setattr(search_graph, "_read_files", lambda folder: pytest.fail("the copy is not good again"))
            assert contents(read_graph(folder)) == expected
    rng = np.random.default_rng(0)
    header = range(8 + int.from_bytes(good[:8], "little"))
    for place in (*header, *rng.integers(0, len(good), 500).tolist()):  # no bit of it may differ unseen
        path.write_bytes(good[:place] + bytes([good[place] ^ 1 << int(rng.integers(8))]) + good[place + 1 :])
        assert contents(read_graph(folder)) == expected


def test_damage_to_the_model_shows_although_a_copy_is_kept(folder: Path) -> None:
    read_graph(folder)
    for name in ("lexicon.txt", "lm.safetensors"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1])
        with pytest.raises(ModelError, match=f"{name} is damaged"):
            read_graph(folder)
        (folder / name).write_bytes(content)
    read_graph(folder)


def test_who_cannot_write_a_copy_does_without(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = contents(read_graph(folder))
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert contents(read_graph(folder)) == expected
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
    assert contents(read_graph(folder)) == expected
    assert list(cache_path(folder).parent.iterdir()) == []
