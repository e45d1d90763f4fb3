"""Recordings on disk: what cannot be read is named, with a reason that helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streaming_asr.errors import InputError
from streaming_asr.recordings import duration_seconds, read_samples


@pytest.mark.parametrize("read", [duration_seconds, read_samples])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.wav", "No such file or directory"),
        ("folder", "Is a directory"),
        ("notes.txt", "Format not recognised."),
    ],
)
def test_why_a_file_cannot_be_read(read: Callable[[Path], Any], name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError) as caught:
        read(tmp_path / name)
    assert str(caught.value) == f"cannot read {tmp_path / name}: {reason}"
