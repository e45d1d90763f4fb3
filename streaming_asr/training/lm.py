"""Owns the ``build-lm`` recipe: text and a pronunciation dictionary in; vocabulary, lexicon and language model out.

The parts know the how: `text` what is spoken, `lexicon` and `g2p` how words sound, `ngram` what follows what. Nothing
outside this package is called.
"""

from __future__ import annotations

import logging
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..ngram import MAX_ORDER, SPECIAL_WORDS, NGram
from . import ngram
from .g2p import train_g2p
from .lexicon import Pronunciation, Pronunciations, lexicon_lines, parse_cmudict
from .text import sentences

logger = logging.getLogger(__name__)

BLOCK_CHARACTERS = 1 << 22
SECOND_GUESS_NATS = 0.7  # a second guessed pronunciation only where it is half as likely as the first
MIN_WORDS_FOR_G2P = 1000  # a smaller dictionary teaches no spelling rules
WORD_BYTES = (2, 3)  # in the packed file: up to 65,536 words, and beyond
CODE_BYTES = 1  # a log probability, or a back-off weight
CHILD_BYTES = 4


def is_one_sentence_a_line(sample: str) -> bool:
    """Whether text is a list of sentences (no blank line between them) rather than prose in paragraphs."""
    return "\n\n" not in sample.replace("\r", "").strip()


def read_sentences(path: Path) -> Iterator[list[str]]:
    """The sentences of a text file in spoken form, some thousands at a time.

    Prose has blank lines between its paragraphs; a file without any is one sentence a line. UTF-8; bytes that are not
    are read as Windows-1252, as old e-texts need.

    :raises InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            rest = b""
            listed: bool | None = None
            while block := file.read(BLOCK_CHARACTERS):
                block = (rest + block).replace(b"\r\n", b"\n")
                if listed is None:
                    listed = is_one_sentence_a_line(_decode(block))
                cut = block.rfind(b"\n" if listed else b"\n\n")
                rest = b"" if cut < 0 else block[cut + 1 :]
                yield _spoken_block(block if cut < 0 else block[: cut + 1], listed)
            yield _spoken_block(rest, bool(listed))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _decode(block: bytes) -> str:
    try:
        return block.decode("utf-8")
    except UnicodeDecodeError:
        return block.decode("cp1252", "replace")


def _spoken_block(block: bytes, listed: bool) -> list[str]:
    text = _decode(block)
    return sentences(text.replace("\n", "\n\n") if listed else text)


def encode(sentence_blocks: Iterator[list[str]], ids: dict[str, int]) -> NDArray[np.int32]:
    """Word ids with -1 after each sentence; words not in ``ids`` are added to it."""
    parts = []
    for block in sentence_blocks:
        tokens = array("i")
        for sentence in block:
            tokens.extend([ids.setdefault(word, len(ids)) for word in sentence.split()])
            tokens.append(-1)
        parts.append(np.array(tokens, np.int32))
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def choose_words(
    counts: Mapping[str, int], known: Mapping[str, Sequence[Pronunciation]], *, max_words: int, min_count: int
) -> list[str]:
    """The vocabulary, most frequent first: text words seen ``min_count`` times, then the dictionary's other words.

    Words of the dictionary need to be seen but once, and those without "'s" not at all: names and modern words are
    rare in old books.
    """
    seen = [word for word, count in counts.items() if count >= (1 if word in known else min_count)]
    seen.sort(key=lambda word: (-counts[word], word))
    unseen = sorted(word for word in known if not counts.get(word) and not word.endswith("'s"))
    return (seen + unseen)[:max_words]


def packed_bytes(num_words: int) -> Sequence[int]:
    """Bytes of (an inner, a highest-order) n-gram in `NGram`'s file for a vocabulary of ``num_words``."""
    word = WORD_BYTES[num_words + len(SPECIAL_WORDS) > 1 << 16]
    return word + 2 * CODE_BYTES + CHILD_BYTES, word + CODE_BYTES


