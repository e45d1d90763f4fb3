import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from streaming_asr.training.ctc_crf import consistency_loss, ctc_crf_loss, estimate_trigram, log_partition

NUM_TOKENS, NUM_FRAMES = 3, 5
TRIGRAM = estimate_trigram([[1, 2, 1], [2, 2], [1]], NUM_TOKENS)


def log_probs() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(NUM_FRAMES, 3, NUM_TOKENS, generator=generator).log_softmax(-1).requires_grad_()


def labels(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(label for label, _ in itertools.groupby(path) if label)


def brute_force(scores: torch.Tensor, only: tuple[int, ...] | None = None) -> torch.Tensor:
    """log of the sum over all frame paths (of one label sequence, if given) of acoustic times trigram score."""
    total = torch.zeros(())
    for path in itertools.product(range(NUM_TOKENS), repeat=len(scores)):
        sequence = labels(path)
        if only is not None and sequence != only:
            continue
        lm = 1.0
        for a, b, c in zip((0, 0, *sequence), (0, *sequence), (*sequence, 0), strict=False):
            lm = lm * float(TRIGRAM[a, b, c])
        total = total + sum(scores[t, token] for t, token in enumerate(path)).exp() * (1.0 if only else lm)  # type: ignore[union-attr]
    return total.log()


def test_partition_and_gradient_equal_enumeration() -> None:
    scores = log_probs()
    lengths = torch.tensor([5, 3, 1])
    partition = log_partition(scores, lengths, TRIGRAM)
    for stream, length in enumerate(lengths.tolist()):
        expected = brute_force(scores[:length, stream])
        assert partition[stream].item() == pytest.approx(expected.item(), abs=1e-5)
        (gradient,) = torch.autograd.grad(expected, scores)
        (got,) = torch.autograd.grad(partition[stream], scores, retain_graph=True)
        torch.testing.assert_close(got, gradient, atol=1e-5, rtol=0)


def test_loss_equals_enumeration() -> None:
    scores = log_probs()
    targets, target_lengths = torch.tensor([[1, 2], [2, 0], [1, 0]]), torch.tensor([2, 1, 1])
    lengths = torch.tensor([5, 4, 2])
    loss = ctc_crf_loss(scores, lengths, targets, target_lengths, TRIGRAM, 1.0, 0.05)
    for stream, length in enumerate(lengths.tolist()):
        part = scores[:length, stream]
        sequence = tuple(targets[stream, : target_lengths[stream]].tolist())
        expected = brute_force(part) - 1.05 * brute_force(part, sequence)
        assert loss[stream].item() == pytest.approx(expected.item(), abs=1e-4)


def test_a_sequence_too_short_for_its_labels_costs_nothing() -> None:
    scores = log_probs()
    loss = ctc_crf_loss(scores[:, :1], torch.tensor([1]), torch.tensor([[1, 2]]), torch.tensor([2]), TRIGRAM, 1.0)
    torch.autograd.backward(loss.sum())
    assert loss.item() == 0.0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_trigram_rows_are_distributions() -> None:
    torch.testing.assert_close(TRIGRAM.sum(2), torch.ones(NUM_TOKENS, NUM_TOKENS))
    assert TRIGRAM[0, 0, 1] > TRIGRAM[0, 0, 2] > TRIGRAM[0, 0, 0]  # two begin with 1, one with 2, none is empty
    assert TRIGRAM[1, 2, 1] > TRIGRAM[2, 2, 1]  # as seen; after another label it is less likely


def test_long_sequences_neither_overflow_nor_vanish() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = (20 * torch.randn(2000, 2, NUM_TOKENS, generator=generator)).log_softmax(-1).requires_grad_()
    partition = log_partition(scores, torch.tensor([2000, 1500]), TRIGRAM)
    torch.autograd.backward(partition.sum())
    assert torch.isfinite(partition).all()
    assert scores.grad is not None
    torch.testing.assert_close(scores.grad[:1500].sum(-1), torch.ones(1500, 2), atol=1e-3, rtol=0)


def test_views_that_are_told_alike_cost_nothing_and_others_what_they_differ_by() -> None:
    views = log_probs().detach().transpose(0, 1)[:2].clone().requires_grad_()  # [2 B, T, V] of one recording
    assert float(consistency_loss(views[:1].repeat(2, 1, 1), torch.tensor([NUM_FRAMES] * 2)).detach()) == 0.0
    length = NUM_FRAMES - 2  # what follows does not count
    loss = consistency_loss(views, torch.tensor([length] * 2))
    a, b = views.detach()[:, :length].exp()
    assert loss.item() == pytest.approx(float((a * (a / b).log() + b * (b / a).log()).sum()), abs=1e-5)
    (gradient,) = torch.autograd.grad(loss, views)
    torch.testing.assert_close(gradient[0, :length], -b)  # each is drawn to the other, which stands still
    torch.testing.assert_close(gradient[1, :length], -a)
    assert not gradient[:, length:].any()


def test_the_kernels_of_a_gpu_say_the_same() -> None:
    pytest.importorskip("triton", reason="builds of torch for CPUs come without it")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}  # which has to be there before triton is imported
    script = Path(__file__).with_name("compare_kernels.py")
    run = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
