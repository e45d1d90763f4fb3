"""Owns the training objective: CTC-CRF, CTC against a phone-bigram denominator (Xiang and Ou, arXiv 1911.08747).

A label sequence's score is the sum over its CTC alignments of the frame log-probabilities, plus the bigram's
log-probability of the sequence; the denominator sums the same over every label sequence:
``loss = -log score(reference) + log Z``. The reference's bigram score is a constant and left out. Knows neither the
model nor the data.

The CTC topology over a bigram needs two values a label: ``N[c]``, the last frame was label c, and ``K[b]``, the last
frame was blank after label b. Index 0 stands for "no label yet", which only blanks can have produced.

    N'[c] = y[c] (sum_b K[b] P(c|b) + sum_{b != c} N[b] P(c|b) + N[c])
    K'[b] = y[blank] (N[b] + K[b])

Both recursions are rescaled at each frame. The gradient is the difference of label posteriors, so the recursions are
run outside autograd.

Beside it: consistency (CR-CTC, Yao et al., arXiv 2410.05101), what two views of a recording are told apart by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..tokens import BLANK


def estimate_bigram(sequences: Iterable[Sequence[int]], num_tokens: int, smoothing: float = 0.5) -> Tensor:
    """Add-``smoothing`` bigram of label sequences.

    Returns float32 [V, V]: row b, column c is P(c | b). Row 0 is the start of a sequence, column 0 its end.
    """
    counts = torch.full((num_tokens, num_tokens), smoothing)
    for sequence in sequences:
        ids = torch.tensor([0, *sequence, 0])
        counts.index_put_((ids[:-1], ids[1:]), torch.ones(len(ids) - 1), accumulate=True)
    return counts / counts.sum(1, keepdim=True)


def _log_partition(log_probs: Tensor, lengths: Tensor, bigram: Tensor) -> tuple[Tensor, Tensor]:
    """log Z and its gradient by the log-probabilities.

    log_probs: float32 [T, B, V]; lengths: int64 [B]; bigram: float32 [V, V].
    Returns float32 [B] and float32 [T, B, V] (label posteriors under the denominator; zero past each length).
    """
    num_frames, num_streams, _ = log_probs.shape
    inside = torch.arange(num_frames, device=log_probs.device)[:, None] < lengths  # [T, B]
    y = log_probs.exp()
    # Past the end every frame is a certain blank: it moves mass from N to K, which the end treats alike.
    blank = torch.where(inside, y[..., BLANK], 1.0)[..., None]  # [T, B, 1]
    labels = torch.where(inside[..., None], y, 0.0)
    labels[..., BLANK] = 0.0
    arcs = bigram.clone()
    arcs[:, 0] = 0.0
    stay = 1.0 - arcs.diagonal()  # N[c] -> N[c] replaces, not adds to, the bigram's own c after c
    end = bigram[:, 0]

    n = torch.zeros_like(y)  # alpha at each frame, [T, B, V]
    k = torch.zeros_like(y)
    scales = y.new_zeros(num_frames, num_streams, 1)
    previous_n = y.new_zeros(y.shape[1:])
    previous_k = torch.zeros_like(previous_n)
    previous_k[:, 0] = 1.0
    for t in range(num_frames):
        total = previous_n + previous_k
        new_n = labels[t] * torch.addcmul(total @ arcs, previous_n, stay)
        new_k = blank[t] * total
        scale = new_n.sum(1, keepdim=True) + new_k.sum(1, keepdim=True)
        n[t], k[t], scales[t] = new_n / scale, new_k / scale, scale
        previous_n, previous_k = n[t], k[t]
    final = (previous_n + previous_k) @ end  # [B]
    log_z = scales.log().sum((0, 2)) + final.log()

    beta_n = end.expand(num_streams, -1) / final[:, None]
    beta_k = beta_n
    posteriors = torch.empty_like(y)
    arcs_t = arcs.t().contiguous()
    for t in range(num_frames - 1, -1, -1):
        posteriors[t] = n[t] * beta_n
        posteriors[t, :, BLANK] = (k[t] * beta_k).sum(1)
        emitted = labels[t] * beta_n
        beta_k = torch.addcmul(emitted @ arcs_t, blank[t], beta_k)
        beta_n = torch.addcmul(beta_k, emitted, stay)
        beta_k, beta_n = beta_k / scales[t], beta_n / scales[t]
    return log_z, torch.where(inside[..., None], posteriors, 0.0)


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, lengths: Tensor, bigram: Tensor) -> Tensor:
        log_z, posteriors = _log_partition(log_probs, lengths, bigram)
        ctx.save_for_backward(posteriors)
        return log_z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (posteriors,) = ctx.saved_tensors
        return posteriors * grad[None, :, None], None, None


def log_partition(log_probs: Tensor, lengths: Tensor, bigram: Tensor) -> Tensor:
    """log Z of the CTC topology over a bigram.

    log_probs: float32 [T, B, V], log-softmax outputs; lengths: int64 [B], frames of each; bigram: float32 [V, V].
    Returns float32 [B], differentiable by ``log_probs``.
    """
    result: Tensor = _LogPartition.apply(log_probs, lengths, bigram)  # type: ignore[no-untyped-call]
    return result


def ctc_crf_loss(
    log_probs: Tensor,
    lengths: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    bigram: Tensor,
    denominator_scale: float,
    ctc_scale: float = 0.05,
) -> Tensor:
    """Loss of each sequence: ``(denominator_scale + ctc_scale) * CTC + denominator_scale * log Z``.

    log_probs: float32 [T, B, V]; targets: int64 [B, U], padded; bigram: float32 [V, V].
    ``denominator_scale`` 0 with ``ctc_scale`` 1 is plain CTC. Returns float32 [B]; a sequence that is too short for
    its labels has no alignment and costs nothing.
    """
    ctc = functional.ctc_loss(
        log_probs, targets, lengths, target_lengths, blank=BLANK, reduction="none", zero_infinity=True
    )
    loss = (denominator_scale + ctc_scale) * ctc
    if denominator_scale:
        loss = loss + denominator_scale * torch.where(ctc > 0, log_partition(log_probs, lengths, bigram), 0.0)
    return loss


def consistency_loss(log_probs: Tensor, lengths: Tensor) -> Tensor:
    """How far the outputs for two views of the same recordings are from each other, each taken as the other's target.

    log_probs: float32 [2 B, T, V], the first views before the second ones, row for row; lengths: int64 [2 B].
    Returns the Kullback-Leibler divergence both ways, summed over all frames, float32 [].
    """
    one, other = log_probs.chunk(2)
    inside = torch.arange(one.shape[1], device=one.device) < lengths[: len(one), None]  # [B, T]
    total = log_probs.new_zeros(())
    for student, teacher in ((one, other.detach()), (other, one.detach())):
        divergence = functional.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)  # [B, T]
        total = total + torch.where(inside, divergence, 0.0).sum()
    return total
