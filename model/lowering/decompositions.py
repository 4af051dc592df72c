"""Express gradients that ONNX has no operator for by operators that it has.

`make_fx` uses them when it traces a training step. Each is exact and is compared with torch's own
in tests/test_decompositions.py.
Axes: N pictures, C and O channels in and out, G groups, K taps of a kernel, P positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._decomp import core_aten_decompositions
from torch.nn import functional

aten = torch.ops.aten


def table() -> dict[Any, Callable[..., Any]]:
    """Return the operators that `make_fx` replaces, and their replacements."""
    return {**core_aten_decompositions(), **_OURS}


def convolution_backward(
    gradient: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias_sizes: list[int] | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    output_mask: list[bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """Compute the input's gradient as a transposed convolution, and the weight's gradient as one
    matrix product over the patches under each tap of the kernel."""
    if len(stride) != 2:
        raise NotImplementedError("only the gradient of a 2-d convolution is lowered")
    to_x = to_weight = to_bias = None
    if transposed:
        # The gradient is the plain convolution, with input and gradient exchanged.
        if output_mask[0]:
            to_x = aten.convolution(
                gradient, weight, None, stride, padding, dilation, False, (0, 0), groups
            )
        if output_mask[1]:
            to_weight = _weight_gradient(x, gradient, weight, stride, padding, dilation, groups)
        return to_x, to_weight, gradient.sum((0, 2, 3)) if output_mask[2] else None
    if output_mask[0]:
        reached = [
            (size - 1) * s - 2 * p + d * (k - 1) + 1
            for size, s, p, d, k in zip(
                gradient.shape[2:], stride, padding, dilation, weight.shape[2:], strict=True
            )
        ]
        beyond = [size - end for size, end in zip(x.shape[2:], reached, strict=True)]
        to_x = aten.convolution(
            gradient, weight, None, stride, padding, dilation, True, beyond, groups
        )
    if output_mask[1]:
        to_weight = _weight_gradient(gradient, x, weight, stride, padding, dilation, groups)
    if output_mask[2]:
        to_bias = gradient.sum((0, 2, 3))
    return to_x, to_weight, to_bias


def _weight_gradient(
    gradient: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> torch.Tensor:
    outs, per_group = weight.shape[0], weight.shape[1]
    if _is_wide(weight, stride, dilation, groups):
        # Pictures and channels change places: the gradient is the kernel.
        return aten.convolution(
            x.transpose(0, 1), gradient.transpose(0, 1), None, dilation, padding, stride, False,
            (0, 0), 1,
        ).transpose(0, 1)  # fmt: skip
    taps = [(row, column) for row in range(weight.shape[2]) for column in range(weight.shape[3])]
    patches = _patches(x, taps, stride, padding, dilation, gradient.shape[2:], 0.0)
    if per_group == 1 and outs == groups:
        # Depthwise: a matrix product would have only one row per channel.
        sums = [(patch * gradient).sum((0, 2, 3)) for patch in patches]
        return torch.stack(sums, 1).reshape(weight.shape)
    # [G, C / G, N P] of each tap and [G, O / G, N P]: one product for each group.
    seen = torch.stack(
        [patch.transpose(0, 1).reshape(groups, per_group, -1) for patch in patches], 2
    ).reshape(groups, per_group * len(taps), -1)
    wanted = gradient.transpose(0, 1).reshape(groups, outs // groups, -1)
    return (wanted @ seen.transpose(1, 2)).reshape(weight.shape)


def _is_wide(weight: torch.Tensor, stride: list[int], dilation: list[int], groups: int) -> bool:
    """Whether a kernel has so many taps that one convolution is faster than a patch for each
    (LeNet's 5 x 5: half of the step's time). With a stride it would reach beyond the kernel."""
    plain = groups == 1 and set(stride) == {1} and set(dilation) == {1}
    return plain and weight.shape[2] * weight.shape[3] > 9


def _patches(
    x: torch.Tensor,
    taps: list[tuple[int, int]],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    out: torch.Size,
    outside: float,
) -> list[torch.Tensor]:
    """Return for each tap of a kernel its input values at every position, [N, C, H_out, W_out]."""
    if any(padding):
        x = functional.pad(x, (padding[1], padding[1], padding[0], padding[0]), value=outside)
    found = []
    for row, column in taps:
        top, left = row * dilation[0], column * dilation[1]
        bottom, right = top + (out[0] - 1) * stride[0] + 1, left + (out[1] - 1) * stride[1] + 1
        found.append(x[:, :, top : bottom : stride[0], left : right : stride[1]])
    return found


def hardtanh_backward(
    gradient: torch.Tensor, x: torch.Tensor, low: float, high: float
) -> torch.Tensor:
    """Multiply by 0 or 1, because onnxruntime's Where takes twice as long."""
    inside = (x > low) & (x < high)
    return gradient * inside.to(gradient.dtype)


def threshold_backward(gradient: torch.Tensor, x: torch.Tensor, threshold: float) -> torch.Tensor:
    """The gradient of ReLU."""
    return gradient * (x > threshold).to(gradient.dtype)


def empty_permuted(size: list[int], order: list[int], **options: Any) -> torch.Tensor:
    """Return zeros in place of uninitialised memory, because ONNX has only tensors with values."""
    return aten.full.default(size, 0, dtype=options.get("dtype"))


_OURS = {
    aten.empty_permuted.default: empty_permuted,
    aten.convolution_backward.default: convolution_backward,
    aten.hardtanh_backward.default: hardtanh_backward,
    aten.threshold_backward.default: threshold_backward,
}
