"""Owns joining weights, lexicon and LM into one folder that `Recognizer.load` reads and verifies."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..manifest import MANIFEST_FILE
from ..model import load_model, save_model
from ..recognizer import LEXICON_FILE, LM_FILE, Recognizer


def export_model(
    acoustic: Path, lexicon: Path, lm: Path, output: Path, *, name: str, decoder: dict[str, Any] | None = None
) -> None:
    """Writes ``output``: weights, lexicon, LM, and a manifest with the decoder's options and every file's SHA-256.

    The folder is loaded once before this returns, so that what is exported is known to serve. Raises `ModelError` or
    `InputError`, naming the file that does not fit.
    """
    save_model(load_model(acoustic), output)
    for source, target in ((lexicon, output / LEXICON_FILE), (lm, output / LM_FILE)):
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
        "files": {file: hashlib.sha256((output / file).read_bytes()).hexdigest() for file in (LEXICON_FILE, LM_FILE)},
    }
    manifest_path.write_text(json.dumps(manifest, indent=2) + "\n")
    Recognizer.load(output)
