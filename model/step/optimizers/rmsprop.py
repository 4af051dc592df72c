"""RMSprop: steps divided by the root of the mean square of recent gradients."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from model.step.optimizers.optimizer import STEP, Tensors, zeros


@dataclass(frozen=True)
class RMSprop:
    """Steps divided by the root of the mean square of recent gradients.

    s = alpha * s + (1 - alpha) * g^2, b = momentum * b + g / (sqrt(s) + eps), w -= lr * b.

    Source: `torch.optim.RMSprop`; Hinton's lecture 6e of "Neural Networks for Machine Learning".
    """

    name: ClassVar[str] = "rmsprop"
    torch_slots: ClassVar[Mapping[str, str]] = {"square": "square_avg", "buffer": "momentum_buffer"}

    learning_rate: float
    momentum: float = 0.0
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0

    def init(self, parameters: Tensors) -> Tensors:
        return zeros(parameters, "square", *(("buffer",) if self.momentum else ()))

    def update(
        self,
        gradients: Tensors,
        slots: Tensors,
        parameters: Tensors,
        rates: Tensors,
        decayed: Collection[str],
    ) -> tuple[Tensors, Tensors]:
        after: Tensors = {}
        slots_after: Tensors = {STEP: slots[STEP] + 1}
        for name, parameter in parameters.items():
            gradient = gradients[name]
            if self.weight_decay and name in decayed:
                gradient = gradient + self.weight_decay * parameter
            square = self.alpha * slots[f"square.{name}"] + (1 - self.alpha) * gradient.square()
            direction = gradient / (torch.sqrt(square) + self.eps)
            if self.momentum:
                direction = self.momentum * slots[f"buffer.{name}"] + direction
                slots_after[f"buffer.{name}"] = direction
            slots_after[f"square.{name}"] = square
            after[name] = parameter - rates[name] * direction
        return after, slots_after

    def torch_twin(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(
            parameters,
            lr=self.learning_rate,
            alpha=self.alpha,
            eps=self.eps,
            weight_decay=self.weight_decay,
            momentum=self.momentum,
        )
