"""Layers that look through windows: convolutions, pooling; and upsampling.

Axes: N samples; c, h, w channels, height and width, [N, c, h, w].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from model.networks.nntrainer.built import Built, Call, Tensor, limited, said
from model.networks.nntrainer.graph import Layer
from model.networks.nntrainer.keys import Shape


def sides(
    layer: Layer, padding: str | tuple[int, ...], size: Sequence[int], kernel: Sequence[int],
    stride: Sequence[int], dilation: Sequence[int] = (1, 1),
) -> tuple[int, int, int, int]:  # fmt: skip
    """Padding in pixels: top, bottom, left, right."""
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same":
        found: list[int] = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            whole = max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
            found += [whole // 2, whole - whole // 2]
        return found[0], found[1], found[2], found[3]
    assert not isinstance(padding, str), layer.place
    given = {1: padding * 4, 2: (padding[0],) * 2 + (padding[-1],) * 2, 4: padding}[len(padding)]
    return given[0], given[1], given[2], given[3]


def _windows(
    layer: Layer, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int],
    dilation: Sequence[int], pads: Sequence[int],
) -> tuple[int, int]:  # fmt: skip
    """How many windows of a kernel fit, by height and width."""
    whole = size[0] + pads[0] + pads[1], size[1] + pads[2] + pads[3]
    limited(layer, "padded input", *whole)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if whole[0] < reach[0] or whole[1] < reach[1]:
        raise layer.place.wrong(
            f"a window of {reach[0]} x {reach[1]} does not fit into {whole[0]} x {whole[1]}"
        )
    return (whole[0] - reach[0]) // stride[0] + 1, (whole[1] - reach[1]) // stride[1] + 1


def _convolution(
    layer: Layer, shape: Shape, kernel: Sequence[int], stride: Sequence[int],
    dilation: Sequence[int], pads: tuple[int, int, int, int], filters: int, groups: int = 1,
) -> Built:  # fmt: skip
    height, width = _windows(layer, shape[1:], kernel, stride, dilation, pads)
    limited(layer, "weight", filters, shape[0] // groups, *kernel)
    even = pads[0] == pads[1] and pads[2] == pads[3]
    module = nn.Conv2d(
        shape[0], filters, tuple(kernel), tuple(stride),
        padding=(pads[0], pads[2]) if even else 0, dilation=tuple(dilation), groups=groups,
        bias=not layer.values["disable_bias"],
    )  # fmt: skip
    before = None if even else _padded(pads, 0.0)
    return Built(module, ((filters, height, width),), before)


def _padded(pads: Sequence[int], value: float) -> Callable[[Tensor], Tensor]:
    top, bottom, left, right = pads
    return lambda x: functional.pad(x, (left, right, top, bottom), value=value)


def conv1d(layer: Layer, shape: Shape) -> Built:
    v = layer.values
    if shape[1] != 1:
        raise layer.place.wrong(f"conv1d takes c:1:w, its input is {said(shape)}")
    kernel, stride, dilation = (1, v["kernel_size"]), (1, v["stride"]), (1, v["dilation"])
    padding = v["padding"]
    if padding == "causal":
        pads = 0, 0, (v["kernel_size"] - 1) * v["dilation"], 0
    elif isinstance(padding, str):
        pads = sides(layer, padding, shape[1:], kernel, stride, dilation)
    else:
        pads = 0, 0, padding[0], padding[-1]
    return _convolution(layer, shape, kernel, stride, dilation, pads, v["filters"])


def conv2d(layer: Layer, shape: Shape) -> Built:
    v = layer.values
    kernel, stride, dilation = v["kernel_size"], v["stride"], v["dilation"]
    pads = sides(layer, v["padding"], shape[1:], kernel, stride, dilation)
    filters, groups = v["filters"], 1
    if layer.kind == "depthwiseconv2d":
        filters, groups = filters or shape[0], shape[0]
        if filters % groups:
            raise layer.place.wrong(f"filters is {filters}, wanted a multiple of the {groups} "
                                    "channels of its input")  # fmt: skip
    return _convolution(layer, shape, kernel, stride, dilation, pads, filters, groups)


def transposed(layer: Layer, shape: Shape) -> Built:
    v = layer.values
    kernel, stride, dilation = v["kernel_size"], v["stride"], v["dilation"]
    top, bottom, left, right = sides(layer, v["padding"], shape[1:], kernel, stride, dilation)
    limited(layer, "weight", shape[0], v["filters"], *kernel)
    module = nn.ConvTranspose2d(
        shape[0], v["filters"], kernel, stride, dilation=dilation, bias=not v["disable_bias"]
    )
    full = [
        (n - 1) * s + (k - 1) * d + 1
        for n, k, s, d in zip(shape[1:], kernel, stride, dilation, strict=True)
    ]
    height, width = full[0] - top - bottom, full[1] - left - right
    after = None
    if top or bottom or left or right:

        def after(x: Tensor) -> Tensor:
            return x[:, :, top : top + height, left : left + width]

    return Built(module, ((v["filters"], height, width),), after=after)


def pooling(layer: Layer, shape: Shape) -> Built:
    v = layer.values
    kind, kernel, stride = v["pooling"], v["pool_size"], v["stride"]
    pads = sides(layer, v["padding"], shape[1:], kernel or shape[1:], stride)
    if kind.startswith("global"):
        if any(pads) or stride != (1, 1):
            raise layer.place.wrong(f"{kind} takes neither stride nor padding")
        if kernel not in (None, shape[1:]):
            raise layer.place.wrong(f"{kind} takes no pool_size")
        over = torch.amax if kind == "global_max" else torch.mean
        return Built(Call(lambda x: over(x, (2, 3), keepdim=True)), ((shape[0], 1, 1),))
    if kernel is None:
        raise layer.place.wrong("pooling2d needs pool_size")
    height, width = _windows(layer, shape[1:], kernel, stride, (1, 1), pads)
    out = ((shape[0], height, width),)
    if kind == "max":
        lowest = torch.finfo(torch.float32).min
        before = _padded(pads, lowest) if any(pads) else None
        return Built(Call(lambda x: functional.max_pool2d(x, kernel, stride)), out, before)
    if not any(pads):
        return Built(Call(lambda x: functional.avg_pool2d(x, kernel, stride)), out)
    average = _Average(shape, kernel, stride, pads)
    if not torch.isfinite(average.scale).all():
        raise layer.place.wrong("a window lies in the padding alone, where nothing has a mean")
    return Built(average, out, _padded(pads, 0.0))


class _Average(nn.Module):
    """The mean of what a window holds of the picture; padding does not count."""

    def __init__(
        self, shape: Shape, kernel: Sequence[int], stride: Sequence[int], pads: Sequence[int]
    ) -> None:
        super().__init__()
        self.kernel, self.stride = tuple(kernel), tuple(stride)
        inside = _padded(pads, 0.0)(torch.ones(1, 1, *shape[1:]))
        share = functional.avg_pool2d(inside, self.kernel, self.stride)
        self.register_buffer("scale", 1 / share, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, self.kernel, self.stride) * self.scale


def upsample(layer: Layer, shape: Shape) -> Built:
    (up, across), mode = layer.values["kernel_size"], layer.values["upsample"]
    limited(layer, "output", shape[0], shape[1] * up, shape[2] * across)
    limited(layer, "stretching", shape[1], shape[1] * up)
    limited(layer, "stretching", shape[2], shape[2] * across)
    rows, columns = _stretch(shape[1], up, mode), _stretch(shape[2], across, mode)
    # As products: the gradient of an interpolation has no operator in ONNX.
    return Built(_Stretched(rows, columns), ((shape[0], shape[1] * up, shape[2] * across),))


class _Stretched(nn.Module):
    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns.T.contiguous(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows @ (x @ self.columns)


def _stretch(size: int, times: int, mode: str) -> Tensor:
    """The matrix [size x times, size] that stretches a row."""
    unit = torch.eye(size)[None]
    return functional.interpolate(
        unit, scale_factor=times, mode="linear" if mode == "bilinear" else "nearest"
    )[0].T.contiguous()
