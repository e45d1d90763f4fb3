"""What was compiled from other sources is not taken for what they say now."""

import shutil
from pathlib import Path

import pytest

import streaming_asr
from streaming_asr import ngram
from streaming_asr.compiled import SOURCES, digest

PACKAGE = Path(streaming_asr.__file__).parent


def test_all_modules_that_compile_are_among_the_sources() -> None:
    compiling = {
        path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if "@njit_" in path.read_text("utf-8")
    }
    assert compiling <= set(SOURCES)
    assert len(compiling) > 5


@pytest.mark.parametrize("name", SOURCES)
def test_a_change_in_one_source_makes_other_names(name: str, tmp_path: Path) -> None:
    for source in SOURCES:
        (tmp_path / source).parent.mkdir(exist_ok=True)
        shutil.copy(PACKAGE / source, tmp_path / source)
    before = digest(tmp_path)
    assert ngram.ngram_score.py_func.__qualname__ == f"ngram_score_{before}"
    with (tmp_path / name).open("a") as changed:
        changed.write("ONE_MORE = 1\n")
    assert digest(tmp_path) != before
