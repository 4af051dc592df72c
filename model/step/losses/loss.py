"""What every loss is: a pure function from logits and targets to a total and its weight."""

from __future__ import annotations

from typing import ClassVar, Protocol

import torch
from torch import nn

from tod.format.manifest import LossName

Terms = tuple[torch.Tensor, torch.Tensor]  # total and weight, both 0-d


class Loss(Protocol):
    """A frozen dataclass; its fields are its settings.

    Attributes:
        name: the manifest's word for it. `tod.format.manifest.TASKS` says what it learns.
        takes_class_weights: whether `class_weights` can be given.
    """

    name: ClassVar[LossName]
    takes_class_weights: ClassVar[bool]

    def __call__(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        class_weights: torch.Tensor | None,
    ) -> Terms:
        """The mean loss is total / weight: the gradients of several batches can so be added up to
        exactly that of one large batch.

        Args:
            logits: float32 [B, C].
            targets: labels int64 [B], or float32 [B, C].
            class_weights: float32 [C], or None.
        """
        ...

    def torch_twin(self, class_weights: torch.Tensor | None) -> nn.Module:
        """The loss of `torch.nn` that this one has to equal."""
        ...


def count(terms: torch.Tensor) -> torch.Tensor:
    """How many terms there are, as a tensor that follows the size of the batch."""
    return torch.ones_like(terms).sum()
