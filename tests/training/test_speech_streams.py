"""What the network that tells speech from music learns from: pieces, labels, and the groups that count."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from streaming_asr.errors import InputError
from streaming_asr.features import SAMPLE_RATE, Samples
from streaming_asr.recordings import find_recordings
from streaming_asr.training.distort import at_level, coloured_noise
from streaming_asr.training.speech_streams import (
    ECHO_FRAMES,
    EITHER,
    OTHER,
    SPEECH,
    STREAM_SECONDS,
    Sounds,
    Stream,
    activity,
    find_audio,
    group,
    heard,
    make_lone_word,
    make_stream,
)
from tests.training.corpus import write_corpus


def noise(seconds: float, dbfs: float) -> Samples:
    return at_level(coloured_noise(int(seconds * SAMPLE_RATE), 1.0, np.random.default_rng(0)), dbfs)


@pytest.fixture
def sounds(tmp_path: Path) -> Sounds:
    write_corpus(tmp_path / "speech", 3)
    (tmp_path / "other").mkdir()
    soundfile.write(tmp_path / "other" / "noise.wav", noise(4, -20), SAMPLE_RATE)
    return Sounds(find_recordings([tmp_path / "speech"]), find_audio(tmp_path / "other"), np.random.default_rng(0))


def test_somebody_speaks_where_a_recording_is_nearly_as_loud_as_it_gets() -> None:
    recording = np.concatenate((noise(0.5, -70), noise(0.3, -20), noise(0.2, -35), noise(0.5, -60)))
    np.testing.assert_array_equal(np.flatnonzero(activity(recording)), np.arange(50, 100))
    assert not activity(np.zeros(1600, np.float32)).any()
    assert len(activity(np.zeros(159, np.float32))) == 0


def test_speech_is_grouped_by_parts_of_words_and_other_sound_by_half_seconds() -> None:
    labels = np.full(400, EITHER, np.int8)
    labels[10:20] = labels[25:35] = SPEECH  # one word, with a short gap
    labels[100:170] = SPEECH  # two parts
    labels[180:183] = SPEECH  # too short
    labels[230:330] = OTHER
    may_be_speech = np.ones(400, np.bool_)
    may_be_speech[240:250] = False
    groups = group(labels, may_be_speech)
    runs: list[tuple[int, int, int]] = []
    for number in np.unique(groups[groups >= 0]):
        of_number = np.flatnonzero(groups == number)
        runs.append((int(of_number[0]), int(of_number[-1]), len(of_number)))
    assert runs == [(10, 34, 20), (100, 134, 35), (135, 169, 35), (230, 239, 10), (250, 299, 50), (300, 329, 30)]


def test_only_changes_of_the_sound_count() -> None:
    samples = np.concatenate((noise(1, -60), noise(0.3, -20), noise(0.7, -60)))
    stream = heard(samples, np.full(200, OTHER, np.int8))
    changing = np.flatnonzero(stream.groups >= 0)
    assert 95 <= changing[0] <= 105
    assert 130 <= changing[-1] <= 136
    assert not stream.is_speech.any()


def test_pieces_are_labelled(sounds: Sounds) -> None:
    kinds = set()
    for _ in range(30):
        samples, labels = sounds.piece()
        assert samples.dtype == np.float32
        assert abs(len(labels) - len(samples) // 160) <= 1
        kinds |= set(labels.tolist())
        assert not {SPEECH, OTHER} <= set(labels.tolist())
    assert kinds == {SPEECH, OTHER, EITHER}


def fields(stream: Stream) -> list[NDArray[np.generic]]:
    return [stream.frames, stream.groups, stream.is_speech]


def test_streams_have_speech_and_other_sound_and_come_from_the_seed(tmp_path: Path, sounds: Sounds) -> None:
    others = find_audio(tmp_path / "other")
    recordings = find_recordings([tmp_path / "speech"])
    streams = []
    for _ in range(2):
        rng = np.random.default_rng(4)
        streams.append([make_stream(Sounds(recordings, others, rng), rng) for _ in range(4)])
    for one, again in zip(*streams, strict=True):
        assert one.frames.shape == (STREAM_SECONDS * 100 - 2, 80)
        for before, after in zip(fields(one), fields(again), strict=True):
            np.testing.assert_array_equal(before, after)
    in_groups = np.concatenate([stream.is_speech[stream.groups >= 0] for stream in streams[0]])
    assert 0.05 < np.mean(in_groups) < 0.95


def test_a_lone_word_has_a_quiet_room_around_it(sounds: Sounds) -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        word = make_lone_word(sounds, rng)
        spoken = np.flatnonzero(word.is_speech)
        assert len(word.frames) == len(word.groups) == len(word.is_speech)
        assert 60 <= spoken[0] < len(word.frames) - 50
        assert 0 < spoken[-1] - spoken[0] < 110  # 0.8 s, said slowly
        assert not (word.groups[~word.is_speech] >= 0).any()


def test_near_speech_nothing_else_is_sure(sounds: Sounds, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[NDArray[np.int8]] = []

    def keep(samples: Samples, labels: NDArray[np.int8]) -> Stream:
        seen.append(labels)
        return heard(samples, labels)

    monkeypatch.setattr("streaming_asr.training.speech_streams.heard", keep)
    monkeypatch.setattr(sounds, "piece", lambda: (noise(1, -20), np.full(100, SPEECH, np.int8)))
    for seed in range(20):
        make_stream(sounds, np.random.default_rng(seed))
    assert any((labels == OTHER).any() for labels in seen)  # of what lies beneath
    for labels in seen:
        for frame in np.flatnonzero(labels == OTHER).tolist():
            assert not (labels[max(0, frame - ECHO_FRAMES) : frame + ECHO_FRAMES] == SPEECH).any()


def test_silent_files_are_no_trouble(tmp_path: Path, sounds: Sounds) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), SAMPLE_RATE)
    rng = np.random.default_rng(0)
    recordings = find_recordings([tmp_path / "speech"])
    silent = Sounds(recordings, [tmp_path / "silence.wav", tmp_path / "nothing.wav"], rng)
    for _ in range(4):
        assert np.isfinite(make_stream(silent, rng).frames).all()
        assert np.isfinite(make_lone_word(silent, rng).frames).all()


def test_all_audio_below_a_folder_is_found_and_else_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "notes.txt").write_text("no audio")
    with pytest.raises(InputError, match="no audio files in"):
        find_audio(tmp_path)
    for name in ("b.flac", "deep/a.WAV"):
        soundfile.write(tmp_path / name, np.zeros(100), SAMPLE_RATE)
    assert [path.name for path in find_audio(tmp_path)] == ["b.flac", "a.WAV"]
    with pytest.raises(InputError, match="is not a folder"):
        find_audio(tmp_path / "missing")
