"""The record of a layer's module, for every kind of layer.

Axes: N samples; c, h, w channels, height and width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from model.networks.nntrainer.graph import Layer
from model.networks.nntrainer.keys import Shape

Tensor: TypeAlias = torch.Tensor
_MOST = 1 << 27  # half a gigabyte


@dataclass(frozen=True)
class Built:
    """A layer's module.

    Attributes:
        module: takes [N, c, h, w] of each input, or rows if `rows`; a module with parameters has
            them under torch's names.
        shapes: of its outputs.
        before, after: what is done to its input and its output, without parameters.
        rows: it takes rows as they are.
    """

    module: nn.Module
    shapes: tuple[Shape, ...]
    before: Callable[[Tensor], Tensor] | None = None
    after: Callable[[Tensor], Tensor] | None = None
    rows: bool = False


class Call(nn.Module):
    """A layer without parameters."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def limited(layer: Layer, what: str, *sizes: int) -> None:
    """Refuse a tensor that no memory is meant for, before it is made.

    Raises:
        UsageError: it has more numbers than a .tod file may hold.
    """
    if math.prod(sizes) > _MOST:
        raise layer.place.wrong(
            f"its {what} would have {math.prod(sizes):,} numbers, at most {_MOST:,} are made"
        )


def said(shape: Shape) -> str:
    """A shape as nntrainer writes it."""
    return ":".join(map(str, shape))
