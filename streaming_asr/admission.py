"""Owns the promise that nobody is late: how many sessions that allows, and when it is in danger.

Pure; knows no sockets, no recognizer, and only the clock that it is given.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_LOAD = 0.2  # of a worker's time, by what steps cost alone; Python, sockets and other workers take the rest
WINDOW_SECONDS = 5
LATE_SHARE = 0.05  # of the steps in the window, from which nobody more is let in
RECOVERED_SHARE = 0.01  # until at most so many are late
MIN_STEPS = 20  # in the window; fewer say nothing


@dataclass(frozen=True)
class StepCost:
    """What a step of n streams takes, `fixed` + n `per_stream` seconds, and the audio in it."""

    fixed: float
    per_stream: float
    audio_seconds: float

    def __post_init__(self) -> None:
        if not (0 <= self.fixed < math.inf and 0 < self.per_stream < math.inf and 0 < self.audio_seconds < math.inf):
            raise ValueError("a step's cost must be finite and above 0")

    def capacity(self, max_latency_seconds: float, num_workers: int = 1) -> int:
        """The most streams, at least one a worker, that are carried with nobody later than this.

        Audio that just missed a step waits for the end of it and then of its own.
        """
        room = min(MAX_LOAD * self.audio_seconds, max_latency_seconds / 2) - self.fixed
        return num_workers * max(1, int(room / self.per_stream))

    def batch(self, max_latency_seconds: float, most: int) -> int:
        """The most streams, 1 to ``most``, of which one step leaves as much time for audio that just missed it."""
        return max(1, int(min(most, (max_latency_seconds / 2 - self.fixed) / self.per_stream)))


class Punctuality:
    """Watches how late steps are, on any thread. It takes more to be trusted again than to be told late."""

    def __init__(self, max_latency_seconds: float, clock: Callable[[], float]) -> None:
        self._limit = max_latency_seconds / 2  # so that there is time to act
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: deque[tuple[int, int, int]] = deque(maxlen=WINDOW_SECONDS)  # second, steps, late ones
        self._is_late = False

    def note(self, latencies: Sequence[float]) -> None:
        """Streams' steps ended so long after they were due."""
        late = sum(latency > self._limit for latency in latencies)
        with self._lock:
            second = int(self._clock())
            if self._seconds and self._seconds[-1][0] == second:
                _, steps, before = self._seconds.pop()
                self._seconds.append((second, steps + len(latencies), before + late))
            else:
                self._seconds.append((second, len(latencies), late))

    @property
    def is_late(self) -> bool:
        """Whether the promise is in danger."""
        begin = self._clock() - WINDOW_SECONDS
        with self._lock:
            recent = [(steps, late) for second, steps, late in self._seconds if second > begin]
        steps, late = sum(n for n, _ in recent), sum(n for _, n in recent)
        limit = RECOVERED_SHARE if self._is_late else LATE_SHARE
        self._is_late = late > limit * steps and (steps >= MIN_STEPS or self._is_late)
        return self._is_late
