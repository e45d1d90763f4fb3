"""Owns what `speech_network` learns from: made-up streams of speech and of other sounds, labelled.

Pieces of both alternate, with pauses between, and with other sounds or noise beneath. Only those frames count that
`SpeechChanges` asks a network about. Every draw comes from the generator that is passed in. Must not know the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ..errors import InputError
from ..features import FRAME_SHIFT_SAMPLES, SAMPLE_RATE, Samples, extract
from ..level import SpeechLevel
from ..recordings import Recording, read_samples
from ..tones import EDGE_FRAMES, SpeechChanges
from ..vad import CHANGING, VoiceActivityDetector
from .distort import at_level, coloured_noise, distort, faded, in_room, level_of, over_telephone, through_mp3

STREAM_SECONDS = 16
SPEECH, OTHER, EITHER = 1, 0, -1  # labels of frames
SPEECH_SHARE, SHORT_SHARE = 0.6, 0.7  # of pieces; of those of speech
SHORT_SECONDS, LONG_SECONDS, OTHER_SECONDS = (0.18, 0.8), (1.0, 6.0), (2.0, 9.0)
SPEECH_DBFS, OTHER_DBFS, ROOM_DBFS = (-52.0, -14.0), (-48.0, -12.0), (-90.0, -65.0)
USUAL_DBFS, SILENCE_DBFS = -20.0, -75.0  # before a channel; what is below is no piece
ACTIVE_DB = 28.0  # below its loudest frame a piece of speech is one
LONE_SECONDS = (0.6, 1.2)  # of the quiet room before a lone word, and after it
PAUSE_SECONDS, NO_PAUSE = (0.05, 1.2), 0.25  # the share that follows at once
ECHO_FRAMES = 30  # near speech nothing else is sure
HEARD_FRAMES = 10  # on either side, whose level is compared with what is beneath
SPEECH_GROUP, OTHER_GROUP = 35, 50  # frames of which the highest score counts
GAP_FRAMES, LEAST_GROUP = 8, 4  # within a word; of a word's part, else it is left out


def find_audio(folder: Path) -> list[Path]:
    """All files under ``folder`` named as libsndfile's formats are. Raises `InputError` when there are none."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    formats = soundfile.available_formats()
    paths = sorted(path for path in folder.rglob("*") if path.suffix[1:].upper() in formats and path.is_file())
    if not paths:
        raise InputError(f"no audio files in {folder}")
    return paths


@dataclass(frozen=True)
class Stream:
    """Frames as a stream makes them, and what is to be learned from them."""

    frames: NDArray[np.float16]  # [T, 80]
    groups: NDArray[np.int64]  # [T], from 0; -1: in none
    is_speech: NDArray[np.bool_]  # [T]


