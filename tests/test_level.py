"""What is added to the frames of soft speech."""

from __future__ import annotations

import numpy as np
import pytest

from streaming_asr.features import NUM_MEL_BINS, Features
from streaming_asr.level import FIRST_PEAK, KNOWN_AFTER, LEAST_PEAK, MEAN_FRAMES, MOST_ADDED, RISE, SpeechLevel
from streaming_asr.vad import VOICED, Signs

PEAK = 40  # frames from one peak of the made-up speech to the next


def speech(peak: float, num_frames: int = 1000) -> Features:
    """Frames, float32 [T, 80], whose means go up to ``peak`` and 8 nepers below it."""
    rng = np.random.default_rng(7)
    envelope = 4 * np.cos(2 * np.pi * np.arange(num_frames) / PEAK) - 4
    noise = rng.normal(0, 1, (num_frames, NUM_MEL_BINS))
    features: Features = (peak + envelope[:, None] + noise - noise.mean(1, keepdims=True)).astype(np.float32)
    return features


def signs(num_frames: int, voiced: bool = True) -> Signs:
    made = np.zeros((num_frames, 3), np.bool_)
    made[:, VOICED] = voiced
    return made


def lifted(features: Features, voiced: bool = True, block: int = 1000) -> Features:
    level, after = SpeechLevel(), features.copy()
    for at in range(0, len(after), block):
        level.lift(after[at : at + block], signs(len(after[at : at + block]), voiced))
    return after


def test_speech_that_is_loud_enough_stays_as_it_is() -> None:
    loud = speech(LEAST_PEAK + 1.5)
    assert np.abs(lifted(loud) - loud)[PEAK:].max() == 0
    assert np.abs(lifted(loud) - loud).max() <= PEAK * RISE


def test_a_word_may_begin_softer_than_it_gets() -> None:
    rising = speech(0, KNOWN_AFTER) + np.linspace(FIRST_PEAK, LEAST_PEAK, KNOWN_AFTER, dtype=np.float32)[:, None] + 8.5
    assert lifted(rising)[MEAN_FRAMES:].tobytes() == rising[MEAN_FRAMES:].tobytes()


def test_soft_speech_is_lifted_from_its_first_sounds_on() -> None:
    soft = speech(LEAST_PEAK - MOST_ADDED)
    added = (lifted(soft) - soft).mean(1)
    assert added[10] > 1.5
    assert added[2 * KNOWN_AFTER] == pytest.approx(MOST_ADDED, abs=0.3)


@pytest.mark.parametrize("missing", [1.0, 3.0, 6.0])
def test_soft_speech_comes_to_the_softest_usual_level(missing: float) -> None:
    soft = speech(LEAST_PEAK - missing)
    after = lifted(soft)[500:]
    assert after.mean(1).max() == pytest.approx(LEAST_PEAK, abs=0.3)
    added = after - soft[500:]
    assert (
        added.max() - added.min() < 0.1
    )  # the same for all frames and bins: it does not go up and down with the sound


def test_no_more_than_so_much_is_added() -> None:
    softest = speech(LEAST_PEAK - 12)
    assert (lifted(softest) - softest).max() == pytest.approx(MOST_ADDED)


def test_what_is_not_voiced_is_taken_for_no_speech() -> None:
    noise = speech(3.0)
    assert lifted(noise, voiced=False).tobytes() == noise.tobytes()


def test_a_louder_speaker_is_heard_as_they_are_at_once() -> None:
    both = np.concatenate((speech(LEAST_PEAK - 4), speech(LEAST_PEAK + 1)))
    added = (lifted(both) - both).mean(1)
    assert added[999] > 3
    assert added[1000 + PEAK :].max() == 0


def test_how_frames_are_cut_changes_nothing() -> None:
    soft = speech(LEAST_PEAK - 4)
    whole = lifted(soft)
    for block in (1, 6, 7, 333):
        assert lifted(soft, block=block).tobytes() == whole.tobytes()
