"""With the shipped model: tones bring no words, lone words do."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.noises import ROOM_DBFS, without_speech
from streaming_asr.features import SAMPLE_RATE, Samples
from streaming_asr.messages import Event, Final, Partial
from streaming_asr.recognizer import Recognizer
from streaming_asr.recordings import read_samples
from streaming_asr.training.distort import at_level, coloured_noise
from tests.end_to_end.conftest import DEMO


def run(recognizer: Recognizer, samples: Samples) -> tuple[list[Event], bool]:
    """Events, and whether the search was ever after a word."""
    stream, events, guessed = recognizer.stream(), [], False
    for first in range(0, len(samples), 960):
        events += stream.accept(samples[first : first + 960])
        guessed |= bool(stream.guess.words.ids)
    return events + stream.finish(), guessed


@pytest.mark.parametrize("name", ["beeps", "telephone keys (DTMF)", "two-tone sirens and sweeps"])
def test_tones_bring_no_words(recognizer: Recognizer, name: str) -> None:
    rng = np.random.default_rng(0)
    samples = np.concatenate([without_speech()[name](10 * SAMPLE_RATE, rng) for _ in range(2)])
    events, guessed = run(recognizer, samples)
    assert guessed, "the model must hear words for this to mean much"
    assert not any(isinstance(event, Partial) for event in events)
    assert not any(event.text for event in events if isinstance(event, Final))


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_lone_words_are_not_lost(recognizer: Recognizer, gain: float) -> None:
    samples = read_samples(DEMO)
    events, _ = run(recognizer, samples)
    words = [word for event in events if isinstance(event, Final) for word in event.words][:6]
    heard = []
    for word in words:
        cut = samples[round((word.start - 0.1) * SAMPLE_RATE) : round((word.end + 0.1) * SAMPLE_RATE)]
        alone = at_level(coloured_noise(len(cut) + 2 * SAMPLE_RATE, 1.0, np.random.default_rng(0)), ROOM_DBFS)
        alone[SAMPLE_RATE : SAMPLE_RATE + len(cut)] += np.float32(gain) * cut
        heard.append(any(event.text for event in run(recognizer, alone)[0] if isinstance(event, Final)))
    assert len(words) == 6
    assert sum(heard) >= 5  # one of them is too short for the model where it is softer