class Sounds:
    """Pieces of recordings, drawn at random."""

    def __init__(self, recordings: Sequence[Recording], others: Sequence[Path], rng: np.random.Generator) -> None:
        by_speaker: dict[str, list[Path]] = {}
        for recording in recordings:
            by_speaker.setdefault(recording.speaker, []).append(recording.path)
        self._speakers = list(by_speaker.values())
        self._others = others
        self._rng = rng

    def recording(self) -> Samples:
        """A whole one, each speaker's as often."""
        paths = self._speakers[self._rng.integers(len(self._speakers))]
        return read_samples(paths[self._rng.integers(len(paths))])

    def piece(self) -> tuple[Samples, NDArray[np.int8]]:
        """Samples, float32 [N], and labels, int8 [N // 160]."""
        if self._rng.random() >= SPEECH_SHARE:
            return self._other()
        return self.word() if self._rng.random() < SHORT_SHARE else self._speech(LONG_SECONDS)

    def word(self) -> tuple[Samples, NDArray[np.int8]]:
        """A short piece of speech, as `piece` has it."""
        return self._speech(SHORT_SECONDS, fade=True)

    def _speech(self, seconds: tuple[float, float], fade: bool = False) -> tuple[Samples, NDArray[np.int8]]:
        rng = self._rng
        samples = self._cut(self.recording(), rng.uniform(*seconds))
        samples = faded(samples) if fade else samples
        if rng.random() < 0.1:
            samples = soxr.resample(samples, SAMPLE_RATE * rng.uniform(0.75, 1.25), SAMPLE_RATE).astype(np.float32)
        labels = np.where(activity(samples), SPEECH, EITHER).astype(np.int8)
        if level_of(samples) < SILENCE_DBFS:
            return samples, labels
        if rng.random() < 0.5:
            samples = distort(at_level(samples, USUAL_DBFS), rng, self.recording)
        return at_level(samples, rng.uniform(*SPEECH_DBFS)), labels

    def _other(self) -> tuple[Samples, NDArray[np.int8]]:
        rng = self._rng
        samples = self.other(rng.uniform(*OTHER_SECONDS))
        labels = np.full(len(samples) // FRAME_SHIFT_SAMPLES, OTHER, np.int8)
        if level_of(samples) < SILENCE_DBFS:
            return samples, labels
        samples = at_level(samples, USUAL_DBFS)
        if rng.random() < 0.12:
            samples = in_room(
                samples, reverberation_seconds=rng.uniform(0.15, 0.7), direct_db=rng.uniform(-2, 10), rng=rng
            )
        channel = rng.random()
        if channel < 0.2:
            samples = over_telephone(samples) if channel < 0.1 else through_mp3(samples.clip(-1, 1), 0.9)
        return at_level(samples, rng.uniform(*OTHER_DBFS)), labels

    def other(self, seconds: float) -> Samples:
        """So much without speech, or less, as loud as it is."""
        return self._cut(read_samples(self._others[int(self._rng.integers(len(self._others)))]), seconds)

    def _cut(self, samples: Samples, seconds: float) -> Samples:
        length = int(seconds * SAMPLE_RATE)
        start = int(self._rng.integers(max(1, len(samples) - length + 1)))
        return samples[start : start + length]


def activity(samples: Samples) -> NDArray[np.bool_]:
    """Whether somebody speaks in each whole frame of a piece of speech, float32 [N]: bool [N // 160]."""
    frames = samples[: len(samples) // FRAME_SHIFT_SAMPLES * FRAME_SHIFT_SAMPLES].reshape(-1, FRAME_SHIFT_SAMPLES)
    levels = 10 * np.log10(1e-10 + np.mean(np.square(frames), axis=1))
    active: NDArray[np.bool_] = levels > max(np.max(levels, initial=SILENCE_DBFS) - ACTIVE_DB, SILENCE_DBFS)
    return active


def make_stream(sounds: Sounds, rng: np.random.Generator) -> Stream:
    """Sixteen seconds of pieces."""
    samples = np.zeros(STREAM_SECONDS * SAMPLE_RATE, np.float32)
    labels = np.full(len(samples) // FRAME_SHIFT_SAMPLES, EITHER, np.int8)
    start = int(rng.uniform(0, 1) * SAMPLE_RATE)
    while start < len(samples) - SHORT_SECONDS[0] * SAMPLE_RATE:
        piece, of_piece = sounds.piece()
        piece = piece[: len(samples) - start]
        first = start // FRAME_SHIFT_SAMPLES
        of_piece = of_piece[: len(labels) - first]
        samples[start : start + len(piece)] = piece
        labels[first : first + len(of_piece)] = of_piece
        start += len(piece) + int((rng.random() >= NO_PAUSE) * rng.uniform(*PAUSE_SECONDS) * SAMPLE_RATE)
    _add_background(samples, labels, sounds, rng)
    return heard(samples.clip(-1, 1), labels)


def make_lone_word(sounds: Sounds, rng: np.random.Generator) -> Stream:
    """A short piece of speech in a quiet room."""
    word, labels = sounds.word()
    before, after = (int(rng.uniform(*LONE_SECONDS) * SAMPLE_RATE) // FRAME_SHIFT_SAMPLES for _ in range(2))
    samples = np.pad(word, (before * FRAME_SHIFT_SAMPLES, after * FRAME_SHIFT_SAMPLES))
    samples += at_level(coloured_noise(len(samples), 1.0, rng), rng.uniform(*ROOM_DBFS))
    return heard(samples.clip(-1, 1), np.pad(labels, (before, after), constant_values=EITHER))


def _add_background(samples: Samples, labels: NDArray[np.int8], sounds: Sounds, rng: np.random.Generator) -> None:
    """Adds other sound, noise or a quiet room to ``samples``, and says in ``labels`` where that drowns speech."""
    speech = np.flatnonzero(labels == SPEECH)
    kind = rng.random()
    is_sound = kind < 0.4
    background = np.resize(sounds.other(STREAM_SECONDS), len(samples)) if is_sound else np.zeros(0, np.float32)
    if kind >= 0.8 or not len(speech) or (is_sound and level_of(background) < SILENCE_DBFS):
        samples += at_level(coloured_noise(len(samples), 1.0, rng), rng.uniform(*ROOM_DBFS))
        return
    background = background if is_sound else coloured_noise(len(samples), rng.uniform(0.5, 1.5), rng)
    word = _around(samples, int(rng.choice(speech)))
    level = max(level_of(word), -50.0) - rng.uniform(6 if is_sound else 2, 18)
    if is_sound:
        far = np.convolve(labels == SPEECH, np.ones(2 * ECHO_FRAMES + 1), "same") == 0
        labels[(labels == EITHER) & far] = OTHER
    for frame in speech.tolist():
        if level_of(_around(samples, frame)) < level + (4 if is_sound else 0):
            labels[frame] = EITHER
    samples += at_level(background, level)


def _around(samples: Samples, frame: int) -> Samples:
    return samples[max(0, frame - HEARD_FRAMES) * FRAME_SHIFT_SAMPLES : (frame + HEARD_FRAMES) * FRAME_SHIFT_SAMPLES]


def heard(samples: Samples, labels: NDArray[np.int8]) -> Stream:
    """What a stream makes of float32 [N] with ``labels`` int8 [N // 160]."""
    frames = extract(samples).copy()
    signs = VoiceActivityDetector().accept(samples, frames)
    SpeechLevel().lift(frames, signs)
    changes, may_be_speech = SpeechChanges(), np.zeros(len(frames), np.bool_)
    for t in range(len(frames)):
        changes.accept(frames[t : t + 1], signs[t : t + 1, CHANGING], t)
        if changes.last == t - EDGE_FRAMES >= 0:
            may_be_speech[changes.last] = True
    labels = labels[: len(frames)]
    return Stream(frames.astype(np.float16), group(labels, may_be_speech), labels == SPEECH)


def group(labels: NDArray[np.int8], may_be_speech: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The group that each frame is in, from 0, int64 [T]; -1: in none.

    Speech is parted evenly into groups of about a third of a second, other sound into half seconds.
    """
    groups = np.full(len(labels), -1)
    speech = np.flatnonzero(labels == SPEECH)
    count = 0
    for word in np.split(speech, np.flatnonzero(np.diff(speech) > GAP_FRAMES) + 1):
        counted = word[may_be_speech[word]]
        if len(counted) >= LEAST_GROUP:
            for part in np.array_split(counted, max(1, round(len(counted) / SPEECH_GROUP))):
                groups[part] = count
                count += 1
    other = np.flatnonzero((labels == OTHER) & may_be_speech)
    groups[other] = count + other // OTHER_GROUP
    return groups