def build_lm(
    text_files: Sequence[Path],
    pronunciations: Path,
    output: Path,
    *,
    order: int = 3,
    max_words: int = 200_000,
    min_word_count: int = 5,
    min_counts: Sequence[int] = (1, 1, 2, 2, 2),
    max_bytes: int = 30_000_000,
) -> None:
    """Writes ``words.txt``, ``lexicon.txt``, ``g2p.safetensors`` and ``lm.safetensors`` into ``output``.

    :param text_files: plain text, any case and punctuation; one named twice counts twice.
    :param pronunciations: dictionary in CMUdict's format; words it lacks are guessed by a model trained on it.
    :param order: of the longest n-grams, 2 to 5.
    :param max_words: vocabulary; see `choose_words`.
    :param min_counts: n-grams of order 1, 2 … seen less often are not even considered.
    :param max_bytes: of the n-grams in the file, reached by pruning.
    :raises InputError: a file cannot be read, or the text holds no sentences.
    """
    if not 2 <= order <= min(MAX_ORDER, len(min_counts)):
        raise InputError(f"order {order} is not 2 to {min(MAX_ORDER, len(min_counts))}")
    try:
        known: Pronunciations = parse_cmudict(pronunciations.read_text(encoding="utf-8"), str(pronunciations))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the pronunciations {pronunciations}: {error}") from error
    if not known:
        raise InputError(f"{pronunciations} holds no pronunciations")
    output.mkdir(parents=True, exist_ok=True)

    ids: dict[str, int] = {}
    tokens = np.concatenate([encode(read_sentences(path), ids) for path in text_files] or [np.zeros(0, np.int32)])
    if not (tokens >= 0).any():
        raise InputError("the text holds no words")
    logger.info("%d words of text, %d distinct", int((tokens >= 0).sum()), len(ids))
    occurrences = np.bincount(tokens[tokens >= 0], minlength=len(ids)).tolist()
    counts = dict(zip(ids, occurrences, strict=True))

    words = choose_words(counts, known, max_words=max_words, min_count=min_word_count)
    guess = None
    if len(known) >= MIN_WORDS_FOR_G2P:
        g2p = train_g2p(known)
        g2p.save(output / "g2p.safetensors")

        def guess(word: str) -> list[Pronunciation]:
            return g2p.pronounce(word, variants=2, margin=SECOND_GUESS_NATS)

    lines = lexicon_lines(words, known, guess)
    words = list(dict.fromkeys(line.split("\t")[0] for line in lines))  # without those nothing can pronounce
    (output / "lexicon.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (output / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    logger.info("%d words, %d pronunciations", len(words), len(lines))

    model = estimate(_with_sentence_marks(tokens, ids, words), words, order, min_counts, max_bytes)
    model.save(output / "lm.safetensors")
    logger.info("n-grams of each order: %s", model.counts)


def _with_sentence_marks(tokens: NDArray[np.int32], ids: Mapping[str, int], words: Sequence[str]) -> NDArray[np.int32]:
    """Renumbers by vocabulary; each sentence becomes ``<s> words… </s>`` (V, V + 1), other words `ngram.BREAK`."""
    bos, eos = len(words), len(words) + 1
    new_id = np.full(len(ids) + 1, ngram.BREAK, np.int32)
    for index, word in enumerate(words):
        if (old := ids.get(word)) is not None:
            new_id[old] = index
    new_id[-1] = eos  # tokens have -1 there
    marked = np.empty(len(tokens) + int((tokens < 0).sum()), np.int32)
    ended_before: NDArray[np.int64] = np.cumsum(tokens < 0) - (tokens < 0)
    marked[np.arange(len(tokens)) + ended_before + 1] = new_id[tokens]
    begins = np.flatnonzero(marked[:-1] == eos) + 1
    marked[0] = bos
    marked[begins[begins < len(marked)]] = bos
    return marked


def estimate(
    tokens: NDArray[np.int32], words: Sequence[str], order: int, min_counts: Sequence[int], max_bytes: int
) -> NGram:
    """Counts, prunes to ``max_bytes``, smooths and packs; ``tokens`` with ``<s>`` as V and ``</s>`` as V + 1."""
    num_tokens = len(words) + 2
    inner, highest = packed_bytes(len(words))

    def size(kept: Sequence[int]) -> float:
        return float(inner * sum(kept[1:-1]) + highest * kept[-1])

    counts = ngram.count_ngrams(tokens, num_tokens, len(words), min_counts[:order])
    logger.info("n-grams of each order before pruning: %s", [len(level.key) for level in counts.levels])
    counts = ngram.prune_to_size(counts, size, max_bytes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lm.arpa"
        ngram.write_arpa(path, ngram.back_off(counts), [*words, *SPECIAL_WORDS[:2]])
        return NGram.from_arpa(path, words)
