"""Owns what is read out of the compiled search: best and likeliest words, whole hypotheses, and what is settled.

Steps are `beam_search`'s, arrays `search_state`'s. What is *likely* is what all paths together say, word for word,
whichever path is best: docs/experiments.md, "Partials".
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from streaming_asr.compiled import njit_cached, njit_uncounted
from streaming_asr.lexicon import ROOT
from streaming_asr.ngram import ngram_log_prob, ngram_score
from streaming_asr.search_state import (
    FRAME,
    HISTORY_CAPACITY,
    IMPOSSIBLE,
    NUM_ALIVE,
    NUM_HISTORY,
    NUM_LINKS,
    UNSCORED,
    collect,
    depth_of,
    drop_impossible,
    last_common_link,
    overlay_at,
    stream_at,
)

WORDS_OF_NODE = 8  # that a path inside a word is taken to lead to
REACH = 6.0  # nats below the best, within which that is worth reckoning
PAUSE_FRAMES = 3  # of blank that may part two sounds of a word,
PAUSE_COST = 1.0  # and nats for each one more


@njit_uncounted()
def _best_path(v: Any, search: Any, tree: Any, own: Any) -> Any:
    """The best path. One that might end a word here is left to its copy at the root, which has the word's score."""
    best: Any = -1
    best_ends_word = False
    for i in range(np.int64(v.header[NUM_ALIVE])):
        path = 2 * i if v.score[2 * i] >= v.score[2 * i + 1] else 2 * i + 1
        node = np.int64(v.node[i])
        if node >= search.num_nodes:
            ends_word = own.first_end[node - search.num_nodes] < own.first_end[node - search.num_nodes + 1]
        else:
            ends_word = node != ROOT and tree.first_end[node] < tree.first_end[node + 1]
        if best < 0 or best_ends_word > ends_word or (best_ends_word == ends_word and v.score[path] > v.score[best]):
            best = path
            best_ends_word = ends_word  # to be taken only if every such copy was dropped
    return best


@njit_uncounted()
def _num_stable(v: Any, s: Any) -> Any:
    """The number of words on which all paths agree."""
    return np.int64(v.header[NUM_HISTORY]) + depth_of(v, last_common_link(v, s.mark))


@njit_cached()
def best_path(address: Any, overlay: Any, s: Any, search: Any, tree: Any) -> Any:
    """The best path, its score, and the number of stable words."""
    v = stream_at(address, search.beam, search.arena)
    path = _best_path(v, search, tree, overlay_at(overlay))
    return path, v.score[path], _num_stable(v, s)


@njit_cached()
def rank(address: Any, search: Any, lm: Any, scores: Any, paths: Any) -> Any:
    """Lists the paths that end with a complete word, n of them, and returns n.

    Writes into ``scores`` and ``paths``, both [n or more], the score of each with the sentence end, and the path.
    """
    v = stream_at(address, search.beam, search.arena)
    count = 0
    for i in range(np.int64(v.header[NUM_ALIVE])):
        if v.node[i] == ROOT:
            path = 2 * i if v.score[2 * i] >= v.score[2 * i + 1] else 2 * i + 1
            log_prob, _ = ngram_score(lm, np.int64(v.lm_state[i]), search.eos)
            scores[count] = v.score[path] + search.lm_weight * log_prob
            paths[count] = path
            count += 1
    return count


