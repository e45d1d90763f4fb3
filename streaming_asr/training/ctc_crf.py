"""Owns the training objective: CTC-CRF, CTC against a phone-trigram denominator (Xiang and Ou, arXiv 1911.08747).

A label sequence's score is the sum over its CTC alignments of the frame log-probabilities, plus the trigram's
log-probability of the sequence; the denominator sums the same over every label sequence:
``loss = -log score(reference) + log Z``. The reference's trigram score is a constant and left out. Knows neither the
model nor the data.

The CTC topology over a trigram needs two values for each pair of labels that a sequence can end with: ``N[b, c]``, the
last frame was label c, and ``K[b, c]``, the last frame was blank after c; b is the label before c. Index 0 stands for
"no label yet", which only blanks can have produced.

    N'[b, c] = y[c] (sum_a K[a, b] P(c|a, b) + (b != c) sum_a N[a, b] P(c|a, b) + N[b, c])
    K'[b, c] = y[blank] (N[b, c] + K[b, c])

Both recursions are rescaled at each frame. The gradient is the difference of label posteriors, so the recursions are
run outside autograd.

Beside it: consistency (CR-CTC, Yao et al., arXiv 2410.05101), what two views of a recording are told apart by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..tokens import BLANK


def estimate_trigram(sequences: Iterable[Sequence[int]], num_tokens: int, smoothing: float = 8.0) -> Tensor:
    """Trigram of label sequences; what was seen counts against ``smoothing`` draws from the bigram.

    The bigram in turn counts against ``smoothing`` draws from the unigram, and that one has half a count added.
    Returns float32 [V, V, V]: element a, b, c is P(c | a, b). Index 0 is what is before a sequence as a or b, and its
    end as c.
    """
    triples = torch.zeros(num_tokens, num_tokens, num_tokens)
    for sequence in sequences:
        ids = torch.tensor([0, 0, *sequence, 0])
        triples.index_put_((ids[:-2], ids[1:-1], ids[2:]), torch.ones(len(ids) - 2), accumulate=True)
    pairs = triples.sum(0)
    estimate = pairs.sum(0) + 0.5
    estimate = estimate / estimate.sum()
    for counts in (pairs, triples):
        estimate = (counts + smoothing * estimate) / (counts.sum(-1, keepdim=True) + smoothing)
    return estimate


def _log_partition(log_probs: Tensor, lengths: Tensor, trigram: Tensor) -> tuple[Tensor, Tensor]:
    """log Z and its gradient by the log-probabilities.

    log_probs: float32 [T, B, V]; lengths: int64 [B]; trigram: float32 [V, V, V].
    Returns float32 [B] and float32 [T, B, V] (label posteriors under the denominator; zero past each length).
    """
    num_frames, num_streams, num_tokens = log_probs.shape
    inside = torch.arange(num_frames, device=log_probs.device)[:, None] < lengths  # [T, B]
    y = log_probs.exp()
    # Past the end every frame is a certain blank: it moves mass from N to K, which the end treats alike.
    blank = torch.where(inside, y[..., BLANK], 1.0)[..., None]  # [T, B, 1]
    labels = torch.where(inside[..., None], y, 0.0)
    labels[..., BLANK] = 0.0
    labels = labels.transpose(1, 2).unsqueeze(-1).contiguous()  # [T, V, B, 1]
    # All that is kept of pairs is [b, B, a]: the last label first, so that a step is V products of [B, V] and [V, V].
    arcs = trigram.transpose(0, 1).clone()  # [b, a, c]
    end = arcs[..., :1].transpose(1, 2).clone()  # [b, 1, a]
    arcs[..., 0] = 0.0
    again = arcs.diagonal(dim1=0, dim2=2).t().unsqueeze(1).contiguous()  # [b, 1, a]: b after b, through a blank only
    arcs.diagonal(dim1=0, dim2=2).zero_()
    arcs_t = arcs.transpose(1, 2).contiguous()

    n = y.new_empty(num_frames, num_tokens, num_streams, num_tokens)  # alpha at each frame
    k = torch.empty_like(n)
    scales = y.new_zeros(num_frames, num_streams, 1)
    previous_n = torch.zeros_like(n[0])
    previous_k = torch.zeros_like(previous_n)
    previous_k[0, :, 0] = 1.0
    for t in range(num_frames):
        total = previous_n + previous_k
        new = torch.bmm(total, arcs)  # [b, B, c]
        new.diagonal(dim1=0, dim2=2).add_((previous_k * again).sum(2).t())
        new_n = labels[t] * (new.transpose(0, 2) + previous_n)
        new_k = blank[t] * total
        scales[t] = 1 / (new_n + new_k).sum((0, 2))[:, None]
        previous_n = torch.mul(new_n, scales[t], out=n[t])
        previous_k = torch.mul(new_k, scales[t], out=k[t])
    final = ((previous_n + previous_k) * end).sum((0, 2))  # [B]
    log_z = final.log() - scales.log().sum((0, 2))

    beta_n = end / final[:, None]
    beta_k = beta_n
    posteriors = torch.empty_like(y)
    for t in range(num_frames - 1, -1, -1):
        posteriors[t] = (n[t] * beta_n).sum(2).t()
        posteriors[t, :, BLANK] = (k[t] * beta_k).sum((0, 2))
        emitted = labels[t] * beta_n  # [c, B, b]
        by_last = emitted.transpose(0, 2).contiguous()  # [b, B, c]
        beta = torch.addcmul(torch.bmm(by_last, arcs_t), blank[t], beta_k)  # [b, B, a]
        beta_n = (beta + emitted) * scales[t]
        beta_k = torch.addcmul(beta, again, by_last.diagonal(dim1=0, dim2=2).t().unsqueeze(-1)) * scales[t]
    return log_z, torch.where(inside[..., None], posteriors, 0.0)


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_probs: Tensor, lengths: Tensor, trigram: Tensor) -> Tensor:
        if log_probs.is_cuda:
            from .partition_kernel import log_partition_and_gradient as recursions  # needs triton
        else:
            recursions = _log_partition
        log_z, posteriors = recursions(log_probs, lengths, trigram)
        ctx.save_for_backward(posteriors)
        return log_z

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (posteriors,) = ctx.saved_tensors
        return posteriors * grad[None, :, None], None, None


def log_partition(log_probs: Tensor, lengths: Tensor, trigram: Tensor) -> Tensor:
    """log Z of the CTC topology over a trigram.

    log_probs: float32 [T, B, V], log-softmax outputs; lengths: int64 [B], frames of each; trigram: float32 [V, V, V].
    Returns float32 [B], differentiable by ``log_probs``.
    """
    apply: Callable[[Tensor, Tensor, Tensor], Tensor] = _LogPartition.apply
    return apply(log_probs, lengths, trigram)


def ctc_crf_loss(
    log_probs: Tensor,
    lengths: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    trigram: Tensor,
    denominator_scale: float,
    ctc_scale: float = 0.05,
) -> Tensor:
    """Loss of each sequence: ``(denominator_scale + ctc_scale) * CTC + denominator_scale * log Z``.

    log_probs: float32 [T, B, V]; targets: int64 [B, U], padded; trigram: float32 [V, V, V].
    ``denominator_scale`` 0 with ``ctc_scale`` 1 is plain CTC. Returns float32 [B]; a sequence that is too short for
    its labels has no alignment and costs nothing.
    """
    ctc = functional.ctc_loss(
        log_probs, targets, lengths, target_lengths, blank=BLANK, reduction="none", zero_infinity=True
    )
    loss = (denominator_scale + ctc_scale) * ctc
    if denominator_scale:
        loss = loss + denominator_scale * torch.where(ctc > 0, log_partition(log_probs, lengths, trigram), 0.0)
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
