"""Losses as pure functions of logits and labels. Axes: B batch, C classes."""

from __future__ import annotations

import torch


def softmax_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of -log softmax(logits)[label], as `nn.CrossEntropyLoss` has it.

    Args:
        logits: float32 [B, C].
        labels: int64 [B].

    Returns:
        A 0-d tensor.
    """
    # A comparison instead of gather: its gradient is arithmetic, where gather's is a scatter,
    # which few runtimes do in parallel and some not at all.
    one_hot = labels[:, None] == torch.arange(logits.shape[1])[None, :]
    picked = one_hot.to(logits.dtype) * torch.log_softmax(logits, dim=1)
    return -picked.sum(dim=1).mean()
