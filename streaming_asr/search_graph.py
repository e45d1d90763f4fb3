"""Owns what the search walks, as a model folder holds it: the lexicon, its tree, and the language model.

Must not import torch: the import of torch takes as long as the reading, which can go on beside it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from .errors import InputError, ModelError
from .lexicon import Lexicon, LexiconTree
from .manifest import LEXICON_FILE, LM_FILE, Manifest, read_manifest, read_verified
from .ngram import NGram


class SearchGraph(NamedTuple):
    """Words by sound, and how likely they are."""

    lexicon: Lexicon
    tree: LexiconTree
    ngram: NGram


def read_graph(folder: Path) -> SearchGraph:
    """Raises `ModelError`, naming the file, when one is missing, damaged, or does not fit the other."""
    manifest = read_manifest(folder)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(_read_ngram, folder, manifest)  # mostly compiled code, which leaves us the GIL
        read_verified(folder / LEXICON_FILE, manifest.files.get(LEXICON_FILE))
        try:
            lexicon = Lexicon.from_file(folder / LEXICON_FILE)
            ngram = reading.result()
            return SearchGraph(lexicon, LexiconTree.build(lexicon, ngram.unigram_log_probs), ngram)
        except InputError as error:
            raise ModelError(f"{folder / LEXICON_FILE} cannot be used with {LM_FILE}: {error}") from error


def _read_ngram(folder: Path, manifest: Manifest) -> NGram:
    read_verified(folder / LM_FILE, manifest.files.get(LM_FILE))
    return NGram.load(folder / LM_FILE)
