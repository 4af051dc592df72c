"""Softmax cross entropy: one class per picture. Axes: B batch, C classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from model.step.losses.loss import Terms, count
from tod.format.manifest import LossName


@dataclass(frozen=True)
class SoftmaxCrossEntropy:
    """-log softmax(logits)[label], weighted by the label's class: `nn.CrossEntropyLoss`.

    Attributes:
        label_smoothing: this share of each label is spread evenly over all classes.
    """

    name: ClassVar[LossName] = "softmax_cross_entropy"
    takes_class_weights: ClassVar[bool] = True

    label_smoothing: float = 0.0

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None
    ) -> Terms:
        """Targets are labels, int64 [B]."""
        # Use a comparison instead of gather: its gradient is plain arithmetic. The gradient of
        # gather is a scatter, which few runtimes compute in parallel and some do not have.
        classes = logits.shape[1]
        one_hot = (targets[:, None] == torch.arange(classes)[None, :]).to(logits.dtype)
        spread = self.label_smoothing
        wanted = one_hot * (1 - spread) + spread / classes if spread else one_hot
        losses = -wanted * torch.log_softmax(logits, dim=1)
        if class_weights is None:
            return losses.sum(), count(losses[:, 0])
        return (losses * class_weights).sum(), (one_hot * class_weights).sum()

    def torch_twin(self, class_weights: torch.Tensor | None) -> nn.Module:
        return nn.CrossEntropyLoss(class_weights, label_smoothing=self.label_smoothing)
