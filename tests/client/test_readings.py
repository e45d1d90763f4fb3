"""What is read out besides words, by the sound alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from streaming_asr_client.events import Event, Final, Partial, SpeechStarted
from streaming_asr_client.readings import Readings, level


@pytest.mark.parametrize(
    ("power", "expected"),
    [(0, 0.0), (0.5, 0.0), (32768**2, 1.0), (32768**2 / 1e3, 0.5), (32768**2 / 1e6, 0.0), (32768**2 / 1e9, 0.0)],
)
def test_levels_are_even_in_decibels(power: float, expected: float) -> None:
    assert level(power) == pytest.approx(expected)


def test_the_level_is_read_ten_times_a_second_under_any_chunking() -> None:
    tone = (16384 * np.sin(np.arange(44100 * 2))).astype("<i2").tobytes()  # 1 s in stereo
    for block_bytes in (4, 4 * 441, 4 * 1000):
        steps: list[float] = []
        readings = Readings(44100, 2, lambda: steps.append(readings.level))  # noqa: B023 - called within the turn
        for at in range(0, len(tone), block_bytes):
            readings.hear(tone[at : at + block_bytes])
        assert 8 <= len(steps) <= 10
        assert readings.seconds == 1.0
        assert steps == pytest.approx([1 + 10 * math.log10(1 / 8) / 60] * len(steps), abs=0.01)
    readings.silence()
    assert readings.level == 0


def partial(utterance: int, committed: str, unstable: str, end: float) -> Partial:
    return Partial(utterance, committed, unstable, 0.0, end)


@pytest.mark.parametrize(
    ("seen", "latency_ms"),
    [
        ([], None),
        ([(1.0, SpeechStarted(0.5))], None),
        ([(1.0, partial(0, "", "one", 0.75))], 250),
        ([(1.0, partial(0, "", "one", 0.75)), (2.0, partial(0, "one", "", 0.75))], 250),  # it was there already
        ([(1.0, partial(0, "", "one", 0.75)), (2.0, partial(0, "one", "two", 1.25))], 500),  # the median
        ([(1.0, partial(0, "", "one two", 0.75)), (2.0, partial(1, "", "one", 1.5))], 375),
        ([(1.0, partial(0, "", "one", 1.5))], 0),  # a word that is known before it ends
        ([(9.0, Final(0, "one", 0.0, 1.0, 0.9, "endpoint"))], None),
    ],
)
def test_latency_is_from_a_words_end_to_its_first_showing(
    seen: list[tuple[float, Event]], latency_ms: int | None
) -> None:
    readings = Readings(16000, 1, lambda: None)
    for seconds, event in seen:
        readings.hear(bytes(round(32000 * (seconds - readings.seconds))))
        readings.see(event)
    assert readings.latency_ms == latency_ms
