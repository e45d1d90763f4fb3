"""Owns the steps of the compiled search: token passing over flat arrays, many streams a call, without the GIL.

CTC beam search over the lexicon tree with the n-gram model, in the Viterbi approximation (Hannun et al. 2014; Collobert
et al. 2016): a token is (tree node, language model state, last phone if at the root), with one score for paths that end
in blank and one for paths that end in a phone. When a path enters the last phone of a word, a copy of it, with the word
scored, goes to the root. Words that only one stream knows are in a second tree from the same root.

`search_state` has the arrays, `search_results` what is read out of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streaming_asr.compiled import njit_cached, njit_uncounted
from streaming_asr.lexicon import ROOT
from streaming_asr.ngram import ngram_log_prob, ngram_next, ngram_score
from streaming_asr.search_state import (
    FRAME,
    IMPOSSIBLE,
    NUM_ALIVE,
    NUM_LINKS,
    RESCORES,
    UNSCORED,
    bonus_at,
    copy_path,
    kth_best,
    make_room,
    overlay_at,
    stream_at,
)
from streaming_asr.tokens import BLANK


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
            copy_path(s, 2 * to + side, 2 * c + side)
            s.word[2 * to + side] = s.word[2 * c + side]
    return cut


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
            copy_path(v, a, a + 1)
        v.score[a + 1] = IMPOSSIBLE
        v.score[a] = v.score[a] - best
        if v.node[i] == ROOT:
            v.phone[i] = BLANK
        else:
            v.acoustic[a] += blank
    v.offset[0] += np.float64(best) + np.float64(blank)
    v.header[FRAME] += 1


@njit_uncounted()
def overlay_word(search: Any, lm: Any, own: Any, lm_state: Any, end: Any) -> Any:
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
            word, gain, next_state = overlay_word(search, lm, own, lm_state, end)
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
                v.word_node[num_links] = UNSCORED
                v.word_acoustic[num_links] = s.acoustic[b] / np.float32(frame - s.start[b] + 1)
                v.link[a] = num_links
                num_links += 1
        kept += 1
    v.header[NUM_ALIVE] = kept
    v.header[NUM_LINKS] = num_links
    v.header[FRAME] += 1
    v.offset[0] += np.float64(best)


@njit_cached()
def step_many(
    addresses: Any, bonus_addresses: Any, overlays: Any, log_probs: Any, first: Any, end: Any, missing: Any,
    every: Any, s: Any, search: Any, tree: Any, lm: Any,
) -> None:  # fmt: skip
    """Steps stream b over frames first[b] .. end[b] of ``log_probs`` [B, T, V].

    Stops a stream whose history is full, with ``first`` at the frame to go on from and ``missing`` the room it needs;
    and one whose words are scored again, whenever it has seen a multiple of ``every`` frames.
    """
    for b in range(addresses.shape[0]):
        v = stream_at(addresses[b], search.beam, search.arena)
        bonus = bonus_at(bonus_addresses[b], search.num_words)
        own = overlay_at(overlays[b])
        missing[b] = 0
        while first[b] < end[b]:
            frame = log_probs[b, first[b]]
            if frame[BLANK] >= search.blank_skip:
                _blank_frame(v, frame[BLANK])
            else:
                if v.header[NUM_LINKS] + search.beam > search.arena:  # one link a token
                    missing[b] = make_room(v, s, search.arena)
                    if missing[b] > 0:
                        break
                _frame(v, s, search, tree, lm, bonus, own, frame)
            first[b] += 1
            if v.header[RESCORES] and v.header[FRAME] % every == 0:
                break
