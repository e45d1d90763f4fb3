"""A made-up corpus that a tiny network can learn in seconds: every word is one phone, every phone one chord."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

CHORDS = {"ah": (300.0, 900.0), "iy": (500.0, 2500.0), "s": (3500.0, 5500.0)}
# Before the first word, 0.25 s: mere tones are not taken for speech.
BREATH = 0.02 * np.random.default_rng(0).standard_normal(4000)
LEXICON = "".join(f"{word}\t{word.upper()}\n" for word in CHORDS)

SETTINGS: dict[str, Any] = {
    "model": {"num_layers": 1, "hidden_size": 32},
    "epochs": 24,
    "batch_seconds": 8.0,
    "learning_rate": 0.01,
    "warmup_steps": 5,
    "ctc_epochs": 16,
    "dropout": 0.0,
    "average_decay": 0.9,
    "augmentation": {
        "tempo": 0.05,
        "warp": 0.0,
        "gain": 0.2,
        "tilt": 0.0,
        "frequency_masks": 0,
        "time_mask_share": 0.0,
    },
}  # of a network that learns it in so few steps


def write_corpus(folder: Path, num_recordings: int, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    chapter = folder / "1" / "2"
    chapter.mkdir(parents=True)
    lines = []
    for number in range(num_recordings):
        words = rng.choice(list(CHORDS), int(rng.integers(2, 6))).tolist()
        parts = [np.zeros(1600), BREATH, np.zeros(1600)]
        for word in words:
            time = np.arange(2400) / 16000
            chord = sum((np.sin(2 * np.pi * pitch * time) for pitch in CHORDS[word]), np.zeros(len(time)))
            parts += [0.2 * chord, np.zeros(1600)]
        samples = np.concatenate(parts) + 1e-3 * rng.standard_normal(sum(map(len, parts)))
        soundfile.write(chapter / f"1-2-{number:04}.flac", samples, 16000)
        lines.append(f"1-2-{number:04} {' '.join(words).upper()}")
    (chapter / "1-2.trans.txt").write_text("\n".join(lines) + "\n")
