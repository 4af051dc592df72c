"""Adam, and the step that it shares with AdamW."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch

from model.step.optimizers.optimizer import STEP, Tensors, zeros

TORCH_SLOTS = {"moment1": "exp_avg", "moment2": "exp_avg_sq"}


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction; weight decay is added to the gradient.

    m = beta1 * m + (1 - beta1) * g, v = beta2 * v + (1 - beta2) * g^2,
    w -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    Source: `torch.optim.Adam`; Kingma and Ba, https://arxiv.org/abs/1412.6980, algorithm 1.
    """

    name: ClassVar[str] = "adam"
    torch_slots: ClassVar[Mapping[str, str]] = TORCH_SLOTS

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

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
            gradients = {
                name: gradient + self.weight_decay * parameters[name]
                if name in decayed
                else gradient
                for name, gradient in gradients.items()
            }
        return step(self, gradients, slots, parameters, rates)

    def torch_twin(self, parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(
            parameters,
            lr=self.learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
        )


class _Rule(Protocol):
    @property
    def beta1(self) -> float: ...

    @property
    def beta2(self) -> float: ...

    @property
    def eps(self) -> float: ...


def step(
    rule: _Rule, gradients: Tensors, slots: Tensors, parameters: Tensors, rates: Tensors
) -> tuple[Tensors, Tensors]:
    """Do Adam's step with given gradients; weight decay is done before."""
    # For a beta near 1, 1 - beta^t loses most of its digits in float32, and constants in the graph
    # are rounded to float32. exp(t log beta) in float64 avoids both problems.
    count = (slots[STEP] + 1).to(torch.float64)
    correction1 = (1 - torch.exp(count * math.log(rule.beta1))).to(torch.float32)
    correction2 = (1 - torch.exp(count * math.log(rule.beta2))).to(torch.float32)
    after: Tensors = {}
    slots_after: Tensors = {STEP: slots[STEP] + 1}
    for name, parameter in parameters.items():
        gradient = gradients[name]
        moment1 = rule.beta1 * slots[f"moment1.{name}"] + (1 - rule.beta1) * gradient
        moment2 = rule.beta2 * slots[f"moment2.{name}"] + (1 - rule.beta2) * gradient.square()
        scale = torch.sqrt(moment2 / correction2) + rule.eps
        after[name] = parameter - rates[name] * (moment1 / correction1) / scale
        slots_after[f"moment1.{name}"] = moment1
        slots_after[f"moment2.{name}"] = moment2
    return after, slots_after
