"""Owns the decoder: what of a search is asked for in Python, one explicit `DecoderState` a stream.

Knows nothing of audio, of features, or of when an utterance ends.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_asr import beam_search, rescoring, search_results
from streaming_asr.decoder_state import MAX_OVERLAY_PRONUNCIATIONS, DecoderState, Overlay, zeros
from streaming_asr.errors import InputError
from streaming_asr.lexicon import ROOT, LexiconTree
from streaming_asr.neural_lm import NO_PIECE, NeuralLM
from streaming_asr.ngram import NGram, vocabulary_fingerprint
from streaming_asr.search_results import WORDS_OF_NODE, Found
from streaming_asr.search_state import (
    FREE,
    HISTORY_CAPACITY,
    HISTORY_NODE,
    IMPOSSIBLE,
    NODES,
    NUM_ALIVE,
    NUM_HISTORY,
    RESCORES,
    SCORE_OFFSET,
    Scratch,
    Search,
    Sections,
    block_size,
    sections,
)
from streaming_asr.tokens import BLANK, NUM_TOKENS, PHONES

MAX_BEAM_THRESHOLD = 1e9
LINKS_A_TOKEN = 8  # 8 x 24 bytes, of which paths rarely touch a quarter; what they do not is not there (`zeros`)
SMALLEST_ARENA = 64
FIRST_HISTORY = 64
ROWS_KEPT = 8  # of the neural language model, before those of word nodes that were given up are looked for
NBEST_FOR_CONFIDENCE = 16
MOST_RANKED = 300  # paths looked at for these, since many have the same words


@dataclass(frozen=True)
class DecoderOptions:
    """Search settings; all scores are natural logs.

    :raises InputError: a value is out of range.
    """

    beam: int = 500  # most tokens a frame
    beam_threshold: float = 16.0  # tokens this much worse than the best are dropped
    lm_weight: float = 1.0
    word_score: float = 0.0  # added for each word
    token_threshold: float = -9.0  # phones less likely than this start no new token in a frame
    blank_skip_threshold: float = 0.999  # above this probability of blank, nothing else is considered; > 1: never
    # With a neural language model: its weight, the n-gram model's in place of `lm_weight` in words that it has scored,
    # and how far from the best path, in nats, words are scored by it.
    neural_lm_weight: float = 0.7
    rescored_lm_weight: float = 0.3
    rescore_reach: float = 5.0
    # A word's confidence is the logistic function of these, times 1, its acoustic score, and the log odds of its vote
    # (`benchmarks.calibrate`).
    confidence_bias: float = 0.8
    confidence_acoustic: float = 0.95
    confidence_vote: float = 0.15

    def __post_init__(self) -> None:
        if not 1 <= self.beam <= 1 << 20:
            raise InputError(f"beam must be 1 to {1 << 20}, not {self.beam}")
        if not 0 < self.beam_threshold <= MAX_BEAM_THRESHOLD:
            raise InputError(f"beam_threshold must be above 0, at most 1e9, not {self.beam_threshold}")
        if not (math.isfinite(self.word_score) and math.isfinite(self.lm_weight) and self.lm_weight >= 0):
            raise InputError("word_score and lm_weight must be finite, and lm_weight not negative")
        if not all(map(math.isfinite, (self.confidence_bias, self.confidence_acoustic, self.confidence_vote))):
            raise InputError("confidence_bias, confidence_acoustic and confidence_vote must be finite")
        for name in ("neural_lm_weight", "rescored_lm_weight", "rescore_reach"):
            if not (math.isfinite(value := getattr(self, name)) and value >= 0):
                raise InputError(f"{name} must be finite and not negative, not {value}")
        if math.isnan(self.token_threshold) or not self.blank_skip_threshold > 0:
            raise InputError("token_threshold must be a number and blank_skip_threshold above 0")


class DecodedWord(NamedTuple):
    """One word of a hypothesis; frames count from the start of the stream, ``end_frame`` is the last one."""

    word_id: int
    start_frame: int
    end_frame: int
    acoustic: float  # mean log posterior of its path over the frames up to the start of its last phone
    vote: float = 1.0  # posterior of the hypotheses that have it at an overlapping time, 0..1
    confidence: float = 0.0  # probability that it is right, 0..1; of `Decoder.finish` only


@dataclass(frozen=True)
class Hypothesis:
    """What was said in the end, according to one path."""

    words: list[DecodedWord]
    score: float  # acoustic, weighted language model, and word scores
    stable_words: int  # so many leading words could no longer change
    posterior: float  # 0..1; among the n-best
    context: bytes = b""  # of the best, for `Decoder.start` of what is said next

    @property
    def word_ids(self) -> list[int]:
        """The words without their details."""
        return [word.word_id for word in self.words]


class Words(NamedTuple):
    """Words of a path while the search goes on, a list for each of their details; frames as in `DecodedWord`."""

    ids: list[int]
    starts: list[int]
    ends: list[int]


class Guess(NamedTuple):
    """What was said so far."""

    words: Words  # of the best path, but for the one being spoken unless it could end here
    score: float  # its, as in `Hypothesis`
    stable_words: int  # so many leading words can no longer change
    agreement: Sequence[float]  # probability of the first 1, 2, … words among all paths
    # What is likeliest by all paths together, word for word, whichever path is best; and its probability, with the
    # language model's forecast for paths inside a word.
    likely: Words
    likelihood: Sequence[float]


class Decoder:
    """Beam search shared by any number of streams; safe to use from several threads on different states.

    With a neural language model the words of good paths are scored again by it as they are found: see `rescoring`.

    :raises InputError: the tree and the language models are not of the same words.
    """

    def __init__(
        self,
        tree: LexiconTree,
        ngram: NGram,
        options: DecoderOptions | None = None,
        neural_lm: NeuralLM | None = None,
    ) -> None:
        options = options or DecoderOptions()
        vocabulary = vocabulary_fingerprint(tree.words)
        for name, lm in (("language model", ngram), ("neural language model", neural_lm)):
            if lm is not None and lm.num_words != len(tree.words):
                raise InputError(f"the lexicon has {len(tree.words)} words, the {name} {lm.num_words}")
            if lm is not None and lm.vocabulary not in ("", vocabulary):
                raise InputError(f"the lexicon's words are others than the {name}'s, or in another order")
        self.tree = tree
        self.ngram = ngram
        self.neural_lm = neural_lm
        self.options = options
        arrays = tree.arrays
        ends = np.diff(arrays.first_end).astype(np.int64)
        children = np.diff(arrays.first_child)
        parent = np.repeat(np.arange(tree.num_nodes), children)  # of nodes 1 ..
        fanout = np.bincount(parent, weights=1.0 + ends[1:], minlength=tree.num_nodes)
        arc_score = np.zeros(tree.num_nodes, np.float32)
        arc_score[1:] = options.lm_weight * (arrays.look_ahead[1:] - arrays.look_ahead[parent])
        threshold = options.blank_skip_threshold
        self._search = Search(
            beam=options.beam,
            arena=max(LINKS_A_TOKEN * options.beam, SMALLEST_ARENA),
            max_fanout=2 + int(fanout.max()) + NUM_TOKENS + MAX_OVERLAY_PRONUNCIATIONS,
            beam_threshold=float(options.beam_threshold),
            lm_weight=float(options.lm_weight),
            word_score=float(options.word_score),
            token_threshold=float(options.token_threshold),
            blank_skip=math.log(threshold) if threshold <= 1 else math.inf,
            start_state=ngram.start_state,
            eos=ngram.eos,
            unk=ngram.unk,
            num_words=ngram.num_words,
            num_nodes=tree.num_nodes,
            arc_score=arc_score,
            frequent=search_results.frequent_words(arrays, ngram.unigram_log_probs, WORDS_OF_NODE),
        )
        self._scratches = threading.local()

    def start(
        self, bonus: NDArray[np.float32] | None = None, overlay: Overlay | None = None, context: bytes = b""
    ) -> DecoderState:
        """A state before the first frame; ``bonus`` [W] is added to the score of each word as it ends.

        The words of ``overlay`` are searched for beside those of the lexicon. ``context`` is what a
        `Hypothesis` says of the utterance before.

        :raises InputError: the bonus is not one finite float32 a word.
        """
        search = self._search
        if bonus is not None:
            if bonus.shape != (search.num_words,) or not np.isfinite(bonus).all():
                raise InputError(f"the bonus must be {search.num_words} finite numbers")
            bonus = np.ascontiguousarray(bonus, np.float32)
        block = zeros(block_size.py_func(search.beam, search.arena, FIRST_HISTORY))
        block[NUM_ALIVE] = 1
        block[HISTORY_CAPACITY] = FIRST_HISTORY
        v = self._sections(block)
        v.node[0] = ROOT
        v.lm_state[0] = search.start_state
        v.score[1] = IMPOSSIBLE
        v.link[:2] = -1
        v.last[:2] = -1
        state = DecoderState(block, bonus, overlay)
        if self.neural_lm is not None:
            block[RESCORES] = 1
            v.node_word[:] = v.node_parent[:] = FREE
            v.node_word[0] = -1  # no word before
            v.node_lm_state[0] = search.start_state
            state.rows[0] = self.neural_lm.recall(context), NO_PIECE
        return state

    def step(self, state: DecoderState, log_probs: NDArray[np.float32]) -> None:
        """Searches on over ``log_probs`` [T, V]; how frames are split into calls changes nothing.

        :raises InputError: wrong shape, or a value is not finite; the state is as before.
        """
        self.step_many([state], np.asarray(log_probs)[None])

    def step_many(
        self,
        states: Sequence[DecoderState],
        log_probs: NDArray[np.float32],
        num_frames: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> None:
        """Steps several streams at once, without the GIL; ``log_probs`` [B, T, V].

        Of stream b only the first ``num_frames[b]`` frames count (default: all T); no state may occur twice.

        :raises InputError: wrong shape, or a value is not finite; the states are as before.
        """
        log_probs = np.ascontiguousarray(log_probs, np.float32)
        if log_probs.ndim != 3 or log_probs.shape[0] != len(states) or log_probs.shape[2] != NUM_TOKENS:
            shape = list(log_probs.shape)
            raise InputError(f"log_probs must be [{len(states)}, T, {NUM_TOKENS}], not {shape}")
        if not log_probs.flags.writeable:
            log_probs = log_probs.copy()
        end = np.full(len(states), log_probs.shape[1], np.int64)
        if num_frames is not None:
            end[:] = num_frames
            if (end < 0).any() or (end > log_probs.shape[1]).any():
                raise InputError(f"num_frames must be 0 to {log_probs.shape[1]}")
        if not np.isfinite(log_probs).all():
            raise InputError("log_probs must be finite")
        first = np.zeros(len(states), np.int64)
        missing = np.zeros(len(states), np.int64)
        bonus = np.array([state.bonus_address for state in states], np.int64)
        overlays = np.array([state.overlay_address for state in states], np.int64)
        while (first < end).any():
            addresses = np.array([state.address for state in states], np.int64)
            before = first.copy()
            beam_search.step_many(
                addresses, bonus, overlays, log_probs, first, end, missing, rescoring.EVERY_FRAMES,
                self._scratch(), self._search, self.tree.arrays, self.ngram.arrays,
            )  # fmt: skip
            due = [
                state
                for state, moved, room in zip(states, first > before, missing, strict=True)
                if moved and not room and state.num_frames % rescoring.EVERY_FRAMES == 0
            ]
            if self.neural_lm is not None:
                self._rescore(self.neural_lm, due)
            for state, room in zip(states, missing.tolist(), strict=True):
                self._grow_history(state, room)

    def _rescore(self, neural_lm: NeuralLM, states: Sequence[DecoderState]) -> bool:
        """Gives the words that good paths found since the last time their scores by the neural language model.

        Whether there were any.
        """
        options, s, search = self.options, self._scratch(), self._search
        addresses = np.array([state.address for state in states], np.int64)
        room = np.empty((NODES * len(states), rescoring.COLUMNS), np.int32)
        share, reach = options.rescored_lm_weight, options.rescore_reach
        requests = room[: rescoring.unscored(addresses, share, reach, s, search, self.ngram.arrays, room)]
        log_probs = np.empty(0, np.float32)
        if len(requests):
            stream, nodes, before, words = requests.T
            befores, at = np.unique(stream * NODES + before, return_inverse=True)
            owners = [(states[key // NODES], key % NODES) for key in befores.tolist()]
            known = [state.rows[node] for state, node in owners]
            rows = np.stack([row for row, _ in known])
            pending = np.array([piece for _, piece in known], np.int32)
            late = np.flatnonzero(pending != NO_PIECE).tolist()
            neural_lm.settle(rows, pending)
            for index in late:
                state, node = owners[index]
                state.rows[node] = rows[index].copy(), NO_PIECE
            log_probs, rows, pending = neural_lm.score(rows, words.astype(np.int64), at)
            asked = zip(stream.tolist(), nodes.tolist(), rows, pending.tolist(), strict=True)
            for owner, node, row, piece in asked:
                states[owner].rows[node] = row.copy(), piece
            for owner in set(stream.tolist()):
                self._forget_free_nodes(states[owner])
        return bool(rescoring.rescore(addresses, options.neural_lm_weight, s, search, requests, log_probs))

    def _forget_free_nodes(self, state: DecoderState) -> None:
        """Drops the rows of word nodes that were given up."""
        if len(state.rows) > ROWS_KEPT:
            node_word = self._sections(state.block).node_word
            state.rows = {node: known for node, known in state.rows.items() if node_word[node] != FREE}

    def best(self, state: DecoderState) -> Guess:
        """What was said so far; changes nothing."""
        return self.best_many([state])[0]

    def best_many(self, states: Sequence[DecoderState]) -> list[Guess]:
        """`best` of several streams at once."""
        addresses = np.array([state.address for state in states], np.int64)
        overlays = np.array([state.overlay_address for state in states], np.int64)
        most = 64
        while True:
            found = Found.empty(len(states), most)
            search_results.best_many(
                addresses, overlays, found, self._scratch(), self._search, self.tree.arrays, self.ngram.arrays
            )  # fmt: skip
            most = found.most_words
            if most <= found.room:
                break
        guesses = []
        counts = (found.num_words, found.num_history, found.num_stable, found.likely_words)
        for row, (num_words, num_history, num_stable, num_likely) in enumerate(np.stack(counts, axis=1).tolist()):
            guesses.append(
                Guess(
                    Words(*found.traced[row, :, :num_words].tolist()),
                    float(found.score[row]),
                    num_stable,
                    [1.0] * num_history + found.share[row, 1 : num_words - num_history + 1].tolist(),
                    Words(*found.likely_traced[row, :, :num_likely].tolist()),
                    [1.0] * num_history + found.likely_share[row, 1 : num_likely - num_history + 1].tolist(),
                )
            )
        return guesses

    def commit(self, state: DecoderState, num_words: int) -> int:
        """Makes the first ``num_words`` words of `best` stable now, dropping all paths without them.

        Returns how many words are stable; fewer than asked for if `best` has fewer words.
        """
        while True:
            room = int(
                search_results.commit(
                    state.address, state.overlay_address, num_words, self._scratch(), self._search, self.tree.arrays
                )
            )
            if not room:
                return int(state.block[NUM_HISTORY])
            self._grow_history(state, room)

    def take(self, state: DecoderState) -> Hypothesis:
        """What `commit` has made stable, and is no longer part of the state: that goes on with the words behind it."""
        path, score, _ = search_results.best_path(
            state.address, state.overlay_address, self._scratch(), self._search, self.tree.arrays
        )
        words = [
            word._replace(confidence=self._confidence(word.acoustic, word.vote))
            for word in _decoded(*self._traced(state, path))[: int(state.block[NUM_HISTORY])]
        ]
        context = b""
        if self.neural_lm is not None:
            context = self.neural_lm.remember(*state.rows[int(state.block[HISTORY_NODE])], [])
        state.block[NUM_HISTORY] = 0
        return Hypothesis(words, self._total(state, score), len(words), 1.0, context)

    def finish(self, state: DecoderState, nbest: int = 1) -> list[Hypothesis]:
        """Up to ``nbest`` different hypotheses of complete words, best first, sentence end scored; changes nothing.

        At least one: if no path is at the end of a word, the best path without its open word.
        """
        if self.neural_lm is not None:
            state = state.copy()
            while self._rescore(self.neural_lm, [state]):
                pass  # words behind words that had no score yet
        path, score, stable = search_results.best_path(
            state.address, state.overlay_address, self._scratch(), self._search, self.tree.arrays
        )
        scores, paths = self._ranked(state)
        if not len(scores):
            scores, paths = np.array([score], np.float32), np.array([path], np.int32)
        found: dict[bytes, tuple[list[DecodedWord], float]] = {}
        order = np.argsort(-scores, kind="stable")[:MOST_RANKED].tolist()
        for at in order:
            traced, acoustic = self._traced(state, int(paths[at]))
            key = traced[0].tobytes()
            if key not in found:
                found[key] = (_decoded(traced, acoustic), self._total(state, scores[at]))
            if len(found) >= max(nbest, NBEST_FOR_CONFIDENCE):
                break
        ranked = list(found.values())
        logits = np.array([score for _, score in ranked]) / max(1.0, self.options.lm_weight)
        posteriors = np.exp(logits - logits.max())
        posteriors /= posteriors.sum()
        results: list[Hypothesis] = []
        for (decoded, score), posterior in zip(ranked[: max(1, nbest)], posteriors.tolist(), strict=False):
            rivals = [other[stable:] for other, _ in ranked]
            votes = [1.0] * stable + _votes(decoded[stable:], rivals, posteriors)
            rated = [
                word._replace(vote=vote, confidence=self._confidence(word.acoustic, vote))
                for word, vote in zip(decoded, votes, strict=True)
            ]
            context = self._context(state, int(paths[order[0]])) if not results else b""
            results.append(Hypothesis(rated, score, stable, posterior, context))
        return results

    def _context(self, state: DecoderState, path: int) -> bytes:
        """`Hypothesis.context` of a path; its last words may have been too far behind to be scored."""
        if self.neural_lm is None:
            return b""
        v = self._sections(state.block)
        link = int(v.link[path])
        words = []
        while link >= 0 and int(v.word_node[link]) not in state.rows:
            words.append(int(v.word[link]))
            link = int(v.parent[link])
        row, pending = state.rows[int(v.word_node[link] if link >= 0 else state.block[HISTORY_NODE])]
        return self.neural_lm.remember(row, pending, words[::-1])

    def warm_up(self) -> None:
        """Compiles, or loads from the cache, everything a stream needs."""
        state = self.start(np.zeros(self._search.num_words, np.float32))
        self.step(state, np.full((2, NUM_TOKENS), -math.log(NUM_TOKENS), np.float32))
        self.commit(state, 1)
        self.best(state)
        self.finish(state)

    def _scratch(self) -> Scratch:
        scratch: Scratch | None = getattr(self._scratches, "scratch", None)
        if scratch is None:
            search = self._search
            size = 4 * search.beam + search.max_fanout
            table_size = 1 << (2 * size - 1).bit_length()

            def integers(count: int) -> NDArray[np.int32]:
                return np.zeros(count, np.int32)

            scratch = Scratch(
                np.zeros(2, np.int64),
                integers(size),
                integers(size),
                integers(size),
                np.zeros(2 * size, np.float32),
                integers(2 * size),
                integers(2 * size),
                integers(2 * size),
                integers(2 * size),
                integers(2 * size),
                np.zeros(2 * size, np.float32),
                integers(table_size),
                np.zeros(table_size, np.int64),
                np.zeros(size, np.float32),
                np.zeros(search.arena + 1, np.int64),
                integers(search.arena + 1),
                integers(search.arena + 1),
                np.zeros(2 * search.beam),
                np.zeros(search.arena + 1),
                np.zeros(search.num_words + MAX_OVERLAY_PRONUNCIATIONS),
            )
            self._scratches.scratch = scratch
        return scratch

    def _sections(self, block: NDArray[np.int32]) -> Sections:
        stream: Sections = sections.py_func(block, self._search.beam, self._search.arena)
        return stream

    def _grow_history(self, state: DecoderState, room: int) -> None:
        if not room:
            return
        old = int(state.block[HISTORY_CAPACITY])
        new = old + max(room, old // 4)
        at = len(state.block) - 4 * old
        block = zeros(at + 4 * new)
        block[:at] = state.block[:at]
        block[at:].reshape(4, new)[:, :old] = state.block[at:].reshape(4, old)
        block[HISTORY_CAPACITY] = new
        state.block = block

    def _ranked(self, state: DecoderState) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        scores, paths = np.empty(state.num_tokens, np.float32), np.empty(state.num_tokens, np.int32)
        count = search_results.rank(state.address, self._search, self.ngram.arrays, scores, paths)
        return scores[:count], paths[:count]

    def _confidence(self, acoustic: float, vote: float) -> float:
        options = self.options
        logit = options.confidence_bias + options.confidence_acoustic * min(acoustic, 0.0)
        logit += options.confidence_vote * log_odds(vote)
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))

    def _total(self, state: DecoderState, score: np.floating[Any]) -> float:
        offset = state.block[SCORE_OFFSET : SCORE_OFFSET + 2].view(np.float64)[0]
        return float(offset) + float(score)

    def _traced(self, state: DecoderState, path: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The words, first and last frames [3, n], and the acoustic scores [n] of a path."""
        room = 64
        while True:
            traced, acoustic = np.empty((3, room), np.int32), np.empty(room, np.float32)
            count = int(search_results.trace(state.address, path, self._search, traced, acoustic))
            if count <= room:
                return traced[:, :count], acoustic[:count]
            room = count


