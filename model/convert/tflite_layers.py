"""ONNX's layers with weights and windows as TFLite's: convolutions, dense layers, pools, pads.

Each function takes the conversion and one node. Axes: O output channels, I input channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from model.convert.static_graph import Node
from model.convert.tflite_values import Conversion, natural, refused

_PICTURE = (0, 2, 3, 1)  # ONNX's axes in the order of TFLite's layers
_LOWEST = np.float32(-3.0e38)
_SAME, _VALID = schema.Padding.SAME, schema.Padding.VALID
Ends = tuple[tuple[int, int], tuple[int, int]]  # (before, after) for height and width


def conv(to: Conversion, node: Node) -> None:
    name, output = node.inputs[0], node.outputs[0]
    weight = to.array(node, 1, "weight")
    if weight.ndim != 4:
        raise refused(node, f"it works on {weight.ndim - 2} axes, wanted 2")
    groups, channels = int(node.attributes.get("group", 1)), to.shape(name)[1]
    strides, dilations = _pair(node, "strides"), _pair(node, "dilations")
    bias = to.optional(node, 2)
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    picture, padding = _padded(to, node, weight.shape[2:], strides, dilations, 0.0)
    depthwise = groups == channels and weight.shape[1] == 1 and groups > 1
    # [O, I, H, W] -> [1, H, W, O] and [O, H, W, I]
    kernel = weight.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    if depthwise:
        options.depthMultiplier = len(weight) // groups
    options.padding = padding
    options.strideH, options.strideW = strides
    options.dilationHFactor, options.dilationWFactor = dilations
    inputs = [picture, to.constant(f"{output}/weight", kernel), to.constant(f"{output}/bias", bias)]
    code = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    to.emit(code, inputs, output, options, _PICTURE)


def gemm(to: Conversion, node: Node) -> None:
    get = node.attributes.get
    if get("transA", 0):
        raise refused(node, "its first matrix is transposed")
    weight = to.array(node, 1, "weight").astype(np.float32) * np.float32(get("alpha", 1.0))
    weight = weight if get("transB", 0) else weight.T
    bias = to.optional(node, 2)
    row: NDArray[Any] = np.zeros(len(weight), np.float32)
    if bias is not None:
        row = row + bias.reshape(-1) * np.float32(get("beta", 1.0))
    _dense(to, node, weight, row, keep=False)


def matmul(to: Conversion, node: Node) -> None:
    left, right = node.inputs[:2]
    if to.is_constant(right) and len(to.shape(right)) == 2 and not to.is_constant(left):
        weight = to.array(node, 1).T
        _dense(to, node, weight, np.zeros(len(weight), np.float32), keep=True)
        return
    if to.is_constant(left) and len(to.shape(left)) == 2 and len(to.shape(right)) >= 2:
        _from_left(to, node)
        return
    if min(len(to.shape(left)), len(to.shape(right))) < 2:
        raise refused(node, "one of its sides is a vector")
    inputs = [to.natural(left), to.natural(right)]
    to.emit("BATCH_MATMUL", inputs, node.outputs[0], schema.BatchMatMulOptionsT())


def _from_left(to: Conversion, node: Node) -> None:
    """A weight [O, I] times a value [..., I, N], as a layer that the quantizer knows, where it does
    not know a product of matrices: the value lies transposed, and so does the result."""
    weight, output = to.array(node, 0), node.outputs[0]
    rank = len(to.shape(node.inputs[1]))
    order = (*range(rank - 2), rank - 1, rank - 2)
    options = schema.FullyConnectedOptionsT()
    options.keepNumDims = rank != 2
    inputs = [
        to.ordered(node.inputs[1], order),
        to.constant(f"{output}/weight", weight),
        to.constant(f"{output}/bias", np.zeros(len(weight), np.float32)),
    ]
    to.emit("FULLY_CONNECTED", inputs, output, options, order)


def _dense(
    to: Conversion, node: Node, weight: NDArray[Any], bias: NDArray[Any], *, keep: bool
) -> None:
    """weight [O, I]."""
    output = node.outputs[0]
    options = schema.FullyConnectedOptionsT()
    options.keepNumDims = keep and len(to.shape(output)) != 2
    inputs = [
        to.natural(node.inputs[0]),
        to.constant(f"{output}/weight", np.ascontiguousarray(weight)),
        to.constant(f"{output}/bias", bias.astype(np.float32)),
    ]
    to.emit("FULLY_CONNECTED", inputs, output, options)


def max_pool(to: Conversion, node: Node) -> None:
    if _pair(node, "dilations") != (1, 1):
        raise refused(node, "its window has gaps (dilations)")
    value = to.value(node.inputs[0])
    # A border of zeros changes no maximum of numbers that are not negative.
    border = 0.0 if to.file.is_positive(value.tensor) else float(_LOWEST)
    _pool(to, node, "MAX_POOL_2D", border)


def average_pool(to: Conversion, node: Node) -> None:
    if node.attributes.get("ceil_mode", 0):
        raise refused(node, "it rounds its sides up (ceil_mode)")
    _pool(to, node, "AVERAGE_POOL_2D", 0.0)


def _pool(to: Conversion, node: Node, code: str, border: float) -> None:
    window = tuple(node.attributes["kernel_shape"])
    if len(window) != 2:
        raise refused(node, f"its window has {len(window)} axes, wanted 2")
    strides = _pair(node, "strides")
    average = code == "AVERAGE_POOL_2D"
    counts_border = bool(node.attributes.get("count_include_pad", 0))
    picture, padding = _padded(
        to, node, window, strides, (1, 1), border, always=average and counts_border
    )
    if average and not counts_border and padding == _VALID and any(map(sum, _ends(to, node))):
        raise refused(node, "its border is not counted and not that of TFLite's SAME padding")
    options = schema.Pool2DOptionsT()
    options.padding = padding
    options.strideH, options.strideW = strides
    options.filterHeight, options.filterWidth = window
    to.emit(code, [picture], node.outputs[0], options, _PICTURE)


def pad(to: Conversion, node: Node) -> None:
    mode = node.attributes.get("mode", "constant")
    if mode != "constant":
        raise refused(node, f"it fills the border by {mode}")
    axes = to.optional(node, 3)
    rank = len(to.shape(node.inputs[0]))
    given = np.arange(rank) if axes is None else axes % rank
    before, after = to.array(node, 1, "width of the border").reshape(2, -1)
    ends = {int(axis): (int(b), int(a)) for axis, b, a in zip(given, before, after, strict=True)}
    if min(min(pair) for pair in ends.values()) < 0:
        raise refused(node, "it cuts the picture")
    value = to.value(node.inputs[0])
    widths = [ends.get(axis, (0, 0)) for axis in value.order]
    border = to.optional(node, 2)
    filled = 0.0 if border is None else float(border.reshape(-1)[0])
    output = node.outputs[0]
    inputs, code, options = _pad_inputs(to, value.tensor, widths, filled, output)
    to.emit(code, inputs, output, options, value.order)


def _pad_inputs(
    to: Conversion, tensor: int, widths: Sequence[tuple[int, int]], filled: float, name: str
) -> tuple[list[int], str, object]:
    inputs = [tensor, to.constant(f"{name}/border", np.array(widths, np.int32))]
    if filled == 0:
        return inputs, "PAD", schema.PadOptionsT()
    inputs.append(to.constant(f"{name}/filled", np.array([filled], np.float32)))
    return inputs, "PADV2", schema.PadV2OptionsT()


def _padded(
    to: Conversion,
    node: Node,
    window: Sequence[int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    border: float,
    *,
    always: bool = False,
) -> tuple[int, int]:
    """The picture for a window, and TFLite's padding: a border of its own where that is the same,
    else one that is put on before. `always` puts it on."""
    name = node.inputs[0]
    if len(to.shape(name)) != 4:
        raise refused(node, f"its input has {len(to.shape(name))} axes, wanted 4")
    picture = to.ordered(name, _PICTURE)
    ends = _ends(to, node, window, strides, dilations)
    if not any(map(sum, ends)):
        return picture, _VALID
    sides = to.shape(name)[2:]
    same = tuple(
        _same(side, (size - 1) * gap + 1, stride)
        for side, size, gap, stride in zip(sides, window, dilations, strides, strict=True)
    )
    if ends == same and not always:
        return picture, _SAME
    widths = [(0, 0), *ends, (0, 0)]
    inputs, code, options = _pad_inputs(to, picture, widths, border, name)
    found = to.file.shape(picture)
    shape = [size + sum(pair) for size, pair in zip(found, widths, strict=True)]
    return to.inner(code, inputs, shape, f"{node.outputs[0]}/padded", options), _VALID


def _same(side: int, window: int, stride: int) -> tuple[int, int]:
    """The border that TFLite puts on with SAME: as little as covers every pixel, the odd one
    behind."""
    total = max((-(-side // stride) - 1) * stride + window - side, 0)
    return total // 2, total - total // 2


def _ends(
    to: Conversion,
    node: Node,
    window: Sequence[int] = (1, 1),
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
) -> Ends:
    automatic = node.attributes.get("auto_pad", "NOTSET")
    if automatic == "SAME_UPPER":
        sides = to.shape(node.inputs[0])[2:]
        height, width = (
            _same(side, (size - 1) * gap + 1, stride)
            for side, size, gap, stride in zip(sides, window, dilations, strides, strict=True)
        )
        return height, width
    if automatic not in ("NOTSET", "VALID", ""):
        raise refused(node, f"its border is {automatic}")
    top, left, bottom, right = map(int, node.attributes.get("pads", (0, 0, 0, 0)))
    if node.attributes.get("ceil_mode", 0):  # the last window may reach over the border
        (high, wide), (rows, columns) = to.shape(node.inputs[0])[2:], to.shape(node.outputs[0])[2:]
        bottom = max(bottom, (rows - 1) * strides[0] + window[0] - high - top)
        right = max(right, (columns - 1) * strides[1] + window[1] - wide - left)
    return (top, bottom), (left, right)


def _pair(node: Node, name: str) -> tuple[int, int]:
    first, second = node.attributes.get(name, (1, 1))
    return int(first), int(second)


def softmax(to: Conversion, node: Node) -> None:
    name = node.inputs[0]
    rank = len(to.shape(name))
    axis = int(node.attributes.get("axis", -1)) % rank
    order = (*(other for other in natural(rank) if other != axis), axis)
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    to.emit("SOFTMAX", [to.ordered(name, order)], node.outputs[0], options, order)


LAYERS = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "Pad": pad,
    "Softmax": softmax,
}
