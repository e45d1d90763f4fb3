"""The first start on a machine compiles in a process of its own."""

import subprocess
import types
from pathlib import Path
from typing import Any

import pytest

from streaming_asr import first_start
from streaming_asr.compiled import is_kept
from streaming_asr.search_state import block_size


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Of the processes that would have been started."""
    found: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: found.append(command))
    return found


def test_code_is_kept_once_it_was_compiled_from_these_sources(tmp_path: Path) -> None:
    function = types.SimpleNamespace(__qualname__="score_0123", stats=types.SimpleNamespace(cache_path=tmp_path))
    assert not is_kept(function)
    (tmp_path / "ngram.score_4567-1.py311.nbi").touch()
    assert not is_kept(function)
    (tmp_path / "ngram.score_0123-1.py311.nbi").touch()
    assert is_kept(function)


def test_what_has_been_called_is_kept() -> None:
    block_size(10, 10, 10)
    assert is_kept(block_size)


@pytest.mark.parametrize(("precision", "more"), [(None, []), ("int8", ["int8"])])
def test_a_machine_without_compiled_code_loads_in_another_process_first(
    precision: Any, more: list[str], commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(first_start, "is_kept", lambda function: False)
    first_start.compile_apart(Path("model"), "cpu", precision)
    assert [command[1:] for command in commands] == [["-m", "streaming_asr.first_start", "model", "cpu", *more]]


def test_later_starts_load_at_once(commands: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_start, "is_kept", lambda function: True)
    first_start.compile_apart(Path("model"), "cpu", None)
    assert not commands


def test_a_model_that_cannot_be_loaded_is_left_to_the_server_to_tell_of(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first_start.main([str(tmp_path), "cpu"])
    assert capfd.readouterr() == ("", "")
