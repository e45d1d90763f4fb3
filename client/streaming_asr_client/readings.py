"""Owns what the live view reads out besides words: how loud it is, how long it has been, how late words are. Pure.

Its only clock is the sound: how much of it was heard when something comes back.
"""

from __future__ import annotations

import math
import sys
from array import array
from collections import deque
from collections.abc import Callable
from statistics import median

from .events import Event, Partial

STEP_SECONDS = 0.1  # of sound between two readings of its level
QUIETEST_DB = -60.0  # below full scale: no bar at all
NUM_DELAYS = 9  # words whose delays the latency is the median of


class Readings:
    """Fed with each block of 16-bit PCM as it is heard, and each event as it comes. Calls `changed` for each step."""

    def __init__(self, sample_rate: int, channels: int, changed: Callable[[], None]) -> None:
        self._samples_per_second = sample_rate * channels
        self._changed = changed
        self._num_samples = 0
        self._step_samples = 0
        self._step_energy = 0
        self._newest = (-1, 0)  # the utterance and number of its words of the last partial that had a new word
        self._delays: deque[float] = deque(maxlen=NUM_DELAYS)
        self.level = 0.0
        """0 for silence to 1 for full scale, even in dB."""

    @property
    def seconds(self) -> float:
        """How much sound was heard."""
        return self._num_samples / self._samples_per_second

    @property
    def latency_ms(self) -> int | None:
        """How long after its end a word is shown first: the median of the last few; `None` before the first."""
        return round(1000 * median(self._delays)) if self._delays else None

    def hear(self, block: bytes) -> None:
        """Takes the next block; it leaves when a step of the model is whole."""
        samples = array("h", block[: len(block) // 2 * 2])
        if sys.byteorder == "big":
            samples.byteswap()
        self._num_samples += len(samples)
        self._step_samples += len(samples)
        self._step_energy += sum(sample * sample for sample in samples)
        if self._step_samples >= STEP_SECONDS * self._samples_per_second:
            self.level = level(self._step_energy / self._step_samples)
            self._step_samples = self._step_energy = 0
            self._changed()

    def silence(self) -> None:
        """No sound leaves for a while."""
        self.level = 0.0
        self._step_samples = self._step_energy = 0

    def see(self, event: Event) -> None:
        """Takes an event when it is shown."""
        if isinstance(event, Partial):
            newest = (event.utterance, len(event.committed.split()) + len(event.unstable.split()))
            if newest > self._newest:
                self._newest = newest
                self._delays.append(max(0.0, self.seconds - event.end))


def level(power: float) -> float:
    """0 to 1 for the mean square of 16-bit samples, even in dB from `QUIETEST_DB` to full scale."""
    if power < 1:
        return 0.0
    return min(1.0, max(0.0, 1 - 10 * math.log10(power / 32768**2) / QUIETEST_DB))
