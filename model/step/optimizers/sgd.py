"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from model.step.optimizers.optimizer import STEP, Tensors, zeros
from tod.errors import UsageError


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum.

    With g' = g + weight_decay * w the velocity is v = g' at the first step and
    v = momentum * v + (1 - dampening) * g' from then on; w -= lr * v, or with nesterov
    w -= lr * (g' + momentum * v).

    Source: `torch.optim.SGD`; MindSpore Lite's kernel has the same rule for the first step
    (nnacl/fp32_grad/optimizer: the flag `stat`).
    """

    name: ClassVar[str] = "sgd"
    torch_slots: ClassVar[Mapping[str, str]] = {"velocity": "momentum_buffer"}

    learning_rate: float
    momentum: float = 0.9
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        if self.nesterov and (self.dampening or not self.momentum):
            raise UsageError(
                "--nesterov wants a momentum and no dampening", hint="add --dampening 0"
            )

    def init(self, parameters: Tensors) -> Tensors:
        return zeros(parameters, *(("velocity",) if self.momentum else ()))

    def update(
        self,
        gradients: Tensors,
        slots: Tensors,
        parameters: Tensors,
        rates: Tensors,
        decayed: Collection[str],
    ) -> tuple[Tensors, Tensors]:
        first = slots[STEP] == 0
        after: Tensors = {}
        slots_after: Tensors = {STEP: slots[STEP] + 1}
        for name, parameter in parameters.items():
            gradient = gradients[name]
            if self.weight_decay and name in decayed:
                gradient = gradient + self.weight_decay * parameter
            direction = gradient
            if self.momentum:
                velocity = slots[f"velocity.{name}"]
                later = self.momentum * velocity + (1 - self.dampening) * gradient
                velocity = torch.where(first, gradient, later)
                slots_after[f"velocity.{name}"] = velocity
                direction = gradient + self.momentum * velocity if self.nesterov else velocity
            after[name] = parameter - rates[name] * direction
        return after, slots_after

    def torch_twin(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters,
            lr=self.learning_rate,
            momentum=self.momentum,
            dampening=self.dampening,
            weight_decay=self.weight_decay,
            nesterov=self.nesterov,
        )
