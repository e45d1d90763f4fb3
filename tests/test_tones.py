"""Tones are told from speech by their spectrum, music by a network; speech, even over a tone, is not lost."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.noises import melody
from streaming_asr.features import NUM_MEL_BINS, SAMPLE_RATE, Features, Samples, extract
from streaming_asr.manifest import SHIPPED_MODEL, SPEECH_FILE
from streaming_asr.recordings import read_samples
from streaming_asr.speech_network import DEAF, SpeechNetwork
from streaming_asr.tones import EDGE_FRAMES, SpeechChanges
from streaming_asr.vad import CHANGING, VoiceActivityDetector

DEMO = Path(__file__).parents[1] / "examples" / "demo.wav"
TIME = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE


def tone(hertz: float) -> NDArray[np.float64]:
    return 0.1 * np.sin(2 * np.pi * hertz * TIME)


TONES = {
    "beep": tone(1000),
    "keys": np.concatenate([tone(low)[:1600] * (n % 2) + tone(high)[:1600] * (n % 2) for n, (low, high) in enumerate(
        [(697, 1209), (697, 1209), (852, 1477), (941, 1336), (770, 1633), (941, 1209)])]),
    "two tones in turn": np.concatenate((tone(600), tone(800), tone(600))),
    "sweep": 0.1 * np.sin(2 * np.pi * (400 * TIME + 800 * TIME**2)),
    "buzzer": sum((tone(400 * k) / k for k in range(3, 20, 2)), tone(400)),
}  # fmt: skip


def bursts(seconds: float, level: float = 0.1) -> Samples:
    """Noise of another colour and loudness every 50 ms."""
    rng = np.random.default_rng(1)
    parts = []
    for _ in range(round(seconds * 20)):
        width = int(rng.integers(1, 12))
        noise = np.convolve(rng.standard_normal(SAMPLE_RATE // 20), np.ones(width) / np.sqrt(width), "same")
        parts.append(level * rng.uniform(0.3, 1) * noise)
    return np.concatenate(parts).astype(np.float32)


def in_room(*sounds: NDArray[np.floating]) -> Samples:
    """The sounds with half a second of a quiet room before, between and after them."""
    pause = np.zeros(SAMPLE_RATE // 2)
    samples = np.concatenate([part for sound in sounds for part in (pause, sound)] + [pause])
    return (samples + 3e-4 * np.random.default_rng(0).standard_normal(len(samples))).astype(np.float32)


def last_changes(samples: Samples, size: int = 6, network: SpeechNetwork = DEAF) -> list[int]:
    """`SpeechChanges.last` after each chunk of so many frames."""
    frames = extract(samples)
    changing = VoiceActivityDetector().accept(samples, frames)[:, CHANGING]
    changes, last = SpeechChanges(network), []
    for first in range(0, len(frames), size):
        changes.accept(frames[first : first + size], changing[first : first + size], first)
        last.append(changes.last)
    return last


@pytest.mark.parametrize("name", TONES)
def test_a_tone_is_no_speech(name: str) -> None:
    assert last_changes(in_room(TONES[name]))[-1] == -1
    assert last_changes(in_room(TONES[name], bursts(0.2)))[-1] > 0


def test_speech_is_known_a_little_later() -> None:
    last = last_changes(in_room(bursts(0.3)), size=1)
    assert last[47 + EDGE_FRAMES] == -1
    assert 47 <= last[55 + EDGE_FRAMES] <= 55
    assert 78 <= last[-1] <= 86


def test_speech_over_a_whistle_that_was_there_before_is_speech() -> None:
    samples = in_room(bursts(0.3, 0.03))
    whistle = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(len(samples)) / SAMPLE_RATE)
    last = last_changes((samples + whistle).astype(np.float32))
    assert last[7] == -1
    assert last[-1] > 50


@pytest.mark.parametrize("size", [1, 5, 7, 16, 1000])
def test_chunking_changes_nothing(size: int) -> None:
    samples = in_room(TONES["beep"], bursts(0.3), TONES["keys"])
    assert last_changes(samples, size)[-1] == last_changes(samples)[-1] > 0


@pytest.fixture(scope="module")
def shipped() -> SpeechNetwork:
    return SpeechNetwork.load(SHIPPED_MODEL / SPEECH_FILE)


def test_what_the_network_takes_for_music_is_no_speech() -> None:
    samples = in_room(bursts(0.3))
    surely_music = DEAF._replace(score_bias=np.full(1, -1e9, np.float32))
    assert last_changes(samples)[-1] > 0
    assert last_changes(samples, network=surely_music)[-1] == -1


def test_the_shipped_network_tells_music_from_speech(shipped: SpeechNetwork) -> None:
    rng = np.random.default_rng(3)
    pieces = [in_room(0.1 * melody(rng)) for _ in range(8)]
    taken = [last_changes(piece, network=shipped)[-1] > 0 for piece in pieces]
    assert sum(last_changes(piece)[-1] > 0 for piece in pieces) >= 6
    assert sum(taken) <= 2
    speech = read_samples(DEMO)
    frames = len(extract(speech))
    assert last_changes(in_room(pieces[0], speech), network=shipped)[-1] > len(extract(pieces[0])) + frames // 2
    for first in range(0, len(speech) - SAMPLE_RATE, SAMPLE_RATE // 2):
        piece = in_room(speech[first : first + SAMPLE_RATE])
        assert (last_changes(piece, network=shipped)[-1] > 0) == (last_changes(piece)[-1] > 0)


@pytest.mark.parametrize("size", [1, 5, 7, 16, 1000])
def test_chunking_changes_nothing_for_the_network(shipped: SpeechNetwork, size: int) -> None:
    samples = np.concatenate((in_room(melody(np.random.default_rng(0))), read_samples(DEMO)[: 2 * SAMPLE_RATE]))
    assert last_changes(samples, size, shipped)[-1] == last_changes(samples, network=shipped)[-1] > 0


def by_hand(kinds: str) -> int:
    """The last change in frames that are quiet (.), wide (w) or a tone (t)."""
    rng = np.random.default_rng(0)
    frames: Features = rng.normal(5, 0.5, (len(kinds), NUM_MEL_BINS)).astype(np.float32)
    for t, kind in enumerate(kinds):
        frames[t] += np.where(np.arange(NUM_MEL_BINS) < 5, 15.0, 0.0) if kind == "t" else 8.0 * (kind == "w")
    changes = SpeechChanges()
    changes.accept(frames, np.array([kind != "." for kind in kinds]), 0)
    return changes.last


def test_a_change_counts_where_no_tone_is_near() -> None:
    pause = "." * (EDGE_FRAMES + 2)
    assert by_hand(pause + "w" + pause) == len(pause)
    assert by_hand(pause + "w" + "." * (EDGE_FRAMES - 1)) == -1
    assert by_hand(pause + "wwwttttwww" + pause) == -1
    assert by_hand(pause + "w" * (EDGE_FRAMES + 1) + "t" + pause) == len(pause)
    assert by_hand(pause + "w" * EDGE_FRAMES + "t" + pause) == -1
    assert by_hand(pause + "t" + "w" * (EDGE_FRAMES + 1) + pause) == len(pause) + EDGE_FRAMES + 1
