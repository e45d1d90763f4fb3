"""Owns how a file is replaced whole: whoever opens it finds the old one or the new one, never a part."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PART_SUFFIX = ".part"  # of what is being written, beside the file


@contextlib.contextmanager
def replacing(path: Path, mode: int = 0o666, *, is_synced: bool = False) -> Iterator[BinaryIO]:
    """A file to be written, which then takes the place of ``path``; if what is written raises, that stays as it was.

    Several may write at once: the last one to end wins.

    :param mode: of the new file, less the umask, whatever the old one's was.
    :param is_synced: whether it is to be on disk, and in its place, before this returns: it outlives a loss of power.
    :raises OSError: it cannot be written or synced, or cannot take its place. No part is left.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PART_SUFFIX}")
    try:
        with open(part, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            if is_synced:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
        if is_synced:
            _sync_names(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def remove_parts(folder: Path, name: str = "") -> None:
    """Removes what those have left who were killed while they replaced a file there; of files whose names begin so.

    For who alone writes these files.

    :raises OSError: the folder cannot be read, or a part not removed.
    """
    for part in folder.iterdir():
        if part.name.startswith(name) and part.name.endswith(PART_SUFFIX):
            part.unlink(missing_ok=True)


def _sync_names(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
