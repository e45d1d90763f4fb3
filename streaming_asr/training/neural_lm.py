"""Owns the ``train-neural-lm`` recipe: text and a lexicon in, the `neural_lm` that scores a search's words again out.

The words of the lexicon are cut into pieces (byte pair encoding, Sennrich et al. 2016, by `sentencepiece`), so that
those that the text lacks get a score too. The network reads windows of the text that begin as an utterance does, mostly
with a sentence, and go on over what follows. Beside the cross-entropy its loss has the square of the logarithm of the
sum over all pieces, so that at run time nothing has to be summed (Devlin et al. 2014).
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..errors import InputError
from ..files import remove_parts, replacing
from ..lexicon import Lexicon
from ..neural_lm import END, UNKNOWN, PieceLM, Spelling, read_neural_lm, save_neural_lm
from ..ngram import vocabulary_fingerprint
from .lm import encode, read_sentences
from .runs import bfloat16_where_fast, learning_rate, read_settings

logger = logging.getLogger(__name__)

REPORT_STEPS = 200
DEV_SENTENCES = 200  # in a batch
MAX_PIECES = 1 << 15  # a text is kept as pieces of 16 bits with a sign


@dataclass(frozen=True)
class NeuralLMConfig:
    """Everything that decides a run."""

    num_pieces: int = 8192
    embedding_size: int = 512
    hidden_size: int = 768
    num_layers: int = 2
    window: int = 80  # pieces
    batch_windows: int = 384
    sentence_starts: float = 0.75  # of windows begin with a sentence, the rest with any word
    steps: int = 20_000
    learning_rate: float = 1.5e-3
    final_learning_rate: float = 7.5e-6
    warmup_steps: int = 300
    gradient_clip: float = 1.0
    normalization: float = 0.03  # weight of the squared logarithm of the sum over all pieces
    seed: int = 1
    checkpoint_minutes: float = 4.0


def learn_spelling(words: Sequence[str], counts: Sequence[int], num_pieces: int) -> Spelling:
    """Pieces for ``words`` as often as they occur; each word's last piece says that the word ends.

    :raises InputError: `sentencepiece` is not installed, or the pieces are too many, at all or for the words.
    """
    if num_pieces > MAX_PIECES:
        raise InputError(f"num_pieces may be {MAX_PIECES} at most, not {num_pieces}")
    try:
        import sentencepiece
    except ImportError as error:
        raise InputError("cutting words into pieces needs sentencepiece: pip install sentencepiece") from error
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "words.tsv"
        table.write_text("".join(f"{word}\t{count + 1}\n" for word, count in zip(words, counts, strict=True)))
        try:
            sentencepiece.SentencePieceTrainer.train(
                input=str(table),
                input_format="tsv",
                model_prefix=str(Path(folder) / "pieces"),
                model_type="bpe",
                vocab_size=num_pieces,
                treat_whitespace_as_suffix=True,
                character_coverage=1.0,
                normalization_rule_name="identity",
                unk_id=UNKNOWN,
                eos_id=END,
                bos_id=-1,
                pad_id=-1,
                minloglevel=2,
            )
        except RuntimeError as error:
            raise InputError(f"{len(words)} words cannot be cut into {num_pieces} pieces: {error}") from error
        encoder = sentencepiece.SentencePieceProcessor(model_file=str(Path(folder) / "pieces.model"))
        pieces: list[list[int]] = encoder.encode(list(words))
    return Spelling(
        np.array([len(each) for each in pieces], np.uint8), np.array([p for each in pieces for p in each], np.uint16)
    )


def _spell(words: NDArray[np.int32], spelling: Spelling) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Words as `_read_words` gives them as pieces, and where among these each word begins."""
    length = np.append(spelling.length, (1, 1)).astype(np.int64)
    first = np.cumsum(length) - length
    pieces = np.append(spelling.pieces, (UNKNOWN, END)).astype(np.int16)
    size = length[words]
    begins: NDArray[np.int64] = np.cumsum(size) - size
    return pieces[np.arange(int(size.sum())) - np.repeat(begins, size) + np.repeat(first[words], size)], begins


