"""A recognizer with a tiny random network, sounds in which it hears words, and what tests ask of its events.

Each sound is made from a seed of its own: a test's input does not depend on the tests before it.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from streaming_asr.decoder import Decoder, DecoderOptions
from streaming_asr.features import Samples
from streaming_asr.lexicon import Lexicon, LexiconTree
from streaming_asr.messages import Event, Final, Partial, StreamOptions
from streaming_asr.model import AcousticModel, ModelConfig, ModelState
from streaming_asr.ngram import NGram
from streaming_asr.recognizer import Recognizer
from streaming_asr.tokens import PHONES

# A word for every phone, so that whatever the network says is made of words, and some that begin like others.
WORDS = {phone.lower(): phone for phone in PHONES} | {
    f"{a}{b}".lower(): f"{a} {b}" for a, b in itertools.product(PHONES[::3], PHONES[1::4])
}
LEXICON = "".join(f"{word}\t{phones}\n" for word, phones in WORDS.items())


def random_recognizer(folder: Path, phases: int = 1) -> Recognizer:
    """A network with random weights that talks nonsense, but only when it is loud, as a trained one would."""
    lexicon = Lexicon.from_text(LEXICON)
    unigrams = "".join(f"{-1 - 0.01 * i:.2f}\t{word}\n" for i, word in enumerate([*WORDS, "<s>", "</s>", "<unk>"]))
    arpa = folder / "lm.arpa"
    arpa.write_text(f"\\data\\\nngram 1={len(WORDS) + 3}\n\n\\1-grams:\n{unigrams}\n\\end\\\n")
    ngram = NGram.from_arpa(arpa, lexicon.words)
    torch.manual_seed(3)
    model = AcousticModel(ModelConfig(num_layers=2, hidden_size=32)).eval().requires_grad_(False)
    model.mean.fill_(10.0)
    model.inverse_stddev.fill_(0.2)
    model.output.weight.mul_(24.0)
    tree = LexiconTree.build(lexicon, ngram.unigram_log_probs)
    decoder = Decoder(tree, ngram, DecoderOptions(beam=200, beam_threshold=30.0, token_threshold=-20.0))
    return Recognizer("tiny", _Gated(model.with_phases(phases)), lexicon, decoder)


class _Gated(AcousticModel):
    """Blank wherever the audio is quiet."""

    def __init__(self, model: AcousticModel) -> None:
        super().__init__(model.config)
        self.load_state_dict(model.state_dict())
        self.eval().requires_grad_(False)

    def forward(self, frames: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        log_probs, state = super().forward(frames, state)
        loud = frames.view(len(frames), -1, 3, 80).mean((2, 3)) > 14.0  # [B, output frames]
        blank = torch.full_like(log_probs, -20.0)
        blank[..., 0] = 0.0
        return torch.where(loud[..., None], log_probs, blank), state


def noise(seconds: float, seed: int) -> Samples:
    """Speech to the recognizer: a new colour every 100 ms, so that the network changes its mind."""
    rng, pieces = np.random.default_rng(seed), []
    for _ in range(math.ceil(10 * seconds)):
        width = int(rng.integers(1, 30))
        pieces.append(np.convolve(rng.standard_normal(1600), np.ones(width) / math.sqrt(width), "same"))
    return (0.2 * np.concatenate(pieces)[: int(16000 * seconds)]).astype(np.float32)


def steady(seconds: float, level: float = 0.2, seed: int = 0) -> Samples:
    """White noise, in which the network hears words too if it is loud."""
    return (level * np.random.default_rng(seed).standard_normal(int(16000 * seconds))).astype(np.float32)


def silence(seconds: float) -> Samples:
    """A quiet room."""
    return steady(seconds, level=1e-4)


SPEECH = np.concatenate((silence(0.7), noise(1.3, 1), silence(1.5), noise(0.9, 2), silence(1.2), noise(0.4, 3)))
SPEECH.flags.writeable = False  # all tests' own


def run(recognizer: Recognizer, samples: Samples, size: int, options: StreamOptions | None = None) -> list[Event]:
    """All events of a stream that is fed so many samples at a time."""
    stream = recognizer.stream(options)
    events = [e for first in range(0, len(samples), size) for e in stream.accept(samples[first : first + size])]
    return events + stream.finish()


def finals(events: list[Event]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def texts(events: list[Event]) -> list[str]:
    """Of the finals that have any."""
    return [final.text for final in finals(events) if final.text]


def check_committed(events: list[Event]) -> None:
    """Committed text only grows within an utterance, and its final begins with it."""
    committed: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, Partial):
            words = event.committed.split()
            before = committed.get(event.utterance, [])
            assert words[: len(before)] == before
            committed[event.utterance] = words
        elif isinstance(event, Final):
            before = committed.pop(event.utterance, [])
            assert event.text.split()[: len(before)] == before
