"""Recurrent cells side by side: word error rate, size and speed of networks that one recipe trained.

    python -m benchmarks.cells DEV_DIR RUN/model [RUN/model ...] [--limit 150] [--lm-weight 0.7,1]

Lexicon and language model are the shipped ones; of the LM weights the best counts, for each network its own. Speed is
of one step of 60 ms on one processor, the shortest of many.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from streaming_asr.calibration import network_step
from streaming_asr.decoder import Decoder, DecoderOptions
from streaming_asr.evaluate import count_word_errors
from streaming_asr.manifest import SHIPPED_MODEL
from streaming_asr.model import load_model
from streaming_asr.network import Network, best_precision
from streaming_asr.recordings import Recording, find_recordings, read_samples
from streaming_asr.search_graph import read_graph

from .compute import alternate
from .material import network_outputs, spread

STREAMS = 1, 32
ROUNDS = 100


def word_error_rates(network: Network, recordings: Sequence[Recording], lm_weights: Sequence[float]) -> list[float]:
    """In percent, one an LM weight."""
    lexicon, tree, ngram = read_graph(SHIPPED_MODEL)
    outputs = [network_outputs(network, read_samples(recording.path)) for recording in recordings]
    rates = []
    for lm_weight in lm_weights:
        decoder = Decoder(tree, ngram, DecoderOptions(lm_weight=lm_weight))
        pairs = []
        for recording, log_probs in zip(recordings, outputs, strict=True):
            state = decoder.start()
            decoder.step(state, log_probs)
            heard = (lexicon.words[word.word_id] for word in decoder.finish(state, 1)[0].words)
            pairs.append((" ".join(recording.words), " ".join(heard)))
        rates.append(100 * count_word_errors(pairs).wer)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--limit", type=int, default=150, metavar="N")
    parser.add_argument("--lm-weight", default="0.7,1", metavar="W,W,…")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lm_weights = [float(weight) for weight in options.lm_weight.split(",")]
    recordings = spread(find_recordings([options.folder]), options.limit)
    networks = [Network(load_model(folder), best_precision()) for folder in options.models]
    steps = [network_step(network, size) for network in networks for size in STREAMS]
    times = iter(alternate(steps, ROUNDS))
    print(f"{len(recordings)} recordings; weights in {networks[0].precision} when served")
    for folder, network in zip(options.models, networks, strict=True):
        config = network.config
        weights = sum(parameter.numel() for parameter in load_model(folder).parameters())
        speeds = ", ".join(f"{1000 * next(times):.2f} ms for {size}" for size in STREAMS)
        rates = word_error_rates(network, recordings, lm_weights)
        print(
            f"{config.cell} {config.num_layers} x {config.hidden_size}: {weights / 1e6:.2f} M weights, "
            f"a step {speeds}, "
            f"WER {min(rates):.1f} % (LM weight {lm_weights[rates.index(min(rates))]:g})",
            flush=True,
        )


if __name__ == "__main__":
    main()
