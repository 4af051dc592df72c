"""The layers of a graph: what each value is computed from. Knows the ONNX format; runs nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from tod.format.onnx_messages import message_class

# What they give is known from the shapes alone, whatever the numbers.
_SHAPES = ("Shape", "Size", "SHAPE")


@dataclass(frozen=True)
class Layer:
    """One operator.

    Attributes:
        name: of the node.
        operator: its kind.
        inputs: names of values.
        output: the first value that it makes; nothing is known of others.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Layers:
    """Those of a graph whose numbers depend on its inputs, in the order in which they run."""

    inputs: tuple[str, ...]
    layers: tuple[Layer, ...]


def depending(inputs: Collection[str], layers: Collection[Layer]) -> Layers:
    """The layers without those that compute constants and shapes."""
    known = set(inputs)
    kept = []
    for layer in layers:
        if known & set(layer.inputs) and layer.operator not in _SHAPES:
            known.add(layer.output)
            kept.append(layer)
    return Layers(tuple(inputs), tuple(kept))


def of_onnx(data: bytes) -> Layers:
    """The layers of an ONNX file that has been checked, or that a runtime has opened."""
    graph = _parse(data).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in constants]
    return depending(
        inputs, [Layer(n.name, n.op_type, tuple(n.input), n.output[0]) for n in graph.node]
    )


def with_outputs(data: bytes, names: Collection[str]) -> bytes:
    """The same ONNX file with more values as outputs; a runtime knows their types."""
    model = _parse(data)
    there = {value.name for value in model.graph.output}
    for name in names:
        if name not in there:
            model.graph.output.add(name=name)
    return bytes(model.SerializeToString(deterministic=True))


def _parse(data: bytes) -> Any:
    model = message_class("Model")()
    model.ParseFromString(data)
    return model
