"""Fails if the kernels, run by triton's interpreter on a CPU, do not say what `ctc_crf` says there."""

from typing import Any

import torch
from triton.runtime import interpreter

from streaming_asr.training.ctc_crf import estimate_trigram, log_partition
from streaming_asr.training.partition_kernel import log_partition_and_gradient

patch = interpreter._patch_lang_tensor


def patch_for_numpy_2_4(tensor: Any, scope: Any) -> None:
    """NumPy no longer takes an array of one element for a number, which triton 3.6 expects."""
    patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())


def main() -> None:
    interpreter._patch_lang_tensor = patch_for_numpy_2_4
    torch.manual_seed(0)
    trigram = estimate_trigram([[1, 2, 1, 4], [2, 2, 3], [1]], 5)
    scores = torch.randn(9, 3, 5).log_softmax(-1).requires_grad_()
    lengths = torch.tensor([9, 4, 1])
    expected = log_partition(scores, lengths, trigram)
    (gradient,) = torch.autograd.grad(expected.sum(), scores)
    partition, got = log_partition_and_gradient(scores.detach(), lengths, trigram)
    torch.testing.assert_close(partition, expected.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(got, gradient, atol=1e-5, rtol=0)


if __name__ == "__main__":
    main()
