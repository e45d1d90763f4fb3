"""Owns the denominator of CTC-CRF on a GPU: `ctc_crf`'s recursions in one kernel each, a program a stream.

There a frame is some thirty small operations, and a GPU waits for each to be launched; here it is part of a loop. Names
are those of `ctc_crf`: state (b, c) has last label c and b before it. Must not know what the probabilities are of.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

NUM_WARPS = 8  # of 4, 8 and 16 the fastest on an H200


@triton.jit
def _forward(y, lengths, arcs, n, k, scales, sums, num_streams, V: tl.constexpr, SIZE: tl.constexpr):
    stream = tl.program_id(0)
    row, column = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    is_state = (row < V) & (column < V)
    state = row * V + column
    label = tl.arange(0, SIZE)
    n_t, k_t = tl.zeros((SIZE, SIZE), tl.float32), tl.where((row == 0) & (column == 0), 1.0, 0.0)
    total_log = 0.0
    for t in range(tl.load(lengths + stream)):
        here = (t * num_streams + stream).to(tl.int64)
        reached = tl.zeros((SIZE, SIZE), tl.float32)
        if t == 0:
            reached += tl.load(arcs + state, is_state & (row == 0), 0.0)  # from state (0, 0)
        else:
            before = (here - num_streams) * V * V
            for a in range(V):
                n_a = tl.load(n + before + a * V + label, label < V, 0.0)[:, None]
                k_a = tl.load(k + before + a * V + label, label < V, 0.0)[:, None]
                came = tl.where(row == column, k_a, n_a + k_a)  # a label follows itself through a blank only
                reached += came * tl.load(arcs + a * V * V + state, is_state, 0.0)
        emitted = tl.load(y + here * V + label, (label > 0) & (label < V), 0.0)[None, :]
        blank = tl.load(y + here * V)
        k_t = blank * (n_t + k_t)
        n_t = emitted * (reached + n_t)
        scale = 1 / tl.sum(tl.sum(n_t + k_t, 1), 0)
        n_t, k_t = n_t * scale, k_t * scale
        total_log -= tl.log(scale)
        tl.store(n + here * V * V + state, n_t, is_state)
        tl.store(k + here * V * V + state, k_t, is_state)
        tl.store(scales + here, scale)
        tl.debug_barrier()  # the next frame reads what others of these threads have written
    tl.store(sums + stream, total_log)


@triton.jit
def _backward(
    y, lengths, arcs, end, n, k, scales, sums, posteriors, scratch,
    num_streams, V: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    stream = tl.program_id(0)
    row, column = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    is_state = (row < V) & (column < V)
    state = row * V + column
    label = tl.arange(0, SIZE)
    changed = scratch + stream.to(tl.int64) * 2 * V * V
    repeated = changed + V * V
    num_frames = tl.load(lengths + stream)
    last = ((num_frames - 1) * num_streams + stream).to(tl.int64) * V * V
    ends = tl.load(end + state, is_state, 0.0)
    left = tl.load(n + last + state, is_state, 0.0) + tl.load(k + last + state, is_state, 0.0)
    final = tl.sum(tl.sum(left * ends, 1), 0)
    tl.store(sums + stream, tl.load(sums + stream) + tl.log(final))
    beta_n = ends / final
    beta_k = beta_n
    for back in range(num_frames):
        here = ((num_frames - 1 - back) * num_streams + stream).to(tl.int64)
        by_label = tl.sum(tl.load(n + here * V * V + state, is_state, 0.0) * beta_n, 0)
        by_blank = tl.sum(tl.sum(tl.load(k + here * V * V + state, is_state, 0.0) * beta_k, 1), 0)
        tl.store(posteriors + here * V + label, tl.where(label == 0, by_blank, by_label), label < V)
        emitted = tl.load(y + here * V + label, (label > 0) & (label < V), 0.0)[None, :] * beta_n
        for a in range(V):
            went = tl.load(arcs + a * V * V + state, is_state, 0.0) * emitted
            tl.store(changed + a * V + label, tl.sum(tl.where(row == column, 0.0, went), 1), label < V)
            tl.store(repeated + a * V + label, tl.sum(tl.where(row == column, went, 0.0), 1), label < V)
        tl.debug_barrier()
        scale, blank = tl.load(scales + here), tl.load(y + here * V)
        beta = tl.load(changed + state, is_state, 0.0) + blank * beta_k
        beta_k = (beta + tl.load(repeated + state, is_state, 0.0)) * scale
        beta_n = (beta + emitted) * scale
        tl.debug_barrier()


def log_partition_and_gradient(log_probs: Tensor, lengths: Tensor, trigram: Tensor) -> tuple[Tensor, Tensor]:
    """log Z and its gradient by the log-probabilities, as `ctc_crf` has them on a CPU.

    log_probs: float32 [T, B, V]; lengths: int64 [B], each at least 1; trigram: float32 [V, V, V]; all on one GPU.
    Returns float32 [B] and float32 [T, B, V] (label posteriors under the denominator; zero past each length).
    """
    num_frames, num_streams, num_tokens = log_probs.shape
    y = log_probs.exp().contiguous()
    arcs = trigram.clone()
    arcs[..., 0] = 0.0
    end = trigram[..., 0].contiguous()  # [a, b]
    n = y.new_empty(num_frames, num_streams, num_tokens, num_tokens)
    k = torch.empty_like(n)
    scales, sums = y.new_empty(num_frames, num_streams), y.new_empty(num_streams)
    posteriors = torch.zeros_like(y)
    scratch = y.new_empty(num_streams, 2, num_tokens, num_tokens)
    shape = {"V": num_tokens, "SIZE": triton.next_power_of_2(num_tokens), "num_warps": NUM_WARPS}
    _forward[(num_streams,)](y, lengths, arcs, n, k, scales, sums, num_streams, **shape)
    _backward[(num_streams,)](y, lengths, arcs, end, n, k, scales, sums, posteriors, scratch, num_streams, **shape)
    return sums, posteriors
