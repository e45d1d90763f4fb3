"""Owns the neural language model: an LSTM over pieces of words, its file, and how it scores words that a search found.

Its state after some words is one row of numbers, which the caller keeps. A word is scored from the row of the words
before it, and gives a row of its own; the LSTM reads the word's last piece only when that row is first scored from, so
that words that nothing follows cost no step. Scores are the network's own outputs: it was trained so that they are log
probabilities but for a small error (Devlin et al. 2014), and nothing has to be summed over the vocabulary.

A row may go on from one utterance to the next: `remember` writes it down, with the end of the sentence read.

Knows neither streams nor beams: see `rescoring` for what is scored.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor, nn

from .compiled import njit_cached
from .errors import ModelError
from .network import RECORDED_ROWS, Precision, best_precision, product, recorded
from .tensor_file import read_tensors

FORMAT, VERSION = "streaming_asr.neural_lm", "1"
UNKNOWN, END = 0, 1  # pieces: a word of no vocabulary; the end of a sentence, from which every utterance starts
NO_PIECE = -1
LEVELS = 127  # of weights in the file, on either side of 0, with a scale for each row
MAX_WEIGHT = 1e6  # of a scale or a bias; what is larger, or not finite, is no network's

Rows = NDArray[np.float16]


class _Embedding(nn.Embedding):
    def reset_parameters(self) -> None:
        # Not the normal distribution: on "meta", where `load` makes the network, torch would import sympy for that.
        nn.init.uniform_(self.weight, -0.1, 0.1)


class PieceLM(nn.Module):
    """The network as it is trained: pieces to the scores of the piece after each; P pieces, E dimensions, H units."""

    def __init__(self, num_pieces: int, embedding_size: int = 512, hidden_size: int = 768, num_layers: int = 2) -> None:
        super().__init__()
        self.embedding = _Embedding(num_pieces, embedding_size)  # of the outputs too
        self.lstm = nn.LSTM(embedding_size, hidden_size, num_layers, batch_first=True)
        self.projection = nn.Linear(hidden_size, embedding_size)
        self.bias = nn.Parameter(torch.zeros(num_pieces))

    def forward(self, pieces: Tensor) -> Tensor:
        """int64 [B, T], to scores [B, T, P]; a sentence's first input is `END`."""
        hidden: Tensor = self.lstm(self.embedding(pieces))[0]
        return nn.functional.linear(self.projection(hidden), self.embedding.weight, self.bias)


class Spelling(NamedTuple):
    """The pieces of each word of a vocabulary of W words, one word after the other."""

    length: NDArray[np.uint8]  # [W], 1 or more
    pieces: NDArray[np.uint16]  # [their sum]


def save_neural_lm(path: Path, network: PieceLM, spelling: Spelling, vocabulary: str) -> None:
    """Writes what `NeuralLM.load` reads; ``vocabulary`` is its `vocabulary_fingerprint`."""
    tensors: dict[str, NDArray[Any]] = {"length": spelling.length, "pieces": spelling.pieces}
    for name, parameter in network.state_dict().items():
        values = parameter.float().cpu().numpy()
        if values.ndim == 1:
            tensors[name] = values
        else:
            scale = np.maximum(np.abs(values).max(axis=1), 1e-9) / LEVELS
            tensors[name] = np.round(values / scale[:, None]).astype(np.int8)
            tensors[f"{name}.scale"] = scale.astype(np.float32)
    save_file(tensors, path, {"format": FORMAT, "version": VERSION, "vocabulary": vocabulary})


