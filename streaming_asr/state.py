"""Owns the snapshots of open sessions on disk, a file each, so that another process can go on with them.

What cannot be written is said once in the log, and nobody is kept waiting for it: its session is then not taken up.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from .errors import InputError
from .files import remove_parts, replacing
from .session import Snapshot

logger = logging.getLogger(__name__)

MAX_SNAPSHOTS = 256
MAX_SNAPSHOT_BYTES = 4 << 20
SUFFIX = ".json"


class StateFolder:
    """``SESSION.json`` for each session in ``folder``, readable by its owner only. One server writes it.

    :raises InputError: the folder cannot be made, read or written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_failing = False
        self._thread = ThreadPoolExecutor(1, "state")  # one, so that a session's snapshots keep their order
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._write("probe", b"")
            self._remove("probe")
        except OSError as error:
            raise InputError(f"cannot keep sessions in {folder}: {error.strerror}") from error

    @property
    def is_failing(self) -> bool:
        """Whether what was to be saved last could not be."""
        return self._is_failing

    def load(self) -> dict[str, Snapshot]:
        """What is there, by session; the newest, if it is too much. The rest is removed.

        Raises `InputError` when it cannot be.
        """
        snapshots: dict[str, Snapshot] = {}
        try:
            remove_parts(self._folder)
            paths = sorted(self._folder.glob(f"*{SUFFIX}"), key=lambda path: path.lstat().st_mtime, reverse=True)
            for path in paths:
                snapshot = _read(path) if len(snapshots) < MAX_SNAPSHOTS else None
                if snapshot is None:
                    path.unlink()
                else:
                    snapshots[snapshot.session_id] = snapshot
        except OSError as error:
            raise InputError(f"cannot keep sessions in {self._folder}: {error.filename}: {error.strerror}") from error
        return snapshots

    def save(self, snapshot: Snapshot) -> asyncio.Future[None]:
        """Puts the snapshot in line at once; done when it is on disk, or has failed to get there."""
        content = msgspec.json.encode(snapshot)
        return asyncio.wrap_future(self._thread.submit(self._try_to_write, snapshot.session_id, content))

    def remove(self, session_id: str) -> None:
        """Forgets a session, after what was saved of it so far."""
        self._thread.submit(self._remove, session_id)

    def close(self) -> None:
        """Waits for what is being written."""
        self._thread.shutdown()

    def _path(self, session_id: str) -> Path:
        return self._folder / f"{session_id}{SUFFIX}"

    def _try_to_write(self, session_id: str, content: bytes) -> None:
        try:
            self._write(session_id, content)
        except OSError as error:
            if not self._is_failing:
                logger.error("sessions cannot be kept in %s: %s", self._folder, error.strerror)
            self._is_failing = True
            self._remove(session_id)  # an old one would have its client send again what it no longer has
        else:
            if self._is_failing:
                logger.warning("sessions are kept in %s again", self._folder)
            self._is_failing = False

    def _write(self, session_id: str, content: bytes) -> None:
        with replacing(self._path(session_id), 0o600, is_synced=True) as file:
            file.write(content)

    def _remove(self, session_id: str) -> None:
        with contextlib.suppress(OSError):
            self._path(session_id).unlink()


def _read(path: Path) -> Snapshot | None:
    try:
        if path.stat().st_size > MAX_SNAPSHOT_BYTES:
            raise ValueError("it is too large")
        snapshot = msgspec.json.decode(path.read_bytes(), type=Snapshot)
        if snapshot.session_id != path.stem:
            raise ValueError("it is another session's")
    except (OSError, ValueError, RecursionError) as error:
        logger.error("%s is no session that can be gone on with: %s", path, error)
        return None
    return snapshot
