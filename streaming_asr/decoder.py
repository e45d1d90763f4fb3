"""Owns the search: CTC beam search over the lexicon tree with the n-gram model, one explicit state a stream.

Knows nothing of audio, of features, or of when an utterance ends. Token passing in the Viterbi approximation
(Hannun et al. 2014; Collobert et al. 2016): a token is (tree node, language model state, last phone if at the
root), with one score for paths that end in blank and one for paths that end in a phone. When a path enters the
last phone of a word, a copy of it, with the word scored, goes to the root. Finished words are links in an arena of
fixed size; what all tokens agree on moves out of it into the history, and is stable from then on. Words that only one
stream knows are in an `Overlay`, a second tree from the same root.

A stream is one int32 array, so that compiled code takes many of them by address in a single call without the
GIL. Its sections, B = beam, A = arena, H = history capacity:
header [HEADER] | tokens: 3 x [B], 6 x [2 B] | links: 5 x [A] | history: 4 x [H].
Entry 2 i of a token section is the path of token i that ends in blank, entry 2 i + 1 the one that ends in a phone.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from streaming_asr.compiled import njit_uncounted
from streaming_asr.errors import InputError
from streaming_asr.lexicon import ROOT, Lexicon, LexiconTree
from streaming_asr.ngram import NGram, ngram_log_prob, ngram_next, ngram_score, vocabulary_fingerprint
from streaming_asr.tokens import BLANK, NUM_TOKENS, PHONES

# Header of a stream; the score taken off all tokens so far is the float64 at SCORE_OFFSET.
NUM_ALIVE, NUM_LINKS, FRAME, NUM_HISTORY, HISTORY_CAPACITY = range(5)
SCORE_OFFSET = 8
HEADER = 16
IMPOSSIBLE = np.float32(-1e30)  # a score that no threshold lets through
MAX_BEAM_THRESHOLD = 1e9
LINKS_A_TOKEN = 8  # 8 x 20 bytes; paths of 500 tokens rarely need a quarter of it
SMALLEST_ARENA = 64
FIRST_HISTORY = 64
NBEST_FOR_CONFIDENCE = 16
MOST_RANKED = 300  # paths looked at for these, since many have the same words
MAX_OVERLAY_PRONUNCIATIONS = 300
# What is likely (`_likely`), as the search goes on: docs/experiments.md, "Partials".
WORDS_OF_NODE = 8  # that a path inside a word is taken to lead to
REACH = 6.0  # nats below the best, within which that is worth reckoning
PAUSE_FRAMES = 3  # of blank that may part two sounds of a word,
PAUSE_COST = 1.0  # and nats for each one more


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
    """What was said, according to one path."""

    words: list[DecodedWord]
    score: float  # acoustic, weighted language model, and word scores
    stable_words: int  # so many leading words can no longer change
    posterior: float  # 0..1; among the n-best of `Decoder.finish`, or among all paths
    agreement: Sequence[float] = ()  # of `Decoder.best`: probability of the first 1, 2, … words among all paths
    # Of `Decoder.best` too: what is likeliest by all paths together, word for word, whichever path is best; and its
    # probability, with the language model's forecast for paths inside a word.
    likely: Sequence[DecodedWord] = ()
    likelihood: Sequence[float] = ()

    @property
    def word_ids(self) -> list[int]:
        """The words without their details."""
        return [word.word_id for word in self.words]


class Overlay:
    """Words beside the lexicon, W, W + 1, …, in a tree of their own; never changes, so that states may share it.

    Tokens in it have its nodes' numbers plus K, the number of nodes of the lexicon's tree. To the language model each
    of its words is ``<unk>``.
    """

    def __init__(self, lexicon: Lexicon, scores: NDArray[np.float32]) -> None:
        """``scores`` [O]: of each word as a unigram, weighted, with any bonus; they take the place of ``<unk>``'s.

        :raises InputError: there is no word, more than 300 pronunciations, or not one finite score a word.
        """
        arrays = LexiconTree.build(lexicon, scores).arrays
        if len(lexicon.pronunciation_word) > MAX_OVERLAY_PRONUNCIATIONS:
            raise InputError(f"there may be {MAX_OVERLAY_PRONUNCIATIONS} pronunciations of words beside the lexicon")
        self.words = lexicon.words
        self.most_ends = int(np.diff(arrays.first_end).max())
        self._block = np.concatenate(
            [
                np.array([len(arrays.phone), len(arrays.end_word), len(scores)], np.int32),
                arrays.first_child,
                arrays.first_end,
                arrays.phone.astype(np.int32),
                arrays.look_ahead.view(np.int32),
                arrays.end_word,
                scores.astype(np.float32).view(np.int32),
            ]
        )
        self.address = int(self._block.ctypes.data)


_NO_OVERLAY = np.array([1, 0, 0, 1, 1, 0, 0, 0, 0], np.int32)  # a root


class DecoderState:
    """The search of one stream; made by `Decoder.start`, changed by one thread at a time."""

    __slots__ = ("_block", "address", "bonus", "bonus_address", "overlay", "overlay_address")

    def __init__(
        self, block: NDArray[np.int32], bonus: NDArray[np.float32] | None, overlay: Overlay | None = None
    ) -> None:
        self.block = block
        self.bonus = bonus
        self.bonus_address = 0 if bonus is None else int(bonus.ctypes.data)
        self.overlay = overlay
        self.overlay_address = int(_NO_OVERLAY.ctypes.data) if overlay is None else overlay.address

    @property
    def block(self) -> NDArray[np.int32]:
        """The stream's array; see the module's docstring."""
        return self._block

    @block.setter
    def block(self, block: NDArray[np.int32]) -> None:
        self._block = block
        self.address = int(block.ctypes.data)

    @property
    def num_frames(self) -> int:
        """Frames seen so far."""
        return int(self.block[FRAME])

    @property
    def num_tokens(self) -> int:
        """Tokens alive."""
        return int(self.block[NUM_ALIVE])

    @property
    def nbytes(self) -> int:
        """Memory held; grows by 16 bytes a stable word and by nothing else."""
        return self.block.nbytes

    def copy(self) -> DecoderState:
        """An independent state that continues from here."""
        return DecoderState(self.block.copy(), self.bonus, self.overlay)


class _Stream(NamedTuple):
    """A stream's block, taken apart."""

    header: Any
    offset: Any  # float64 [1]
    node: Any
    lm_state: Any
    phone: Any  # last phone; 0 at the root after blank
    score: Any  # float32 [2 B], as all below
    link: Any  # last finished word, -1: the end of the history
    start: Any  # first frame of the open word
    previous_end: Any  # last frame of the last finished word, if a word is open
    last: Any  # last frame that was not blank
    acoustic: Any  # float32; summed over the open word
    parent: Any  # [A], as all below
    word: Any
    word_start: Any
    word_previous_end: Any  # last frame of the word before
    word_acoustic: Any  # float32
    history_word: Any  # [H], as all below
    history_start: Any
    history_end: Any  # of the last word: not known yet
    history_acoustic: Any  # float32


