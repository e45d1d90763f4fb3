"""A tiny lexicon with random language models, and what a network might say, for tests of the search."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streaming_asr.decoder import Decoder, DecoderOptions
from streaming_asr.decoder_state import DecoderState
from streaming_asr.lexicon import Lexicon, LexiconTree
from streaming_asr.ngram import NGram
from streaming_asr.tokens import NUM_TOKENS, PHONE_ID

# Homophones (bee, be), prefixes (bee, beet, beets), two pronunciations (a), words of one phone (b, a).
LEXICON = "bee\tB IY\nbe\tB IY\nbeet\tB IY T\nbeets\tB IY T B\nb\tB\na\tIY\na\tT IY\n"
USED = [0, PHONE_ID["B"], PHONE_ID["IY"], PHONE_ID["T"]]
EXACT = DecoderOptions(
    beam=4000,
    beam_threshold=1e9,
    lm_weight=0.7,
    word_score=-0.4,
    token_threshold=-1e9,
    blank_skip_threshold=2.0,
)
Log = NDArray[np.float32]


def random_ngram(lexicon: Lexicon, folder: Path, seed: int, order: int = 3) -> NGram:
    rng = np.random.default_rng(seed)
    words = [*lexicon.words, "<s>", "</s>", "<unk>"]
    lines = ["\\data\\", ""]
    for n in range(1, order + 1):
        lines.append(f"\\{n}-grams:")
        for ngram in itertools.product(words, repeat=n):
            if n == 1 or rng.random() < 0.3:
                backoff = f"\t{-rng.random():.3f}" if n < order else ""
                lines.append(f"{-2 * rng.random():.3f}\t{' '.join(ngram)}{backoff}")
        lines.append("")
    path = folder / f"lm{seed}.arpa"
    path.write_text("\n".join([*lines, "\\end\\", ""]))
    return NGram.from_arpa(path, lexicon.words)


class Setup:
    """A tiny lexicon with a random language model."""

    def __init__(self, folder: Path, seed: int, text: str = LEXICON) -> None:
        self.lexicon = Lexicon.from_text(text)
        self.ngram = random_ngram(self.lexicon, folder, seed)
        self.tree = LexiconTree.build(self.lexicon, self.ngram.unigram_log_probs)
        self.score = functools.cache(self.ngram.score)

    def decoder(self, options: DecoderOptions) -> Decoder:
        return Decoder(self.tree, self.ngram, options)

    def words(self, ids: list[int]) -> str:
        return " ".join(self.lexicon.words[word] for word in ids)


def random_log_probs(seed: int, num_frames: int, peak: float = 2.0, used: list[int] | None = None) -> Log:
    """[T, V], normalized; tokens that are not used are next to impossible."""
    rng = np.random.default_rng(seed)
    logits = np.full((num_frames, NUM_TOKENS), -60.0)
    used = USED if used is None else used
    logits[:, used] = peak * rng.standard_normal((num_frames, len(used)))
    return normalized(logits)


def step_in_chunks(decoder: Decoder, log_probs: Log, chunks: Sequence[int]) -> DecoderState:
    """Searched in pieces of so many frames, with a look at what there is after each, which disturbs nothing."""
    state = decoder.start()
    at = 0
    for chunk in chunks:
        decoder.step(state, log_probs[at : at + chunk])
        decoder.best(state)
        decoder.finish(state, 3)
        at += chunk
    return state


def normalized(logits: NDArray[np.floating]) -> Log:
    logits = np.asarray(logits, np.float64)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), np.float32)


def spoken(text: str, sure: float = 6.0) -> Log:
    """One frame for each of "B", "IY", "-" …"""
    logits = np.zeros((len(text.split()), NUM_TOKENS))
    for frame, name in enumerate(text.split()):
        logits[frame, 0 if name == "-" else PHONE_ID[name]] = sure
    return normalized(logits)
