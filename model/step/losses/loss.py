"""The interface of a loss: a pure function from logits and targets to a total and its weight."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import nn

from tod.format.manifest import LossName

Terms = tuple[torch.Tensor, torch.Tensor]  # total and weight, both 0-d


class Loss(Protocol):
    """A frozen dataclass; its fields are its settings.

    Attributes:
        name: its name in the manifest. `tod.format.manifest.TASKS` gives its task.
        takes_class_weights: `class_weights` can be given.
    """

    name: ClassVar[LossName]
    takes_class_weights: ClassVar[bool]

    def __call__(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        class_weights: torch.Tensor | None,
    ) -> Terms:
        """Return total and weight; the mean loss is total / weight. So the gradients of several
        batches add up to exactly the gradient of one large batch.

        Args:
            logits: float32 [B, C].
            targets: labels int64 [B], or float32 [B, C].
            class_weights: float32 [C], or None.
        """
        ...

    def torch_twin(self, class_weights: torch.Tensor | None) -> nn.Module:
        """Return the loss of `torch.nn` that this one must equal."""
        ...


def count(terms: torch.Tensor) -> torch.Tensor:
    """Count the terms, as a tensor that depends on the batch size."""
    return torch.ones_like(terms).sum()