@njit_uncounted()
def _trace(v: Any, path: Any, traced: Any, acoustic: Any) -> Any:
    """Writes the words of a path into ``traced`` [3, n] and ``acoustic`` [n].

    The rows are words, first frames and last frames. Returns how many there are; writes nothing if n is smaller.
    """
    num_history = np.int64(v.header[NUM_HISTORY])
    count = num_history + depth_of(v, np.int64(v.link[path]))
    if count > acoustic.shape[0]:
        return count
    at = count
    end = v.last[path] if v.node[path // 2] == ROOT else v.previous_end[path]
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


@njit_cached()
def trace(address: Any, path: Any, search: Any, traced: Any, acoustic: Any) -> Any:
    """`_trace` of the stream at an address."""
    return _trace(stream_at(address, search.beam, search.arena), path, traced, acoustic)


@njit_uncounted()
def _agreement(v: Any, path: Any, s: Any, share: Any) -> None:
    """Writes into ``share`` [n + 1] the probability of all paths that begin with the first 0 .. n words of ``path``
    behind the history.
    """
    link: Any = np.int64(v.link[path])
    depth = depth_of(v, link)
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


class Found(NamedTuple):
    """What each of B streams has, with room for R words."""

    num_words: Any  # int64 [B], as all of these; of the best path
    num_history: Any
    num_stable: Any
    score: Any  # float64 [B]
    traced: Any  # int32 [B, 3, R], as `_trace` writes it; nothing if R is too small
    share: Any  # float64 [B, R + 1], as `_agreement` writes it
    likely_words: Any  # int64 [B]; these and below: what `_likely` says, as the above
    likely_traced: Any
    likely_share: Any
    acoustic: Any  # float32 [R]; for `_trace` to write to

    @classmethod
    def empty(cls, num_streams: int, room: int) -> Found:
        """Room to be written to."""
        counts = np.empty((4, num_streams), np.int64)
        traced = np.empty((2, num_streams, 3, room), np.int32)
        share = np.empty((2, num_streams, room + 1))
        return cls(
            counts[0], counts[1], counts[2], np.empty(num_streams), traced[0], share[0],
            counts[3], traced[1], share[1], np.empty(room, np.float32),
        )  # fmt: skip

    @property
    def room(self) -> int:
        """R."""
        return len(self.acoustic)

    @property
    def most_words(self) -> int:
        """Room needed."""
        return int(max(self.num_words.max(initial=0), self.likely_words.max(initial=0)))


@njit_cached()
def best_many(addresses: Any, overlays: Any, found: Any, s: Any, search: Any, tree: Any, lm: Any) -> None:
    """Writes into ``found`` the best path of each stream, and what is likeliest by all of its paths."""
    for b in range(addresses.shape[0]):
        v = stream_at(addresses[b], search.beam, search.arena)
        path = _best_path(v, search, tree, overlay_at(overlays[b]))
        found.score[b] = v.offset[0] + v.score[path]
        found.num_stable[b] = _num_stable(v, s)
        found.num_history[b] = np.int64(v.header[NUM_HISTORY])
        found.num_words[b] = _trace(v, path, found.traced[b], found.acoustic)
        if found.num_words[b] <= len(found.acoustic):
            _agreement(v, path, s, found.share[b])
        path, likely = _likely(v, s, search, tree, lm, found.likely_share[b])
        traced = _trace(v, path, found.likely_traced[b], found.acoustic)
        found.likely_words[b] = found.num_history[b] + likely if traced <= len(found.acoustic) else traced


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


@njit_cached()
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


@njit_cached()
def commit(address: Any, overlay: Any, num_words: Any, s: Any, search: Any, tree: Any) -> Any:
    """Drops every path that does not begin with the first ``num_words`` words of the best one, or all of its words.

    The rest agrees, and its first words move to the history. Returns missing history room (nothing is done), or 0.
    """
    v = stream_at(address, search.beam, search.arena)
    link: Any = np.int64(v.link[_best_path(v, search, tree, overlay_at(overlay))])
    depth = depth_of(v, link)
    wanted: Any = min(num_words - np.int64(v.header[NUM_HISTORY]), depth)
    if wanted <= 0:
        return collect(v, s)
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
    # mark: the depth of links that agree, -1 for the others; node: the word nodes of the words wanted.
    num_links = np.int64(v.header[NUM_LINKS])
    s.target_node[:wanted] = UNSCORED
    first: Any = -1
    for link in range(num_links):
        parent = np.int64(v.parent[link])
        above = s.mark[parent] if parent >= 0 else 0
        s.mark[link] = -1
        if above < 0 or (above < wanted and v.word[link] != s.target[above]):
            continue
        if above == wanted and v.word_previous_end[link] < v.word_start[last]:
            continue
        s.mark[link] = above + 1
        if above + 1 == wanted and first < 0:
            first = link
        if above < wanted and v.word_node[link] != UNSCORED:
            s.target_node[above] = v.word_node[link]
    # Those at the depth wanted become one link, the first of them since parents come before their children, with the
    # best path's times; what cannot follow these is dropped. A word that is scored again on one path then is on all.
    for link in range(num_links):
        if s.mark[link] < 0:
            continue
        parent = np.int64(v.parent[link])
        depth = s.mark[link] - 1
        s.link_weight[link] = s.link_weight[parent] if parent >= 0 else 0.0
        if depth < wanted and v.word_node[link] == UNSCORED and s.target_node[depth] != UNSCORED:
            s.link_weight[link] += v.node_gain[s.target_node[depth]]
        if depth == wanted:
            v.parent[link] = first
    for at in range(2 * np.int64(v.header[NUM_ALIVE])):
        link = np.int64(v.link[at])
        if v.score[at] <= IMPOSSIBLE:
            continue
        if link < 0 or s.mark[link] < wanted:
            v.score[at] = IMPOSSIBLE
            continue
        v.score[at] += np.float32(s.link_weight[link])
        if s.mark[link] == wanted:
            end = v.last[at] if v.node[at // 2] == ROOT else v.previous_end[at]
            if end < v.word_start[last]:
                v.score[at] = IMPOSSIBLE
            v.link[at] = first
    to: Any = first
    depth = wanted
    while to >= 0:
        depth -= 1
        v.word_node[to] = s.target_node[depth]
        v.word_start[to] = v.word_start[last]
        v.word_previous_end[to] = v.word_previous_end[last]
        v.word_acoustic[to] = v.word_acoustic[last]
        to = np.int64(v.parent[to])
        last = np.int64(v.parent[last])
    drop_impossible(v)
    return collect(v, s)