class Text:
    """Text as pieces, an `END` after each sentence, and where in it windows may begin; on the device."""

    def __init__(self, words: NDArray[np.int32], spelling: Spelling, config: NeuralLMConfig, device: torch.device):
        """``words``: of the lexicon by number, W for any other, W + 1 at the end of a sentence."""
        spelled, begins = _spell(words, spelling)
        if len(spelled) <= config.window:
            raise InputError(f"the text has {len(spelled)} pieces, fewer than a window of {config.window}")
        self._config, self._device = config, device
        self.num_pieces = len(spelled)
        self._last = len(spelled) - config.window
        sentences = np.append(0, np.flatnonzero(spelled == END) + 1)
        self._pieces = torch.from_numpy(spelled).to(device)
        self._sentences = torch.from_numpy(sentences[sentences <= self._last]).to(device)
        self._words = torch.from_numpy(begins[begins <= self._last]).to(device)

    def windows(self, generator: torch.Generator) -> Tensor:
        """A batch, int64 [B, window]."""
        config = self._config
        place = torch.randint(self._last + 1, (config.batch_windows,), device=self._device, generator=generator)
        chance = torch.rand(config.batch_windows, device=self._device, generator=generator)
        sentence, word = (
            begins[torch.searchsorted(begins, place).clamp_max(len(begins) - 1)]
            for begins in (self._sentences, self._words)
        )
        start = torch.where(chance < config.sentence_starts, sentence, word)
        windows: Tensor = self._pieces[start[:, None] + torch.arange(config.window, device=self._device)].long()
        return windows


def _inputs(pieces: Tensor) -> Tensor:
    return torch.cat((torch.full_like(pieces[:, :1], END), pieces[:, :-1].clamp_min(0)), dim=1)


def _log_probs(network: PieceLM, pieces: Tensor) -> tuple[Tensor, Tensor]:
    """Log probabilities of pieces [B, T], 0 for padding (-1), and the logarithms of what they were divided by."""
    with bfloat16_where_fast(pieces.device.type):
        scores = network(_inputs(pieces))
    scores = scores.float()
    total = scores.logsumexp(dim=-1)
    chosen = scores.gather(-1, pieces.clamp_min(0)[..., None])[..., 0]
    return torch.where(pieces >= 0, chosen - total, 0.0), total


def perplexity(network: PieceLM, sentences: Sequence[NDArray[np.int16]], num_words: int) -> float:
    """Of sentences as pieces, each with its `END`, a word or end of a sentence; ``num_words`` is how many these are."""
    device = network.bias.device
    log_prob = 0.0
    order = sorted(sentences, key=len)
    with torch.inference_mode():
        for first in range(0, len(order), DEV_SENTENCES):
            batch = order[first : first + DEV_SENTENCES]
            pieces = np.full((len(batch), max(map(len, batch))), -1, np.int64)
            for row, sentence in zip(pieces, batch, strict=True):
                row[: len(sentence)] = sentence
            log_prob += float(_log_probs(network, torch.from_numpy(pieces).to(device))[0].sum())
    return math.exp(-log_prob / max(1, num_words))


def _read_words(paths: Sequence[Path], words: Sequence[str]) -> NDArray[np.int32]:
    """The text by number of word, W for those that are none of ``words``, W + 1 at the end of a sentence."""
    ids = {word: index for index, word in enumerate(words)}
    text = np.concatenate([encode(read_sentences(path), ids) for path in paths] or [np.zeros(0, np.int32)])
    return np.where(text < 0, len(words) + 1, np.minimum(text, len(words))).astype(np.int32)


