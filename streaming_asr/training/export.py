"""Owns joining weights, lexicon, LM and punctuation into one folder that `Recognizer.load` reads and verifies."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..manifest import G2P_FILE, LEXICON_FILE, LM_FILE, MANIFEST_FILE, NEURAL_LM_FILE, PUNCTUATION_FILE, SPEECH_FILE
from ..model import load_model, save_model
from ..recognizer import Recognizer


def export_model(
    acoustic: Path,
    lexicon: Path,
    lm: Path,
    output: Path,
    *,
    name: str,
    punctuation: Path | None = None,
    g2p: Path | None = None,
    neural_lm: Path | None = None,
    speech: Path | None = None,
    decoder: dict[str, Any] | None = None,
    phases: int | None = None,
) -> None:
    """Writes ``output``: weights, lexicon, LM, and a manifest with the decoder's options and every file's SHA-256.

    Without ``punctuation``, a `formatting.punctuation.Punctuator`, finals get figures, but neither marks nor capitals;
    without ``g2p``, a `g2p.G2P`, hotwords that the lexicon lacks are not heard; without ``neural_lm``, a
    `neural_lm.NeuralLM`, words have only the scores of ``lm``;
    without ``speech``, a `speech_network.SpeechNetwork`, music is taken for speech. ``phases`` is how often the network
    reads each stream (see `model`), as often as it can if None.
    The folder is loaded once before this returns, so that what is exported is known to serve. Raises `ModelError` or
    `InputError`, naming the file that does not fit.
    """
    model = load_model(acoustic)
    save_model(model.with_phases(phases or model.config.outputs_per_step), output)
    optional = {PUNCTUATION_FILE: punctuation, G2P_FILE: g2p, NEURAL_LM_FILE: neural_lm, SPEECH_FILE: speech}
    sources = {LEXICON_FILE: lexicon, LM_FILE: lm} | {name: path for name, path in optional.items() if path is not None}
    for file, source in sources.items():
        target = output / file
        try:
            if source.resolve() != target.resolve():
                shutil.copyfile(source, target)
        except OSError as error:
            raise InputError(f"cannot copy {source}: {error.strerror}") from error
    manifest_path = output / MANIFEST_FILE
    manifest = json.loads(manifest_path.read_text())
    manifest |= {
        "name": name,
        "language": "en",
        "decoder": decoder or {},
        "files": {file: hashlib.sha256((output / file).read_bytes()).hexdigest() for file in sources},
    }
    manifest_path.write_text(json.dumps(manifest, indent=2) + "\n")
    Recognizer.load(output)
