"""Word error rate and cost of decoder settings on a held-out folder, the network run once for all of them.

    python -m benchmarks.tune_decoder MODEL_DIR DEV_DIR --limit 150 --set lm_weight=1.5,2,2.5 --set beam=300,1000

Never point it at recordings that are for the final reading.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import get_args

import torch

from streaming_asr.decoder import Decoder, DecoderOptions
from streaming_asr.evaluate import count_word_errors
from streaming_asr.lexicon import Lexicon, LexiconTree
from streaming_asr.manifest import LEXICON_FILE, LM_FILE, MANIFEST_FILE, NEURAL_LM_FILE
from streaming_asr.model import load_model
from streaming_asr.network import Network, Precision, best_precision
from streaming_asr.neural_lm import NeuralLM
from streaming_asr.ngram import NGram
from streaming_asr.recordings import find_recordings, read_samples

from .material import network_outputs, spread


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--acoustic", type=Path, help="take weights from here instead")
    parser.add_argument("--lm", type=Path, help="take the LM from here instead")
    parser.add_argument("--neural-lm", type=Path, help="take the neural LM from here instead")
    parser.add_argument("--lexicon", type=Path, help="take the lexicon from here instead")
    parser.add_argument("--precision", choices=get_args(Precision), default=best_precision(), help="of the network")
    parser.add_argument(
        "--phases", type=int, help="how often the network reads each stream (default: as the model says)"
    )
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=V,V,…")
    options = parser.parse_args()

    torch.set_num_threads(1)  # as the server does
    recordings = spread(find_recordings([options.folder]), options.limit)
    model = load_model(options.acoustic or options.model)
    network = Network(model.with_phases(options.phases or model.config.phases), options.precision)
    lexicon = Lexicon.from_file(options.lexicon or options.model / LEXICON_FILE)
    ngram = NGram.load(options.lm or options.model / LM_FILE)
    neural_lm_file = options.neural_lm or options.model / NEURAL_LM_FILE
    neural_lm = NeuralLM.load(neural_lm_file) if neural_lm_file.exists() else None
    tree = LexiconTree.build(lexicon, ngram.unigram_log_probs)
    scores, seconds = [], 0.0
    for recording in recordings:
        samples = read_samples(recording.path)
        seconds += len(samples) / 16000
        scores.append(network_outputs(network, samples))
    manifest = options.model / MANIFEST_FILE
    base = json.loads(manifest.read_text()).get("decoder", {}) if manifest.exists() else {}
    grid = [(name, [json.loads(v) for v in values.split(",")]) for name, values in (s.split("=") for s in options.set)]
    print(f"{len(recordings)} recordings, {seconds / 60:.1f} minutes")
    for values in itertools.product(*(v for _, v in grid)):
        chosen = dict(zip([name for name, _ in grid], values, strict=True))
        decoder = Decoder(tree, ngram, DecoderOptions(**{**base, **chosen}), neural_lm)
        pairs, spent = [], 0.0
        for recording, log_probs in zip(recordings, scores, strict=True):
            began = time.perf_counter()
            state = decoder.start()
            decoder.step(state, log_probs)
            best = decoder.finish(state, 1)[0]
            spent += time.perf_counter() - began
            text = " ".join(lexicon.words[word.word_id] for word in best.words)
            pairs.append((" ".join(recording.words), text))
        errors = count_word_errors(pairs)
        row = f"WER {100 * errors.wer:.2f} %  (S {errors.substitutions} D {errors.deletions} I {errors.insertions})"
        print(f"{json.dumps(chosen)}  {row}  decoder RTF {spent / seconds:.4f}", flush=True)


if __name__ == "__main__":
    main()