def read_neural_lm(path: Path) -> tuple[PieceLM, Spelling, str]:
    """The arguments of `save_neural_lm`, from its file; weights as they were rounded.

    :raises ModelError: naming the file, which is no such thing.
    """
    metadata, tensors = read_tensors(path, FORMAT, VERSION)
    try:
        spelling = Spelling(tensors.pop("length"), tensors.pop("pieces"))
        weights = {
            name: torch.from_numpy(
                values * tensors[f"{name}.scale"][:, None] if values.dtype == np.int8 else values
            ).float()
            for name, values in tensors.items()
            if not name.endswith(".scale")
        }
        num_pieces, embedding_size = weights["embedding.weight"].shape
        hidden_size = weights["projection.weight"].shape[1]
        num_layers = sum(name.startswith("lstm.weight_hh") for name in weights)
        with torch.device("meta"):  # draws no numbers that are then overwritten
            network = PieceLM(num_pieces, embedding_size, hidden_size, num_layers)
        network.load_state_dict(weights, assign=True)
    except (KeyError, RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ModelError(f"{path}: not a neural language model: {error}") from error
    fits = (
        spelling.length.dtype == np.uint8
        and spelling.pieces.dtype == np.uint16
        and spelling.length.min(initial=1) > 0
        and int(spelling.length.sum()) == len(spelling.pieces)
        and int(spelling.pieces.max(initial=0)) < num_pieces
        and all(bool((np.abs(v) < MAX_WEIGHT).all()) for v in tensors.values() if v.dtype != np.int8)
    )
    if not fits:
        raise ModelError(f"{path}: a piece of a word, or a weight, is out of range")
    return network, spelling, metadata.get("vocabulary", "")


class NeuralLM:
    """The network as it is served. Shared by all callers; rows are theirs.

    A row is float16 [R]: the hidden units and the cells of each layer.
    """

    def __init__(self, network: PieceLM, spelling: Spelling, vocabulary: str = "", precision: Precision | None = None):
        """``precision``: of its products; what suits the processor if None."""
        self.vocabulary = vocabulary
        self.num_words = len(spelling.length)
        self._length = np.append(spelling.length, 1).astype(np.int64)  # word W: one that has no spelling
        self._first: NDArray[np.int64] = np.cumsum(self._length) - self._length
        self._pieces = np.append(spelling.pieces, UNKNOWN).astype(np.int64)
        table = network.embedding.weight.detach().float()
        self._scale = (table.abs().amax(dim=1).clamp_min(1e-9) / LEVELS).numpy()
        self._table = np.round(table.numpy() / self._scale[:, None]).astype(np.int8)
        self._bias = network.bias.detach().float().numpy()
        precision = precision or best_precision()
        hidden, layers = network.lstm.hidden_size, network.lstm.num_layers
        self.row_size = 2 * layers * hidden
        rows = torch.zeros(RECORDED_ROWS, self.row_size, dtype=torch.float16)
        pieces = torch.zeros(RECORDED_ROWS, dtype=torch.long)
        table, scale = torch.from_numpy(self._table), torch.from_numpy(self._scale)
        self._step = recorded(_Step(network, table, scale, precision), pieces, rows)
        self._outlook = recorded(_Outlook(network, precision), rows)
        self.start_row = self._read(np.array([END]), np.zeros((1, self.row_size), np.float16))[0]
        self._mark = zlib.crc32(self.start_row.tobytes()).to_bytes(4, "big")  # tells networks apart

    @classmethod
    def load(cls, path: Path, precision: Precision | None = None) -> NeuralLM:
        """Reads what `save_neural_lm` wrote. Raises `ModelError`, naming the file, when it is no such thing."""
        network, spelling, vocabulary = read_neural_lm(path)
        return cls(network, spelling, vocabulary, precision)

    def settle(self, rows: Rows, pending: NDArray[np.int32]) -> None:
        """Brings rows [N, R] up to date with their last piece, where one is pending; changes both in place."""
        late = np.flatnonzero(pending != NO_PIECE)
        if len(late):
            rows[late] = self._read(pending[late].astype(np.int64), rows[late])
            pending[late] = NO_PIECE

    def score(
        self, rows: Rows, words: NDArray[np.int64], before: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], Rows, NDArray[np.int32]]:
        """Natural log probabilities of ``words`` [N], each after the settled row ``before`` [N] of ``rows``.

        With them a row for each word, and the piece that is pending there. A word from W on is unknown, and scored so.
        """
        words = np.minimum(words, self.num_words)
        first, length = self._first[words], self._length[words]
        pending = self._pieces[first]
        outlook = self._look_out(rows)
        scores = self._logits(outlook, before, pending)
        after = rows[before]
        for at in range(1, int(length.max(initial=0))):
            longer = np.flatnonzero(length > at)
            after[longer] = self._read(pending[longer], after[longer])
            pending[longer] = self._pieces[first[longer] + at]
            scores[longer] += self._logits(self._look_out(after[longer]), np.arange(len(longer)), pending[longer])
        return scores, after, pending.astype(np.int32)

    def remember(self, row: NDArray[np.float16], pending: int, words: Sequence[int]) -> bytes:
        """``row`` [R], its last piece, ``words`` after it and their sentence's end, for `recall` to go on from."""
        pieces = [] if pending == NO_PIECE else [pending]
        for word in words:
            known = min(word, self.num_words)
            first = self._first[known]
            pieces += self._pieces[first : first + self._length[known]].tolist()
        for piece in [*pieces, END]:
            row = self._read(np.array([piece]), row[None])[0]
        return self._mark + row.tobytes()

    def recall(self, context: bytes) -> NDArray[np.float16]:
        """The row [R] that an utterance starts from; of another network's ``context``, as if there were none."""
        start: NDArray[np.float16] = self.start_row
        if len(context) != len(self._mark) + start.nbytes or not context.startswith(self._mark):
            return start
        row = np.frombuffer(context, np.float16, offset=len(self._mark)).copy()
        return row if np.isfinite(row).all() else start

    def _read(self, pieces: NDArray[np.int64], rows: Rows) -> Rows:
        with torch.inference_mode():
            after: Rows = self._step(torch.from_numpy(pieces), torch.from_numpy(rows)).numpy()
        return after

    def _look_out(self, rows: Rows) -> NDArray[np.float32]:
        with torch.inference_mode():
            outlook: NDArray[np.float32] = self._outlook(torch.from_numpy(rows)).numpy()
        return outlook

    def _logits(
        self, outlook: NDArray[np.float32], at: NDArray[np.int64], pieces: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        logits = np.empty(len(pieces), np.float32)
        _dot(outlook, at, pieces, self._table, self._scale, self._bias, logits)
        return logits


@njit_cached()
def _dot(outlook: Any, at: Any, pieces: Any, table: Any, scale: Any, bias: Any, logits: Any) -> None:
    """Each sum in the same order whatever else is asked for: nobody's numbers depend on who else is served."""
    for n in range(pieces.shape[0]):
        piece = pieces[n]
        total = np.float32(0.0)
        for d in range(outlook.shape[1]):
            total += outlook[at[n], d] * np.float32(table[piece, d])
        logits[n] = total * scale[piece] + bias[piece]


class _Step(nn.Module):
    """One piece after each row: int64 [N], float16 [N, R], to float16 [N, R]."""

    _table: Tensor
    _scale: Tensor

    def __init__(self, network: PieceLM, table: Tensor, scale: Tensor, precision: Precision) -> None:
        super().__init__()
        lstm = network.lstm
        self.register_buffer("_table", table)
        self.register_buffer("_scale", scale)
        self._num_layers = lstm.num_layers
        reach = float((table.abs().amax(dim=1) * scale).max())  # the first inputs; all others are within -1..1
        self._inputs, self._recurrent = nn.ModuleList(), nn.ModuleList()
        for layer in range(lstm.num_layers):
            inputs, recurrent = lstm.get_parameter(f"weight_ih_l{layer}"), lstm.get_parameter(f"weight_hh_l{layer}")
            bias = lstm.get_parameter(f"bias_ih_l{layer}") + lstm.get_parameter(f"bias_hh_l{layer}")
            self._inputs.append(product(inputs, bias, precision, 1.0 if layer else reach))
            self._recurrent.append(product(recurrent, torch.zeros_like(bias), precision, 1.0))

    def forward(self, pieces: Tensor, rows: Tensor) -> Tensor:
        x = self._table[pieces].float() * self._scale[pieces, None]
        parts = rows.float().chunk(2 * self._num_layers, dim=1)
        after = []
        for layer in range(self._num_layers):
            hidden, cell = parts[2 * layer], parts[2 * layer + 1]
            gates = self._inputs[layer](x) + self._recurrent[layer](hidden)
            accept, forget, new, emit = gates.chunk(4, dim=1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(accept) * torch.tanh(new)
            x = torch.sigmoid(emit) * torch.tanh(cell)
            after += [x, cell]
        return torch.cat(after, dim=1).half()


class _Outlook(nn.Module):
    """What each row expects, float16 [N, R] to float32 [N, E]: a piece's score is its product with the embedding."""

    def __init__(self, network: PieceLM, precision: Precision) -> None:
        super().__init__()
        size = network.lstm.hidden_size
        self._from = (2 * network.lstm.num_layers - 2) * size
        self._to = self._from + size
        self._projection = product(network.projection.weight, network.projection.bias, precision, 1.0)

    def forward(self, rows: Tensor) -> Tensor:
        y: Tensor = self._projection(rows[:, self._from : self._to].float())
        return y