def _decoded(traced: NDArray[np.int32], acoustic: NDArray[np.float32]) -> list[DecodedWord]:
    return list(map(DecodedWord, *traced.tolist(), acoustic.tolist()))


def log_odds(vote: float) -> float:
    """Of a vote 0..1, within -+9.2."""
    return math.log((vote + 1e-4) / (1 - vote + 1e-4))


def _votes(words: list[DecodedWord], rivals: list[list[DecodedWord]], posteriors: NDArray[np.float64]) -> list[float]:
    """For each word the posterior of all hypotheses that have it at an overlapping time."""
    votes = [0.0] * len(words)
    for rival, posterior in zip(rivals, posteriors.tolist(), strict=True):
        times: dict[int, list[tuple[int, int]]] = {}
        for word in rival:
            times.setdefault(word.word_id, []).append((word.start_frame, word.end_frame))
        for at, word in enumerate(words):
            spans = times.get(word.word_id, ())
            if any(start <= word.end_frame and word.start_frame <= end for start, end in spans):
                votes[at] += posterior
    return [min(1.0, vote) for vote in votes]


def greedy_phones(log_probs: NDArray[np.float32]) -> list[str]:
    """The phones of the best path through ``log_probs`` [T, V], without lexicon or language model."""
    path = np.asarray(log_probs).argmax(axis=1).tolist()
    return [
        PHONES[token - 1] for token, before in zip(path, [BLANK, *path], strict=False) if token not in (BLANK, before)
    ]
