"""Binary cross entropy: several classes per picture. Axes: B batch, C classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from model.step.losses.loss import Terms, count
from tod.format.manifest import LossName


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Each class is a separate yes or no: `nn.BCEWithLogitsLoss`."""

    name: ClassVar[LossName] = "binary_cross_entropy"
    takes_class_weights: ClassVar[bool] = False

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None
    ) -> Terms:
        """Targets are 0 or 1, float32 [B, C]."""
        # softplus(x) - x t, in a form that cannot overflow.
        losses = functional.relu(logits) - logits * targets + torch.log1p(torch.exp(-logits.abs()))
        return losses.sum(), count(losses)

    def torch_twin(self, class_weights: torch.Tensor | None) -> nn.Module:
        return nn.BCEWithLogitsLoss()
