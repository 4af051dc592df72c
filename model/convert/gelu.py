"""Find Gelu where an export wrote it in elementary steps: x (1 + erf(x / sqrt 2)) / 2.

TFLite has Gelu, but no Erf.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model.convert.static_graph import Node, StaticGraph

_TOLERANCE = 1e-4


def fused(graph: StaticGraph) -> StaticGraph:
    """The same graph with such steps as one node `Gelu`."""
    if not any(node.kind == "Erf" for node in graph.nodes):
        return graph
    makers = {output: node for node in graph.nodes for output in node.outputs}
    found = {}
    for node in graph.nodes:
        if node.kind == "Mul" and (name := _argument(graph, makers, node)) is not None:
            found[node.outputs[0]] = Node("Gelu", node.name, (name,), node.outputs, {})
    nodes = [found.get(node.outputs[0], node) for node in graph.nodes]
    return replace(graph, nodes=_used(nodes, graph.output))


def _argument(graph: StaticGraph, makers: dict[str, Node], last: Node) -> str | None:
    """x, if a product is Gelu(x): of x, 1 + erf(x / sqrt 2) and 1/2, multiplied in any order."""
    factors = _factors(makers, last)
    numbers = [_number(graph, name) for name in factors]
    scale = float(np.prod([number for number in numbers if number is not None]))
    rest = [name for name, number in zip(factors, numbers, strict=True) if number is None]
    if abs(scale - 0.5) > _TOLERANCE or len(rest) != 2:
        return None
    for x, other in (rest, rest[::-1]):
        add = makers.get(other)
        if add is None or add.kind != "Add":
            continue
        erf = next((makers[i] for i in add.inputs if i in makers and makers[i].kind == "Erf"), None)
        if erf is None or not any(_number(graph, name) == 1 for name in add.inputs):
            continue
        if _is_scaled(graph, makers, erf.inputs[0], x, 2**-0.5):
            return x
    return None


def _factors(makers: dict[str, Node], node: Node) -> list[str]:
    """What a chain of products multiplies."""
    found = []
    for name in node.inputs:
        maker = makers.get(name)
        found += _factors(makers, maker) if maker is not None and maker.kind == "Mul" else [name]
    return found


def _is_scaled(graph: StaticGraph, makers: dict[str, Node], name: str, x: str, by: float) -> bool:
    maker = makers.get(name)
    if maker is None or maker.kind not in ("Mul", "Div") or x not in maker.inputs:
        return False
    number = next((n for i in maker.inputs if (n := _number(graph, i)) is not None), 0.0)
    if maker.kind == "Div":
        number = 1 / number if number and maker.inputs[0] == x else 0.0
    return abs(number - by) < _TOLERANCE


def _number(graph: StaticGraph, name: str) -> float | None:
    array = graph.constants.get(name)
    return None if array is None or array.size != 1 else float(array.reshape(-1)[0])


def _used(nodes: list[Node], output: str) -> tuple[Node, ...]:
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            wanted |= set(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))
