"""Owns what was said to the server and may have to be said again: audio and requests, in order, bounded.

Audio stays in memory up to a limit; what is more goes to a spool file, if there is one.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import BinaryIO, NamedTuple

SAMPLE_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}


class _Spooled(NamedTuple):
    """Audio in the spool file."""

    offset: int
    size: int


class Unacknowledged:
    """Frames from the first that the server may lack; those up to a cursor were sent on the present connection."""

    def __init__(
        self, encoding: str, channels: int, max_bytes: int, spool: BinaryIO | None = None, max_spooled_bytes: int = 0
    ) -> None:
        """``spool``: a file without a buffer, open for reading and writing, and nobody else's."""
        self._sample_bytes = SAMPLE_BYTES[encoding] * channels
        self._max_bytes, self._max_spooled_bytes = max_bytes, max_spooled_bytes
        self._spool = spool
        self._spool_end = 0  # of what was written there and is not yet forgotten
        self._frames: deque[bytes | str | _Spooled] = deque()
        self._num_sent = 0  # of them
        self._first_byte = 0  # of the audio in them, counted from the session's start
        self._first_request = 0
        self.num_bytes = 0  # of audio in memory
        self.num_spooled_bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether another frame may be appended."""
        return self.num_bytes < self._max_bytes or (
            self._spool is not None and self._spool_end < self._max_spooled_bytes
        )

    def append(self, frame: bytes | str) -> None:
        """Audio, or a request (``finalize``, ``stop``).

        Raises `OSError` when the spool file takes no more, and asks it no more; nothing was appended.
        """
        if isinstance(frame, str):
            self._frames.append(frame)
        elif self.num_bytes < self._max_bytes or self._spool is None:
            self._frames.append(frame)
            self.num_bytes += len(frame)
        else:
            self._frames.append(self._write(self._spool, frame))
            self.num_spooled_bytes += len(frame)

    def _write(self, spool: BinaryIO, frame: bytes) -> _Spooled:
        try:
            spool.seek(self._spool_end)
            if spool.write(frame) < len(frame):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._max_spooled_bytes = 0
            raise
        self._spool_end += len(frame)
        return _Spooled(self._spool_end - len(frame), len(frame))

    def next(self) -> bytes | str | None:
        """The next frame to send; `None`: all were."""
        if self._num_sent == len(self._frames):
            return None
        self._num_sent += 1
        frame = self._frames[self._num_sent - 1]
        if isinstance(frame, _Spooled):
            assert self._spool is not None
            self._spool.seek(frame.offset)
            return self._spool.read(frame.size)
        return frame

    def rewind(self) -> None:
        """There is a new connection: everything that is not acknowledged is to be sent on it."""
        self._num_sent = 0

    def acknowledge(self, samples: int, requests: int) -> bool:
        """The server has so much; it counts from the session's start. Whether anything is not needed any more."""
        before = self._first_byte, self._first_request
        self._forget_until(samples * self._sample_bytes, requests)
        if self._first_request < requests:
            self._forget_requests(requests)
        return (self._first_byte, self._first_request) != before

    def _forget_until(self, end: int, requests: int) -> None:
        while self._frames:
            frame = self._frames[0]
            if isinstance(frame, str):
                if self._first_request >= requests:
                    return
                self._first_request += 1
            else:
                size = frame.size if isinstance(frame, _Spooled) else len(frame)
                surplus = min(size, end - self._first_byte)
                if surplus > 0:
                    self._forget(frame, surplus)
                if surplus < size:
                    return
            self._frames.popleft()
            self._num_sent = max(0, self._num_sent - 1)

    def _forget_requests(self, requests: int) -> None:
        """Those before this one were answered, also where half a sample of the audio before them is still to come."""
        kept: deque[bytes | str | _Spooled] = deque()
        num_sent = self._num_sent
        for at, frame in enumerate(self._frames):
            if isinstance(frame, str) and self._first_request < requests:
                self._first_request += 1
                self._num_sent -= at < num_sent
            else:
                kept.append(frame)
        self._frames = kept

    def _forget(self, frame: bytes | _Spooled, size: int) -> None:
        """The first bytes of the first frame, ``size`` of them, are not needed any more."""
        self._first_byte += size
        if isinstance(frame, bytes):
            self._frames[0] = frame[size:]
            self.num_bytes -= size
            return
        self._frames[0] = _Spooled(frame.offset + size, frame.size - size)
        self.num_spooled_bytes -= size
        if not self.num_spooled_bytes and self._spool is not None:
            self._spool.truncate(0)
            self._spool_end = 0
