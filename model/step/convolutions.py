"""Rewrite the tail so that its training step runs fast: convolutions as matrix products.

A runtime's convolution kernels are made for inference. With its gradients, a 1 x 1 convolution is
three matrix products, and a depthwise convolution over a small map is a batch of them. `Rewritten`
changes only how the results are computed: frozen BatchNorm is folded into the weights before it,
and 4-d activations stay with channels first, [C, N, H, W], as long as only such products and
elementwise calls use them. Measured in docs/performance.md.
Axes: N pictures, C and O channels in and out, H and W height and width, K side of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.nn import functional

aten = torch.ops.aten
# Above this many positions in a map, a single picture fills a matrix product.
_SMALL_MAP = 400
# Largest size of the matrices that replace a depthwise convolution.
_MAX_TOEPLITZ_BYTES = 32 << 20
# Elementwise: the result has the layout of the argument.
_UNARY = {
    aten.relu.default, aten.hardtanh.default, aten.silu.default, aten.hardswish.default,
    aten.hardsigmoid.default, aten.sigmoid.default, aten.gelu.default, aten.clamp.default,
    aten.dropout.default, aten.leaky_relu.default, aten.elu.default, aten.tanh.default,
}  # fmt: skip
_BINARY = {aten.add.Tensor, aten.mul.Tensor, aten.sub.Tensor}
_Pads = tuple[int, int, int, int]  # left, right, top, bottom


class Rewritten(torch.nn.Module):
    """Runs a tail call by call, and uses a faster form of a call if there is one.

    Args:
        tail: a graph of aten operators; parameters and buffers keep its names, below "tail.".
    """

    def __init__(self, tail: fx.GraphModule) -> None:
        super().__init__()
        self.tail = tail

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Compute logits [N, C], and the next value of each statistic by name."""
        run = _Run(self.tail, inputs)
        return run.result(), run.statistics


class _Run:
    """One pass. `values` holds the tensors; the tensors of nodes in `swapped` are [C, N, H, W]."""

    def __init__(self, tail: fx.GraphModule, inputs: tuple[torch.Tensor, ...]) -> None:
        self.tail = tail
        self.inputs = iter(inputs)
        self.values: dict[fx.Node, Any] = {}
        self.swapped: set[fx.Node] = set()
        self.statistics: dict[str, torch.Tensor] = {}
        self.later = _fused(tail.graph)

    def result(self) -> torch.Tensor:
        for node in self.tail.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = next(self.inputs)
            elif node.op == "get_attr":
                self.values[node] = _attribute(self.tail, str(node.target))
            elif node.op == "output":
                return self.plain(node.args[0])
            elif node not in self.later:
                self.call(node)
        raise AssertionError("a graph without an output")

    def plain(self, node: fx.Node) -> torch.Tensor:
        """Return the value in torch's layout."""
        value = self.values[node]
        return value.transpose(0, 1) if node in self.swapped else value

    def channels_first(self, node: fx.Node) -> torch.Tensor:
        value = self.values[node]
        return value if node in self.swapped else value.transpose(0, 1)

    def call(self, node: fx.Node) -> None:
        handle = _HANDLERS.get(node.target)
        if handle is not None and handle(self, node):
            return
        args, kwargs = fx.map_arg((node.args, node.kwargs), self.plain)
        self.values[node] = node.target(*args, **kwargs)

    def keep(self, node: fx.Node, value: torch.Tensor) -> bool:
        """Store a result that has channels first."""
        self.values[node] = value
        self.swapped.add(node)
        return True

    def argument(self, node: fx.Node, index: int, default: Any) -> Any:
        found = node.args[index] if len(node.args) > index else default
        return self.plain(found) if isinstance(found, fx.Node) else found


