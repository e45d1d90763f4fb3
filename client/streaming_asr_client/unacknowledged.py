"""Owns what was said to the server and may have to be said again: audio and requests, in order, bounded. No I/O."""

from __future__ import annotations

from collections import deque

SAMPLE_BYTES = {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}


class Unacknowledged:
    """Frames from the first that the server may lack; those up to a cursor were sent on the present connection."""

    def __init__(self, encoding: str, channels: int) -> None:
        self._sample_bytes = SAMPLE_BYTES[encoding] * channels
        self._frames: deque[bytes | str] = deque()
        self._num_sent = 0  # of them
        self._first_byte = 0  # of the audio in them, counted from the session's start
        self._first_request = 0
        self.num_bytes = 0  # of audio

    def append(self, frame: bytes | str) -> None:
        """Audio, or a request (``finalize``, ``stop``)."""
        self._frames.append(frame)
        self.num_bytes += len(frame) if isinstance(frame, bytes) else 0

    def next(self) -> bytes | str | None:
        """The next frame to send; `None`: all were."""
        if self._num_sent == len(self._frames):
            return None
        self._num_sent += 1
        return self._frames[self._num_sent - 1]

    def rewind(self) -> None:
        """There is a new connection: everything that is not acknowledged is to be sent on it."""
        self._num_sent = 0

    def acknowledge(self, samples: int, requests: int) -> None:
        """The server has so much; it counts from the session's start."""
        while self._frames:
            frame = self._frames[0]
            if isinstance(frame, str):
                if self._first_request >= requests:
                    return
                self._first_request += 1
            else:
                surplus = samples * self._sample_bytes - self._first_byte
                if surplus < len(frame):
                    if surplus > 0:
                        self._frames[0] = frame[surplus:]
                        self._first_byte += surplus
                        self.num_bytes -= surplus
                    return
                self._first_byte += len(frame)
                self.num_bytes -= len(frame)
            self._frames.popleft()
            self._num_sent = max(0, self._num_sent - 1)
