"""Owns recordings on disk: LibriSpeech-style folders, and any file libsndfile reads, as 16 kHz mono blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from .errors import InputError
from .features import SAMPLE_RATE, Samples

BLOCK_SECONDS = 0.5


@dataclass(frozen=True)
class Recording:
    """One transcribed recording on disk; ``words`` in lower case."""

    utterance: str
    speaker: str
    path: Path
    words: tuple[str, ...]


def find_recordings(folders: Sequence[Path]) -> list[Recording]:
    """All transcribed recordings under ``folders``: ``UTTERANCE.flac`` beside a ``*.trans.txt`` that names it.

    Sorted by utterance id. Raises `InputError` when a folder is missing or there are none.
    """
    recordings = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder")
        for transcript in sorted(folder.rglob("*.trans.txt")):
            for line in _read_text(transcript).splitlines():
                utterance, _, text = line.partition(" ")
                path = transcript.parent / f"{utterance}.flac"
                if path.exists():
                    recordings.append(Recording(utterance, utterance.split("-")[0], path, tuple(text.lower().split())))
    if not recordings:
        raise InputError(f"no transcribed recordings (*.flac beside *.trans.txt) in {', '.join(map(str, folders))}")
    return sorted(recordings, key=lambda recording: recording.utterance)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _cannot_read(path, error) from error


def _cannot_read(path: str | Path, error: soundfile.LibsndfileError | OSError | UnicodeDecodeError) -> InputError:
    """With the system's words if the file cannot be opened at all; libsndfile's own are "System error"."""
    try:
        Path(path).open("rb").close()
    except OSError as refused:
        error = refused
    reasons = (getattr(error, name, None) for name in ("error_string", "strerror"))
    return InputError(f"cannot read {path}: {next(filter(None, reasons), error)}")


def duration_seconds(path: str | Path) -> float:
    """Length of a recording, from its header. Raises `InputError`, naming the file."""
    try:
        return float(soundfile.info(os.fsencode(path)).duration)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _cannot_read(path, error) from error


def read_blocks(path: str | Path, block_seconds: float = BLOCK_SECONDS) -> Iterator[Samples]:
    """A recording, whatever libsndfile reads, in blocks of float32 [N] in -1..1, 16 kHz mono.

    Resampled in a stream, so that a file of any length needs one block of memory. Raises `InputError`, naming the file.
    """
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:  # names need not be UTF-8
            resampler = None
            if file.samplerate != SAMPLE_RATE:
                resampler = soxr.ResampleStream(file.samplerate, SAMPLE_RATE, 1, dtype="float32")
            for block in file.blocks(int(block_seconds * file.samplerate), dtype="float32", always_2d=True):
                if not np.isfinite(block).all():
                    raise InputError(f"{path} holds a sample that is infinite or no number")
                mono = block.clip(-1, 1).mean(axis=1, dtype=np.float32)
                yield resampler.resample_chunk(mono) if resampler else mono
            if resampler:
                yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise _cannot_read(path, error) from error


def read_samples(path: str | Path) -> Samples:
    """A whole recording as float32 [N], 16 kHz mono. Raises `InputError`, naming the file."""
    blocks = list(read_blocks(path))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
