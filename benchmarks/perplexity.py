"""How well a model folder's language models foresee transcripts: perplexity of their words, without ends of sentences.

    python -m benchmarks.perplexity MODEL_DIR DEV_DIR

Words outside the vocabulary are not scored. The neural model's scores are taken as they are served, not normalized.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from streaming_asr.manifest import LM_FILE, NEURAL_LM_FILE
from streaming_asr.neural_lm import NO_PIECE, NeuralLM
from streaming_asr.ngram import NGram
from streaming_asr.recordings import find_recordings
from streaming_asr.search_graph import read_graph


def ngram_log_prob(ngram: NGram, words: list[int]) -> float:
    """Natural log, of those words that it knows."""
    state, total = ngram.start_state, 0.0
    for word in words:
        log_prob, state = ngram.score(state, word if word < ngram.num_words else ngram.unk)
        total += log_prob if word < ngram.num_words else 0.0
    return total


def neural_log_prob(lm: NeuralLM, words: list[int]) -> float:
    """Natural log, of those words that it knows."""
    rows, pending, total = lm.start_row[None].copy(), np.array([NO_PIECE], np.int32), 0.0
    for word in words:
        lm.settle(rows, pending)
        log_probs, rows, pending = lm.score(rows, np.array([word]), np.array([0]))
        total += float(log_probs[0]) if word < lm.num_words else 0.0
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    lexicon, _, ngram = read_graph(options.model)
    unknown = len(lexicon.words)
    transcripts = [
        [lexicon.word_id.get(word, unknown) for word in recording.words]
        for recording in find_recordings([options.folder])
    ]
    known = sum(word < unknown for words in transcripts for word in words)
    print(f"{len(transcripts)} transcripts, {sum(map(len, transcripts))} words, {known} of them in the vocabulary")
    print(f"{LM_FILE}: {math.exp(-sum(ngram_log_prob(ngram, words) for words in transcripts) / known):.1f}")
    if (options.model / NEURAL_LM_FILE).exists():
        lm = NeuralLM.load(options.model / NEURAL_LM_FILE)
        print(f"{NEURAL_LM_FILE}: {math.exp(-sum(neural_log_prob(lm, words) for words in transcripts) / known):.1f}")


if __name__ == "__main__":
    main()
