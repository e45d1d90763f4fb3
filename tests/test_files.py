from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from streaming_asr.files import PART_SUFFIX, remove_parts, replacing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.json"


def test_the_old_file_is_there_until_the_new_one_is_whole(path: Path) -> None:
    for before, after in [(None, b"one"), (b"one", b"two")]:
        with replacing(path) as file:
            file.write(after)
            file.flush()
            assert (path.read_bytes() if path.exists() else None) == before
            [part] = path.parent.glob(f"*{PART_SUFFIX}")  # where those who clean up look for it
            assert part.read_bytes() == after
        assert path.read_bytes() == after
        assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ValueError(), KeyboardInterrupt()])
def test_who_fails_leaves_the_old_file_and_no_part(path: Path, error: BaseException) -> None:
    def fail() -> None:
        with replacing(path) as file:
            file.write(b"ne")
            raise error

    path.write_bytes(b"old")
    with pytest.raises(type(error)) as caught:
        fail()
    assert caught.value is error
    assert path.read_bytes() == b"old"
    assert os.listdir(path.parent) == [path.name]


def test_what_cannot_take_its_place_leaves_no_part(path: Path) -> None:
    path.mkdir()
    with pytest.raises(IsADirectoryError), replacing(path) as file:
        file.write(b"new")
    assert os.listdir(path.parent) == [path.name]


def test_a_disk_that_is_full_at_the_last_byte_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"), replacing(path, is_synced=True) as file:
        file.write(b"new")
    assert os.listdir(path.parent) == []


def test_what_is_synced_is_on_disk_before_it_takes_its_place_and_in_its_place_at_the_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, bool]] = []
    monkeypatch.setattr("os.fsync", lambda file: synced.append((os.fstat(file).st_ino, path.exists())))
    with replacing(path) as file:
        file.write(b"not synced")
    path.unlink()
    with replacing(path, is_synced=True) as file:
        file.write(b"synced")
    assert synced == [(path.stat().st_ino, False), (path.parent.stat().st_ino, True)]


def test_several_may_write_at_once(path: Path) -> None:
    with replacing(path) as one, replacing(path) as other:
        one.write(b"one")
        other.write(b"other, which ends first")
    assert path.read_bytes() == b"one"


def test_the_mode_is_the_new_ones_from_its_first_byte(path: Path) -> None:
    path.write_bytes(b"old")
    path.chmod(0o604)
    before = os.umask(0o027)
    try:
        for mode, expected in [(0o666, 0o640), (0o600, 0o600)]:
            with replacing(path, mode) as file:
                assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == expected
            assert stat.S_IMODE(path.stat().st_mode) == expected
    finally:
        os.umask(before)


@pytest.mark.parametrize(("name", "left"), [("", ["file.json"]), ("file.json", ["file.json", "other.json.part"])])
def test_what_a_killed_writer_has_left_is_removed(name: str, left: list[str], path: Path) -> None:
    for name_there in ("file.json", f"file.json.0123{PART_SUFFIX}", f"other.json{PART_SUFFIX}"):
        path.with_name(name_there).touch()
    remove_parts(path.parent, name)
    assert sorted(os.listdir(path.parent)) == left
