"""What every optimizer is: a pure function from slots and gradients to parameters and slots."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Protocol

import torch

Tensors = dict[str, torch.Tensor]
STEP = "optimizer.step"


class Optimizer(Protocol):
    """A frozen dataclass: its fields are the hyperparameters, which the manifest records.

    Attributes:
        name: the manifest's and the command's word for it.
        torch_slots: its slots by the first part of their names, and what `torch.optim` calls them.
    """

    name: ClassVar[str]
    torch_slots: ClassVar[Mapping[str, str]]

    @property
    def learning_rate(self) -> float: ...

    def init(self, parameters: Tensors) -> Tensors:
        """The slots before the first step: zeros, by `<slot>.<parameter>`, and the step count."""
        ...

    def update(
        self,
        gradients: Tensors,
        slots: Tensors,
        parameters: Tensors,
        rates: Tensors,
        decayed: Collection[str],
    ) -> tuple[Tensors, Tensors]:
        """One step.

        Args:
            gradients, slots, parameters: by name, before the step.
            rates: the learning rate of each parameter, 0-d.
            decayed: the parameters that weight decay works on.

        Returns:
            Parameters and slots after the step.
        """
        ...

    def torch_twin(self, parameters: Any) -> torch.optim.Optimizer:
        """The optimizer of `torch.optim` that this one has to equal.

        Args:
            parameters: parameters or groups of them, as torch takes them.
        """
        ...


def zeros(parameters: Tensors, *slots: str) -> Tensors:
    """The step count and a zero of each parameter's shape for each slot."""
    return {STEP: torch.zeros((), dtype=torch.int64)} | {
        f"{slot}.{name}": torch.zeros_like(value)
        for slot in slots
        for name, value in parameters.items()
    }
