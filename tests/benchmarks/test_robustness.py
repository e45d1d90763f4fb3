"""The arithmetic of the robustness table, on transcripts and sounds made by hand."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.calibrate import calibration_error, fit
from benchmarks.robustness import conditions, correctness, joined, lone_words, table
from benchmarks.timeline import TimedWord
from streaming_asr.decoder import DecodedWord, log_odds
from streaming_asr.messages import Final, Word
from streaming_asr.recordings import Recording, find_recordings
from tests.training.corpus import write_corpus

RNG = np.random.default_rng


def final(text: str, confidence: float = 0.5) -> Final:
    words = [Word(word, 0.0, 0.1, confidence) for word in text.split()]
    return Final(0, text, 0.0, 1.0, confidence, "stop", words, [])


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    folder: Path = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, num_recordings=2)
    return find_recordings([folder])


def test_words_are_right_where_the_transcript_has_them() -> None:
    heard = [final("the cat", 0.9), final("sad down", 0.2)]
    assert correctness(["the", "cat", "sat", "down"], heard) == [(0.9, True), (0.9, True), (0.2, False), (0.2, True)]
    assert correctness([], [final("noise", 0.3)]) == [(0.3, False)]
    assert correctness(["words"], [final("")]) == []


def test_confidences_are_calibrated_when_they_are_the_share_of_right_words() -> None:
    assert calibration_error([(0.75, True)] * 3 + [(0.75, False)]) == pytest.approx(0.0)
    assert calibration_error([(0.9, False)] * 2 + [(0.1, False)] * 2) == pytest.approx(0.5)
    assert calibration_error([(1.0, True)]) == pytest.approx(0.0)
    assert calibration_error([]) == 0.0


def test_a_fit_finds_the_weights_that_made_the_data() -> None:
    rng = RNG(0)
    pairs = []
    for acoustic, vote in zip(-3 * rng.random(20_000), rng.random(20_000), strict=True):
        chance = 1 / (1 + np.exp(-(0.7 + 0.9 * acoustic + 0.2 * log_odds(vote))))
        pairs.append((DecodedWord(0, 0, 0, acoustic, vote), bool(rng.random() < chance)))
    assert fit(pairs) == pytest.approx([0.7, 0.9, 0.2], abs=0.1)


def test_each_condition_changes_what_is_heard_and_is_the_same_every_time(recordings: list[Recording]) -> None:
    x = (0.1 * np.sin(np.arange(16_000) / 9)).astype(np.float32)
    for name, condition in conditions(recordings).items():
        heard = condition(x, RNG(1))
        assert heard.dtype == np.float32
        assert np.array_equal(heard, condition(x, RNG(1))), name
        assert (name == "as recorded") == (len(heard) == len(x) and np.allclose(heard, x, atol=1e-4)), name
    slow = conditions(recordings)["0.8 x speed"](x, RNG(1))
    assert len(slow) == pytest.approx(len(x) / 0.8, abs=16)


def test_recordings_are_joined_with_pauses(recordings: list[Recording]) -> None:
    parts = list(joined(recordings))
    assert len(parts) == 2 * len(recordings)
    assert not np.any(parts[1])
    assert len(parts[1]) == 8_000


def test_lone_words_are_cut_out_with_a_margin_and_silence_around() -> None:
    x = np.zeros(32_000, np.float32)
    x[16_000:24_000] = 0.5
    words = [TimedWord("one", 1.0, 1.5)]
    [(said, heard)] = lone_words(x, words, RNG(0))
    assert said == ["one"]
    assert len(heard) == 2 * 16_000 + 8_000 + 2 * 960
    assert np.abs(heard[:16_960]).max() < 0.01
    assert np.abs(heard[16_960:24_960] - 0.5).max() < 0.01
    two = lone_words(x, [*words, TimedWord("two", 1.5, 2.0)], RNG(0))
    assert [len(said) for said, _ in two] == [1, 2]
    assert lone_words(x, [], RNG(0)) == []


def test_the_table_says_what_was_measured() -> None:
    figures = {
        "model": "m", "recordings": 1, "words": 9, "wer": {"as recorded": 0.125}, "long_form_wer": 0.25,
        "lone_words": {"count": 8, "lost": 2, "wer": 0.5},
        "words_a_minute": {"digital silence": 0.0}, "minutes_without_speech": 10.0,
        "emission_ms": {"p50": 40}, "calibration_error": 0.08,
    }  # fmt: skip
    text = table(figures)
    assert "1 recordings, 9 words, m" in text
    assert "| as recorded | 12.5 % |" in text
    assert "| joined into one stream | 25.0 % |" in text
    assert "| one or two words alone | 50.0 % |" in text
    assert "| of 8 of these, without any text | 2 |" in text
    assert "| digital silence | 0 |" in text
    assert "0.080" in text