class _Own(NamedTuple):
    """An overlay's block, taken apart. N nodes, E word ends, O words."""

    first_child: Any  # [N + 1]
    first_end: Any  # [N + 1]
    phone: Any  # [N]
    look_ahead: Any  # float32 [N]
    end_word: Any  # [E]; from 0
    score: Any  # float32 [O]


class _Scratch(NamedTuple):
    """Room for one frame's candidates, C of them; one a thread, shared by its streams."""

    counters: NDArray[np.int64]  # number of candidates, generation
    node: NDArray[np.int32]  # [C]
    lm_state: NDArray[np.int32]
    phone: NDArray[np.int32]
    score: NDArray[np.float32]  # [2 C], as all below
    link: NDArray[np.int32]
    word: NDArray[np.int32]  # finished in this frame, or -1
    start: NDArray[np.int32]
    previous_end: NDArray[np.int32]
    last: NDArray[np.int32]
    acoustic: NDArray[np.float32]
    table: NDArray[np.int32]  # [power of two]; candidate
    table_generation: NDArray[np.int64]
    ranking: NDArray[np.float32]  # [max(C, B)]
    mark: NDArray[np.int64]  # [A + 1]
    target: NDArray[np.int32]  # [A + 1]
    path_weight: NDArray[np.float64]  # [2 B]
    link_weight: NDArray[np.float64]  # [A + 1]
    word_weight: NDArray[np.float64]  # [words, those of an overlay too]; all zero between uses


class _Search(NamedTuple):
    """What all streams of a decoder share."""

    beam: int
    arena: int
    max_fanout: int  # most candidates one token can bring forth
    beam_threshold: float
    lm_weight: float
    word_score: float
    token_threshold: float
    blank_skip: float  # log
    start_state: int
    eos: int
    unk: int
    num_words: int
    num_nodes: int
    arc_score: NDArray[np.float32]  # [K]; weighted look-ahead of a node minus that of its parent
    frequent: NDArray[np.int32]  # [K, WORDS_OF_NODE]; the likeliest words by themselves at or below a node, then -1


