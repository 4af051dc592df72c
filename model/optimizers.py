"""Optimizers as pure functions, each equal to its namesake in `torch.optim`.

An optimizer is two functions, `init(parameters) -> slots` and
`update(gradients, slots, parameters, lr) -> (parameters, slots)`; all are dictionaries of tensors
by name. Slots are inputs and outputs of the train graph and start at zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

Tensors = dict[str, torch.Tensor]
STEP = "optimizer.step"


class Optimizer(Protocol):
    """`name` is the manifest's word for it; every other field is a hyper-parameter."""

    @property
    def learning_rate(self) -> float: ...

    @property
    def name(self) -> str: ...

    def init(self, parameters: Tensors) -> Tensors: ...

    def update(
        self, gradients: Tensors, slots: Tensors, parameters: Tensors, lr: torch.Tensor
    ) -> tuple[Tensors, Tensors]: ...


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum.

    With g' = g + weight_decay * w the velocity is v = g' at the first step and
    v = momentum * v + (1 - dampening) * g' from then on; w -= lr * v, or with nesterov
    w -= lr * (g' + momentum * v).

    Source: `torch.optim.SGD`; MindSpore Lite's kernel has the same rule for the first step
    (nnacl/fp32_grad/optimizer: the flag `stat`).
    """

    learning_rate: float
    momentum: float = 0.9
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    @property
    def name(self) -> str:
        return "sgd"

    def init(self, parameters: Tensors) -> Tensors:
        slots = {STEP: torch.zeros((), dtype=torch.int64)}
        velocities = {f"velocity.{n}": torch.zeros_like(p) for n, p in parameters.items()}
        return slots | velocities if self.momentum else slots

    def update(
        self, gradients: Tensors, slots: Tensors, parameters: Tensors, lr: torch.Tensor
    ) -> tuple[Tensors, Tensors]:
        first = slots[STEP] == 0
        after: Tensors = {}
        slots_after: Tensors = {STEP: slots[STEP] + 1}
        for name, parameter in parameters.items():
            gradient = gradients[name]
            if self.weight_decay:
                gradient = gradient + self.weight_decay * parameter
            direction = gradient
            if self.momentum:
                velocity = slots[f"velocity.{name}"]
                later = self.momentum * velocity + (1 - self.dampening) * gradient
                velocity = torch.where(first, gradient, later)
                slots_after[f"velocity.{name}"] = velocity
                direction = gradient + self.momentum * velocity if self.nesterov else velocity
            after[name] = parameter - lr * direction
        return after, slots_after


@dataclass(frozen=True)
class Adam:
    """Adam with bias correction; weight decay is added to the gradient.

    m = beta1 * m + (1 - beta1) * g, v = beta2 * v + (1 - beta2) * g^2,
    w -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps).

    Source: `torch.optim.Adam`; Kingma and Ba, https://arxiv.org/abs/1412.6980, algorithm 1.
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    @property
    def name(self) -> str:
        return "adam"

    def init(self, parameters: Tensors) -> Tensors:
        first = {f"moment1.{n}": torch.zeros_like(p) for n, p in parameters.items()}
        second = {f"moment2.{n}": torch.zeros_like(p) for n, p in parameters.items()}
        return {STEP: torch.zeros((), dtype=torch.int64)} | first | second

    def update(
        self, gradients: Tensors, slots: Tensors, parameters: Tensors, lr: torch.Tensor
    ) -> tuple[Tensors, Tensors]:
        # 1 - beta^t of a beta near 1 loses most of its digits in float32, and constants reach the
        # graph rounded to float32: exp(t log beta) in float64 is safe from both.
        step = (slots[STEP] + 1).to(torch.float64)
        correction1 = (1 - torch.exp(step * math.log(self.beta1))).to(torch.float32)
        correction2 = (1 - torch.exp(step * math.log(self.beta2))).to(torch.float32)
        after: Tensors = {}
        slots_after: Tensors = {STEP: slots[STEP] + 1}
        for name, parameter in parameters.items():
            gradient = gradients[name]
            if self.weight_decay:
                gradient = gradient + self.weight_decay * parameter
            moment1 = self.beta1 * slots[f"moment1.{name}"] + (1 - self.beta1) * gradient
            moment2 = self.beta2 * slots[f"moment2.{name}"] + (1 - self.beta2) * gradient.square()
            scale = torch.sqrt(moment2 / correction2) + self.eps
            after[name] = parameter - lr * (moment1 / correction1) / scale
            slots_after[f"moment1.{name}"] = moment1
            slots_after[f"moment2.{name}"] = moment2
        return after, slots_after
