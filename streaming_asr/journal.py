"""Owns the journal: a file of finals as JSON lines, each on disk before its client hears of it. Off unless asked for.

A journal that cannot be written is said once in the log, and nobody is kept waiting for it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from .errors import InputError
from .messages import Final

logger = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True):
    """One line."""

    time: str  # UTC, ISO 8601; when it was settled
    session: str
    protocol: str
    utterance: int
    start: float  # seconds from the session's first sample
    end: float
    text: str
    confidence: float
    reason: str


class Journal:
    """``finals-YYYY-MM-DD.jsonl`` in ``folder``, readable by its owner only. One server writes it.

    :raises InputError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_failing = False
        self._thread = ThreadPoolExecutor(1, "journal")  # one, so that lines keep their order
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._write(b"")
        except OSError as error:
            raise InputError(f"cannot write a journal in {folder}: {error.strerror}") from error

    def append(self, session: str, protocol: str, final: Final) -> asyncio.Future[None]:
        """Puts the final in line at once; done when it is on disk, or has failed to get there."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = Entry(
            time,
            session,
            protocol,
            final.utterance,
            final.start,
            final.end,
            final.text,
            final.confidence,
            final.reason,
        )
        line = msgspec.json.encode(entry) + b"\n"
        return asyncio.wrap_future(self._thread.submit(self._try_to_write, line))

    def close(self) -> None:
        """Waits for what is being written."""
        self._thread.shutdown()

    def _try_to_write(self, line: bytes) -> None:
        try:
            self._write(line)
        except OSError as error:
            if not self._is_failing:
                logger.error("the journal in %s cannot be written: %s", self._folder, error.strerror)
            self._is_failing = True
        else:
            if self._is_failing:
                logger.warning("the journal in %s is written again; finals are missing in it", self._folder)
            self._is_failing = False

    def _write(self, line: bytes) -> None:
        path = self._folder / f"finals-{datetime.now(UTC):%Y-%m-%d}.jsonl"
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            before = os.fstat(file).st_size
            if os.write(file, line) < len(line):  # the disk is full: half a line would spoil the next one too
                os.ftruncate(file, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
        finally:
            os.close(file)
