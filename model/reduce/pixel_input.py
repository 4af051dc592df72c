"""Feed pixels directly to the first convolution as uint8, without a float picture between.

Normalisation is affine, and so is quantization: x = scale * (pixel - zero point). With one scale
and one mean for all channels, and a mean of whole grey levels, they are the same. Otherwise
differences of scale go into the convolution's weights, and the rest of the means into its bias.
Then only the zero padding changes: it becomes a grey near the mean instead of the mean itself.
Axes: O output channels, S side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tod.format.manifest import InputSpec

_ON_PIXELS = {"Cast", "Mul", "Add", "Slice", "Gather", "Transpose"}


@dataclass(frozen=True)
class PixelInput:
    """How the first convolution takes pixels.

    Attributes:
        tensor: the normalised picture [N, 3, S, S], which the pixels replace.
        layer: the convolution's node.
        scale, zero_point: of the pixels.
        weight: float32 [O, 3, ...], in the colour order of the pixels.
        bias: float32 [O].
    """

    tensor: str
    layer: str
    scale: np.float32
    zero_point: np.uint8
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def find(model: onnx.ModelProto, spec: InputSpec) -> PixelInput | None:
    """Find how pixels can go into the first convolution. None if the graph does not begin with a
    normalisation whose result goes only into a convolution."""
    picture = _normalised(model)
    users = [node for node in model.graph.node if picture in node.input]
    if picture is None or len(users) != 1 or users[0].op_type != "Conv":
        return None
    conv = users[0]
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    if conv.input[0] != picture or any(name not in constants for name in conv.input[1:]):
        return None
    weight = constants[conv.input[1]].astype(np.float64)
    if weight.shape[1] != 3 or _uses(model, conv.input[1]) != 1:
        return None
    bias = constants[conv.input[2]] if len(conv.input) == 3 else np.zeros(len(weight))
    order = slice(None, None, -1) if spec.colour == "bgr" else slice(None)
    scales = 1 / (255 * np.array(spec.std))[order]
    means = 255 * np.array(spec.mean)[order]
    weight = weight[:, order]
    scale, zero_point = scales.mean(), int(np.clip(np.rint(means.mean()), 0, 255))
    left = (scales * (zero_point - means)).reshape(1, 3, *[1] * (weight.ndim - 2))
    shift = (weight * left).reshape(len(weight), -1).sum(axis=1)
    ratio = (scales / scale).reshape(left.shape)
    return PixelInput(
        tensor=picture,
        layer=conv.name,
        scale=np.float32(scale),
        zero_point=np.uint8(zero_point),
        weight=(weight * ratio).astype(np.float32),
        bias=(bias + shift).astype(np.float32),
    )


def fold(model: onnx.ModelProto, pixels: PixelInput) -> onnx.ModelProto:
    """Copy the model, with weights for pixels in the first convolution; `splice` connects the
    pixels."""
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    conv = next(node for node in folded.graph.node if node.name == pixels.layer)
    constants = {tensor.name: tensor for tensor in folded.graph.initializer}
    constants[conv.input[1]].CopyFrom(numpy_helper.from_array(pixels.weight, conv.input[1]))
    # Add a new bias, because convolutions without a bias may share one tensor of zeros.
    name = f"{pixels.tensor}/bias"
    folded.graph.initializer.append(numpy_helper.from_array(pixels.bias, name))
    conv.input[:] = [*conv.input[:2], name]
    return folded


def splice(model: onnx.ModelProto, pixels: PixelInput) -> None:
    """Replace the quantized picture by the pixels, and remove the nodes that made it.

    Args:
        model: quantized; changed.
        pixels: what `fold` was called with.
    """
    nodes = model.graph.node
    at, quantize = next(
        (index, node)
        for index, node in enumerate(nodes)
        if node.op_type == "QuantizeLinear" and node.input[0] == pixels.tensor
    )
    channels_first = onnx.helper.make_node(
        "Transpose", ["pixels"], [quantize.output[0]], perm=[0, 3, 1, 2]
    )
    nodes[at].CopyFrom(channels_first)
    drop_unused(model)


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove nodes and constants that lead to no output."""
    graph = model.graph
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    keep(graph.node, kept[::-1])
    keep(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in wanted])


def keep(field: Any, items: list[Any]) -> None:
    """Replace the messages of a repeated field by `items`; some of them may be in it already."""
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)


def _normalised(model: onnx.ModelProto) -> str | None:
    """Find the tensor [N, 3, S, S] after the nodes that only turn pixels into the network's
    input."""
    name, transposed = "pixels", None
    while True:
        users = [n for n in model.graph.node if n.input and n.input[0] == name]
        users = [node for node in users if node.op_type in _ON_PIXELS]
        if len(users) != 1 or transposed is not None:
            return transposed
        name = users[0].output[0]
        if users[0].op_type == "Transpose":
            permutation = next(a.ints for a in users[0].attribute if a.name == "perm")
            transposed = name if list(permutation) == [0, 3, 1, 2] else None


def _uses(model: onnx.ModelProto, name: str) -> int:
    return sum(list(node.input).count(name) for node in model.graph.node)
