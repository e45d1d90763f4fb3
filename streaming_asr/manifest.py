"""Owns a model folder's files by name, and ``config.json`` among them: what the model is, the others' SHA-256.

Knows neither networks nor decoders: their settings are passed on as they are written.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from .errors import ModelError

SHIPPED_MODEL = Path(__file__).parent / "resources" / "en"
MANIFEST_FILE = "config.json"
LEXICON_FILE = "lexicon.txt"
LM_FILE = "lm.safetensors"
PUNCTUATION_FILE = "punctuation.safetensors"  # a model folder may lack it
G2P_FILE = "g2p.safetensors"  # and this
NEURAL_LM_FILE = "neural_lm.safetensors"  # and this
SPEECH_FILE = "speech.safetensors"  # and this


class Manifest(msgspec.Struct, frozen=True):
    """What the file holds. Fields that it does not name are those of a network that is not exported yet."""

    model: dict[str, Any]  # of `model.ModelConfig`
    sha256: str  # of the weights
    name: str = ""
    language: str = "en"
    decoder: dict[str, Any] = {}  # of `decoder.DecoderOptions`
    files: dict[str, str] = {}  # name -> SHA-256


def read_manifest(folder: Path) -> Manifest:
    """Raises `ModelError`, naming the file, when it is missing or not a manifest."""
    path = folder / MANIFEST_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ModelError(f"{path} is not a model's config: {error}") from error


def read_verified(path: Path, sha256: str | None) -> bytes:
    """A file's content. Raises `ModelError` when it cannot be read or is not the one that the manifest describes."""
    if sha256 is None:
        raise ModelError(f"{path.parent / MANIFEST_FILE} holds no SHA-256 of {path.name}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelError(f"{path} is damaged or not the one that {MANIFEST_FILE} describes (SHA-256 differs)")
    return content
