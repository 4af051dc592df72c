"""Adam as Keras and nntrainer write it: with another place for epsilon."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from model.step.optimizers.adam import TORCH_SLOTS
from model.step.optimizers.optimizer import STEP, Tensors, zeros


@dataclass(frozen=True)
class KerasAdam:
    """Adam with the bias correction in the learning rate, so that epsilon stands beside the
    uncorrected second moment and counts for more in the first steps.

    m and v as in `Adam`; w -= lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps).

    Source: nntrainer's `Adam` and `AdamW` without `torch_ref`; `keras.optimizers.Adam`; Kingma and
    Ba, https://arxiv.org/abs/1412.6980, the form at the end of section 2.

    Attributes:
        decoupled: weight decay shrinks the weight itself, as in `AdamW`.
    """

    name: ClassVar[str] = "keras-adam"
    torch_slots: ClassVar[Mapping[str, str]] = TORCH_SLOTS

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-7
    weight_decay: float = 0.0
    decoupled: bool = False

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
        # In float64 and by exp for the reasons that `adam.step` gives.
        count = (slots[STEP] + 1).to(torch.float64)
        correction1 = 1 - torch.exp(count * math.log(self.beta1))
        correction2 = 1 - torch.exp(count * math.log(self.beta2))
        correction = (torch.sqrt(correction2) / correction1).to(torch.float32)
        after: Tensors = {}
        slots_after: Tensors = {STEP: slots[STEP] + 1}
        for name, parameter in parameters.items():
            gradient = gradients[name]
            if self.weight_decay and name in decayed:
                if self.decoupled:
                    parameter = parameter * (1 - rates[name] * self.weight_decay)
                else:
                    gradient = gradient + self.weight_decay * parameter
            moment1 = self.beta1 * slots[f"moment1.{name}"] + (1 - self.beta1) * gradient
            moment2 = self.beta2 * slots[f"moment2.{name}"] + (1 - self.beta2) * gradient.square()
            rate = rates[name] * correction
            after[name] = parameter - rate * (moment1 / (torch.sqrt(moment2) + self.eps))
            slots_after[f"moment1.{name}"] = moment1
            slots_after[f"moment2.{name}"] = moment2
        return after, slots_after

    def torch_twin(self, parameters: Any) -> torch.optim.Optimizer:
        """torch's own, with an epsilon that its correction of v brings back to ours."""
        kind = torch.optim.AdamW if self.decoupled else torch.optim.Adam
        made = kind(
            parameters,
            lr=self.learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            weight_decay=self.weight_decay,
        )

        def move_epsilon(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            for group in optimizer.param_groups:
                done = [int(optimizer.state[p].get("step", 0)) for p in group["params"]]
                group["eps"] = self.eps / (1 - self.beta2 ** (max(done) + 1)) ** 0.5

        made.register_step_pre_hook(move_epsilon)
        return made
