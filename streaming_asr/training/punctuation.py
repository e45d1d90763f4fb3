"""Owns the ``train-punctuation`` recipe: prose in, a `Punctuator` and its F1 scores out.

Prose is turned into what a recognizer would hear (`text.spell_out`), and its own marks and capitals are what is to be
guessed. It is cut as finals are: mostly where a sentence ends, sometimes in the middle of one.
"""

from __future__ import annotations

import copy
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..errors import InputError
from ..formatting.marks import MARKS, SENTENCE_MARKS
from ..formatting.punctuation import PunctuationNetwork, Punctuator
from .text import fold, spell_out

logger = logging.getLogger(__name__)

LONGEST_PIECE, SHORTEST_PIECE = 64, 4  # words; a final is seldom longer, and may be shorter
BROKEN_PIECES = 0.3  # the share that ends anywhere, not with a sentence
WORDS_A_STEP = 1024
PEAK_LEARNING_RATE = 3e-3
AVERAGED = 0.995  # weight of what came before in the average
WARM_UP_STEPS = 50
MAX_GRADIENT_NORM = 1.0
REPORTS = 10  # scores and a saved file so often
QUICK_WORDS = 10_000  # held-out words that all reports but the last are about
MIN_WORDS = 1000
BALANCING_SHARE, BALANCING_WORDS = 0.02, 50_000  # of the text, left out of training; at most so many
BALANCING_ROUNDS, BALANCING_RATE = 100, 0.3

SHORTEST_PROSE_LINE = 45  # characters; verse has shorter ones
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_DASH = re.compile(r"\s*(?:—|–|--+)\s*")
_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
_ENDS_SENTENCE = re.compile(r"[.?!][^A-Za-z0-9]*$")
_MARK = re.compile(r"[.?!,;:]")
_QUOTE = re.compile("[\"'`]")
# What stands between clauses that could be sentences is a full stop: words alone do not tell them apart, and what is
# dictated is not written in semicolons.
_WRITTEN_AS = {";": ".", ":": ",", "!": "."}
_BEFORE_LOWER_CASE = {".": "", "!": ","}  # an abbreviation; "Stop!" he said
_SPELLED_TITLES = {"mister", "missus", "doctor", "messieurs", "madame", "mademoiselle", "captain", "lieutenant",
                   "professor", "reverend", "saint"}  # fmt: skip


@dataclass(frozen=True)
class Prose:
    """Words as they are heard, with what is to be guessed of each."""

    words: list[str]
    marks: NDArray[np.int8]  # [N], after each word: index into `MARKS`
    capitals: NDArray[np.bool_]  # [N]

    def part(self, start: int, end: int) -> Prose:
        """The words from ``start`` to before ``end``."""
        return Prose(self.words[start:end], self.marks[start:end], self.capitals[start:end])


def read_prose(text: str) -> Prose:
    """The prose of ``text``: without headings, verse, and paragraphs that end in no sentence.

    Speech within a sentence (`He said, "Here it is."`) begins in lower case, since it gets no quotation marks; names,
    which ``text`` never has in lower case, keep their capitals.
    """
    words: list[str] = []
    marks: list[int] = []
    cases: list[_Case] = []
    for paragraph in _PARAGRAPH.split(text.replace("\r", "")):
        for word, mark, case in _paragraph(paragraph):
            words.append(word)
            marks.append(mark)
            cases.append(case)
    common = {word for word, case in zip(words, cases, strict=True) if case is _Case.LOWER}
    capitals = [
        case is _Case.UPPER or (case is _Case.SPEECH and word not in common)
        for word, case in zip(words, cases, strict=True)
    ]
    return Prose(words, np.array(marks, np.int8), np.array(capitals, np.bool_))


