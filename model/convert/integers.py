"""A graph that `tod export --quantize int8` made, in float32 again.

QuantizeLinear and DequantizeLinear one after the other only round and cut. Without the rounding the
graph is that of float32 again, with the weights as they were rounded; the cut has to stay, as the
quantizer has let it stand for Relu and Clip.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.convert.static_graph import Node, StaticGraph
from tod.errors import UsageError

_MOVES = ("Transpose", "Reshape", "Flatten", "Identity")


def without_integers(graph: StaticGraph) -> StaticGraph:
    """The same graph with no QuantizeLinear and no DequantizeLinear.

    Raises:
        UsageError: they stand in another way than exports leave them.
    """
    kinds = {node.kind for node in graph.nodes}
    if not kinds & {"QuantizeLinear", "DequantizeLinear"}:
        return graph
    constants = dict(graph.constants)
    shapes = dict(graph.shapes)
    nodes: list[Node] = []
    cut: dict[str, str] = {}
    for node in graph.nodes:
        inputs = tuple(cut.get(name, name) for name in node.inputs)
        if node.kind == "QuantizeLinear":
            name, ends = node.outputs[0], _ends(graph, node)
            for place, end in enumerate(ends):
                constants[f"{name}/end{place}"] = end
                shapes[f"{name}/end{place}"] = ()
            clip = (inputs[0], f"{name}/end0", f"{name}/end1")
            nodes.append(Node("Clip", node.name, clip, (f"{name}/cut",), {}))
            shapes[f"{name}/cut"] = shapes[name]
            cut[name] = f"{name}/cut"
        elif node.kind == "DequantizeLinear":
            if node.inputs[0] in cut:
                nodes.append(Node("Identity", node.name, (cut[node.inputs[0]],), node.outputs, {}))
            else:
                nodes += _pixels(graph, node, constants, shapes)
        else:
            # Between the two, numbers only change places.
            if any(name in cut for name in node.inputs):
                if node.kind not in _MOVES:
                    raise UsageError(
                        f"the operator {node.kind} ({node.name}) computes in integers in a way "
                        "that cannot be converted; nothing was written",
                        hint="export without --quantize, and quantize the converted file",
                    )
                cut |= dict.fromkeys(node.outputs, node.outputs[0])
            nodes.append(replace(node, inputs=inputs))
    return replace(graph, nodes=tuple(nodes), constants=constants, shapes=shapes)


def _ends(graph: StaticGraph, node: Node) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The least and the largest number that the integers stand for."""
    scale, zero_point = _parameters(graph, node)
    limits = np.iinfo(np.int8 if zero_point.dtype == np.int8 else np.uint8)
    low, high = (np.float32(scale) * (end - int(zero_point)) for end in (limits.min, limits.max))
    return np.array(low, np.float32), np.array(high, np.float32)


def _pixels(
    graph: StaticGraph,
    node: Node,
    constants: dict[str, NDArray[np.float32]],
    shapes: dict[str, tuple[int, ...]],
) -> list[Node]:
    """Pixels as they are taken for quantized numbers: (pixel - zero point) * scale."""
    scale, zero_point = _parameters(graph, node)
    name = node.outputs[0]
    names = [f"{name}/pixels", f"{name}/zero", f"{name}/centred", f"{name}/scale"]
    constants[names[1]] = np.array([zero_point], np.float32)
    constants[names[3]] = np.array([scale], np.float32)
    for made, shape in zip(names, (shapes[name], (1,), shapes[name], (1,)), strict=True):
        shapes[made] = shape
    return [
        Node("Cast", f"{name}/cast", (node.inputs[0],), (names[0],), {"to": 1}),
        Node("Sub", f"{name}/sub", (names[0], names[1]), (names[2],), {}),
        Node("Mul", f"{name}/mul", (names[2], names[3]), (name,), {}),
    ]


def _parameters(graph: StaticGraph, node: Node) -> tuple[np.float32, np.generic]:
    numbers = [graph.constants.get(name) for name in node.inputs[1:]]
    if len(numbers) != 2 or any(n is None or n.size != 1 for n in numbers):
        raise UsageError(
            f"{node.kind} ({node.name}) has no single scale and zero point; nothing was written",
            hint="export without --quantize, and quantize the converted file",
        )
    scale, zero_point = numbers
    return scale.reshape(-1)[0], zero_point.reshape(-1)[0]  # type: ignore[union-attr]
