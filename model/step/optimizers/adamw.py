"""AdamW: Adam with weight decay apart from the gradient."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from model.step.optimizers.adam import TORCH_SLOTS, step
from model.step.optimizers.optimizer import Tensors, zeros


@dataclass(frozen=True)
class AdamW:
    """Adam whose weight decay shrinks the weight itself: w -= lr * weight_decay * w, before the
    step.

    Source: `torch.optim.AdamW`; Loshchilov and Hutter, https://arxiv.org/abs/1711.05101.
    """

    name: ClassVar[str] = "adamw"
    torch_slots: ClassVar[Mapping[str, str]] = TORCH_SLOTS

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01

    def init(self, parameters: Tensors) -> Tensors:
        return zeros(parameters, *TORCH_SLOTS)

    def update(
        self,
        gradients: Tensors,
        slots: Tensors,
        parameters: Tensors,
        rates: Tensors,
        decayed: Collection[str],
    ) -> tuple[Tensors, Tensors]:
        if self.weight_decay:
            parameters = {
                name: value * (1 - rates[name] * self.weight_decay) if name in decayed else value
                for name, value in parameters.items()
            }
        return step(self, gradients, slots, parameters, rates)

    def torch_twin(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            parameters,
            lr=self.learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
        )
