"""Owns what the search walks, as a model folder holds it: the lexicon, its tree, and the language model.

To read the files and link what is in them takes more than a second of a start. So what came of them is kept in the
user's cache folder, one file for each model folder; who cannot write there does without.

Must not import torch: the import of torch takes as long as the reading, which can go on beside it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import platformdirs
from numpy.typing import NDArray
from safetensors.numpy import save

from .compiled import DIGEST
from .errors import InputError, ModelError
from .files import replacing
from .lexicon import Lexicon, LexiconTree, TreeArrays
from .manifest import LEXICON_FILE, LM_FILE, Manifest, read_manifest, read_verified
from .ngram import NGram, NGramArrays
from .tensor_file import read_tensors

FORMAT, VERSION = "streaming_asr.search_graph", "1"  # of what is kept


class SearchGraph(NamedTuple):
    """Words by sound, and how likely they are."""

    lexicon: Lexicon
    tree: LexiconTree
    ngram: NGram


def read_graph(folder: Path) -> SearchGraph:
    """Raises `ModelError`, naming the file, when one is missing, damaged, or does not fit the other."""
    manifest = read_manifest(folder)
    path = cache_path(folder)
    subject = " ".join([manifest.files.get(name, "") for name in (LEXICON_FILE, LM_FILE)] + [DIGEST])
    with ThreadPoolExecutor(1) as pool:
        verifying = pool.submit(_verify, folder, manifest)  # compiled code, which leaves us the GIL
        kept = _read_kept(path, subject)
        verifying.result()
    if kept is None:
        kept = _read_files(folder)
        with contextlib.suppress(OSError):
            _keep(path, subject, kept)
    return kept


def cache_path(folder: Path) -> Path:
    """Where the graph of a model folder is kept."""
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return Path(platformdirs.user_cache_dir("streaming_asr", appauthor=False)) / f"graph-{name}.safetensors"


def _verify(folder: Path, manifest: Manifest) -> None:
    for name in (LEXICON_FILE, LM_FILE):
        read_verified(folder / name, manifest.files.get(name))


def _read_files(folder: Path) -> SearchGraph:
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(NGram.load, folder / LM_FILE)  # mostly compiled code
        try:
            lexicon = Lexicon.from_file(folder / LEXICON_FILE)
            ngram = reading.result()
            return SearchGraph(lexicon, LexiconTree.build(lexicon, ngram.unigram_log_probs), ngram)
        except InputError as error:
            raise ModelError(f"{folder / LEXICON_FILE} cannot be used with {LM_FILE}: {error}") from error


def _keep(path: Path, subject: str, graph: SearchGraph) -> None:
    """Writes what `_read_kept` reads, if there is a place for it; raises `OSError`."""
    if not path.is_absolute():
        return  # nobody's home is known
    tensors: dict[str, NDArray[Any]] = {}
    for name, arrays in (
        ("lexicon", graph.lexicon.to_arrays()),
        ("tree", graph.tree.arrays._asdict()),
        ("ngram", graph.ngram.arrays._asdict()),
    ):
        tensors |= {f"{name}.{part}": array for part, array in arrays.items()}
    vocabulary = graph.ngram.vocabulary
    metadata = {"format": FORMAT, "version": VERSION, "subject": subject, "vocabulary": vocabulary}
    content = save(tensors, metadata | {"sha256": _sha256(vocabulary, tensors)})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, 0o600) as file:
        file.write(content)


def _read_kept(path: Path, subject: str) -> SearchGraph | None:
    """None if nothing whole is there, or of another subject."""
    try:
        metadata, tensors = read_tensors(path, FORMAT, VERSION)
    except ModelError:
        return None
    vocabulary = metadata.get("vocabulary", "")
    if metadata.get("subject") != subject or metadata.get("sha256") != _sha256(vocabulary, tensors):
        return None
    lexicon = Lexicon.from_arrays(_part(tensors, "lexicon"))
    tree = LexiconTree(TreeArrays(**_part(tensors, "tree")), lexicon.words)
    ngram = NGram(NGramArrays(**_part(tensors, "ngram")), vocabulary)
    return SearchGraph(lexicon, tree, ngram)


def _sha256(vocabulary: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Of the vocabulary's fingerprint, and of names, types, shapes and contents, whatever their order: safetensors has
    no checksum of its own.
    """
    digest = hashlib.sha256(f"{vocabulary}\n".encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()


def _part(tensors: Mapping[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
    """Writable copies: numba would compile a second version for a read-only array."""
    return {key.partition(".")[2]: np.array(tensors[key]) for key in tensors if key.startswith(f"{name}.")}
