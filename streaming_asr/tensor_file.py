"""Owns how tables are read from safetensors files: format and version first, then every tensor; never a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors
from numpy.typing import NDArray

from .errors import ModelError


def read_tensors(path: str | Path, format: str, version: str) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """The file's metadata and its tensors by name.

    :raises ModelError: the file is absent, damaged, or not of this format and version.
    """
    try:
        with safetensors.safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != format or metadata.get("version") != version:
                raise ModelError(f"{path}: not a version {version} {format} file")
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