def train_neural_lm(
    texts: Sequence[Path],
    lexicon: Path,
    held_out: Sequence[Path],
    output: Path,
    *,
    config: Path | None = None,
    init: Path | None = None,
) -> None:
    """Writes ``output`` at the end, and beside it a checkpoint every few minutes, from which the same call goes on.

    :param texts: plain text, any case and punctuation; one named twice counts twice.
    :param lexicon: the words that are to be scored, as `build_lm` wrote them.
    :param held_out: text for the perplexity that is logged; of words and ends of sentences.
    :param config: JSON with fields of `NeuralLMConfig`.
    :param init: such a file for the same lexicon, to go on from with other text: pieces and sizes are then its own.
    :raises InputError: a file cannot be read, or there is too little text, or ``init`` is for another lexicon.
    """
    settings = read_settings(config, NeuralLMConfig)
    try:
        words = Lexicon.from_file(lexicon).words
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot use {error.filename}: {error.strerror}") from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(settings.seed)
    generator = torch.Generator(device).manual_seed(settings.seed)
    text = _read_words(texts, words)
    vocabulary = vocabulary_fingerprint(words)
    if init is None:
        counts = np.bincount(text, minlength=len(words) + 2)[:-2].tolist()
        spelling, network = learn_spelling(words, counts, settings.num_pieces), _untrained(settings)
    else:
        network, spelling, known = read_neural_lm(init)
        if known != vocabulary:
            raise InputError(f"{init} scores other words than {lexicon} has")
    network = network.to(device)
    source = Text(text, spelling, settings, device)
    logger.info("%d words and ends of sentences, %d pieces", len(text), source.num_pieces)
    dev = _read_words(held_out, words)
    spelled, _ = _spell(dev, spelling)
    sentences = np.split(spelled, np.flatnonzero(spelled == END)[:-1] + 1)
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.98), weight_decay=0.0)
    checkpoint = output.with_suffix(".pt")
    step = 0
    remove_parts(checkpoint.parent, checkpoint.name)
    if checkpoint.exists():
        saved: dict[str, Any] = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
        logger.info("resumed at step %d", step)
    last_saved = time.monotonic()
    losses = torch.zeros((), device=device)
    while step < settings.steps:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step, step / settings.steps)
        generator.manual_seed((settings.seed << 32) + step)  # a resumed run reads what it would have read
        log_probs, total = _log_probs(network, source.windows(generator))
        optimizer.zero_grad()
        torch.autograd.backward(settings.normalization * (total**2).mean() - log_probs.mean())
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
        optimizer.step()
        losses -= log_probs.detach().mean()
        step += 1
        if step % REPORT_STEPS == 0 or step == settings.steps:
            found = perplexity(network, sentences, len(dev))
            row = {"step": step, "loss": float(losses) / ((step - 1) % REPORT_STEPS + 1), "dev_perplexity": found}
            logger.info("%s", json.dumps(row))
            losses.zero_()
        if time.monotonic() - last_saved > 60 * settings.checkpoint_minutes:
            state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            with replacing(checkpoint) as file:
                torch.save(state, file)
            last_saved = time.monotonic()
    save_neural_lm(output, network, spelling, vocabulary)


def _untrained(config: NeuralLMConfig) -> PieceLM:
    """Gates that keep what they hold at first: recurrent weights orthogonal, biases of the forget gates 1."""
    network = PieceLM(config.num_pieces, config.embedding_size, config.hidden_size, config.num_layers)
    nn.init.normal_(network.embedding.weight, std=0.1)
    for layer in range(config.num_layers):
        for gate in network.lstm.get_parameter(f"weight_hh_l{layer}").chunk(4):
            nn.init.orthogonal_(gate)
        for gate in network.lstm.get_parameter(f"weight_ih_l{layer}").chunk(4):
            nn.init.xavier_uniform_(gate)
        nn.init.zeros_(network.lstm.get_parameter(f"bias_hh_l{layer}"))
        nn.init.zeros_(network.lstm.get_parameter(f"bias_ih_l{layer}"))
        nn.init.ones_(network.lstm.get_parameter(f"bias_ih_l{layer}")[config.hidden_size : 2 * config.hidden_size])
    return network
