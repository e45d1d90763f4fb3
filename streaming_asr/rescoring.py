"""Owns how the words of a search are scored again, by a language model that sees all words before them.

The search itself knows an n-gram model. Every `EVERY_FRAMES` frames the words that its good paths have found since
get their scores corrected, where they stand: paths go on, or fall behind, by what the better model says. A word after
the same words is scored once, whenever it was said: that is a *word node*, kept while a path has its word.

Must not know what network that is (`neural_lm`), nor who holds the streams (`decoder`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streaming_asr.compiled import njit_cached
from streaming_asr.ngram import ngram_score
from streaming_asr.search_state import (
    FREE,
    HISTORY_NODE,
    IMPOSSIBLE,
    NODES,
    NUM_ALIVE,
    NUM_LINKS,
    UNSCORED,
    stream_at,
)

EVERY_FRAMES = 4  # two steps of the network
STREAM, NODE, BEFORE, WORD = range(4)  # columns of a request
COLUMNS = 4


@njit_cached()
def unscored(addresses: Any, share: Any, reach: Any, s: Any, search: Any, lm: Any, requests: Any) -> Any:
    """Finds the words to be scored on paths within ``reach`` nats of a stream's best; returns the number of requests.

    Each is a row of ``requests`` [N, 4]: stream, its new node, the node before, the word. The new node's gain is what
    the n-gram model's share, ``share`` of its log probability instead of ``lm_weight`` of it, changes.
    Words whose node is there already need no request. Give all that were found their scores with `rescore`.
    """
    count = 0
    best = s.link_weight
    for b in range(addresses.shape[0]):
        v = stream_at(addresses[b], search.beam, search.arena)
        num_links = np.int64(v.header[NUM_LINKS])
        best[:num_links] = IMPOSSIBLE
        top = float(IMPOSSIBLE)
        for path in range(2 * np.int64(v.header[NUM_ALIVE])):
            score = float(v.score[path])
            top = max(top, score)
            if v.link[path] >= 0:
                best[v.link[path]] = max(best[v.link[path]], score)
        for link in range(num_links - 1, -1, -1):  # parents come before their children
            if v.parent[link] >= 0:
                best[v.parent[link]] = max(best[v.parent[link]], best[link])
        _free_unused(v, best)
        for link in range(num_links):
            if v.word_node[link] != UNSCORED or best[link] < top - reach:
                continue
            before: Any = np.int64(v.header[HISTORY_NODE])
            if v.parent[link] >= 0:
                before = np.int64(v.word_node[v.parent[link]])
            if before < 0:
                continue  # next time, when it has a score itself
            word = np.int64(v.word[link])
            node = _find(v, before, word)
            if node < 0:
                node = _find(v, FREE, FREE)
                if node < 0:
                    continue  # when there is room
                known: Any = word if word < search.num_words else search.unk
                log_prob, next_state = ngram_score(lm, np.int64(v.node_lm_state[before]), known)
                v.node_parent[node] = before
                v.node_word[node] = word
                v.node_lm_state[node] = next_state
                v.node_gain[node] = (share - search.lm_weight) * log_prob
                requests[count, STREAM] = b
                requests[count, NODE] = node
                requests[count, BEFORE] = before
                requests[count, WORD] = word
                count += 1
            v.word_node[link] = -2 - node
    return count


@njit_cached()
def _free_unused(v: Any, best: Any) -> None:
    """Gives up the nodes that no possible path has, but for that of the history."""
    in_use = np.uint64(1) << np.uint64(v.header[HISTORY_NODE])
    for link in range(np.int64(v.header[NUM_LINKS])):
        if best[link] > IMPOSSIBLE and v.word_node[link] >= 0:
            in_use |= np.uint64(1) << np.uint64(v.word_node[link])
    for node in range(NODES):
        if v.node_word[node] != FREE and (in_use >> np.uint64(node)) & np.uint64(1) == 0:
            v.node_word[node] = FREE
            v.node_parent[node] = FREE
            for other in range(NODES):
                if v.node_parent[other] == node:
                    v.node_parent[other] = FREE


@njit_cached()
def _find(v: Any, parent: Any, word: Any) -> Any:
    for node in range(NODES):
        if v.node_word[node] == word and v.node_parent[node] == parent:
            return node
    return -1


@njit_cached()
def rescore(addresses: Any, weight: Any, s: Any, search: Any, requests: Any, log_probs: Any) -> Any:
    """Adds ``weight`` times ``log_probs`` [N] to the gains of requested nodes, and gains to paths with their words.

    Words beside the lexicon keep their scores. Returns the number of words on paths that got theirs.
    """
    count = 0
    for n in range(log_probs.shape[0]):
        v = stream_at(addresses[requests[n, STREAM]], search.beam, search.arena)
        if requests[n, WORD] < search.num_words:
            v.node_gain[requests[n, NODE]] += weight * log_probs[n]
        else:
            v.node_gain[requests[n, NODE]] = 0.0
    gain = s.link_weight
    for b in range(addresses.shape[0]):
        v = stream_at(addresses[b], search.beam, search.arena)
        found = 0
        for link in range(np.int64(v.header[NUM_LINKS])):
            gain[link] = gain[v.parent[link]] if v.parent[link] >= 0 else 0.0
            if v.word_node[link] < UNSCORED:
                v.word_node[link] = -2 - v.word_node[link]
                gain[link] += v.node_gain[v.word_node[link]]
                found += 1
        count += found
        if found > 0:
            for path in range(2 * np.int64(v.header[NUM_ALIVE])):
                if v.link[path] >= 0 and v.score[path] > IMPOSSIBLE:
                    v.score[path] += np.float32(gain[v.link[path]])
    return count
