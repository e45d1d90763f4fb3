"""The train-speech-network recipe learns to tell made-up speech from other sound, and exports what it learned."""

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from streaming_asr.cli import main
from streaming_asr.errors import InputError
from streaming_asr.features import SAMPLE_RATE, Features, extract
from streaming_asr.recordings import read_samples
from streaming_asr.speech_network import Carried, SpeechNetwork, score
from streaming_asr.tones import EDGE_FRAMES, SCORE_FRAMES
from streaming_asr.training import speech_network
from streaming_asr.training.distort import at_level, coloured_noise
from streaming_asr.training.speech_network import Network, augment, least_score, loss_of, train_speech_network
from streaming_asr.training.speech_streams import Stream
from tests.training.corpus import write_corpus


def write_sounds(folder: Path) -> tuple[Path, Path]:
    """Chords as the speech of a made-up corpus, and bursts of noise as what is none."""
    write_corpus(folder / "speech", 8)
    rng = np.random.default_rng(1)
    (folder / "other").mkdir()
    for number in range(8):
        parts = [
            at_level(coloured_noise(int(rng.uniform(0.1, 0.4) * SAMPLE_RATE), rng.uniform(0, 2), rng), level)
            for _ in range(8)
            for level in (-20, -70)
        ]
        soundfile.write(folder / "other" / f"{number}.wav", np.concatenate(parts), SAMPLE_RATE)
    return folder / "speech", folder / "other"


def scores_of(frames: Features, network: SpeechNetwork) -> list[float]:
    carried = Carried.start(network)
    before = [frames[t if t < 3 else t - 3] for t in range(len(frames))]
    return [float(score(frame, then, network, carried)) for frame, then in zip(frames, before, strict=True)]


def test_what_is_exported_scores_as_what_was_trained() -> None:
    torch.manual_seed(0)
    network, frames = Network(5), np.random.default_rng(0).normal(10, 3, (30, 80)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(frames)[None])[0].numpy()
    np.testing.assert_allclose(scores_of(frames, network.exported(0.0)), expected, atol=1e-3)


def test_the_highest_score_of_a_group_counts_most_as_it_is_known_80_ms_later() -> None:
    groups = np.full((2, 40), -1)
    groups[0, 5:10], groups[1, 5:10], groups[1, 12:20] = 0, 0, 1
    is_speech = np.zeros((2, 40), np.bool_)
    is_speech[0] = True

    def loss(high: tuple[int, int], value: float = 3.0) -> float:
        scores = torch.zeros(2, 40)
        scores[high] = value
        return float(loss_of(scores, groups, is_speech))

    nothing = loss((0, 0))
    assert nothing == loss((0, 5 + EDGE_FRAMES - 1))
    assert loss((0, 5 + EDGE_FRAMES)) < nothing - 1  # speech is heard
    assert loss((1, 12 + EDGE_FRAMES)) > nothing + 1  # other sound is taken for it
    assert np.isfinite(float(loss_of(torch.zeros(2, 40), np.full((2, 40), -1), is_speech)))


def test_frames_are_changed_in_a_copy_that_the_seed_decides() -> None:
    frames = np.random.default_rng(0).normal(10, 3, (20, 80)).astype(np.float32)
    before = frames.copy()
    for seed in range(10):
        changed = augment(frames, np.random.default_rng(seed))
        assert changed.dtype == np.float32
        assert changed.shape == frames.shape
        assert not np.array_equal(changed, frames)
        np.testing.assert_array_equal(changed, augment(frames, np.random.default_rng(seed)))
    np.testing.assert_array_equal(frames, before)


class Levels(Network):
    """Scores are the mean of a frame's bins."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.mean(-1)


def word(scores: list[float], known: slice) -> Stream:
    groups = np.full(len(scores), -1)
    groups[known] = 0
    return Stream(np.repeat(np.array(scores, np.float16)[:, None], 80, axis=1), groups, groups == 0)


def test_scores_are_moved_below_those_of_lone_words() -> None:
    rising = [0.0] * 40 + [float(t) for t in range(1, 41)]
    at = 60
    expected = np.mean(rising[at + EDGE_FRAMES - SCORE_FRAMES + 1 : at + EDGE_FRAMES + 1])
    words = [word(rising, slice(50, at + 1)), word([100.0] * 80, slice(0, 3)), word(rising, slice(0, 0))]
    assert least_score(Levels(), words) == pytest.approx(expected, rel=0.01)  # frame 60 is decided at 68
    early = word([3.0] * 9 + [9.0] * 71, slice(0, 1))
    assert least_score(Levels(), [early]) == pytest.approx(3)  # before it is the first score again
    with pytest.raises(InputError, match="sound that changes"):
        least_score(Levels(), words[2:])
    network, frames = Network(5), np.random.default_rng(0).normal(10, 3, (30, 80)).astype(np.float32)
    moved, as_it_is = (scores_of(frames, network.exported(least)) for least in (1.5, 0.0))
    np.testing.assert_allclose(moved, np.array(as_it_is) - 1.5, atol=1e-4)


def test_it_learns_to_tell_them_apart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech_network, "BATCH", 4)
    monkeypatch.setattr(speech_network, "LONE_WORDS", 40)
    speech, other = write_sounds(tmp_path)
    output = tmp_path / "speech.safetensors"
    command = ["train-speech-network", str(speech), str(other), "--hours", "0.04", "--steps", "50"]
    caplog.set_level(logging.INFO)
    assert main([*command, "--output", str(output)]) == 0
    assert "step 50 of 50" in caplog.messages[-2]
    assert "lone words have" in caplog.messages[-1]
    network = SpeechNetwork.load(output)
    highest = [
        [max(scores_of(extract(read_samples(path)), network)) for path in sorted(folder.rglob(pattern))]
        for folder, pattern in ((speech, "*.flac"), (other, "*.wav"))
    ]
    assert min(highest[0]) > max(0, *highest[1])


def test_the_seed_decides_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech_network, "BATCH", 2)
    monkeypatch.setattr(speech_network, "LONE_WORDS", 5)
    speech, other = write_sounds(tmp_path)
    written = []
    for seed in (1, 1, 2):
        train_speech_network(speech, other, tmp_path / "out", hours=0.01, steps=2, seed=seed)
        written.append(np.concatenate([weights.ravel() for weights in SpeechNetwork.load(tmp_path / "out")]))
    np.testing.assert_array_equal(written[0], written[1])
    assert not np.array_equal(written[0], written[2])


def test_folders_without_audio_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speech, _ = write_sounds(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"no audio files in .*empty"):
        train_speech_network(speech, empty, tmp_path / "out")
    with pytest.raises(InputError, match=r"no transcribed recordings .* in .*empty"):
        train_speech_network(empty, speech, tmp_path / "out")
    assert main(["train-speech-network", str(speech), str(empty), "--output", str(tmp_path / "out")]) == 2
    assert "no audio files in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
