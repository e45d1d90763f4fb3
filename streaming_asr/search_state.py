"""Owns what the compiled search keeps of one stream: its array, its finished words, and what they have in common.

A stream is one int32 array, so that compiled code takes many of them by address in a single call. Its sections, B =
beam, A = arena, H = history capacity:
header [HEADER] | tokens: 3 x [B], 6 x [2 B] | links: 6 x [A] | word nodes: 4 x [NODES] | history: 4 x [H].
Entry 2 i of a token section is the path of token i that ends in blank, entry 2 i + 1 the one that ends in a phone.
Finished words are links in an arena of fixed size; what all tokens agree on moves out of it into the history, and is
stable from then on. Where words are scored again (see `rescoring`) a link has the number of a word node, which stands
for all words up to it, whenever they were said; the history then goes no further than words that are scored.

Must not know how tokens are made: see `beam_search`; nor who holds these arrays: see `decoder`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from streaming_asr.compiled import njit_cached, njit_uncounted

# Header of a stream; the score taken off all tokens so far is the float64 at SCORE_OFFSET.
NUM_ALIVE, NUM_LINKS, FRAME, NUM_HISTORY, HISTORY_CAPACITY = range(5)
HISTORY_NODE = 5  # the word node of the history
RESCORES = 6  # 1 if words are scored again, else 0
SCORE_OFFSET = 8
HEADER = 16
# Word nodes: within 5 nats of the best path one step in a hundred has more than 49. `rescoring` has a bit for each.
NODES = 64
FREE = -2  # in place of a node's word
UNSCORED = -1  # in place of a link's node
IMPOSSIBLE = np.float32(-1e30)  # a score that no threshold lets through


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
    word_node: Any  # `UNSCORED`; while it is being scored -2 - node
    node_parent: Any  # [NODES], as all below; the node of the words before, FREE once that is given up
    node_word: Any
    node_lm_state: Any
    node_gain: Any  # float32; what its word's score has changed by
    history_word: Any  # [H], as all below
    history_start: Any
    history_end: Any  # of the last word: not known yet
    history_acoustic: Any  # float32


class OverlayTree(NamedTuple):
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
    target_node: NDArray[np.int32]  # [A + 1]
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


@njit_cached()
def block_size(beam: Any, arena: Any, history: Any) -> Any:
    """Of a stream's block, in int32."""
    return HEADER + 15 * beam + 6 * arena + 4 * NODES + 4 * history


@njit_cached()
def sections(block: Any, beam: Any, arena: Any) -> Any:
    """The sections of a stream's block, as views."""
    capacity = np.int64(block[HISTORY_CAPACITY])
    a = HEADER
    b = a + 3 * beam
    c = b + 12 * beam
    d = c + 6 * arena
    e = d + 4 * NODES
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
        block[c + 4 * arena : c + 5 * arena].view(np.float32),
        block[c + 5 * arena : d],
        block[d : d + NODES],
        block[d + NODES : d + 2 * NODES],
        block[d + 2 * NODES : d + 3 * NODES],
        block[d + 3 * NODES : e].view(np.float32),
        block[e : e + capacity],
        block[e + capacity : e + 2 * capacity],
        block[e + 2 * capacity : e + 3 * capacity],
        block[e + 3 * capacity : e + 4 * capacity].view(np.float32),
    )


@njit_cached()
def stream_at(address: Any, beam: Any, arena: Any) -> Any:
    """The sections of the block at an address."""
    header = carray(_pointer(address), (HEADER,), np.int32)
    size = block_size(beam, arena, np.int64(header[HISTORY_CAPACITY]))
    return sections(carray(_pointer(address), (size,), np.int32), beam, arena)


@njit_cached()
def overlay_at(address: Any) -> Any:
    """The overlay at an address."""
    header = carray(_pointer(address), (3,), np.int32)
    nodes: Any = np.int64(header[0])
    a = 3 + nodes + 1
    b = a + nodes + 1
    c = b + nodes
    d = c + nodes
    e = d + np.int64(header[1])
    end: Any = e + np.int64(header[2])
    block = carray(_pointer(address), (end,), np.int32)
    return OverlayTree(
        block[3:a],
        block[a:b],
        block[b:c],
        block[c:d].view(np.float32),
        block[d:e],
        block[e:end].view(np.float32),
    )


@njit_cached()
def bonus_at(address: Any, num_words: Any) -> Any:
    """A stream's bonus for each word; none, [0], if the address is 0."""
    return carray(_pointer(address), (num_words if address != 0 else 0,), np.float32)


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


@njit_uncounted()
def copy_path(v: Any, to: Any, source: Any) -> None:
    """Puts one path in the place of another, among a stream's or in a frame's scratch."""
    v.score[to] = v.score[source]
    v.link[to] = v.link[source]
    v.start[to] = v.start[source]
    v.previous_end[to] = v.previous_end[source]
    v.last[to] = v.last[source]
    v.acoustic[to] = v.acoustic[source]


@njit_uncounted()
def drop_impossible(v: Any) -> None:
    """Closes the gaps that tokens without a possible path leave."""
    kept = 0
    for i in range(np.int64(v.header[NUM_ALIVE])):
        if max(v.score[2 * i], v.score[2 * i + 1]) <= IMPOSSIBLE:
            continue
        if kept < i:
            v.node[kept] = v.node[i]
            v.lm_state[kept] = v.lm_state[i]
            v.phone[kept] = v.phone[i]
            copy_path(v, 2 * kept, 2 * i)
            copy_path(v, 2 * kept + 1, 2 * i + 1)
        kept += 1
    v.header[NUM_ALIVE] = kept


@njit_uncounted()
def last_common_link(v: Any, mark: Any) -> Any:
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
    return common


@njit_uncounted()
def depth_of(v: Any, link: Any) -> Any:
    """The number of words from the history to a link."""
    depth = 0
    while link >= 0:
        depth += 1
        link = np.int64(v.parent[link])
    return depth


@njit_uncounted()
def collect(v: Any, s: Any) -> Any:
    """Moves what is common to the history and closes gaps in the arena; returns the room missing for it, or 0."""
    common: Any = last_common_link(v, s.mark)
    while common >= 0 and v.header[RESCORES] and v.word_node[common] == UNSCORED:
        common = np.int64(v.parent[common])
    num_links = np.int64(v.header[NUM_LINKS])
    num_history = np.int64(v.header[NUM_HISTORY])
    length = depth_of(v, common)
    missing = num_history + length - np.int64(v.header[HISTORY_CAPACITY])
    if missing > 0:
        return missing
    if common >= 0 and v.header[RESCORES]:
        v.header[HISTORY_NODE] = v.word_node[common]
    link: Any = common
    after = -1
    at = num_history + length
    while link >= 0:
        at -= 1
        s.mark[link] = 0
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
        if s.mark[link] > 0:
            parent = np.int64(v.parent[link])
            v.parent[kept] = s.mark[parent] if parent >= 0 else -1
            v.word[kept] = v.word[link]
            v.word_start[kept] = v.word_start[link]
            v.word_previous_end[kept] = v.word_previous_end[link]
            v.word_acoustic[kept] = v.word_acoustic[link]
            v.word_node[kept] = v.word_node[link]
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
def make_room(v: Any, s: Any, arena: Any) -> Any:
    """Empties at least half of the arena, if need be by dropping tokens; returns missing history room, or 0."""
    while True:
        missing = collect(v, s)
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
        drop_impossible(v)
