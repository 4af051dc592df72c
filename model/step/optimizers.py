"""Optimizers as pure functions, each equal to its namesake in `torch.optim`.

An optimizer is two functions, `init(parameters) -> slots` and
`update(gradients, slots, parameters, rates, decayed) -> (parameters, slots)`; all are dictionaries
of tensors by name. Slots are inputs and outputs of the train graph and start at zero. `rates` holds
the learning rate of each parameter, `decayed` the names of those that weight decay works on.
"""

from __future__ import annotations

import math
from collections.abc import Collection
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
        self,
        gradients: Tensors,
        slots: Tensors,
        parameters: Tensors,
        rates: Tensors,
        decayed: Collection[str],
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
        return _moments(parameters)

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
        return _adam(self, gradients, slots, parameters, rates)


@dataclass(frozen=True)
class AdamW:
    """Adam whose weight decay shrinks the weight itself: w -= lr * weight_decay * w goes first.

    Source: `torch.optim.AdamW`; Loshchilov and Hutter, https://arxiv.org/abs/1711.05101.
    """

    learning_rate: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01

    @property
    def name(self) -> str:
        return "adamw"

    def init(self, parameters: Tensors) -> Tensors:
        return _moments(parameters)

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
        return _adam(self, gradients, slots, parameters, rates)


@dataclass(frozen=True)
class RMSprop:
    """Steps divided by the root of the mean square of late gradients.

    s = alpha * s + (1 - alpha) * g^2, b = momentum * b + g / (sqrt(s) + eps), w -= lr * b.

    Source: `torch.optim.RMSprop`; Hinton's lecture 6e of "Neural Networks for Machine Learning".
    """

    learning_rate: float = 1e-3
    momentum: float = 0.0
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0

    @property
    def name(self) -> str:
        return "rmsprop"

    def init(self, parameters: Tensors) -> Tensors:
        slots = {STEP: torch.zeros((), dtype=torch.int64)}
        slots |= {f"square.{n}": torch.zeros_like(p) for n, p in parameters.items()}
        buffers = {f"buffer.{n}": torch.zeros_like(p) for n, p in parameters.items()}
        return slots | buffers if self.momentum else slots

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


def clip(gradients: Tensors, most: float) -> Tensors:
    """Scale all gradients down together so that their global norm is at most `most`.

    Source: `torch.nn.utils.clip_grad_norm_`, its 1e-6 included.
    """
    square = torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum()
    factor = torch.clamp(most / (torch.sqrt(square) + 1e-6), max=1.0)
    return {name: gradient * factor for name, gradient in gradients.items()}


def _moments(parameters: Tensors) -> Tensors:
    first = {f"moment1.{n}": torch.zeros_like(p) for n, p in parameters.items()}
    second = {f"moment2.{n}": torch.zeros_like(p) for n, p in parameters.items()}
    return {STEP: torch.zeros((), dtype=torch.int64)} | first | second


def _adam(
    rule: Adam | AdamW, gradients: Tensors, slots: Tensors, parameters: Tensors, rates: Tensors
) -> tuple[Tensors, Tensors]:
    # 1 - beta^t of a beta near 1 loses most of its digits in float32, and constants reach the
    # graph rounded to float32: exp(t log beta) in float64 is safe from both.
    step = (slots[STEP] + 1).to(torch.float64)
    correction1 = (1 - torch.exp(step * math.log(rule.beta1))).to(torch.float32)
    correction2 = (1 - torch.exp(step * math.log(rule.beta2))).to(torch.float32)
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
