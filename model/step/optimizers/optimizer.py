"""The interface of an optimizer: a pure function from slots and gradients to parameters and
slots."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Protocol

import torch

Tensors = dict[str, torch.Tensor]
STEP = "optimizer.step"


class Optimizer(Protocol):
    """A frozen dataclass: its fields are the hyperparameters, which the manifest records.

    Attributes:
        name: its name in the manifest and on the command line.
        torch_slots: first part of a slot's name -> name of the slot in `torch.optim`.
    """

    name: ClassVar[str]
    torch_slots: ClassVar[Mapping[str, str]]

    @property
    def learning_rate(self) -> float: ...

    def init(self, parameters: Tensors) -> Tensors:
        """Return the slots before the first step: zeros, named `<slot>.<parameter>`, and the step
        count."""
        ...

    def update(
        self,
        gradients: Tensors,
        slots: Tensors,
        parameters: Tensors,
        rates: Tensors,
        decayed: Collection[str],
    ) -> tuple[Tensors, Tensors]:
        """Do one step.

        Args:
            gradients, slots, parameters: by name, before the step.
            rates: the learning rate of each parameter, 0-d.
            decayed: names of the parameters with weight decay.

        Returns:
            Parameters and slots after the step.
        """
        ...

    def torch_twin(self, parameters: Any) -> torch.optim.Optimizer:
        """Return the optimizer of `torch.optim` that this one must equal.

        Args:
            parameters: parameters or groups of them, as torch takes them.
        """
        ...


def zeros(parameters: Tensors, *slots: str) -> Tensors:
    """Make the step count and, for each slot, a zero tensor of each parameter's shape."""
    return {STEP: torch.zeros((), dtype=torch.int64)} | {
        f"{slot}.{name}": torch.zeros_like(value)
        for slot in slots
        for name, value in parameters.items()
    }