def _pointer_signature(context: Any, address: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


_pointer: Any = intrinsic(_pointer_signature)  # an address as the pointer that carray wants


@njit(nogil=True, cache=True)
def _sections(block: Any, beam: Any, arena: Any) -> Any:
    capacity = np.int64(block[HISTORY_CAPACITY])
    a = HEADER
    b = a + 3 * beam
    c = b + 12 * beam
    d = c + 5 * arena
    pair = 2 * beam
    return _Stream(
        block[:HEADER],
        block[SCORE_OFFSET : SCORE_OFFSET + 2].view(np.float64),
        block[a : a + beam],
        block[a + beam : a + 2 * beam],
        block[a + 2 * beam : b],
        block[b : b + pair].view(np.float32),
        block[b + pair : b + 2 * pair],
        block[b + 2 * pair : b + 3 * pair],
        block[b + 3 * pair : b + 4 * pair],
        block[b + 4 * pair : b + 5 * pair],
        block[b + 5 * pair : c].view(np.float32),
        block[c : c + arena],
        block[c + arena : c + 2 * arena],
        block[c + 2 * arena : c + 3 * arena],
        block[c + 3 * arena : c + 4 * arena],
        block[c + 4 * arena : d].view(np.float32),
        block[d : d + capacity],
        block[d + capacity : d + 2 * capacity],
        block[d + 2 * capacity : d + 3 * capacity],
        block[d + 3 * capacity : d + 4 * capacity].view(np.float32),
    )


@njit(nogil=True, cache=True)
def _stream_at(address: Any, beam: Any, arena: Any) -> Any:
    header = carray(_pointer(address), (HEADER,), np.int32)
    size = HEADER + 15 * beam + 5 * arena + 4 * np.int64(header[HISTORY_CAPACITY])
    return _sections(carray(_pointer(address), (size,), np.int32), beam, arena)


@njit(nogil=True, cache=True)
def _overlay_at(address: Any) -> Any:
    header = carray(_pointer(address), (3,), np.int32)
    nodes: Any = np.int64(header[0])
    a = 3 + nodes + 1
    b = a + nodes + 1
    c = b + nodes
    d = c + nodes
    e = d + np.int64(header[1])
    end: Any = e + np.int64(header[2])
    block = carray(_pointer(address), (end,), np.int32)
    return _Own(
        block[3:a],
        block[a:b],
        block[b:c],
        block[c:d].view(np.float32),
        block[d:e],
        block[e:end].view(np.float32),
    )


@njit_uncounted()
def _kth_best(values: Any, count: Any, k: Any) -> Any:
    """The k-th largest (from 1) of the first ``count`` values, which it reorders (Hoare's selection)."""
    low = 0
    high = count - 1
    wanted = k - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i = low
        j = high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    return values[wanted]


# A call hands over every array of a tuple in full: the innermost functions are therefore put in place.
@njit_uncounted(inline="always")
def _slot(s: Any, node: Any, lm_state: Any, phone: Any) -> Any:
    """The place of a key in the hash table: that of its candidate, or a free one."""
    mask = s.table.shape[0] - 1
    key = np.uint64(node) * np.uint64(0x9E3779B97F4A7C15)
    key ^= (np.uint64(lm_state) * np.uint64(64) + np.uint64(phone)) * np.uint64(0xC2B2AE3D27D4EB4F)
    place = np.int64((key ^ (key >> np.uint64(29))) >> np.uint64(8)) & mask
    while s.table_generation[place] == s.counters[1]:
        c = s.table[place]
        if s.node[c] == node and s.lm_state[c] == lm_state and s.phone[c] == phone:
            return place
        place = (place + 1) & mask
    return place


@njit_uncounted(inline="always")
def _candidate(s: Any, node: Any, lm_state: Any, phone: Any) -> Any:
    """The candidate of a key, made if there is none."""
    place = _slot(s, node, lm_state, phone)
    if s.table_generation[place] == s.counters[1]:
        return np.int64(s.table[place])
    c = s.counters[0]
    s.counters[0] += 1
    s.table_generation[place] = s.counters[1]
    s.table[place] = c
    s.node[c] = node
    s.lm_state[c] = lm_state
    s.phone[c] = phone
    s.score[2 * c] = IMPOSSIBLE
    s.score[2 * c + 1] = IMPOSSIBLE
    return c


@njit_uncounted(inline="always")
def _offer(
    s: Any, path: Any, score: Any, link: Any, word: Any, start: Any, previous_end: Any, last: Any, acoustic: Any
) -> Any:
    if score > s.score[path]:
        s.score[path] = score
        s.link[path] = link
        s.word[path] = word
        s.start[path] = start
        s.previous_end[path] = previous_end
        s.last[path] = last
        s.acoustic[path] = acoustic


@njit_uncounted()
def _shrink(s: Any, beam: Any) -> Any:
    """Keeps the ``beam`` best candidates, in their order, and returns the worst score kept."""
    count = s.counters[0]
    for c in range(count):
        s.ranking[c] = max(s.score[2 * c], s.score[2 * c + 1])
    cut = _kth_best(s.ranking, count, beam)
    better = 0
    for c in range(count):
        better += max(s.score[2 * c], s.score[2 * c + 1]) > cut
    ties = beam - better
    s.counters[0] = 0
    s.counters[1] += 1
    for c in range(count):
        score = max(s.score[2 * c], s.score[2 * c + 1])
        if score < cut:
            continue
        if score == cut:
            if ties == 0:
                continue
            ties -= 1
        to = s.counters[0]
        s.counters[0] += 1
        place = _slot(s, s.node[c], s.lm_state[c], s.phone[c])
        s.table_generation[place] = s.counters[1]
        s.table[place] = to
        s.node[to] = s.node[c]
        s.lm_state[to] = s.lm_state[c]
        s.phone[to] = s.phone[c]
        for side in range(2):
            a = 2 * to + side
            b = 2 * c + side
            s.score[a] = s.score[b]
            s.link[a] = s.link[b]
            s.word[a] = s.word[b]
            s.start[a] = s.start[b]
            s.previous_end[a] = s.previous_end[b]
            s.last[a] = s.last[b]
            s.acoustic[a] = s.acoustic[b]
    return cut


@njit_uncounted()
def _copy_path(v: Any, to: Any, source: Any) -> None:
    v.score[to] = v.score[source]
    v.link[to] = v.link[source]
    v.start[to] = v.start[source]
    v.previous_end[to] = v.previous_end[source]
    v.last[to] = v.last[source]
    v.acoustic[to] = v.acoustic[source]


@njit_uncounted()
def _drop_impossible(v: Any) -> None:
    """Closes the gaps that tokens without a possible path leave."""
    kept = 0
    for i in range(np.int64(v.header[NUM_ALIVE])):
        if max(v.score[2 * i], v.score[2 * i + 1]) <= IMPOSSIBLE:
            continue
        if kept < i:
            v.node[kept] = v.node[i]
            v.lm_state[kept] = v.lm_state[i]
            v.phone[kept] = v.phone[i]
            _copy_path(v, 2 * kept, 2 * i)
            _copy_path(v, 2 * kept + 1, 2 * i + 1)
        kept += 1
    v.header[NUM_ALIVE] = kept


@njit_uncounted()
def _last_common_link(v: Any, mark: Any) -> Any:
    """The last word on which all paths agree, -1 for none; ``mark`` [links] counts the paths through each link."""
    num_links = np.int64(v.header[NUM_LINKS])
    mark[:num_links] = 0
    paths = 0
    for path in range(2 * np.int64(v.header[NUM_ALIVE])):
        if v.score[path] > IMPOSSIBLE:
            paths += 1
            if v.link[path] >= 0:
                mark[v.link[path]] += 1
    common = -1
    for link in range(num_links - 1, -1, -1):  # parents come before their children
        if mark[link] == paths and common < 0:
            common = link
        if mark[link] > 0 and v.parent[link] >= 0:
            mark[v.parent[link]] += mark[link]
    return common, paths


@njit_uncounted()
def _depth(v: Any, link: Any) -> Any:
    depth = 0
    while link >= 0:
        depth += 1
        link = np.int64(v.parent[link])
    return depth


@njit_uncounted()
def _collect(v: Any, s: Any) -> Any:
    """Moves what is common to the history and closes gaps in the arena; returns the room missing for it, or 0."""
    common, paths = _last_common_link(v, s.mark)
    num_links = np.int64(v.header[NUM_LINKS])
    num_history = np.int64(v.header[NUM_HISTORY])
    length = _depth(v, common)
    missing = num_history + length - np.int64(v.header[HISTORY_CAPACITY])
    if missing > 0:
        return missing
    link = common
    after = -1
    at = num_history + length
    while link >= 0:
        at -= 1
        v.history_word[at] = v.word[link]
        v.history_start[at] = v.word_start[link]
        v.history_acoustic[at] = v.word_acoustic[link]
        v.history_end[at] = v.word_start[link]
        if after >= 0:
            v.history_end[at] = v.word_previous_end[after]
        after = link
        link = np.int64(v.parent[link])
    if length > 0 and num_history > 0:
        v.history_end[num_history - 1] = v.word_previous_end[after]
    v.header[NUM_HISTORY] = num_history + length
    kept = 0
    for link in range(num_links):
        if 0 < s.mark[link] < paths:
            parent = np.int64(v.parent[link])
            v.parent[kept] = s.mark[parent] if parent >= 0 else -1
            v.word[kept] = v.word[link]
            v.word_start[kept] = v.word_start[link]
            v.word_previous_end[kept] = v.word_previous_end[link]
            v.word_acoustic[kept] = v.word_acoustic[link]
            s.mark[link] = kept
            kept += 1
        else:
            s.mark[link] = -1
    v.header[NUM_LINKS] = kept
    for path in range(2 * np.int64(v.header[NUM_ALIVE])):
        if v.score[path] > IMPOSSIBLE and v.link[path] >= 0:
            v.link[path] = s.mark[v.link[path]]
    return 0


@njit_uncounted()
def _make_room(v: Any, s: Any, arena: Any) -> Any:
    """Empties at least half of the arena, if need be by dropping tokens; returns missing history room, or 0."""
    while True:
        missing = _collect(v, s)
        if missing > 0 or v.header[NUM_LINKS] <= arena // 2:
            return missing
        # Hardly ever: so many paths differ in so many words that only dropping some keeps the memory bounded.
        alive: Any = np.int64(v.header[NUM_ALIVE])
        for path in range(2 * alive):
            s.ranking[path] = v.score[path]
        keep: Any = max(1, alive // 2)
        cut = _kth_best(s.ranking, 2 * alive, keep)
        ties: Any = keep
        for path in range(2 * alive):
            ties -= v.score[path] > cut
        for path in range(2 * alive):
            if v.score[path] == cut:
                ties -= 1
            if v.score[path] < cut or (v.score[path] == cut and ties < 0):
                v.score[path] = IMPOSSIBLE
        _drop_impossible(v)


@njit_uncounted()
def _blank_frame(v: Any, blank: Any) -> None:
    """The update where only blank is considered: every token stays."""
    alive = np.int64(v.header[NUM_ALIVE])
    best = IMPOSSIBLE
    for path in range(2 * alive):
        best = max(best, v.score[path])
    for i in range(alive):
        a = 2 * i
        if v.score[a + 1] > v.score[a]:
            _copy_path(v, a, a + 1)
        v.score[a + 1] = IMPOSSIBLE
        v.score[a] = v.score[a] - best
        if v.node[i] == ROOT:
            v.phone[i] = BLANK
        else:
            v.acoustic[a] += blank
    v.offset[0] += np.float64(best) + np.float64(blank)
    v.header[FRAME] += 1


@njit_uncounted()
def _own_word(search: Any, lm: Any, own: Any, lm_state: Any, end: Any) -> Any:
    """The word of an end in the overlay, its score after ``lm_state``, and the state after it."""
    word = np.int64(own.end_word[end])
    log_prob, next_state = ngram_score(lm, lm_state, search.unk)
    context = search.lm_weight * (log_prob - lm.unigram_log_prob[search.unk])
    return search.num_words + word, own.score[word] + context + search.word_score, next_state


@njit_uncounted()
def _extend_into_overlay(
    v: Any, s: Any, search: Any, lm: Any, own: Any, log_probs: Any, i: Any, best: Any, floor: Any
) -> Any:
    """Offers what token ``i``, at the root or in the overlay, brings forth there; returns the new best and floor."""
    frame = v.header[FRAME]
    limit = np.float32(search.beam_threshold)
    at_root = v.node[i] == ROOT
    node = np.int64(ROOT) if at_root else np.int64(v.node[i]) - search.num_nodes
    lm_state = np.int64(v.lm_state[i])
    last_phone = np.int64(v.phone[i])
    a = 2 * i
    stronger: Any = a if v.score[a] >= v.score[a + 1] else a + 1
    for child in range(np.int64(own.first_child[node]), np.int64(own.first_child[node + 1])):
        phone = np.int64(own.phone[child])
        if log_probs[phone] < search.token_threshold:
            continue
        source = a if phone == last_phone else stronger
        score = v.score[source] + log_probs[phone] + own.look_ahead[child] - own.look_ahead[node]
        if score < floor:
            continue
        link = v.link[source]
        if at_root:
            start = frame
            previous_end = v.last[source]
            acoustic = log_probs[phone]
        else:
            start = v.start[source]
            previous_end = v.previous_end[source]
            acoustic = v.acoustic[source] + log_probs[phone]
        if own.first_child[child] < own.first_child[child + 1]:
            if score > best:
                best = score
                floor = max(floor, best - limit)
            c = _candidate(s, search.num_nodes + child, lm_state, phone)
            _offer(s, 2 * c + 1, score, link, -1, start, previous_end, frame, acoustic)
        for end in range(np.int64(own.first_end[child]), np.int64(own.first_end[child + 1])):
            word, gain, next_state = _own_word(search, lm, own, lm_state, end)
            total = np.float32(score - own.look_ahead[child] + gain)
            if total < floor:
                continue
            if total > best:
                best = total
                floor = max(floor, best - limit)
            c = _candidate(s, ROOT, next_state, phone)
            _offer(s, 2 * c + 1, total, link, word, start, previous_end, frame, acoustic)
    return best, floor


@njit_uncounted()
def _frame(v: Any, s: Any, search: Any, tree: Any, lm: Any, bonus: Any, own: Any, log_probs: Any) -> None:
    """One full update; ``log_probs`` [V]. The arena has room for one link a token."""
    frame = v.header[FRAME]
    alive = np.int64(v.header[NUM_ALIVE])
    s.counters[0] = 0
    s.counters[1] += 1
    allowed = np.uint64(0)
    likeliest = IMPOSSIBLE
    for token in range(1, log_probs.shape[0]):
        likeliest = max(likeliest, log_probs[token])
        if log_probs[token] >= search.token_threshold:
            allowed |= np.uint64(1) << np.uint64(token)
    blank = log_probs[BLANK]
    limit = np.float32(search.beam_threshold)
    best = IMPOSSIBLE
    for i in range(alive):
        a: Any = 2 * i
        best = max(best, max(v.score[a], v.score[a + 1]) + blank, v.score[a + 1] + log_probs[v.phone[i]])
    floor = best - limit
    room = s.node.shape[0] - search.max_fanout

    for i in range(alive):
        if s.counters[0] > room:
            floor = max(floor, _shrink(s, search.beam))
        node = np.int64(v.node[i])
        lm_state = np.int64(v.lm_state[i])
        last_phone = np.int64(v.phone[i])
        at_root = node == ROOT
        a = 2 * i
        stronger: Any = a if v.score[a] >= v.score[a + 1] else a + 1

        score = v.score[stronger] + blank
        if score >= floor:
            c = _candidate(s, node, lm_state, BLANK if at_root else last_phone)
            acoustic = v.acoustic[stronger] + (np.float32(0.0) if at_root else blank)
            _offer(
                s, 2 * c, score, v.link[stronger], -1,
                v.start[stronger], v.previous_end[stronger], v.last[stronger], acoustic,
            )  # fmt: skip
        score = v.score[a + 1] + log_probs[last_phone]
        if score >= floor:
            c = _candidate(s, node, lm_state, last_phone)
            acoustic = v.acoustic[a + 1] + (np.float32(0.0) if at_root else log_probs[last_phone])
            _offer(s, 2 * c + 1, score, v.link[a + 1], -1, v.start[a + 1], v.previous_end[a + 1], frame, acoustic)

        if own.end_word.shape[0] > 0 and (at_root or node >= search.num_nodes):
            best, floor = _extend_into_overlay(v, s, search, lm, own, log_probs, i, best, floor)
            if not at_root:
                continue
        if tree.child_mask[node] & allowed == 0 or v.score[stronger] + likeliest < floor:
            continue  # the look-ahead only ever lowers a score
        for child in range(np.int64(tree.first_child[node]), np.int64(tree.first_child[node + 1])):
            phone = np.int64(tree.phone[child])
            if (allowed >> np.uint64(phone)) & np.uint64(1) == 0:
                continue
            source = a if phone == last_phone else stronger  # the same phone again needs a blank between
            score = v.score[source] + log_probs[phone] + search.arc_score[child]
            if score < floor:
                continue
            link = v.link[source]
            if at_root:
                start = frame
                previous_end = v.last[source]
                acoustic = log_probs[phone]
            else:
                start = v.start[source]
                previous_end = v.previous_end[source]
                acoustic = v.acoustic[source] + log_probs[phone]
            if tree.child_mask[child] != 0:
                if score > best:
                    best = score
                    floor = max(floor, best - limit)
                c = _candidate(s, child, lm_state, phone)
                _offer(s, 2 * c + 1, score, link, -1, start, previous_end, frame, acoustic)
            for end in range(np.int64(tree.first_end[child]), np.int64(tree.first_end[child + 1])):
                word = np.int64(tree.end_word[end])
                log_prob, context, ngram, order = ngram_log_prob(lm, lm_state, word)
                total = np.float32(score + search.lm_weight * (log_prob - tree.look_ahead[child]) + search.word_score)
                if bonus.shape[0] > 0:
                    total += bonus[word]
                if total < floor:
                    continue
                if total > best:
                    best = total
                    floor = max(floor, best - limit)
                c = _candidate(s, ROOT, ngram_next(lm, context, ngram, order), phone)
                _offer(s, 2 * c + 1, total, link, word, start, previous_end, frame, acoustic)

    if s.counters[0] > search.beam:
        floor = max(floor, _shrink(s, search.beam))
    num_links = np.int64(v.header[NUM_LINKS])
    kept = 0
    for c in range(s.counters[0]):
        if max(s.score[2 * c], s.score[2 * c + 1]) < floor:
            continue
        v.node[kept] = s.node[c]
        v.lm_state[kept] = s.lm_state[c]
        v.phone[kept] = s.phone[c]
        for side in range(2):
            a = 2 * kept + side
            b = 2 * c + side
            v.score[a] = IMPOSSIBLE
            if s.score[b] <= IMPOSSIBLE:
                continue
            v.score[a] = s.score[b] - best
            v.start[a] = s.start[b]
            v.previous_end[a] = s.previous_end[b]
            v.last[a] = s.last[b]
            v.acoustic[a] = s.acoustic[b]
            v.link[a] = s.link[b]
            if s.word[b] >= 0:
                v.parent[num_links] = s.link[b]
                v.word[num_links] = s.word[b]
                v.word_start[num_links] = s.start[b]
                v.word_previous_end[num_links] = s.previous_end[b]
                v.word_acoustic[num_links] = s.acoustic[b] / np.float32(frame - s.start[b] + 1)
                v.link[a] = num_links
                num_links += 1
        kept += 1
    v.header[NUM_ALIVE] = kept
    v.header[NUM_LINKS] = num_links
    v.header[FRAME] += 1
    v.offset[0] += np.float64(best)


@njit(nogil=True, cache=True)
def _step_many(
    addresses: Any, bonus_addresses: Any, overlays: Any, log_probs: Any, first: Any, end: Any, missing: Any,
    s: Any, search: Any, tree: Any, lm: Any,
) -> None:  # fmt: skip
    """Steps stream b over frames first[b] .. end[b] of ``log_probs`` [B, T, V].

    Stops a stream whose history is full, with ``first`` at the frame to go on from and ``missing`` the room it needs.
    """
    for b in range(addresses.shape[0]):
        v = _stream_at(addresses[b], search.beam, search.arena)
        bonus_size = search.num_words if bonus_addresses[b] != 0 else 0
        bonus = carray(_pointer(bonus_addresses[b]), (bonus_size,), np.float32)
        own = _overlay_at(overlays[b])
        missing[b] = 0
        while first[b] < end[b]:
            frame = log_probs[b, first[b]]
            if frame[BLANK] >= search.blank_skip:
                _blank_frame(v, frame[BLANK])
            else:
                if v.header[NUM_LINKS] + search.beam > search.arena:  # one link a token
                    missing[b] = _make_room(v, s, search.arena)
                    if missing[b] > 0:
                        break
                _frame(v, s, search, tree, lm, bonus, own, frame)
            first[b] += 1


@njit(nogil=True, cache=True)
def _rank(
    address: Any, bonus_address: Any, overlay: Any, final: Any, s: Any, search: Any, tree: Any, lm: Any,
    scores: Any, paths: Any, words: Any,
) -> Any:  # fmt: skip
    """Lists the hypotheses: score, path, and the word it completes now, or -1; returns how many, and the stable words.

    ``final``: only those that end with a complete word, with the sentence end scored. Otherwise a path that might end
    a word here is left to its copy at the root, which has the word's score already.
    """
    v = _stream_at(address, search.beam, search.arena)
    bonus_size = search.num_words if bonus_address != 0 else 0
    bonus = carray(_pointer(bonus_address), (bonus_size,), np.float32)
    own = _overlay_at(overlay)
    count = 0
    for i in range(np.int64(v.header[NUM_ALIVE])):
        path = 2 * i if v.score[2 * i] >= v.score[2 * i + 1] else 2 * i + 1
        node = np.int64(v.node[i])
        lm_state = np.int64(v.lm_state[i])
        own_node = node - search.num_nodes  # below 0: in the lexicon's tree
        if own_node >= 0:
            first, end = np.int64(own.first_end[own_node]), np.int64(own.first_end[own_node + 1])
        else:
            first, end = np.int64(tree.first_end[node]), np.int64(tree.first_end[node + 1])
        if node == ROOT or (first == end and not final):
            scores[count] = v.score[path]
            if final:
                log_prob, next_state = ngram_score(lm, lm_state, search.eos)
                scores[count] += search.lm_weight * log_prob
            paths[count] = path
            words[count] = -1
            count += 1
        if not final:
            continue
        for at in range(first, end):
            if own_node >= 0:
                word, gain, next_state = _own_word(search, lm, own, lm_state, at)
                score = v.score[path] - own.look_ahead[own_node] + gain
            else:
                word = np.int64(tree.end_word[at])
                log_prob, next_state = ngram_score(lm, lm_state, word)
                score = v.score[path] + search.lm_weight * (log_prob - tree.look_ahead[node]) + search.word_score
                if bonus_size > 0:
                    score += bonus[word]
            log_prob, next_state = ngram_score(lm, next_state, search.eos)
            score += search.lm_weight * log_prob
            scores[count] = score
            paths[count] = path
            words[count] = word
            count += 1
    if count == 0 and not final:  # every such copy was dropped
        for i in range(np.int64(v.header[NUM_ALIVE])):
            paths[count] = 2 * i if v.score[2 * i] >= v.score[2 * i + 1] else 2 * i + 1
            scores[count] = v.score[paths[count]]
            words[count] = -1
            count += 1
    common, _ = _last_common_link(v, s.mark)
    return count, np.int64(v.header[NUM_HISTORY]) + _depth(v, common)


@njit(nogil=True, cache=True)
def _trace(address: Any, path: Any, word: Any, beam: Any, arena: Any, traced: Any, acoustic: Any) -> Any:
    """Writes the words of a path, and ``word`` if it completes one now, into ``traced`` [3, n] and ``acoustic`` [n].

    The rows are words, first frames and last frames. Returns how many there are; writes nothing if n is smaller.
    """
    v = _stream_at(address, beam, arena)
    num_history = np.int64(v.header[NUM_HISTORY])
    count = num_history + _depth(v, np.int64(v.link[path])) + (1 if word >= 0 else 0)
    if count > acoustic.shape[0]:
        return count
    at = count
    end = v.last[path] if v.node[path // 2] == ROOT else v.previous_end[path]
    if word >= 0:
        at -= 1
        start = v.start[path]
        traced[0, at] = word
        traced[1, at] = start
        traced[2, at] = v.last[path]
        acoustic[at] = v.acoustic[path] / np.float32(v.header[FRAME] - start)
    link = np.int64(v.link[path])
    while link >= 0:
        at -= 1
        traced[0, at] = v.word[link]
        traced[1, at] = v.word_start[link]
        traced[2, at] = end
        acoustic[at] = v.word_acoustic[link]
        end = v.word_previous_end[link]
        link = np.int64(v.parent[link])
    for at in range(num_history):
        traced[0, at] = v.history_word[at]
        traced[1, at] = v.history_start[at]
        traced[2, at] = v.history_end[at]
        acoustic[at] = v.history_acoustic[at]
    if num_history > 0:
        traced[2, num_history - 1] = end
    return count


@njit_uncounted()
def _agreement(address: Any, path: Any, s: Any, search: Any, share: Any) -> None:
    """Writes into ``share`` [n + 1] the probability of all paths that begin with the first 0 .. n words of ``path``
    behind the history.
    """
    v = _stream_at(address, search.beam, search.arena)
    link: Any = np.int64(v.link[path])
    depth = _depth(v, link)
    for at in range(depth - 1, -1, -1):
        s.target[at] = v.word[link]
        link = np.int64(v.parent[link])
    # mark: 2 x the depth to which a link agrees, + 1 if that is its own depth. Parents come before their children.
    for link in range(np.int64(v.header[NUM_LINKS])):
        above = s.mark[v.parent[link]] if v.parent[link] >= 0 else 1
        s.mark[link] = above
        if above % 2 == 1:
            agrees = above // 2 < depth and v.word[link] == s.target[above // 2]
            s.mark[link] = above + 2 if agrees else above - 1
    share[:] = 0.0
    for at in range(2 * np.int64(v.header[NUM_ALIVE])):
        if v.score[at] > IMPOSSIBLE:
            agreed = s.mark[v.link[at]] // 2 if v.link[at] >= 0 else 0
            share[agreed] += math.exp(v.score[at])
    for at in range(depth - 1, -1, -1):
        share[at] += share[at + 1]
    for at in range(depth, -1, -1):
        share[at] /= share[0]


@njit(nogil=True, cache=True)
def _frequent_words(tree: Any, unigrams: Any, most: Any) -> Any:
    """The ``most`` words at or below each node that are likeliest by themselves, best first; [K, most], -1 for none."""
    num_nodes = tree.phone.shape[0]
    frequent = np.full((num_nodes, most), -1, np.int32)
    for node in range(num_nodes - 1, ROOT, -1):  # children come after their parents
        for at in range(tree.first_end[node], tree.first_end[node + 1]):
            _insert(frequent[node], tree.end_word[at], unigrams)
        for child in range(tree.first_child[node], tree.first_child[node + 1]):
            for word in frequent[child]:
                if word >= 0:
                    _insert(frequent[node], word, unigrams)
    return frequent


@njit_uncounted()
def _insert(ranked: Any, word: Any, unigrams: Any) -> None:
    """Puts a word in its place among ``ranked``, unless it is there or the worst of them is better."""
    at = ranked.shape[0]
    for other in ranked:
        if other == word:
            return
    while at > 0 and (ranked[at - 1] < 0 or unigrams[ranked[at - 1]] < unigrams[word]):
        at -= 1
        if at + 1 < ranked.shape[0]:
            ranked[at + 1] = ranked[at]
        ranked[at] = word


@njit_uncounted()
def _forecast(search: Any, tree: Any, lm: Any, node: Any, lm_state: Any) -> Any:
    """What a path inside a word may expect of the language model for it, less what the look-ahead says.

    The look-ahead knows one word and no context; this is the sum over the likeliest words to come, in their context.
    """
    best = float(IMPOSSIBLE)
    total = 0.0
    for word in search.frequent[node]:
        if word < 0:
            break
        log_prob, _, _, _ = ngram_log_prob(lm, lm_state, np.int64(word))
        score = search.lm_weight * float(log_prob)
        if score > best:
            total = total * math.exp(best - score) + 1.0
            best = score
        else:
            total += math.exp(score - best)
    return best + math.log(total) + search.word_score - search.lm_weight * float(tree.look_ahead[node])


@njit_uncounted()
def _weigh_paths(v: Any, s: Any, search: Any, tree: Any, lm: Any) -> None:
    """Writes the weight of each path into ``path_weight``, and of all paths through each link into ``link_weight``."""
    alive = np.int64(v.header[NUM_ALIVE])
    best = float(IMPOSSIBLE)
    for path in range(2 * alive):
        best = max(best, float(v.score[path]))
    s.link_weight[: np.int64(v.header[NUM_LINKS])] = 0.0
    for i in range(alive):
        node = np.int64(v.node[i])
        forecast = 0.0
        if ROOT < node < search.num_nodes and max(v.score[2 * i], v.score[2 * i + 1]) > best - REACH:
            forecast = _forecast(search, tree, lm, node, np.int64(v.lm_state[i]))
        for path in range(2 * i, 2 * i + 2):
            s.path_weight[path] = 0.0
            if v.score[path] <= IMPOSSIBLE:
                continue
            score = float(v.score[path]) - best
            if node != ROOT:
                pause: Any = np.int64(v.header[FRAME]) - 1 - np.int64(v.last[path])
                score += forecast - PAUSE_COST * np.float64(max(pause - PAUSE_FRAMES, 0))
            s.path_weight[path] = math.exp(score)
            if v.link[path] >= 0:
                s.link_weight[v.link[path]] += s.path_weight[path]
    for link in range(np.int64(v.header[NUM_LINKS]) - 1, -1, -1):  # parents come before their children
        if v.parent[link] >= 0:
            s.link_weight[v.parent[link]] += s.link_weight[link]


@njit_uncounted()
def _likely(v: Any, s: Any, search: Any, tree: Any, lm: Any, share: Any) -> Any:
    """What is likeliest behind the history, word for word; a path that says so, and the number of these words, n.

    Writes their probabilities into ``share`` [n + 1], as `_agreement` does; nothing behind n if there is no room. A
    word is taken only if it is at least as likely as that there is none yet.
    """
    _weigh_paths(v, s, search, tree, lm)
    num_links = np.int64(v.header[NUM_LINKS])
    s.mark[:num_links] = 0  # the number of words that a link agrees on, if it agrees on its own
    weight = 0.0
    for path in range(2 * np.int64(v.header[NUM_ALIVE])):
        weight += s.path_weight[path]
    whole = weight
    share[0] = 1.0
    depth = 0
    while True:
        likeliest: Any = -1
        ended = weight
        for link in range(num_links):
            above = s.mark[v.parent[link]] if v.parent[link] >= 0 else 0
            if above == depth and (depth == 0) == (v.parent[link] < 0):
                word = np.int64(v.word[link])
                s.word_weight[word] += s.link_weight[link]
                ended -= s.link_weight[link]
                if likeliest < 0 or s.word_weight[word] > s.word_weight[likeliest]:
                    likeliest = word
        next_weight = s.word_weight[likeliest] if likeliest >= 0 else 0.0
        enough = next_weight > 0.0 and next_weight >= ended
        for link in range(num_links):
            above = s.mark[v.parent[link]] if v.parent[link] >= 0 else 0
            if above == depth and (depth == 0) == (v.parent[link] < 0):
                word = np.int64(v.word[link])
                s.word_weight[word] = 0.0
                if enough and word == likeliest:
                    s.mark[link] = depth + 1
        if not enough:
            break
        weight = next_weight
        depth += 1
        if depth < share.shape[0]:
            share[depth] = weight / whole
    for link in range(num_links):
        if s.mark[link] == 0 and v.parent[link] >= 0:
            s.mark[link] = s.mark[v.parent[link]]
    spokesman: Any = -1
    for path in range(2 * np.int64(v.header[NUM_ALIVE])):
        agreed = s.mark[v.link[path]] if v.link[path] >= 0 else 0
        if agreed == depth and (spokesman < 0 or s.path_weight[path] > s.path_weight[spokesman]):
            spokesman = path
    return spokesman, depth


class _Found(NamedTuple):
    """The best path of each of B streams, with room for R words."""

    num_words: Any  # int64 [B], as all of these
    num_history: Any
    num_stable: Any
    score: Any  # float32 [B]
    traced: Any  # int32 [B, 3, R], as `_trace` writes it; nothing if R is too small
    acoustic: Any  # float32 [B, R]
    share: Any  # float64 [B, R + 1], as `_agreement` writes it
    likely_words: Any  # int64 [B]; these and below: what `_likely` says, as the above
    likely_traced: Any
    likely_acoustic: Any
    likely_share: Any

    @classmethod
    def empty(cls, num_streams: int, room: int) -> _Found:
        """Room to be written to."""
        counts = np.empty((4, num_streams), np.int64)
        traced = np.empty((2, num_streams, 3, room), np.int32)
        acoustic = np.empty((2, num_streams, room), np.float32)
        share = np.empty((2, num_streams, room + 1))
        return cls(
            counts[0], counts[1], counts[2], np.empty(num_streams, np.float32), traced[0], acoustic[0], share[0],
            counts[3], traced[1], acoustic[1], share[1],
        )  # fmt: skip

    @property
    def most_words(self) -> int:
        """Room needed."""
        return int(max(self.num_words.max(initial=0), self.likely_words.max(initial=0)))


@njit(nogil=True, cache=True)
def _best_many(addresses: Any, overlays: Any, found: Any, s: Any, search: Any, tree: Any, lm: Any) -> None:
    scores = np.empty(search.beam, np.float32)
    paths = np.empty(search.beam, np.int32)
    words = np.empty(search.beam, np.int32)
    for b in range(addresses.shape[0]):
        v = _stream_at(addresses[b], search.beam, search.arena)
        count, stable = _rank(addresses[b], 0, overlays[b], False, s, search, tree, lm, scores, paths, words)
        best = np.argmax(scores[:count])
        path = np.int64(paths[best])
        found.score[b] = scores[best]
        found.num_stable[b] = stable
        found.num_history[b] = np.int64(v.header[NUM_HISTORY])
        found.num_words[b] = _trace(
            addresses[b], path, -1, search.beam, search.arena, found.traced[b], found.acoustic[b]
        )
        if found.num_words[b] <= found.acoustic.shape[1]:
            _agreement(addresses[b], path, s, search, found.share[b])
        path, likely = _likely(v, s, search, tree, lm, found.likely_share[b])
        traced = _trace(
            addresses[b], path, -1, search.beam, search.arena, found.likely_traced[b], found.likely_acoustic[b]
        )
        found.likely_words[b] = found.num_history[b] + likely if traced <= found.acoustic.shape[1] else traced


@njit(nogil=True, cache=True)
def _commit(address: Any, path: Any, num_words: Any, s: Any, search: Any) -> Any:
    """Drops every path that does not begin with the first ``num_words`` words of ``path``.

    The rest agrees, and its first words move to the history. Returns missing history room (nothing is done), or 0.
    """
    v = _stream_at(address, search.beam, search.arena)
    wanted = num_words - np.int64(v.header[NUM_HISTORY])
    link: Any = np.int64(v.link[path])
    depth = _depth(v, link)
    if wanted <= 0:
        return 0
    deepest = depth + 1
    for at in range(np.int64(v.header[NUM_LINKS])):  # parents come before their children
        s.mark[at] = 1 + (s.mark[v.parent[at]] if v.parent[at] >= 0 else 0)
        deepest = max(deepest, s.mark[at])
    missing = np.int64(v.header[NUM_HISTORY]) + deepest - np.int64(v.header[HISTORY_CAPACITY])
    if missing > 0:
        return missing
    while depth > wanted:
        link = np.int64(v.parent[link])
        depth -= 1
    last = link
    while link >= 0:
        depth -= 1
        s.target[depth] = v.word[link]
        link = np.int64(v.parent[link])
    # mark: the depth of links that agree, -1 for the others. Those at the depth wanted become one link, the first
    # of them since parents come before their children, with the times of `path`; what cannot follow these is dropped.
    first: Any = -1
    for link in range(np.int64(v.header[NUM_LINKS])):
        parent = np.int64(v.parent[link])
        above = s.mark[parent] if parent >= 0 else 0
        s.mark[link] = -1
        if above < 0 or (above < wanted and v.word[link] != s.target[above]):
            continue
        if above == wanted:
            if v.word_previous_end[link] < v.word_start[last]:
                continue
            v.parent[link] = first
        s.mark[link] = above + 1
        if above + 1 == wanted and first < 0:
            first = link
    for at in range(2 * np.int64(v.header[NUM_ALIVE])):
        link = np.int64(v.link[at])
        if v.score[at] <= IMPOSSIBLE:
            continue
        if link < 0 or s.mark[link] < wanted:
            v.score[at] = IMPOSSIBLE
        elif s.mark[link] == wanted:
            end = v.last[at] if v.node[at // 2] == ROOT else v.previous_end[at]
            if end < v.word_start[last]:
                v.score[at] = IMPOSSIBLE
            v.link[at] = first
    to: Any = first
    while to >= 0:
        v.word_start[to] = v.word_start[last]
        v.word_previous_end[to] = v.word_previous_end[last]
        v.word_acoustic[to] = v.word_acoustic[last]
        to = np.int64(v.parent[to])
        last = np.int64(v.parent[last])
    _drop_impossible(v)
    return _collect(v, s)


class Decoder:
    """Beam search shared by any number of streams; safe to use from several threads on different states.

    :raises InputError: the tree and the language model are not of the same words.
    """

    def __init__(self, tree: LexiconTree, ngram: NGram, options: DecoderOptions | None = None) -> None:
        options = options or DecoderOptions()
        if len(tree.words) != ngram.num_words:
            raise InputError(f"the lexicon has {len(tree.words)} words, the language model {ngram.num_words}")
        if ngram.vocabulary not in ("", vocabulary_fingerprint(tree.words)):
            raise InputError("the lexicon's words are others than the language model's, or in another order")
        self.tree = tree
        self.ngram = ngram
        self.options = options
        arrays = tree.arrays
        ends = np.diff(arrays.first_end).astype(np.int64)
        children = np.diff(arrays.first_child)
        parent = np.repeat(np.arange(tree.num_nodes), children)  # of nodes 1 ..
        fanout = np.bincount(parent, weights=1.0 + ends[1:], minlength=tree.num_nodes)
        self._most_ends = max(1, int(ends.max()))
        arc_score = np.zeros(tree.num_nodes, np.float32)
        arc_score[1:] = options.lm_weight * (arrays.look_ahead[1:] - arrays.look_ahead[parent])
        threshold = options.blank_skip_threshold
        self._search = _Search(
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
            frequent=_frequent_words(arrays, ngram.unigram_log_probs, WORDS_OF_NODE),
        )
        self._scratches = threading.local()

    def start(self, bonus: NDArray[np.float32] | None = None, overlay: Overlay | None = None) -> DecoderState:
        """A state before the first frame; ``bonus`` [W] is added to the score of each word as it ends.

        The words of ``overlay`` are searched for beside those of the lexicon.

        :raises InputError: the bonus is not one finite float32 a word.
        """
        search = self._search
        if bonus is not None:
            if bonus.shape != (search.num_words,) or not np.isfinite(bonus).all():
                raise InputError(f"the bonus must be {search.num_words} finite numbers")
            bonus = np.ascontiguousarray(bonus, np.float32)
        block = np.zeros(HEADER + 15 * search.beam + 5 * search.arena + 4 * FIRST_HISTORY, np.int32)
        block[NUM_ALIVE] = 1
        block[HISTORY_CAPACITY] = FIRST_HISTORY
        v = self._sections(block)
        v.node[0] = ROOT
        v.lm_state[0] = search.start_state
        v.score[1] = IMPOSSIBLE
        v.link[:2] = -1
        v.last[:2] = -1
        return DecoderState(block, bonus, overlay)

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
            _step_many(
                addresses, bonus, overlays, log_probs, first, end, missing,
                self._scratch(), self._search, self.tree.arrays, self.ngram.arrays,
            )  # fmt: skip
            for state, room in zip(states, missing.tolist(), strict=True):
                self._grow_history(state, room)

    def best(self, state: DecoderState) -> Hypothesis:
        """The best hypothesis so far, without the word being spoken unless it could end here; changes nothing."""
        return self.best_many([state])[0]

    def best_many(self, states: Sequence[DecoderState]) -> list[Hypothesis]:
        """`best` of several streams at once."""
        addresses = np.array([state.address for state in states], np.int64)
        overlays = np.array([state.overlay_address for state in states], np.int64)
        most = 64
        while True:
            found = _Found.empty(len(states), most)
            _best_many(
                addresses, overlays, found, self._scratch(), self._search, self.tree.arrays, self.ngram.arrays
            )  # fmt: skip
            most = found.most_words
            if most <= found.acoustic.shape[1]:
                break
        return [self._found(state, row, found) for row, state in enumerate(states)]

    def _found(self, state: DecoderState, row: int, found: _Found) -> Hypothesis:
        num_words, num_likely = int(found.num_words[row]), int(found.likely_words[row])
        num_history = int(found.num_history[row])
        share = found.share[row, 1 : num_words - num_history + 1].tolist()
        likelihood = found.likely_share[row, 1 : num_likely - num_history + 1].tolist()
        return Hypothesis(
            _decoded(found.traced[row, :, :num_words], found.acoustic[row, :num_words]),
            self._total(state, found.score[row]),
            int(found.num_stable[row]),
            [1.0, *share][-1],
            [1.0] * num_history + share,
            _decoded(found.likely_traced[row, :, :num_likely], found.likely_acoustic[row, :num_likely]),
            [1.0] * num_history + likelihood,
        )

    def commit(self, state: DecoderState, num_words: int) -> int:
        """Makes the first ``num_words`` words of `best` stable now, dropping all paths without them.

        Returns how many words are stable; fewer than asked for if `best` has fewer words.
        """
        scores, paths, _, stable = self._ranked(state, final=False)
        path = int(paths[np.argmax(scores)])
        num_words = min(num_words, self._traced(state, path)[0].shape[1])
        if num_words <= stable:
            return stable
        while True:
            room = int(_commit(state.address, path, num_words, self._scratch(), self._search))
            if not room:
                return self._ranked(state, final=False)[3]
            self._grow_history(state, room)

    def finish(self, state: DecoderState, nbest: int = 1) -> list[Hypothesis]:
        """Up to ``nbest`` different hypotheses of complete words, best first, sentence end scored; changes nothing.

        At least one: if no path is at the end of a word, the best path without its open word.
        """
        scores, paths, words, stable = self._ranked(state, final=True)
        if not len(scores):
            scores, paths, words, stable = self._ranked(state, final=False)
            top = np.argsort(-scores, kind="stable")[:1]
        else:
            top = np.argsort(-scores, kind="stable")
        found: dict[bytes, tuple[list[DecodedWord], float]] = {}
        for at in top[:MOST_RANKED].tolist():
            traced, acoustic = self._traced(state, int(paths[at]), int(words[at]))
            key = traced[0].tobytes()
            if key not in found:
                found[key] = (_decoded(traced, acoustic), self._total(state, scores[at]))
            if len(found) >= max(nbest, NBEST_FOR_CONFIDENCE):
                break
        ranked = list(found.values())
        logits = np.array([score for _, score in ranked]) / max(1.0, self.options.lm_weight)
        posteriors = np.exp(logits - logits.max())
        posteriors /= posteriors.sum()
        results = []
        for (decoded, score), posterior in zip(ranked[: max(1, nbest)], posteriors.tolist(), strict=False):
            rivals = [other[stable:] for other, _ in ranked]
            votes = [1.0] * stable + _votes(decoded[stable:], rivals, posteriors)
            rated = [
                word._replace(vote=vote, confidence=self._confidence(word.acoustic, vote))
                for word, vote in zip(decoded, votes, strict=True)
            ]
            results.append(Hypothesis(rated, score, stable, posterior))
        return results

    def warm_up(self) -> None:
        """Compiles, or loads from the cache, everything a stream needs."""
        state = self.start(np.zeros(self._search.num_words, np.float32))
        self.step(state, np.full((2, NUM_TOKENS), -math.log(NUM_TOKENS), np.float32))
        self.commit(state, 1)
        self.best(state)
        _commit(state.address, 0, 0, self._scratch(), self._search)
        self.finish(state)

    def _scratch(self) -> _Scratch:
        scratch: _Scratch | None = getattr(self._scratches, "scratch", None)
        if scratch is None:
            search = self._search
            size = 4 * search.beam + search.max_fanout
            table_size = 1 << (2 * size - 1).bit_length()

            def integers(count: int) -> NDArray[np.int32]:
                return np.zeros(count, np.int32)

            scratch = _Scratch(
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
                np.zeros(2 * search.beam),
                np.zeros(search.arena + 1),
                np.zeros(search.num_words + MAX_OVERLAY_PRONUNCIATIONS),
            )
            self._scratches.scratch = scratch
        return scratch

    def _sections(self, block: NDArray[np.int32]) -> _Stream:
        stream: _Stream = _sections.py_func(block, self._search.beam, self._search.arena)
        return stream

    def _grow_history(self, state: DecoderState, room: int) -> None:
        if not room:
            return
        old = int(state.block[HISTORY_CAPACITY])
        new = old + max(room, old // 4)
        at = len(state.block) - 4 * old
        history = np.zeros((4, new), np.int32)
        history[:, :old] = state.block[at:].reshape(4, old)
        state.block = np.concatenate([state.block[:at], history.reshape(-1)])
        state.block[HISTORY_CAPACITY] = new

    def _ranked(
        self, state: DecoderState, final: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32], int]:
        most_ends = self._most_ends if state.overlay is None else max(self._most_ends, state.overlay.most_ends)
        size = state.num_tokens * most_ends
        scores, paths, words = np.empty(size, np.float32), np.empty(size, np.int32), np.empty(size, np.int32)
        count, stable = _rank(
            state.address, state.bonus_address, state.overlay_address, final,
            self._scratch(), self._search, self.tree.arrays, self.ngram.arrays, scores, paths, words,
        )  # fmt: skip
        return scores[:count], paths[:count], words[:count], int(stable)

    def _confidence(self, acoustic: float, vote: float) -> float:
        options = self.options
        logit = options.confidence_bias + options.confidence_acoustic * min(acoustic, 0.0)
        logit += options.confidence_vote * log_odds(vote)
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))

    def _total(self, state: DecoderState, score: np.floating[Any]) -> float:
        offset = state.block[SCORE_OFFSET : SCORE_OFFSET + 2].view(np.float64)[0]
        return float(offset) + float(score)

    def _traced(self, state: DecoderState, path: int, word: int = -1) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The words, first and last frames [3, n], and the acoustic scores [n] of a path."""
        search = self._search
        room = 64
        while True:
            traced, acoustic = np.empty((3, room), np.int32), np.empty(room, np.float32)
            count = int(_trace(state.address, path, word, search.beam, search.arena, traced, acoustic))
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
