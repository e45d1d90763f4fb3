"""From samples to the frames of steps: all of them while awake, those around the first sign of speech after sleep."""

from __future__ import annotations

import numpy as np
import pytest

from streaming_asr.features import NUM_MEL_BINS, Features, extract
from streaming_asr.front_end import PREROLL_FRAMES, FrontEnd
from streaming_asr.level import SpeechLevel
from streaming_asr.speech_network import DEAF
from tests.recognizing import noise, silence

STEP = 6  # frames


def front_end() -> FrontEnd:
    return FrontEnd(STEP, SpeechLevel(), DEAF)


def steps(front: FrontEnd) -> list[Features]:
    """All that are due."""
    taken = []
    while front.has_step:
        taken.append(front.next_step())
        front.step()
    return taken


def asleep(seconds: float) -> FrontEnd:
    """After so much silence."""
    front = front_end()
    front.accept(silence(seconds))
    steps(front)
    assert not front.fall_asleep()
    return front


@pytest.mark.parametrize("size", [1, 159, 160, 161, 320, 1200, 16000])
def test_awake_all_frames_come_in_whole_steps(size: int) -> None:
    samples = noise(1, 1)
    front, taken = front_end(), []
    for first in range(0, len(samples), size):
        assert not front.accept(samples[first : first + size])  # it was awake
        taken += steps(front)
    assert front.num_samples == len(samples)
    assert front.cursor == STEP * len(taken) == 96
    assert np.concatenate(taken).tobytes() == extract(samples)[:96].tobytes()


def test_the_missing_samples_are_just_enough() -> None:
    front = front_end()
    for _ in range(5):
        front.accept(silence(1)[: front.missing_samples - 1])
        assert (front.missing_samples, front.has_step) == (1, False)
        front.accept(silence(1)[:1])
        assert (front.missing_samples, front.has_step) == (0, True)
        front.step()


def test_what_is_left_at_a_flush_fills_a_step_up_and_is_none_of_the_audio() -> None:
    front, samples = front_end(), noise(0.1, 1)
    front.accept(samples[:1000])
    front.accept_silence(samples[1000:])
    assert front.num_samples == 1000
    [whole] = steps(front)
    assert front.has_frames
    expected = extract(samples)
    assert front.next_step().tobytes() == np.concatenate((expected[6:], expected[[-1] * 4])).tobytes()
    front.step()
    assert (len(whole), front.has_frames, front.cursor) == (STEP, False, 2 * STEP)


def test_a_flush_skips_what_is_left() -> None:
    front = front_end()
    front.accept(noise(0.1, 1))
    front.skip()
    assert (front.cursor, front.has_frames) == (8, False)


@pytest.mark.parametrize("seconds", [0.6, 2.0, 2.013, 2.04])
@pytest.mark.parametrize("size", [160, 961, 48000])
def test_speech_wakes_it_with_the_frames_from_before_where_a_step_would_have_begun(seconds: float, size: int) -> None:
    front = asleep(0.6)
    samples = np.concatenate((silence(seconds), noise(0.5, 1)))
    woke = [front.accept(samples[first : first + size]) for first in range(0, len(samples), size)]
    assert sum(woke) == 1
    assert front.awake_since == pytest.approx(100 * (0.6 + seconds), abs=3)
    assert front.cursor % STEP == 0
    assert PREROLL_FRAMES <= front.awake_since - front.cursor < PREROLL_FRAMES + STEP
    first, heard = front.cursor, np.concatenate(steps(front))
    everything = extract(np.concatenate((silence(0.6), samples)))
    assert heard.tobytes() == everything[first : first + len(heard)].tobytes()


@pytest.mark.parametrize("milliseconds", [0, 10, 200, 400])
def test_what_was_stepped_before_sleep_is_heard_again_if_speech_comes_soon(milliseconds: int) -> None:
    before = silence(1 + milliseconds / 1000)
    front = asleep(1)
    assert front.accept(np.concatenate((before[16000:], noise(0.5, 1))))
    assert front.awake_since == pytest.approx(100 + milliseconds / 10, abs=2)
    assert PREROLL_FRAMES <= front.awake_since - front.cursor < PREROLL_FRAMES + STEP
    first, heard = front.cursor, np.concatenate(steps(front))
    everything = extract(np.concatenate((before, noise(0.5, 1))))
    assert heard.tobytes() == everything[first : first + len(heard)].tobytes()


def test_a_sleep_changes_nothing_of_what_is_known_of_the_sound() -> None:
    sleeper, waking = asleep(1), front_end()
    waking.accept(silence(1))
    steps(waking)
    for front in (sleeper, waking):
        front.accept(np.concatenate((noise(0.4, 1), silence(0.3))))
        steps(front)
    known = [(front.last_speech_change, front.last_voiced, front.voice_onset) for front in (sleeper, waking)]
    assert known[0] == known[1]
    assert known[0][0] > 100


def test_asleep_nothing_is_due_and_no_more_than_the_pre_roll_is_kept() -> None:
    front = asleep(1)
    assert not any(front.accept(silence(1)) for _ in range(30))
    assert not front.has_step
    assert not front.has_frames
    assert front.missing_samples == 0  # any sound may be enough
    assert front.nbytes < (4 * NUM_MEL_BINS + 3) * (PREROLL_FRAMES + STEP)
    assert front.settled % STEP == 0
    assert PREROLL_FRAMES <= 3098 - front.settled < PREROLL_FRAMES + STEP


def test_no_sign_brings_back_what_is_settled() -> None:
    for milliseconds in range(0, 130, 13):
        front = asleep(1 + milliseconds / 1000)
        settled = front.settled
        assert front.accept(noise(0.1, 1))
        assert settled <= front.cursor < settled + STEP  # and a sign at once nearly all else


def test_speech_that_is_there_already_lets_nobody_sleep() -> None:
    front = front_end()
    front.accept(silence(1))
    steps(front)
    front.accept(noise(0.05, 1))
    assert front.fall_asleep()
    assert not front.is_asleep
    assert (front.awake_since, front.cursor) == (98, 48)


def test_signs_of_speech_are_known_of_frames_that_are_past() -> None:
    front = front_end()
    front.accept(np.concatenate((silence(0.5), noise(0.6, 1), silence(1), noise(0.6, 2), silence(1))))
    assert (front.last_voiced, front.voice_onset, front.last_speech_change) == (-1, -1, -1)
    seen = set()
    while front.has_step:
        front.step()
        seen.add((front.voice_onset, front.cursor > front.last_voiced >= front.voice_onset))
    assert {after for _, after in seen} == {True}
    onsets = sorted(onset for onset, _ in seen)
    assert onsets[0] == -1
    assert 50 <= onsets[1] < 80
    assert 210 <= onsets[-1] < 240
    assert 250 <= front.last_voiced < 300
    assert 240 <= front.last_speech_change < 300


def test_time_in_sleep_does_not_count() -> None:
    front = asleep(1)
    assert front.since(-1) == pytest.approx(0.98)
    assert front.since(48) == pytest.approx(0.5)
    front.accept(silence(5))
    front.accept(noise(0.5, 1))
    assert -0.54 < front.since(48) <= -0.48  # so long before the sign
    steps(front)
    assert 0.4 < front.since(48) <= 0.5
