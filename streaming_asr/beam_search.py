"""Owns the compiled search: token passing over flat arrays, many streams a call, without the GIL.

CTC beam search over the lexicon tree with the n-gram model, in the Viterbi approximation (Hannun et al. 2014; Collobert
et al. 2016): a token is (tree node, language model state, last phone if at the root), with one score for paths that end
in blank and one for paths that end in a phone. When a path enters the last phone of a word, a copy of it, with the word
scored, goes to the root. Finished words are links in an arena of fixed size; what all tokens agree on moves out of it
into the history, and is stable from then on. Words that only one stream knows are in a second tree from the same root.

A stream is one int32 array, so that compiled code takes many of them by address in a single call. Its sections, B =
beam, A = arena, H = history capacity:
header [HEADER] | tokens: 3 x [B], 6 x [2 B] | links: 5 x [A] | history: 4 x [H].
Entry 2 i of a token section is the path of token i that ends in blank, entry 2 i + 1 the one that ends in a phone.

Must not know who holds these arrays: see `decoder`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from streaming_asr.compiled import njit_uncounted
from streaming_asr.lexicon import ROOT
from streaming_asr.ngram import ngram_log_prob, ngram_next, ngram_score
from streaming_asr.tokens import BLANK

# Header of a stream; the score taken off all tokens so far is the float64 at SCORE_OFFSET.
NUM_ALIVE, NUM_LINKS, FRAME, NUM_HISTORY, HISTORY_CAPACITY = range(5)
SCORE_OFFSET = 8
HEADER = 16
IMPOSSIBLE = np.float32(-1e30)  # a score that no threshold lets through
# What is likely (`_likely`), as the search goes on: docs/experiments.md, "Partials".
WORDS_OF_NODE = 8  # that a path inside a word is taken to lead to
REACH = 6.0  # nats below the best, within which that is worth reckoning
PAUSE_FRAMES = 3  # of blank that may part two sounds of a word,
PAUSE_COST = 1.0  # and nats for each one more


class Sections(NamedTuple):
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


class Scratch(NamedTuple):
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


class Search(NamedTuple):
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
def sections(block: Any, beam: Any, arena: Any) -> Any:
    """The sections of a stream's block, as views."""
    capacity = np.int64(block[HISTORY_CAPACITY])
    a = HEADER
    b = a + 3 * beam
    c = b + 12 * beam
    d = c + 5 * arena
    pair = 2 * beam
    return Sections(
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
    return sections(carray(_pointer(address), (size,), np.int32), beam, arena)


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
def kth_best(values: Any, count: Any, k: Any) -> Any:
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
    cut = kth_best(s.ranking, count, beam)
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
        cut = kth_best(s.ranking, 2 * alive, keep)
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
def step_many(
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
def rank(
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
def trace(address: Any, path: Any, word: Any, beam: Any, arena: Any, traced: Any, acoustic: Any) -> Any:
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
def frequent_words(tree: Any, unigrams: Any, most: Any) -> Any:
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


class Found(NamedTuple):
    """The best path of each of B streams, with room for R words."""

    num_words: Any  # int64 [B], as all of these
    num_history: Any
    num_stable: Any
    score: Any  # float32 [B]
    traced: Any  # int32 [B, 3, R], as `trace` writes it; nothing if R is too small
    acoustic: Any  # float32 [B, R]
    share: Any  # float64 [B, R + 1], as `_agreement` writes it
    likely_words: Any  # int64 [B]; these and below: what `_likely` says, as the above
    likely_traced: Any
    likely_acoustic: Any
    likely_share: Any

    @classmethod
    def empty(cls, num_streams: int, room: int) -> Found:
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
def best_many(addresses: Any, overlays: Any, found: Any, s: Any, search: Any, tree: Any, lm: Any) -> None:
    """Writes into ``found`` the best path of each stream, and what is likeliest by all of its paths."""
    scores = np.empty(search.beam, np.float32)
    paths = np.empty(search.beam, np.int32)
    words = np.empty(search.beam, np.int32)
    for b in range(addresses.shape[0]):
        v = _stream_at(addresses[b], search.beam, search.arena)
        count, stable = rank(addresses[b], 0, overlays[b], False, s, search, tree, lm, scores, paths, words)
        best = np.argmax(scores[:count])
        path = np.int64(paths[best])
        found.score[b] = scores[best]
        found.num_stable[b] = stable
        found.num_history[b] = np.int64(v.header[NUM_HISTORY])
        found.num_words[b] = trace(
            addresses[b], path, -1, search.beam, search.arena, found.traced[b], found.acoustic[b]
        )
        if found.num_words[b] <= found.acoustic.shape[1]:
            _agreement(addresses[b], path, s, search, found.share[b])
        path, likely = _likely(v, s, search, tree, lm, found.likely_share[b])
        traced = trace(
            addresses[b], path, -1, search.beam, search.arena, found.likely_traced[b], found.likely_acoustic[b]
        )
        found.likely_words[b] = found.num_history[b] + likely if traced <= found.acoustic.shape[1] else traced


@njit(nogil=True, cache=True)
def commit(address: Any, path: Any, num_words: Any, s: Any, search: Any) -> Any:
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
