"""Owns the network that hears no pauses and yet knows where marks and capitals belong, and its file.

A bidirectional LSTM over the words of one utterance; for each word the mark after it and whether it is capitalized. A
word is known by itself, if it is frequent, and by its last letters. Knows nothing of numbers or of training.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn

from ..errors import ModelError
from ..tensor_file import read_tensors
from .marks import MARKS, SENTENCE_MARKS

FORMAT = "streaming_asr.punctuation"
VERSION = "1"
NUM_ENDINGS = 2048
ENDING_LETTERS = 3
WORDS_AT_ONCE = 16  # words are read at a multiple of so many: oneDNN keeps code for each length that it ever met
EMBEDDING_DEVIATION = 0.1  # before training: small, so that what is rarely seen says little
_LARGEST_CODE = 127  # of 8 bits with a sign


class PunctuationNetwork(nn.Module):
    """Word and ending ids [B, N] to scores of marks [B, N, 4] and of a capital [B, N, 2]."""

    def __init__(self, num_words: int, embedding_size: int = 64, hidden_size: int = 128, num_layers: int = 2) -> None:
        """``num_words`` without the one that stands for all others, which has the last id."""
        super().__init__()
        self.word = nn.Embedding(num_words + 1, embedding_size)
        self.ending = nn.Embedding(NUM_ENDINGS, embedding_size)
        for table in (self.word, self.ending):
            nn.init.normal_(table.weight, std=EMBEDDING_DEVIATION)
        self.lstm = nn.LSTM(embedding_size, hidden_size, num_layers, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * hidden_size, len(MARKS) + 2)

    def forward(self, words: Tensor, endings: Tensor) -> tuple[Tensor, Tensor]:
        """Scores are natural logarithms up to a constant for each word."""
        inputs = self.word(words) + self.ending(endings)
        scores = self.out(self.lstm(inputs)[0] if self.training else _read(self.lstm, inputs))
        return scores[..., : len(MARKS)], scores[..., len(MARKS) :]


def _read(lstm: nn.LSTM, inputs: Tensor) -> Tensor:
    """The outputs of a bidirectional LSTM for [B, N, E]; each direction's inputs are filled up at its end."""
    for layer in range(lstm.num_layers):
        ahead = _read_one_way(lstm, f"l{layer}", inputs)
        back = _read_one_way(lstm, f"l{layer}_reverse", inputs.flip(1)).flip(1)
        inputs = torch.cat((ahead, back), dim=-1)
    return inputs


def _read_one_way(lstm: nn.LSTM, direction: str, inputs: Tensor) -> Tensor:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights: list[Tensor] = [lstm.get_parameter(f"{name}_{direction}") for name in names]
    start = inputs.new_zeros(1, len(inputs), lstm.hidden_size)
    num_words = inputs.shape[1]
    filled = nn.functional.pad(inputs, (0, 0, 0, -num_words % WORDS_AT_ONCE))
    outputs: Tensor = torch.lstm(filled, (start, start), weights, True, 1, 0.0, False, False, True)[0]
    return outputs[:, :num_words]


class Punctuator:
    """The network with its vocabulary; never changes once made, so any thread may use it."""

    def __init__(self, words: Sequence[str], network: PunctuationNetwork) -> None:
        self.words = list(words)
        self.network = network.eval()
        self._word_id = {word: index for index, word in enumerate(self.words)}

    def features(self, words: Sequence[str]) -> NDArray[np.int32]:
        """Ids of words and of their endings, int32 [2, N]."""
        other = len(self.words)
        ids = [self._word_id.get(word, other) for word in words]
        endings = [zlib.crc32(word[-ENDING_LETTERS:].encode()) % NUM_ENDINGS for word in words]
        return np.array([ids, endings], np.int32).reshape(2, len(words))

    def punctuate(self, words: Sequence[str], before: Sequence[str] = ()) -> tuple[list[str], list[bool]]:
        """For each of the utterance's words the mark after it, one of `MARKS`, and whether it is capitalized.

        A word after a full stop or a question mark always is. ``before``: words that the first sentence began with.
        """
        if not words:
            return [], []
        with torch.inference_mode():
            ids, endings = torch.from_numpy(self.features([*before, *words])).unsqueeze(1)
            mark_scores, case_scores = (scores[0, len(before) :] for scores in self.network(ids, endings))
            marks = [MARKS[index] for index in mark_scores.argmax(-1).tolist()]
            capitals = [bool(index) for index in case_scores.argmax(-1).tolist()]
        begins = [False, *(mark in SENTENCE_MARKS for mark in marks[:-1])]
        return marks, [capital or begin for capital, begin in zip(capitals, begins, strict=True)]

    def save(self, path: str | Path) -> None:
        """Writes one safetensors file: tables in 8 bits with a scale for each row, biases in float32."""
        tensors: dict[str, NDArray[np.int8] | NDArray[np.float32]] = {}
        for name, tensor in self.network.state_dict().items():
            table = tensor.detach().numpy().astype(np.float32)
            if table.ndim == 1:
                tensors[name] = table
                continue
            scale = np.maximum(np.abs(table).max(1), 1e-8) / _LARGEST_CODE
            tensors[name] = np.rint(table / scale[:, None]).astype(np.int8)
            tensors[f"{name}.scale"] = scale.astype(np.float32)
        lstm = self.network.lstm
        metadata = {
            "format": FORMAT,
            "version": VERSION,
            "sizes": json.dumps([lstm.input_size, lstm.hidden_size, lstm.num_layers]),
            "words": " ".join(self.words),
        }
        save_file(tensors, path, metadata)

    @classmethod
    def load(cls, path: str | Path) -> Punctuator:
        """Reads what `save` wrote.

        :raises ModelError: the file is absent, not of this format and version, or inconsistent.
        """
        metadata, tensors = read_tensors(path, FORMAT, VERSION)
        try:
            words = metadata["words"].split()
            embedding_size, hidden_size, num_layers = json.loads(metadata["sizes"])
            network = PunctuationNetwork(len(words), embedding_size, hidden_size, num_layers)
            state: dict[str, Tensor] = {}
            for name, table in tensors.items():
                if name.endswith(".scale"):
                    continue
                values = table.astype(np.float32)
                if values.ndim == 2:
                    values *= tensors[f"{name}.scale"].reshape(len(values), 1)
                if not np.isfinite(values).all():
                    raise ValueError(f"{name} is not finite")
                state[name] = torch.from_numpy(values)
            network.load_state_dict(state, assign=True)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(f"{path}: cannot read the punctuation model: {error}") from error
        if len(set(words)) != len(words):
            raise ModelError(f"{path}: the punctuation model names a word twice")
        return cls(words, network.requires_grad_(False))
