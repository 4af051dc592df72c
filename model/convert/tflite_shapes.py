"""ONNX's operators that move numbers without changing them, as TFLite's.

Each function takes the conversion and one node.
"""

from __future__ import annotations

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from model.convert.static_graph import Node
from model.convert.tflite_values import Conversion, natural, refused


def reshape(to: Conversion, node: Node) -> None:
    """Reshape, Flatten, Squeeze and Unsqueeze: all shapes are known."""
    name, output = node.inputs[0], node.outputs[0]
    made = to.file.tensor(output, to.shape(output), np.float32)
    to.reshape(to.natural(name), made)
    to.put(output, made)


def transpose(to: Conversion, node: Node) -> None:
    value = to.value(node.inputs[0])
    backwards = tuple(reversed(natural(len(value.order))))
    permutation = node.attributes.get("perm", backwards)
    order = tuple(permutation.index(axis) for axis in value.order)
    to.put(node.outputs[0], value.tensor, order)


def same(to: Conversion, node: Node) -> None:
    value = to.value(node.inputs[0])
    to.put(node.outputs[0], value.tensor, value.order)


def cast(to: Conversion, node: Node) -> None:
    wanted = onnx.helper.tensor_dtype_to_np_dtype(node.attributes["to"])
    if wanted != np.float32:
        raise refused(node, f"it makes {wanted} of numbers that depend on the picture")
    if node.inputs[0] != to.graph.input:
        same(to, node)  # all other values are float32 here
        return
    value = to.value(node.inputs[0])
    to.emit("CAST", [value.tensor], node.outputs[0], schema.CastOptionsT(), value.order)


def concat(to: Conversion, node: Node) -> None:
    first = next(name for name in node.inputs if not to.is_constant(name))
    order = to.value(first).order
    options = schema.ConcatenationOptionsT()
    options.axis = order.index(int(node.attributes["axis"]) % len(order))
    inputs = [to.ordered(name, order) for name in node.inputs]
    to.emit("CONCATENATION", inputs, node.outputs[0], options, order)


def split(to: Conversion, node: Node) -> None:
    value = to.value(node.inputs[0])
    axis = int(node.attributes.get("axis", 0)) % len(value.order)
    begin = 0
    for output in node.outputs:
        size = to.shape(output)[axis]
        _piece(to, node, output, {axis: (begin, size)})
        begin += size


def slice_(to: Conversion, node: Node) -> None:
    name, output = node.inputs[0], node.outputs[0]
    shape = to.shape(name)
    starts, ends = to.array(node, 1), to.array(node, 2)
    given, steps = to.optional(node, 3), to.optional(node, 4)
    axes = natural(len(starts)) if given is None else tuple(int(a) % len(shape) for a in given)
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    chosen = {
        axis: range(shape[axis])[int(start) : _end(int(end)) : int(step)]
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    }
    if all(rows.step == 1 for rows in chosen.values()):
        _piece(to, node, output, {axis: (r.start, len(r)) for axis, r in chosen.items()})
        return
    if len(chosen) > 1:
        raise refused(node, "it takes every n-th of several axes")
    ((axis, rows),) = chosen.items()
    _take(to, name, output, np.array(rows, np.int32), axis)


def _end(end: int) -> int | None:
    """Down to the first one and with it, as ONNX writes it."""
    return None if end <= -(2**31) else end


def _piece(to: Conversion, node: Node, output: str, parts: dict[int, tuple[int, int]]) -> None:
    """parts: axis -> (first, how many)."""
    value = to.value(node.inputs[0])
    whole = to.shape(node.inputs[0])
    chosen = [parts.get(axis, (0, whole[axis])) for axis in value.order]
    begins, sizes = (np.array(numbers, np.int32) for numbers in zip(*chosen, strict=True))
    constants = [to.constant(f"{output}/{n}", a) for n, a in (("begin", begins), ("size", sizes))]
    to.emit("SLICE", [value.tensor, *constants], output, schema.SliceOptionsT(), value.order)


def gather(to: Conversion, node: Node) -> None:
    name, output = node.inputs[0], node.outputs[0]
    rows, shape = to.array(node, 1, "indices"), to.shape(name)
    axis = int(node.attributes.get("axis", 0)) % len(shape)
    rows = np.where(rows < 0, rows + shape[axis], rows)
    if rows.size == shape[axis] and np.array_equal(rows.reshape(-1), np.arange(shape[axis])):
        reshape(to, node)  # every one in its turn: what exports make of an adaptive pool
        return
    if rows.ndim == 1:
        _take(to, name, output, rows.astype(np.int32), axis)
        return
    options = schema.GatherOptionsT()
    options.axis = axis
    inputs = [to.natural(name), to.constant(f"{output}/rows", rows)]
    to.emit("GATHER", inputs, output, options)


def _take(to: Conversion, name: str, output: str, rows: NDArray[np.int32], axis: int) -> None:
    value = to.value(name)
    options = schema.GatherOptionsT()
    options.axis = value.order.index(axis)
    inputs = [value.tensor, to.constant(f"{output}/rows", rows)]
    to.emit("GATHER", inputs, output, options, value.order)


def expand(to: Conversion, node: Node) -> None:
    name, output = node.inputs[0], node.outputs[0]
    shape = to.shape(output)
    tensor = to.natural(name)
    if len(to.shape(name)) < len(shape):
        longer = [*(1,) * (len(shape) - len(to.shape(name))), *to.shape(name)]
        tensor = to.reshaped(tensor, longer, name)
    inputs = [tensor, to.constant(f"{output}/shape", np.array(shape, np.int32))]
    to.emit("BROADCAST_TO", inputs, output, schema.BroadcastToOptionsT())


SHAPES = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), reshape),
    "Transpose": transpose,
    "Identity": same,
    "Cast": cast,
    "Concat": concat,
    "Split": split,
    "Slice": slice_,
    "Gather": gather,
    "Expand": expand,
}
