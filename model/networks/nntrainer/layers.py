"""What each kind of layer computes, as torch modules, with the shapes of nntrainer.

Axes: N samples; c, h, w channels, height and width. A shape 1:1:w is a row, float32 [N, w]; every
other is [N, c, h, w]. Formulas and defaults are those of nntrainer's layers/*.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from model.networks.nntrainer import windows
from model.networks.nntrainer.built import Built, Call, Tensor, limited, said
from model.networks.nntrainer.graph import Layer
from model.networks.nntrainer.keys import Shape


class LayerNorm(nn.Module):
    """Mean 0 and variance 1 over some of the axes c, h, w (1, 2, 3), then scale and shift.

    Args:
        shape: of a sample.
        axes: those that are normalised.
        eps: added to the variance.
    """

    def __init__(self, shape: Shape, axes: Sequence[int], eps: float) -> None:
        super().__init__()
        sizes = [size if axis in axes else 1 for axis, size in enumerate(shape, start=1)]
        self.axes, self.eps = tuple(axes), eps
        self.weight = nn.Parameter(torch.ones(sizes))
        self.bias = nn.Parameter(torch.zeros(sizes))

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(self.axes, keepdim=True)
        scale = torch.rsqrt(x.square().mean(self.axes, keepdim=True) + self.eps)
        return x * scale * self.weight + self.bias


class Embedding(nn.Module):
    """Rows of a table by their numbers, [N, 1, 1, w] -> [N, 1, w, size]."""

    def __init__(self, count: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(count, size))
        self.register_buffer("numbers", torch.arange(count).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        # A product and not a gather, whose gradient is a scatter.
        chosen = (x.transpose(2, 3) == self.numbers).to(torch.float32)
        return chosen @ self.weight


def build(layer: Layer, inputs: Sequence[Shape]) -> Built:
    """Make a layer for inputs of given shapes.

    Raises:
        UsageError: the shapes do not fit.
    """
    several = layer.kind in ("addition", "concat")
    if len(inputs) != 1 and not several:
        raise layer.place.wrong(f"{layer.kind} takes one input, it has {len(inputs)}")
    made: Built = _KINDS[layer.kind](layer, inputs if several else inputs[0])
    if any(size < 1 for shape in made.shapes for size in shape):
        raise layer.place.wrong(
            f"nothing is left of its input {said(inputs[0])}", "look at kernel, stride and padding"
        )
    for shape in made.shapes:
        limited(layer, "output", *shape)
    return made


def _same(_: Layer, shape: Shape) -> Built:
    return Built(nn.Identity(), (shape,), rows=True)


def _fully_connected(layer: Layer, shape: Shape) -> Built:
    v = layer.values
    limited(layer, "weight", shape[2], v["unit"])
    module = nn.Linear(shape[2], v["unit"], bias=not v["disable_bias"])
    return Built(module, ((shape[0], shape[1], v["unit"]),), rows=True)


def _batch_norm(layer: Layer, shape: Shape) -> Built:
    v = layer.values
    settings = {"eps": v["epsilon"], "momentum": 1 - v["momentum"]}
    if shape[:2] == (1, 1):
        return Built(nn.BatchNorm1d(shape[2], **settings), (shape,), rows=True)
    if shape[0] > 1:
        return Built(nn.BatchNorm2d(shape[0], **settings), (shape,))
    # With one channel nntrainer normalises along the width.
    return Built(nn.BatchNorm2d(shape[2], **settings), (shape,), _turned, _turned)


def _turned(x: Tensor) -> Tensor:
    return x.transpose(1, 3)


def _layer_norm(layer: Layer, shape: Shape) -> Built:
    v = layer.values
    return Built(LayerNorm(shape, sorted(set(v["axis"])), v["epsilon"]), (shape,))


def _flatten(_: Layer, shape: Shape) -> Built:
    return Built(Call(lambda x: x.flatten(1)), ((1, 1, math.prod(shape)),), rows=True)


def _reshape(layer: Layer, shape: Shape) -> Built:
    target = layer.values["target_shape"]
    if math.prod(target) != math.prod(shape):
        raise layer.place.wrong(f"{said(shape)} has not as many numbers as {said(target)}")
    return Built(Call(lambda x: x.reshape(-1, *target)), (target,))


def _permute(layer: Layer, shape: Shape) -> Built:
    order = layer.values["direction"]
    if sorted(order) != [1, 2, 3]:
        raise layer.place.wrong(f"direction is {order}, wanted 1, 2 and 3 in some order")
    c, h, w = (shape[axis - 1] for axis in order)
    return Built(Call(lambda x: x.permute(0, *order)), ((c, h, w),))


def _dropout(layer: Layer, shape: Shape) -> Built:
    return Built(nn.Dropout(layer.values["dropout_rate"]), (shape,), rows=True)


def _embedding(layer: Layer, shape: Shape) -> Built:
    if shape[:2] != (1, 1):
        raise layer.place.wrong(f"embedding takes 1:1:w, its input is {said(shape)}")
    v = layer.values
    limited(layer, "weight", v["in_dim"], v["out_dim"])
    return Built(Embedding(v["in_dim"], v["out_dim"]), ((1, shape[2], v["out_dim"]),))


def _addition(layer: Layer, shapes: Sequence[Shape]) -> Built:
    if len(set(shapes)) != 1:
        raise layer.place.wrong(f"it adds {' and '.join(map(said, shapes))}, wanted equal shapes")
    return Built(Call(lambda *xs: sum(xs[1:], xs[0])), (shapes[0],))


def _concat(layer: Layer, shapes: Sequence[Shape]) -> Built:
    axis = layer.values["axis"]
    others = {tuple(s for a, s in enumerate(shape, start=1) if a != axis) for shape in shapes}
    if len(others) != 1:
        raise layer.place.wrong(
            f"it joins {' and '.join(map(said, shapes))} along axis {axis}; the other axes must "
            "be equal"
        )
    c, h, w = (sum(s[a] for s in shapes) if a + 1 == axis else shapes[0][a] for a in range(3))
    return Built(Call(lambda *xs: torch.cat(xs, axis)), ((c, h, w),))


def _split(layer: Layer, shape: Shape) -> Built:
    axis = layer.values["axis"]
    size = shape[axis - 1]
    count = layer.values["split_number"] or size
    if size % count:
        raise layer.place.wrong(f"{size} cannot be split into {count} equal parts")
    c, h, w = (s // count if a == axis else s for a, s in enumerate(shape, start=1))
    return Built(Call(lambda x: torch.split(x, size // count, axis)), ((c, h, w),) * count)


def _slice(layer: Layer, shape: Shape) -> Built:
    v = layer.values
    axis, start, end = v["axis"], v["start_index"] - 1, v["end_index"] - 1
    if not start < end <= shape[axis - 1]:
        raise layer.place.wrong(
            f"indices {start + 1} up to before {end + 1} of axis {axis} of {said(shape)}",
            "indices count from 1, the end is left out",
        )
    c, h, w = (end - start if a == axis else s for a, s in enumerate(shape, start=1))
    return Built(Call(lambda x: x.narrow(axis, start, end - start)), ((c, h, w),))


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "softmax": lambda x: torch.softmax(x, -1),
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.01),
    "swish": functional.silu,
    "gelu": functional.gelu,
    "tanh_gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "sigmoid_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "elu": functional.elu,
    "selu": functional.selu,
    "softplus": functional.softplus,
    "mish": functional.mish,
}
_KINDS: Mapping[str, Callable[..., Built]] = {
    **dict.fromkeys(("input", "activation", "multiout", "identity"), _same),
    "fully_connected": _fully_connected,
    "conv1d": windows.conv1d,
    "conv2d": windows.conv2d,
    "depthwiseconv2d": windows.conv2d,
    "conv2dtranspose": windows.transposed,
    "pooling2d": windows.pooling,
    "batch_normalization": _batch_norm,
    "layer_normalization": _layer_norm,
    "flatten": _flatten,
    "reshape": _reshape,
    "permute": _permute,
    "dropout": _dropout,
    "embedding": _embedding,
    "addition": _addition,
    "concat": _concat,
    "split": _split,
    "slice": _slice,
    "upsample2d": windows.upsample,
}
