"""Losses as pure functions, each equal to its namesake in `torch.nn`. Axes: B batch, C classes.

A loss gives a total and its weight, the mean being total / weight: so the gradients of several
batches can be added up to exactly that of one large batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

Terms = tuple[torch.Tensor, torch.Tensor]  # both 0-d


class Loss(Protocol):
    """`name` is the manifest's word for it."""

    @property
    def name(self) -> str: ...

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None
    ) -> Terms: ...


@dataclass(frozen=True)
class SoftmaxCrossEntropy:
    """-log softmax(logits)[label], weighted by the label's class: `nn.CrossEntropyLoss`.

    Attributes:
        label_smoothing: this share of each label is spread evenly over all classes.
    """

    label_smoothing: float = 0.0

    @property
    def name(self) -> str:
        return "softmax_cross_entropy"

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None
    ) -> Terms:
        """Targets are labels, int64 [B]."""
        # A comparison instead of gather: its gradient is arithmetic, where gather's is a scatter,
        # which few runtimes do in parallel and some not at all.
        classes = logits.shape[1]
        one_hot = (targets[:, None] == torch.arange(classes)[None, :]).to(logits.dtype)
        spread = self.label_smoothing
        wanted = one_hot * (1 - spread) + spread / classes if spread else one_hot
        losses = -wanted * torch.log_softmax(logits, dim=1)
        if class_weights is None:
            return losses.sum(), _count(losses[:, 0])
        return (losses * class_weights).sum(), (one_hot * class_weights).sum()


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Each class is a question of its own: `nn.BCEWithLogitsLoss`."""

    @property
    def name(self) -> str:
        return "binary_cross_entropy"

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None
    ) -> Terms:
        """Targets are 0 or 1, float32 [B, C]."""
        # softplus(x) - x t, written so that nothing overflows.
        losses = functional.relu(logits) - logits * targets + torch.log1p(torch.exp(-logits.abs()))
        return losses.sum(), _count(losses)


@dataclass(frozen=True)
class MeanSquaredError:
    """The outputs are the quantities themselves: `nn.MSELoss`."""

    @property
    def name(self) -> str:
        return "mean_squared_error"

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None
    ) -> Terms:
        """Targets are float32 [B, C]."""
        squares = (logits - targets).square()
        return squares.sum(), _count(squares)


def _count(terms: torch.Tensor) -> torch.Tensor:
    """How many terms there are, as a tensor that follows the size of the batch."""
    return torch.ones_like(terms).sum()
