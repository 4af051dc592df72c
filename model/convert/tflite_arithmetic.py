"""ONNX's arithmetic as TFLite's: element by element, activations, reductions, normalisations.

Each function takes the conversion and one node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from model.convert.static_graph import Node
from model.convert.tflite_values import Conversion, Order, natural, refused

Convert = Callable[[Conversion, Node], None]
_BINARY: dict[str, tuple[str, Any]] = {
    "Add": ("ADD", schema.AddOptionsT),
    "Mul": ("MUL", schema.MulOptionsT),
    "Sub": ("SUB", schema.SubOptionsT),
    "Div": ("DIV", schema.DivOptionsT),
    "Max": ("MAXIMUM", schema.MaximumMinimumOptionsT),
    "Min": ("MINIMUM", schema.MaximumMinimumOptionsT),
}
_UNARY: dict[str, tuple[str, Any]] = {
    "Sigmoid": ("LOGISTIC", None),
    "Tanh": ("TANH", None),
    "Exp": ("EXP", schema.ExpOptionsT),
    "Log": ("LOG", None),
    "Sqrt": ("SQRT", None),
    "Abs": ("ABS", schema.AbsOptionsT),
    "Neg": ("NEG", schema.NegOptionsT),
    "HardSwish": ("HARD_SWISH", schema.HardSwishOptionsT),
}
_REDUCED: dict[str, str] = {
    "ReduceMean": "MEAN",
    "ReduceSum": "SUM",
    "ReduceMax": "REDUCE_MAX",
    "ReduceMin": "REDUCE_MIN",
}
_ENDLESS = 1e30  # bounds beyond cut nothing
# (least, largest) -> TFLite's activation, and whether a layer can apply it at its end.
_BOUNDS = {
    (0.0, np.inf): ("RELU", True),
    (0.0, 6.0): ("RELU6", True),
    (-1.0, 1.0): ("RELU_N1_TO_1", True),
    (0.0, 1.0): ("RELU_0_TO_1", False),
}


def binary(to: Conversion, node: Node) -> None:
    if len(node.inputs) != 2:
        raise refused(node, f"it has {len(node.inputs)} inputs, wanted 2")
    code, options = _BINARY[node.kind]
    # The quantizer wants the constants of these two with all axes.
    full_rank = node.kind in ("Max", "Min")
    inputs, order = _together(to, node.inputs, node.outputs[0], full_rank=full_rank)
    to.emit(code, inputs, node.outputs[0], options(), order)


def _together(
    to: Conversion, names: Sequence[str], output: str, *, full_rank: bool = False
) -> tuple[list[int], Order]:
    """Tensors that broadcast as ONNX's values do, with their axes in one order; `full_rank` leaves
    constants their first axes of one."""
    rank = len(to.shape(output))
    values = [name for name in names if not to.is_constant(name)]
    full = [name for name in values if len(to.shape(name)) == rank]
    order = to.value(full[0]).order if full else natural(rank)
    return [_broadcast(to, name, rank, order, full_rank=full_rank) for name in names], order


def _broadcast(
    to: Conversion, name: str, rank: int, order: Order, *, full_rank: bool = False
) -> int:
    shape = to.shape(name)
    if to.is_constant(name):
        array = to.graph.constants[name].astype(np.float32)  # also a whole exponent
        array = array.reshape((1,) * (rank - array.ndim) + array.shape).transpose(order)
        while array.ndim > 1 and array.shape[0] == 1 and not full_rank:
            array = array[0]
        return to.constant(name, array.reshape(-1) if array.ndim == 0 else array)
    if len(shape) == rank:
        return to.ordered(name, order)
    longer = [*(1,) * (rank - len(shape)), *shape]
    tensor = to.reshaped(to.natural(name), longer, name)
    if order == natural(rank):
        return tensor
    to.put(f"{name}/longer", tensor)
    to.graph.shapes[f"{name}/longer"] = tuple(longer)
    return to.ordered(f"{name}/longer", order)


def unary(to: Conversion, node: Node) -> None:
    code, options = _UNARY[node.kind]
    value = to.value(node.inputs[0])
    made = None if options is None else options()
    to.emit(code, [value.tensor], node.outputs[0], made, value.order)


def relu(to: Conversion, node: Node) -> None:
    _bounded(to, node, 0.0, np.inf)


def clip(to: Conversion, node: Node) -> None:
    ends = [to.optional(node, place) for place in (1, 2)]
    low = -np.inf if ends[0] is None else float(ends[0].reshape(-1)[0])
    high = np.inf if ends[1] is None else float(ends[1].reshape(-1)[0])
    _bounded(to, node, low, high)


def _bounded(to: Conversion, node: Node, low: float, high: float) -> None:
    name, output = node.inputs[0], node.outputs[0]
    low = -np.inf if low < -_ENDLESS else low
    high = np.inf if high > _ENDLESS else high
    value = to.value(name)
    code, fuses = _BOUNDS.get((low, high), ("", False))
    if fuses and to.is_used_once(name) and to.file.fuse(value.tensor, code, output):
        to.put(output, value.tensor, value.order)
        return
    if code:
        to.emit(code, [value.tensor], output, None, value.order)
        return
    tensor, shape = value.tensor, to.file.shape(value.tensor)
    for end, bound in (("MAXIMUM", low), ("MINIMUM", high)):
        if np.isfinite(bound):
            # Of full rank, as the quantizer wants it here.
            number = to.constant(f"{output}/bound", np.full((1,) * len(shape), bound, np.float32))
            options = schema.MaximumMinimumOptionsT()
            tensor = to.inner(end, [tensor, number], shape, f"{output}/{end.lower()}", options)
    to.put(output, tensor, value.order)


def leaky_relu(to: Conversion, node: Node) -> None:
    value = to.value(node.inputs[0])
    options = schema.LeakyReluOptionsT()
    options.alpha = float(node.attributes.get("alpha", 0.01))
    to.emit("LEAKY_RELU", [value.tensor], node.outputs[0], options, value.order)


def elu(to: Conversion, node: Node) -> None:
    if node.attributes.get("alpha", 1.0) != 1.0:
        raise refused(node, f"its alpha is {node.attributes['alpha']:g}, wanted 1")
    value = to.value(node.inputs[0])
    to.emit("ELU", [value.tensor], node.outputs[0], None, value.order)


def prelu(to: Conversion, node: Node) -> None:
    value = to.value(node.inputs[0])
    slope = _broadcast(to, node.inputs[1], len(value.order), value.order)
    to.emit("PRELU", [value.tensor, slope], node.outputs[0], None, value.order)


def gelu(to: Conversion, node: Node) -> None:
    value = to.value(node.inputs[0])
    options = schema.GeluOptionsT()
    options.approximate = node.attributes.get("approximate", "none") == "tanh"
    to.emit("GELU", [value.tensor], node.outputs[0], options, value.order)


def hard_sigmoid(to: Conversion, node: Node) -> None:
    """min(1, max(0, alpha x + beta)) as Relu6(6 alpha x + 6 beta) / 6."""
    value, output = to.value(node.inputs[0]), node.outputs[0]
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    shape = to.file.shape(value.tensor)
    tensor = _scaled(to, value.tensor, shape, 6 * alpha, f"{output}/scaled")
    number = to.constant(f"{output}/shift", np.array([6 * beta], np.float32))
    options = schema.AddOptionsT()
    options.fusedActivationFunction = schema.ActivationFunctionType.RELU6
    tensor = to.inner("ADD", [tensor, number], shape, f"{output}/cut", options)
    to.put(output, _scaled(to, tensor, shape, 1 / 6, output), value.order)


def _scaled(to: Conversion, tensor: int, shape: Sequence[int], by: float, name: str) -> int:
    number = to.constant(f"{name}/factor", np.array([by], np.float32))
    return to.inner("MUL", [tensor, number], shape, name, schema.MulOptionsT())


def power(to: Conversion, node: Node) -> None:
    value, output = to.value(node.inputs[0]), node.outputs[0]
    exponent = to.array(node, 1, "exponent")
    if exponent.size == 1 and float(exponent.reshape(-1)[0]) == 2:
        inputs = [value.tensor, value.tensor]
        to.emit("MUL", inputs, output, schema.MulOptionsT(), value.order)
        return
    inputs, order = _together(to, node.inputs, output)
    to.emit("POW", inputs, output, schema.PowOptionsT(), order)


def reciprocal(to: Conversion, node: Node) -> None:
    value = to.value(node.inputs[0])
    one = to.constant("one", np.array([1], np.float32))
    to.emit("DIV", [one, value.tensor], node.outputs[0], schema.DivOptionsT(), value.order)


def reduced(to: Conversion, node: Node) -> None:
    axes = to.optional(node, 1) if len(node.inputs) > 1 else node.attributes.get("axes")
    rank = len(to.shape(node.inputs[0]))
    if axes is None or len(axes) == 0:
        if node.attributes.get("noop_with_empty_axes", 0):
            raise refused(node, "it reduces no axis")
        axes = range(rank)
    _reduce(to, node, _REDUCED[node.kind], {int(axis) % rank for axis in axes})


def global_pool(to: Conversion, node: Node) -> None:
    code = "MEAN" if node.kind == "GlobalAveragePool" else "REDUCE_MAX"
    _reduce(to, node, code, set(range(2, len(to.shape(node.inputs[0])))))


def _reduce(to: Conversion, node: Node, code: str, axes: set[int]) -> None:
    value, output = to.value(node.inputs[0]), node.outputs[0]
    options = schema.ReducerOptionsT()
    options.keepDims = len(to.shape(output)) == len(value.order)
    places = [place for place, axis in enumerate(value.order) if axis in axes]
    order = value.order
    if not options.keepDims:
        left = [axis for axis in order if axis not in axes]
        order = tuple(sorted(left).index(axis) for axis in left)
    inputs = [value.tensor, to.constant(f"{output}/axes", np.array(places, np.int32))]
    to.emit(code, inputs, output, options, order)


def batch_norm(to: Conversion, node: Node) -> None:
    """x * factor + shift for each channel."""
    scale, bias, mean, variance = (to.array(node, place) for place in range(1, 5))
    factor = scale / np.sqrt(variance + np.float32(node.attributes.get("epsilon", 1e-5)))
    value, output = to.value(node.inputs[0]), node.outputs[0]
    shape = to.file.shape(value.tensor)
    wide = [-1 if axis == 1 else 1 for axis in value.order]
    inputs = [value.tensor, to.constant(f"{output}/factor", factor.reshape(wide))]
    tensor = to.inner("MUL", inputs, shape, f"{output}/scaled", schema.MulOptionsT())
    shift = to.constant(f"{output}/shift", (bias - mean * factor).reshape(wide))
    to.emit("ADD", [tensor, shift], output, schema.AddOptionsT(), value.order)


def layer_norm(to: Conversion, node: Node) -> None:
    """Over the last axes, in elementary steps."""
    name, output = node.inputs[0], node.outputs[0]
    shape = to.shape(name)
    first = int(node.attributes.get("axis", -1)) % len(shape)
    axes = to.constant("axes", np.arange(first, len(shape), dtype=np.int32))
    short = [size if axis < first else 1 for axis, size in enumerate(shape)]
    epsilon = np.array([node.attributes.get("epsilon", 1e-5)], np.float32)
    options = schema.ReducerOptionsT()
    options.keepDims = True
    x = to.natural(name)
    mean = to.inner("MEAN", [x, axes], short, f"{output}/mean", options)
    centred = to.inner("SUB", [x, mean], shape, f"{output}/centred", schema.SubOptionsT())
    square = to.inner("MUL", [centred] * 2, shape, f"{output}/square", schema.MulOptionsT())
    variance = to.inner("MEAN", [square, axes], short, f"{output}/variance", options)
    added = [variance, to.constant(f"{output}/epsilon", epsilon)]
    variance = to.inner("ADD", added, short, f"{output}/more", schema.AddOptionsT())
    root = to.inner("RSQRT", [variance], short, f"{output}/root")
    tensor = to.inner("MUL", [centred, root], shape, f"{output}/normal", schema.MulOptionsT())
    scale = to.constant(f"{output}/scale", to.array(node, 1))
    tensor = to.inner("MUL", [tensor, scale], shape, f"{output}/scaled", schema.MulOptionsT())
    if (bias := to.optional(node, 2)) is not None:
        inputs = [tensor, to.constant(f"{output}/bias", bias)]
        tensor = to.inner("ADD", inputs, shape, output, schema.AddOptionsT())
    to.put(output, tensor)


ARITHMETIC: dict[str, Convert] = {
    **dict.fromkeys(_BINARY, binary),
    **dict.fromkeys(_UNARY, unary),
    **dict.fromkeys(_REDUCED, reduced),
    "Relu": relu,
    "Clip": clip,
    "LeakyRelu": leaky_relu,
    "Elu": elu,
    "PRelu": prelu,
    "Gelu": gelu,
    "HardSigmoid": hard_sigmoid,
    "Pow": power,
    "Reciprocal": reciprocal,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
}
