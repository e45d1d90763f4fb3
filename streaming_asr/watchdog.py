"""Owns the judgement whether the worker has stopped getting on: times and processor times in, a verdict out.

Pure. Wall-clock time alone cannot tell a worker that stands still from one that a busy machine starves: the first waits
for something and uses no processor time at all, or, in a loop without end, much more than any work before it did; the
second uses a little, or could run if it were let.
"""

from __future__ import annotations

from collections import deque

STALL_SECONDS = 1.0  # without any processor time, or at least so much of it, for one piece of work
RUNAWAY_FACTOR = 20.0  # times the longest of the last pieces
RECENT_WORKS = 100
STANDSTILL_CPU_SECONDS = 0.001  # between two looks: no more than noise
MAX_LOOK_SECONDS = 0.5  # counted between two looks: if they are further apart, the whole process stood still


class Watchdog:
    """Looks, every now and then, at what one worker has in hand."""

    def __init__(self, stall_seconds: float = STALL_SECONDS) -> None:
        self._stall_seconds = stall_seconds
        self._recent: deque[float] = deque(maxlen=RECENT_WORKS)  # processor seconds of finished pieces
        self._work: int | None = None  # the piece in hand when looked at last
        self._work_cpu = self._looked_cpu = self._looked_at = 0.0
        self._still_seconds = 0.0

    def finished(self, cpu_seconds: float) -> None:
        """A piece of work is done; it took so much processor time."""
        self._recent.append(cpu_seconds)

    def is_stalled(self, now: float, work: int | None, cpu_seconds: float, is_runnable: bool = False) -> bool:
        """Whether the worker has stopped getting on with `work`, the number of the piece it has in hand.

        cpu_seconds: processor time that its thread has used so far. is_runnable: it is known to wait for nothing else.
        """
        if work is None or work != self._work:
            self._work, self._work_cpu, self._still_seconds = work, cpu_seconds, 0.0
        elif cpu_seconds - self._looked_cpu <= STANDSTILL_CPU_SECONDS and not is_runnable:
            self._still_seconds += min(now - self._looked_at, MAX_LOOK_SECONDS)
        else:
            self._still_seconds = 0.0
        self._looked_at, self._looked_cpu = now, cpu_seconds
        if work is None:
            return False
        runaway_seconds = max(self._stall_seconds, RUNAWAY_FACTOR * max(self._recent, default=0.0))
        return self._still_seconds >= self._stall_seconds or cpu_seconds - self._work_cpu >= runaway_seconds
