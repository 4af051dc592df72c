"""Mean squared error: numbers per picture. Axes: B batch, C numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from model.step.losses.loss import Terms, count
from tod.format.manifest import LossName


@dataclass(frozen=True)
class MeanSquaredError:
    """The outputs are the quantities themselves: `nn.MSELoss`."""

    name: ClassVar[LossName] = "mean_squared_error"
    takes_class_weights: ClassVar[bool] = False

    def __call__(
        self, logits: torch.Tensor, targets: torch.Tensor, class_weights: torch.Tensor | None
    ) -> Terms:
        """Targets are float32 [B, C]."""
        squares = (logits - targets).square()
        return squares.sum(), count(squares)

    def torch_twin(self, class_weights: torch.Tensor | None) -> nn.Module:
        return nn.MSELoss()
