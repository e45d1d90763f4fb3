"""A tiny neural language model of the words of `searching`, for tests."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from streaming_asr.neural_lm import END, PieceLM, Spelling

WORDS = ["bee", "be", "beet", "beets", "b", "a"]
PIECES = [[2], [3], [2, 4], [2, 4, 5], [6], [7]]
NUM_PIECES = 8


def spelling() -> Spelling:
    return Spelling(
        np.array([len(pieces) for pieces in PIECES], np.uint8),
        np.array(list(itertools.chain(*PIECES)), np.uint16),
    )


def random_network(seed: int = 0, num_pieces: int = NUM_PIECES) -> PieceLM:
    torch.manual_seed(seed)
    network = PieceLM(num_pieces, 16, 24, 2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return network.eval().requires_grad_(False)


def expected(network: PieceLM, words: list[int]) -> list[float]:
    """The score of each word after those before, by the network as it is trained."""
    inputs, scores = [END], []
    for word in words:
        score = 0.0
        for piece in PIECES[word] if word < len(PIECES) else [0]:
            score += float(network(torch.tensor([inputs]))[0, -1, piece])
            inputs.append(piece)
        scores.append(score)
    return scores
