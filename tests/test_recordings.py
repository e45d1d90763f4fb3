"""Recordings on disk: what cannot be read is named, with a reason that helps."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from streaming_asr.errors import InputError
from streaming_asr.recordings import duration_seconds, find_recordings, read_samples


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


def test_names_are_text_or_paths_in_any_encoding(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav")
    with open(path, "wb") as file:
        soundfile.write(file, np.full(8000, 0.25, np.float32), 16000, format="WAV")
    assert duration_seconds(path) == 0.5
    assert read_samples(path) == pytest.approx(np.full(8000, 0.25, np.float32))


def test_samples_are_within_bounds_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.array([0.5, 3, -3], np.float32), 16000, subtype="FLOAT")
    assert read_samples(path).tolist() == [0.5, 1, -1]
    soundfile.write(path, np.array([0.5, np.nan], np.float32), 16000, subtype="FLOAT")
    with pytest.raises(InputError, match=r"loud\.wav holds a sample that is infinite or no number"):
        read_samples(path)


def test_a_transcript_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.trans.txt").write_bytes(b"a-1 caf\xe9\n")
    with pytest.raises(InputError, match=r"cannot read .*a\.trans\.txt"):
        find_recordings([tmp_path])