def _fused(graph: fx.Graph) -> set[fx.Node]:
    """Find calls that the next call takes in: a convolution before a frozen BatchNorm, and padding
    before a convolution."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        before = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if before is None or len(before.users) != 1:
            continue
        if node.target is aten.batch_norm.default and not node.args[5]:
            if before.target is aten.conv2d.default:
                found.add(before)
        elif node.target is aten.conv2d.default and before.target is aten.pad.default:
            mode, value = [*before.args[2:], "constant", None, None][:2]
            if len(before.args[1]) == 4 and mode == "constant" and not value:
                found.add(before)
    return found


def _elementwise(run: _Run, node: fx.Node) -> bool:
    if node.args[0] not in run.swapped:
        return False
    return run.keep(node, node.target(run.values[node.args[0]], *node.args[1:], **node.kwargs))


def _binary(run: _Run, node: fx.Node) -> bool:
    nodes = [argument for argument in node.args[:2] if isinstance(argument, fx.Node)]
    tensors = [n for n in nodes if isinstance(run.values[n], torch.Tensor)]
    if not any(n in run.swapped for n in tensors) or any(run.values[n].dim() != 4 for n in tensors):
        return False
    first = [run.channels_first(a) if a in tensors else a for a in node.args[:2]]
    return run.keep(node, node.target(*first, *node.args[2:], **node.kwargs))


def _adaptive_average(run: _Run, node: fx.Node) -> bool:
    before, (rows, columns) = node.args[0], _pair(node.args[1])
    height, width = run.values[before].shape[2:]
    if (rows, columns) == (1, 1) and before in run.swapped:
        return run.keep(node, _pooled(run.values[before])[:, :, None, None])
    # Source: `torch.nn.AdaptiveAvgPool2d`: from floor(i * n / out) to ceil((i + 1) * n / out).
    return _average(
        run,
        node,
        [(i * height // rows, -(-(i + 1) * height // rows)) for i in range(rows)],
        [(i * width // columns, -(-(i + 1) * width // columns)) for i in range(columns)],
    )


def _average_pool(run: _Run, node: fx.Node) -> bool:
    kernel = _pair(node.args[1])
    stride = _pair(run.argument(node, 2, None) or kernel)
    padding, ceil = _pair(run.argument(node, 3, 0)), run.argument(node, 4, False)
    with_padding, divisor = run.argument(node, 5, True), run.argument(node, 6, None)
    spans, counts = [], []
    for size, k, s, p in zip(
        run.values[node.args[0]].shape[2:], kernel, stride, padding, strict=True
    ):
        steps = size + 2 * p - k
        out = (-(-steps // s) if ceil else steps // s) + 1
        # The last window must start inside the picture or its left padding.
        out -= ceil and (out - 1) * s >= size + p
        starts = [i * s - p for i in range(out)]
        spans.append([(max(start, 0), min(start + k, size)) for start in starts])
        counts.append([min(start + k, size + p) - start for start in starts])
    rows, columns = counts if with_padding else (None, None)
    if divisor is not None:
        rows, columns = [divisor] * len(spans[0]), [1] * len(spans[1])
    return _average(run, node, spans[0], spans[1], rows, columns)


def _average(
    run: _Run,
    node: fx.Node,
    row_spans: list[tuple[int, int]],
    column_spans: list[tuple[int, int]],
    row_counts: list[int] | None = None,
    column_counts: list[int] | None = None,
) -> bool:
    """Average over spans of rows and of columns by two products, because ONNX can express their
    gradients, but not those of a pooling operator."""
    before = node.args[0]
    x = run.values[before]
    across = _mean_matrix(x.shape[3], column_spans, column_counts)
    down = _mean_matrix(x.shape[2], row_spans, row_counts)
    y = (x @ across).transpose(2, 3) @ down
    run.values[node] = y.transpose(2, 3)
    if before in run.swapped:
        run.swapped.add(node)
    return True


def _mean_matrix(size: int, spans: list[tuple[int, int]], counts: list[int] | None) -> torch.Tensor:
    """[size, number of spans]."""
    found = np.zeros((size, len(spans)), np.float32)
    for index, (start, end) in enumerate(spans):
        found[start:end, index] = 1 / (counts[index] if counts else end - start)
    return torch.from_numpy(found)


def _pooled(x: torch.Tensor) -> torch.Tensor:
    """[C, N, H, W] -> [C, N], the mean over the map."""
    channels, positions = x.shape[0], x.shape[2] * x.shape[3]
    # Use a product, because its gradient is a product too. The gradient of a mean is an expansion,
    # which onnxruntime computes number by number.
    share = torch.from_numpy(np.full((positions, 1), 1 / positions, np.float32))
    return (x.reshape(-1, positions) @ share).reshape(channels, -1)


def _mean(run: _Run, node: fx.Node) -> bool:
    if node.args[0] not in run.swapped or sorted(d % 4 for d in node.args[1]) != [2, 3]:
        return False
    if run.argument(node, 2, False):
        return run.keep(node, _pooled(run.values[node.args[0]])[:, :, None, None])
    run.values[node] = _pooled(run.values[node.args[0]]).transpose(0, 1)
    return True


def _batch_norm(run: _Run, node: fx.Node) -> bool:
    """Fold a frozen BatchNorm into the convolution before it, or make it a scale and a shift."""
    gamma, beta, mean, variance = (run.argument(node, i, None) for i in range(1, 5))
    training, momentum, eps = node.args[5:8]
    if training:
        return _updating_batch_norm(run, node, momentum, eps)
    scale = torch.rsqrt(variance + eps)
    scale = scale if gamma is None else gamma * scale
    shift = -mean * scale if beta is None else beta - mean * scale
    before = node.args[0]
    if before in run.later:
        return _convolve(run, before, result=node, scale=scale, shift=shift)
    if before not in run.swapped:
        return False
    column = (-1, 1, 1, 1)
    return run.keep(node, run.values[before] * scale.reshape(column) + shift.reshape(column))


def _updating_batch_norm(run: _Run, node: fx.Node, momentum: float, eps: float) -> bool:
    """Apply BatchNorm with the batch's own mean and variance; the running ones move towards them.

    Source: `torch.nn.functional.batch_norm`; the running variance counts one row less.
    """
    gamma, beta, mean, variance = (run.argument(node, i, None) for i in range(1, 5))
    swapped = node.args[0] in run.swapped
    x = run.values[node.args[0]]
    channel = 0 if swapped else 1
    others = [axis for axis in range(x.dim()) if axis != channel]
    column = [-1 if axis == channel else 1 for axis in range(x.dim())]
    rows = x.numel() // x.shape[channel]
    batch_mean = x.mean(others)
    centred = x - batch_mean.reshape(column)
    batch_variance = centred.square().mean(others)
    scale = torch.rsqrt(batch_variance + eps)
    y = centred * (scale if gamma is None else gamma * scale).reshape(column)
    run.values[node] = y if beta is None else y + beta.reshape(column)
    if swapped:
        run.swapped.add(node)
    unbiased = batch_variance * (rows / (rows - 1))
    for index, kept, now in ((3, mean, batch_mean), (4, variance, unbiased)):
        later = (1 - momentum) * kept + momentum * now
        run.statistics[str(node.args[index].target)] = later.detach()
    return True


def _linear(run: _Run, node: fx.Node) -> bool:
    """Apply a linear layer to all tokens, [N, T, F], in one product."""
    x, weight = run.plain(node.args[0]), run.argument(node, 1, None)
    if x.dim() == 2:
        return False
    y = functional.linear(x.reshape(-1, x.shape[-1]), weight, run.argument(node, 2, None))
    run.values[node] = y.reshape(*x.shape[:-1], weight.shape[0])
    return True


def _conv2d(run: _Run, node: fx.Node) -> bool:
    return _convolve(run, node, result=node)


def _convolve(
    run: _Run,
    node: fx.Node,
    *,
    result: fx.Node,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
) -> bool:
    """Compute a convolution, scaled and shifted per channel, as the value of `result`."""
    before, weight, bias = node.args[0], run.argument(node, 1, None), run.argument(node, 2, None)
    stride, padding, dilation = (
        _pair(run.argument(node, i, d)) for i, d in ((3, 1), (4, 0), (5, 1))
    )
    groups = run.argument(node, 6, 1)
    pads: _Pads = (padding[1], padding[1], padding[0], padding[0])
    if before in run.later:
        left, right, top, bottom = before.args[1]
        pads = (pads[0] + left, pads[1] + right, pads[2] + top, pads[3] + bottom)
        before = before.args[0]
    height, width = run.values[before].shape[2:]
    out_channels, kernel = weight.shape[0], tuple(weight.shape[2:])
    shape, matrix = weight.shape, weight.reshape(out_channels, -1)
    if scale is not None and shift is not None:
        matrix = matrix * scale.reshape(-1, 1)
        bias = shift if bias is None else bias * scale + shift
    out = [
        (size + a + b - d * (k - 1) - 1) // s + 1
        for size, a, b, d, k, s in (
            (height, pads[2], pads[3], dilation[0], kernel[0], stride[0]),
            (width, pads[0], pads[1], dilation[1], kernel[1], stride[1]),
        )
    ]
    positions = out[0] * out[1]
    pointwise = kernel == (1, 1) and groups == 1 and not any(pads)
    if pointwise and positions <= _SMALL_MAP:
        x = run.channels_first(before)
        # Skip a slice that takes everything: its gradient would be a scatter of everything.
        x = x if stride == (1, 1) else x[:, :, :: stride[0], :: stride[1]]
        y = matrix @ x.reshape(x.shape[0], -1)
        y = y if bias is None else y + bias.reshape(-1, 1)
        return run.keep(result, y.reshape(out_channels, -1, *out))
    depthwise = groups == out_channels == run.plain(before).shape[1]
    matrix_bytes = 4 * out_channels * height * width * positions
    if depthwise and matrix_bytes <= _MAX_TOEPLITZ_BYTES:
        taps = _taps((height, width), (out[0], out[1]), kernel, stride, pads, dilation)
        matrices = (matrix @ taps).reshape(out_channels, height * width, positions)
        y = run.channels_first(before).reshape(out_channels, -1, height * width) @ matrices
        y = y if bias is None else y + bias.reshape(-1, 1, 1)
        return run.keep(result, y.reshape(out_channels, -1, *out))
    x = run.plain(before)
    symmetric = pads[0] == pads[1] and pads[2] == pads[3]
    if not symmetric:
        x = functional.pad(x, pads)
    inner = (pads[2], pads[0]) if symmetric else (0, 0)
    run.values[result] = aten.convolution(
        x, matrix.reshape(shape), bias, stride, inner, dilation, False, (0, 0), groups
    )
    return True


def _taps(
    size: tuple[int, int],
    out: tuple[int, int],
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    pads: _Pads,
    dilation: tuple[int, int],
) -> torch.Tensor:
    """Mark with 1 which weight joins which input position with which output position, [K * K, H * W
    * H_out * W_out]."""
    ways = []
    for n, n_out, k, s, before, d in (
        (size[0], out[0], kernel[0], stride[0], pads[2], dilation[0]),
        (size[1], out[1], kernel[1], stride[1], pads[0], dilation[1]),
    ):
        found = np.zeros((k, n, n_out), np.float32)
        for tap in range(k):
            for position in range(n_out):
                place = position * s - before + tap * d
                if 0 <= place < n:
                    found[tap, place, position] = 1
        ways.append(found)
    rows, columns = ways
    joined = np.einsum("khp,lwq->klhwpq", rows, columns)
    # Use NumPy: what torch computes while a step is traced would become part of the step.
    return torch.from_numpy(joined.reshape(kernel[0] * kernel[1], -1))


def _pair(value: Any) -> tuple[int, int]:
    numbers = [value] if isinstance(value, int) else list(value)
    return (numbers[0], numbers[-1])


def _attribute(module: fx.GraphModule, name: str) -> torch.Tensor:
    path, _, last = name.rpartition(".")
    return getattr(module.get_submodule(path), last)


_HANDLERS: dict[Any, Callable[[_Run, fx.Node], bool]] = {
    **dict.fromkeys(_UNARY, _elementwise),
    **dict.fromkeys(_BINARY, _binary),
    aten.conv2d.default: _conv2d,
    aten.batch_norm.default: _batch_norm,
    aten.linear.default: _linear,
    aten.adaptive_avg_pool2d.default: _adaptive_average,
    aten.avg_pool2d.default: _average_pool,
    aten.mean.dim: _mean,
}