def read_texts(paths: Iterable[Path]) -> Prose:
    """The prose of all files, one after another. Raises `InputError`, naming the file that cannot be read."""
    words: list[str] = []
    marks, capitals = [np.zeros(0, np.int8)], [np.zeros(0, np.bool_)]
    for path in paths:
        try:
            part = read_prose(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {path}: {error}") from error
        words += part.words
        marks.append(part.marks)
        capitals.append(part.capitals)
    return Prose(words, np.concatenate(marks), np.concatenate(capitals))


class _Case(Enum):
    LOWER = auto()
    UPPER = auto()
    SPEECH = auto()  # a capital that may be there only because speech begins


def _paragraph(paragraph: str) -> Iterator[tuple[str, int, _Case]]:
    lines = paragraph.strip().split("\n")
    is_verse = len(lines) > 1 and sum(map(len, lines[:-1])) / (len(lines) - 1) < SHORTEST_PROSE_LINE
    if is_verse or not _ENDS_SENTENCE.search(lines[-1]) or sum(map(str.isupper, paragraph)) > len(paragraph) / 4:
        return
    spelled = spell_out(fold(_DASH.sub(", ", " ".join(lines))))
    found = list(_WORD.finditer(spelled))
    before, begins_sentence = "", True
    for match, following in zip_longest(found, found[1:]):
        gap = spelled[match.end() : following.start() if following else len(spelled)]
        mark = (_MARK.search(gap) or [""])[0]
        if following and following[0].islower():
            mark = _BEFORE_LOWER_CASE.get(mark, mark)
        mark = _WRITTEN_AS.get(mark, mark)
        word = match[0]
        is_title = word in _SPELLED_TITLES and following is not None and following[0][0].isupper()
        if begins_sentence or is_title or (word[0].isupper() and not _QUOTE.search(before)):
            case = _Case.UPPER
        else:
            case = _Case.SPEECH if word[0].isupper() else _Case.LOWER
        yield word.lower(), MARKS.index(mark), case
        before, begins_sentence = gap, mark in SENTENCE_MARKS


def cut(marks: NDArray[np.int8], rng: np.random.Generator) -> list[tuple[int, int]]:
    """Spans of all the words, each as long as a final might be."""
    spans = []
    sentence_ends = np.flatnonzero(np.isin(marks, [MARKS.index(mark) for mark in SENTENCE_MARKS])) + 1
    start = 0
    while start < len(marks):
        end = start + int(rng.integers(SHORTEST_PIECE, LONGEST_PIECE + 1))
        if rng.random() >= BROKEN_PIECES:
            near = sentence_ends[np.searchsorted(sentence_ends, start + 1) : np.searchsorted(sentence_ends, end + 1)]
            if len(near):
                end = int(near[-1])
        end = min(end, len(marks))
        spans.append((start, end))
        start = end
    return spans


@dataclass(frozen=True)
class Score:
    """How often something was guessed, guessed rightly, and there to be guessed."""

    guessed: int
    right: int
    there: int

    @property
    def precision(self) -> float:
        """The share of guesses that are right, 0 to 1."""
        return self.right / max(1, self.guessed)

    @property
    def recall(self) -> float:
        """The share of what is there that is guessed, 0 to 1."""
        return self.right / max(1, self.there)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall, 0 to 1."""
        return 2 * self.right / max(1, self.guessed + self.there)


def evaluate(punctuator: Punctuator, prose: Prose, seed: int = 1) -> dict[str, Score]:
    """Scores for each mark and for capitals, over ``prose`` in pieces as finals are.

    Those of marks "inside" leave out the end of each piece, which is the easiest. The first word's capital, which
    is not guessed from the words, is always left out.
    """
    pairs: Counter[tuple[str, str]] = Counter()  # (guessed, there)
    for start, end in cut(prose.marks, np.random.default_rng(seed)):
        marks, capitals = punctuator.punctuate(prose.words[start:end])
        guesses = list(zip(marks, [MARKS[mark] for mark in prose.marks[start:end]], strict=True))
        pairs.update(guesses)
        pairs.update((f"inside {guessed}", f"inside {there}") for guessed, there in guesses[:-1])
        cases = zip(capitals[1:], prose.capitals[start + 1 : end], strict=True)
        pairs.update((f"capitals {guessed}", f"capitals {bool(there)}") for guessed, there in cases)
    names = {mark: mark for mark in MARKS[1:]} | {"capitals True": "capitals"}
    names |= {f"inside {mark}": f"inside {mark}" for mark in MARKS[1:]}
    return {
        name: Score(
            sum(count for (guessed, _), count in pairs.items() if guessed == key),
            pairs[key, key],
            sum(count for (_, there), count in pairs.items() if there == key),
        )
        for key, name in names.items()
    }


def train_punctuation(
    texts: Sequence[Path],
    held_out: Sequence[Path],
    output: Path,
    *,
    num_words: int = 16_000,
    max_words: int = 8_000_000,
    init: Path | None = None,
    seed: int = 1,
) -> None:
    """Reads each word once, at most ``max_words`` of them; writes ``output`` and logs scores ten times.

    What is written is an exponential average of the weights, so that a run can be ended at any time; at its end they
    are balanced.

    :param texts: prose with its marks and capitals, paragraphs apart by blank lines.
    :param held_out: prose to be scored on.
    :param num_words: the most frequent ones, known each by itself; as ``init`` has them if that is given.
    :param init: a punctuator to start from.
    :raises InputError: a file cannot be read, or the text holds too little prose.
    :raises ModelError: ``init`` is no punctuator.
    """
    prose, dev = read_texts(texts), read_texts(held_out)
    if min(len(prose.words), len(dev.words)) < MIN_WORDS:
        raise InputError(f"training and held-out texts need {MIN_WORDS} words of prose each")
    logger.info("%d words of prose, %d held out", len(prose.words), len(dev.words))
    last = len(prose.words) - min(BALANCING_WORDS, int(BALANCING_SHARE * len(prose.words)))
    prose, balancing = prose.part(0, last), prose.part(last, len(prose.words))
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    punctuator = _untrained(prose, num_words) if init is None else Punctuator.load(init)
    features = punctuator.features(prose.words)
    targets = np.stack((prose.marks, prose.capitals))
    batches = _batches(cut(prose.marks, rng), rng)[: max(1, max_words // WORDS_A_STEP)]
    network, average = copy.deepcopy(punctuator.network).requires_grad_(True).train(), punctuator.network
    optimizer = torch.optim.Adam(network.parameters(), PEAK_LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        PEAK_LEARNING_RATE,
        len(batches) + 1,
        pct_start=min(0.3, WARM_UP_STEPS / len(batches)),
        cycle_momentum=False,
    )
    losses = 0.0
    for step, batch in enumerate(batches, 1):
        words, endings = torch.from_numpy(features[:, batch])  # [B, N] each
        marks, capitals = torch.from_numpy(targets[:, batch]).long()
        loss = _loss(network(words, endings), marks, capitals)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        schedule.step()
        _move_average(average, network, min(AVERAGED, step / (step + 10)))
        losses += loss.item()
        if step * REPORTS // len(batches) > (step - 1) * REPORTS // len(batches):
            punctuator.save(output)
            logger.info("step %d of %d, loss %.4f", step, len(batches), losses / step)
            _report(Punctuator.load(output), dev.part(0, QUICK_WORDS))
    balance(punctuator, balancing)
    punctuator.save(output)
    _report(Punctuator.load(output), dev)


def balance(punctuator: Punctuator, prose: Prose, seed: int = 2) -> None:
    """Changes the bias of each mark until it is guessed as often as it is there in ``prose``.

    What is rare is guessed too rarely by who always picks the likeliest; equal numbers make precision equal recall.
    """
    features = punctuator.features(prose.words)
    there = np.bincount(prose.marks, minlength=len(MARKS))
    with torch.no_grad():
        batches = _batches(cut(prose.marks, np.random.default_rng(seed)), np.random.default_rng(seed))
        scores = torch.cat(
            [punctuator.network(*torch.from_numpy(features[:, batch]))[0].flatten(0, 1) for batch in batches]
        ).numpy()  # [N, 4]
        bias = np.zeros(len(MARKS), np.float32)
        for _ in range(BALANCING_ROUNDS):
            guessed = np.bincount((scores + bias).argmax(1), minlength=len(MARKS))
            bias += BALANCING_RATE * np.log((there + 1) / (guessed + 1))
        punctuator.network.out.bias[: len(MARKS)] += torch.from_numpy(bias)


def _untrained(prose: Prose, num_words: int) -> Punctuator:
    frequent = sorted(Counter(prose.words).items(), key=lambda item: (-item[1], item[0]))[:num_words]
    return Punctuator([word for word, _ in frequent], PunctuationNetwork(len(frequent)))


def _move_average(average: nn.Module, network: nn.Module, weight: float) -> None:
    with torch.no_grad():
        for before, now in zip(average.parameters(), network.parameters(), strict=True):
            before.lerp_(now, 1 - weight)


def _report(punctuator: Punctuator, dev: Prose) -> None:
    scores = evaluate(punctuator, dev).items()
    logger.info("F1 on %d words: %s", len(dev.words), "; ".join(f"{name} {score.f1:.3f}" for name, score in scores))


def _loss(scores: tuple[Tensor, Tensor], marks: Tensor, capitals: Tensor) -> Tensor:
    return cross_entropy(scores[0].flatten(0, 1), marks.flatten()) + cross_entropy(
        scores[1].flatten(0, 1), capitals.flatten()
    )


def _batches(spans: Sequence[tuple[int, int]], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Indices [B, N] of pieces of one length each, so that nothing is padded; in random order."""
    starts: dict[int, list[int]] = {}
    for index in rng.permutation(len(spans)).tolist():
        start, end = spans[index]
        starts.setdefault(end - start, []).append(start)
    batches = []
    for length, of_length in starts.items():
        size = max(1, WORDS_A_STEP // length)
        for first in range(0, len(of_length), size):
            batches.append(np.array(of_length[first : first + size])[:, None] + np.arange(length))
    return [batches[index] for index in rng.permutation(len(batches)).tolist()]
