"""ONNX's operators as lines of torch. Each function gives the expression of one node.

The graph is that of one picture; the lines take any number: where a shape is written down, the axis
of the pictures is left open. Axes: N pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.convert.static_graph import Node, StaticGraph

_CALLS = {
    "Relu": "F.relu", "Sigmoid": "torch.sigmoid", "Tanh": "torch.tanh", "Exp": "torch.exp",
    "Log": "torch.log", "Sqrt": "torch.sqrt", "Abs": "torch.abs", "Neg": "torch.neg",
    "Erf": "torch.erf", "Reciprocal": "torch.reciprocal", "HardSwish": "F.hardswish",
    "Pow": "torch.pow", "Max": "torch.maximum", "Min": "torch.minimum",
}  # fmt: skip
_SIGNS = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "MatMul": "@"}
_REDUCED = {"ReduceMean": "mean", "ReduceSum": "sum", "ReduceMax": "amax", "ReduceMin": "amin"}


class Scope:
    """The expressions of a graph's values.

    Attributes:
        graph: the graph.
        names: expression by value.
        open: values whose first axis counts pictures.
    """

    def __init__(self, graph: StaticGraph, names: Mapping[str, str]) -> None:
        self.graph = graph
        self.names = dict(names)
        self.open = {graph.input}

    def __call__(self, node: Node, place: int) -> str:
        """The expression of an input; "None" of one that is left out."""
        name = node.inputs[place] if place < len(node.inputs) else ""
        return self.names[name] if name else "None"

    def array(self, node: Node, place: int) -> NDArray[Any] | None:
        """The value of a constant input."""
        name = node.inputs[place] if place < len(node.inputs) else ""
        return self.graph.constants.get(name)

    def numbers(self, node: Node, place: int, attribute: str) -> tuple[int, ...] | None:
        """Whole numbers that are an input or, in older operators, an attribute."""
        array = self.array(node, place)
        if array is not None:
            return tuple(int(n) for n in array.reshape(-1))
        return node.attributes.get(attribute)

    def rank(self, name: str) -> int:
        return len(self.graph.shapes[name])


Line = Callable[[Scope, Node], str]


def _call(at: Scope, node: Node) -> str:
    return f"{_CALLS[node.kind]}({', '.join(at(node, i) for i in range(len(node.inputs)))})"


def _sign(at: Scope, node: Node) -> str:
    return f"{at(node, 0)} {_SIGNS[node.kind]} {at(node, 1)}"


def _conv(at: Scope, node: Node) -> str:
    get = node.attributes.get
    axes = at.rank(node.inputs[0]) - 2
    pads = get("pads", (0,) * 2 * axes)
    picture, padding = at(node, 0), pads[:axes]
    if pads[:axes] != pads[axes:]:
        picture, padding = f"F.pad({picture}, {_pads(pads)})", (0,) * axes
    ones = (1,) * axes
    return (
        f"F.conv{axes}d({picture}, {at(node, 1)}, {at(node, 2)}, stride={get('strides', ones)}, "
        f"padding={padding}, dilation={get('dilations', ones)}, groups={get('group', 1)})"
    )


def _pads(pads: tuple[int, ...]) -> tuple[int, ...]:
    """ONNX's (begins, ends) of the last axes as torch's: from the last axis on, in pairs."""
    half = len(pads) // 2
    return tuple(n for i in reversed(range(half)) for n in (pads[i], pads[half + i]))


def _gemm(at: Scope, node: Node) -> str:
    get = node.attributes.get
    alpha, beta = float(get("alpha", 1.0)), float(get("beta", 1.0))
    if get("transB", 0) and not get("transA", 0) and alpha == beta == 1:
        return f"F.linear({at(node, 0)}, {at(node, 1)}, {at(node, 2)})"
    left = f"{at(node, 0)}.T" if get("transA", 0) else at(node, 0)
    right = f"{at(node, 1)}.T" if get("transB", 0) else at(node, 1)
    product = f"{left} @ {right}" if alpha == 1 else f"{alpha!r} * ({left} @ {right})"
    if at(node, 2) == "None":
        return product
    return f"{product} + {at(node, 2)}" if beta == 1 else f"{product} + {beta!r} * {at(node, 2)}"


def _clip(at: Scope, node: Node) -> str:
    return f"torch.clamp({at(node, 0)}, {at(node, 1)}, {at(node, 2)})"


def _softmax(at: Scope, node: Node) -> str:
    return f"torch.softmax({at(node, 0)}, {int(node.attributes.get('axis', -1))})"


def _reduced(at: Scope, node: Node) -> str:
    axes = at.numbers(node, 1, "axes") or tuple(range(at.rank(node.inputs[0])))
    keep = bool(node.attributes.get("keepdims", 1))
    return f"{at(node, 0)}.{_REDUCED[node.kind]}({axes}, keepdim={keep})"


def _global(at: Scope, node: Node) -> str:
    axes = tuple(range(2, at.rank(node.inputs[0])))
    name = "mean" if node.kind == "GlobalAveragePool" else "amax"
    return f"{at(node, 0)}.{name}({axes}, keepdim=True)"


def _max_pool(at: Scope, node: Node) -> str:
    gaps = node.attributes.get("dilations", (1,) * len(node.attributes["kernel_shape"]))
    return _pool(at, node, "max", "-torch.inf", f", dilation={gaps}")


def _average_pool(at: Scope, node: Node) -> str:
    counted = bool(node.attributes.get("count_include_pad", 0))
    return _pool(at, node, "avg", "0.0", f", count_include_pad={counted}")


def _pool(at: Scope, node: Node, kind: str, border: str, more: str = "") -> str:
    get, window = node.attributes.get, node.attributes["kernel_shape"]
    axes = len(window)
    pads, strides = get("pads", (0,) * 2 * axes), get("strides", (1,) * axes)
    gaps, ceiling = get("dilations", (1,) * axes), bool(get("ceil_mode", 0))
    if ceiling and kind == "max":  # torch leaves out a last window that begins on the border
        ceiling = False
        sides, made = (at.graph.shapes[n][2:] for n in (node.inputs[0], node.outputs[0]))
        reached = [
            (count - 1) * stride + (size - 1) * gap + 1 - side - before
            for count, stride, size, gap, side, before in zip(
                made, strides, window, gaps, sides, pads[:axes], strict=True
            )
        ]
        pads = (*pads[:axes], *map(max, pads[axes:], reached))
    picture, padding = at(node, 0), pads[:axes]
    if pads[:axes] != pads[axes:]:
        picture, padding = f"F.pad({picture}, {_pads(pads)}, value={border})", (0,) * axes
    return (
        f"F.{kind}_pool{axes}d({picture}, {window}, {strides}, padding={padding}, "
        f"ceil_mode={ceiling}{more})"
    )


def _pad(at: Scope, node: Node) -> str:
    pads = at.numbers(node, 1, "pads") or ()
    value = at(node, 2)
    return f"F.pad({at(node, 0)}, {_pads(pads)}, value={0.0 if value == 'None' else value})"


def _reshape(at: Scope, node: Node) -> str:
    return f"{at(node, 0)}.reshape({_opened(at, node)})"


def _opened(at: Scope, node: Node) -> tuple[int, ...]:
    """The shape of what a node makes, for any number of pictures."""
    shape = at.graph.shapes[node.outputs[0]]
    return (-1, *shape[1:]) if node.inputs[0] in at.open and shape else shape


def _transpose(at: Scope, node: Node) -> str:
    backwards = tuple(reversed(range(at.rank(node.inputs[0]))))
    return f"{at(node, 0)}.permute({node.attributes.get('perm', backwards)})"


def _concat(at: Scope, node: Node) -> str:
    axis = int(node.attributes["axis"])
    many = next((at(node, i) for i, n in enumerate(node.inputs) if n in at.open), None)
    parts = []
    for place, name in enumerate(node.inputs):
        part = at(node, place)
        if many is not None and name not in at.open and axis != 0:
            part = f"{part}.expand({many}.shape[0], {', '.join(['-1'] * (at.rank(name) - 1))})"
        parts.append(part)
    return f"torch.cat(({', '.join(parts)}), {axis})"


def _split(at: Scope, node: Node) -> str:
    axis = int(node.attributes.get("axis", 0))
    sizes = [at.graph.shapes[name][axis] for name in node.outputs]
    return f"torch.split({at(node, 0)}, {sizes}, {axis})"


def _slice(at: Scope, node: Node) -> str:
    starts, ends = at.numbers(node, 1, "starts") or (), at.numbers(node, 2, "ends") or ()
    shape = at.graph.shapes[node.inputs[0]]
    axes = at.numbers(node, 3, "axes") or tuple(range(len(starts)))
    steps = at.numbers(node, 4, "") or (1,) * len(starts)
    text = at(node, 0)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        rows = range(shape[axis])[slice(start, None if end < -(2**31) else end, step)]
        if step == 1:
            text += f".narrow({axis}, {rows.start}, {len(rows)})"
        else:
            text += _selected(at, axis, list(rows))
    return text


def _gather(at: Scope, node: Node) -> str:
    rows, shape = at.array(node, 1), at.graph.shapes[node.inputs[0]]
    axis = int(node.attributes.get("axis", 0)) % len(shape)
    assert rows is not None  # see `IN_TEXT`
    every = np.array_equal(rows.reshape(-1), np.arange(shape[axis]))
    if every and (rows.ndim == 1 or len(shape) == 1):
        return _reshape(at, node)
    text = at(node, 0) + _selected(at, axis, (rows.reshape(-1) % shape[axis]).tolist())
    return text if rows.ndim == 1 else f"{text}.reshape({_opened(at, node)})"


def _selected(at: Scope, axis: int, rows: list[int]) -> str:
    return f".index_select({axis}, torch.tensor({rows}, device={at.graph.input}.device))"


def _expand(at: Scope, node: Node) -> str:
    return f"{at(node, 0)}.expand({_opened(at, node)})"


def _batch_norm(at: Scope, node: Node) -> str:
    scale, bias, mean, variance = (at(node, place) for place in range(1, 5))
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    return f"F.batch_norm({at(node, 0)}, {mean}, {variance}, {scale}, {bias}, eps={epsilon!r})"


def _layer_norm(at: Scope, node: Node) -> str:
    shape = at.graph.shapes[node.inputs[0]][int(node.attributes.get("axis", -1)) :]
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    return f"F.layer_norm({at(node, 0)}, {shape}, {at(node, 1)}, {at(node, 2)}, eps={epsilon!r})"


def _with_number(call: str, attribute: str, default: float) -> Line:
    return lambda at, node: (
        f"{call}({at(node, 0)}, {float(node.attributes.get(attribute, default))!r})"
    )


def _prelu(at: Scope, node: Node) -> str:
    x, slope = at(node, 0), at(node, 1)
    return f"torch.where({x} < 0, {x} * {slope}, {x})"


def _gelu(at: Scope, node: Node) -> str:
    return f"F.gelu({at(node, 0)}, approximate={node.attributes.get('approximate', 'none')!r})"


def _hard_sigmoid(at: Scope, node: Node) -> str:
    alpha, beta = (float(node.attributes.get(n, d)) for n, d in (("alpha", 0.2), ("beta", 0.5)))
    return f"torch.clamp({at(node, 0)} * {alpha!r} + {beta!r}, 0, 1)"


LINES: dict[str, Line] = {
    **dict.fromkeys(_CALLS, _call),
    **dict.fromkeys(_SIGNS, _sign),
    **dict.fromkeys(_REDUCED, _reduced),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _global),
    "Conv": _conv, "Gemm": _gemm, "Clip": _clip, "Softmax": _softmax, "MaxPool": _max_pool,
    "AveragePool": _average_pool, "Pad": _pad, "Transpose": _transpose, "Concat": _concat,
    "Split": _split, "Slice": _slice, "Gather": _gather, "Expand": _expand,
    "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm, "Gelu": _gelu,
    "PRelu": _prelu,
    "HardSigmoid": _hard_sigmoid, "LeakyRelu": _with_number("F.leaky_relu", "alpha", 0.01),
    "Elu": _with_number("F.elu", "alpha", 1.0),
    "Identity": lambda at, node: at(node, 0), "Cast": lambda at, node: f"{at(node, 0)}.float()",
}  # fmt: skip
# Inputs that have to be constants: they become part of the text.
IN_TEXT = {"Clip": (1, 2), "Reshape": (1,), "Squeeze": (1,), "Unsqueeze": (1,), "Pad": (1, 2, 3),
           "Slice": (1, 2, 3, 4), "Gather": (1,), "Expand": (1,), "Split": (1,),
           **dict.fromkeys(_REDUCED, (1,))}  # fmt: skip


def is_known(graph: StaticGraph, node: Node) -> bool:
    """Whether a node has a line here, in the way in which the graph uses it."""
    if node.kind not in LINES:
        return False
    get, given = node.attributes.get, [name for name in node.inputs if name]
    constant = all(
        node.inputs[place] in graph.constants
        for place in IN_TEXT.get(node.kind, ())
        if place < len(node.inputs) and node.inputs[place]
    )
    pads = get("pads", ())
    half = len(pads) // 2
    uneven = node.kind == "AveragePool" and pads[:half] != pads[half:]
    return (
        constant
        and get("auto_pad", "NOTSET") in ("NOTSET", "VALID")
        and not (uneven and not get("count_include_pad", 0))
        and not (node.kind in ("Max", "Min") and len(given) != 2)
    )
