"""The state of a conversion to TFLite: which tensor holds which ONNX value, with its axes in which
order.

TFLite's layers take pictures as [N, H, W, C], ONNX's as [N, C, H, W]. Each value remembers in which
order its tensor has ONNX's axes, so a Transpose costs nothing until an operator asks for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from model.convert.static_graph import Node, StaticGraph
from model.convert.tflite_file import TYPE_NAMES, TFLiteFile
from tod.errors import UsageError

Order = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """Axis i of the tensor is axis `order[i]` of ONNX's value."""

    tensor: int
    order: Order


class Conversion:
    """A graph on its way into a file.

    Attributes:
        graph: where it comes from.
        file: where it goes.
        uses: how many take each value; the graph's output counts.
    """

    def __init__(self, graph: StaticGraph) -> None:
        self.graph = graph
        self.file = TFLiteFile()
        self._values: dict[str, Value] = {}
        self.uses: dict[str, int] = {graph.output: 1}
        for node in graph.nodes:
            for name in node.inputs:
                self.uses[name] = self.uses.get(name, 0) + 1
        shape = graph.shapes[graph.input]
        sample = self.file.tensor(graph.input, shape, np.dtype(graph.dtype))
        self._values[graph.input] = Value(sample, natural(len(shape)))

    def is_constant(self, name: str) -> bool:
        return name in self.graph.constants

    def array(self, node: Node, place: int, what: str = "") -> NDArray[Any]:
        """An input that has to be a constant.

        Raises:
            UsageError: it is computed from the picture.
        """
        name = node.inputs[place]
        if name not in self.graph.constants:
            raise refused(node, f"its {what or f'input {place}'} depends on the picture")
        return self.graph.constants[name]

    def optional(self, node: Node, place: int) -> NDArray[Any] | None:
        """A constant input that may be left out."""
        if len(node.inputs) <= place or not node.inputs[place]:
            return None
        return self.array(node, place)

    def value(self, name: str) -> Value:
        """A value, as it lies; a constant in ONNX's order."""
        if name not in self._values:
            array = _plain(self.graph.constants[name])
            self._values[name] = Value(self.file.constant(name, array), natural(array.ndim))
        return self._values[name]

    def is_used_once(self, name: str) -> bool:
        """Whether nothing else takes the tensor of a value, also not under another name: Identity
        and Transpose make none of their own."""
        tensor = self.value(name).tensor
        holders = [other for other, value in self._values.items() if value.tensor == tensor]
        return all(self.uses.get(holder, 1) == 1 for holder in holders)

    def shape(self, name: str) -> tuple[int, ...]:
        """ONNX's shape of a value."""
        return self.graph.shapes[name]

    def ordered(self, name: str, order: Order) -> int:
        """The tensor of a value with its axes in an order."""
        value = self.value(name)
        if value.order == order:
            return value.tensor
        if self.is_constant(name):
            return self.file.constant(name, _plain(self.graph.constants[name]).transpose(order))
        places = [value.order.index(axis) for axis in order]
        found = self.file.shape(value.tensor)
        shape = [found[place] for place in places]
        long = [place for place in places if found[place] > 1]
        if long == sorted(long):  # only axes of one move: the numbers lie as they are to lie
            return self.reshaped(value.tensor, shape, name)
        made = self.file.tensor(f"{name}/transposed", shape, np.float32)
        permutation = self.constant(name, np.array(places, np.int32))
        self.file.operator(
            "TRANSPOSE", [value.tensor, permutation], [made], schema.TransposeOptionsT()
        )
        return made

    def natural(self, name: str) -> int:
        """The tensor of a value with its axes in ONNX's order."""
        return self.ordered(name, natural(len(self.shape(name))))

    def reshaped(self, tensor: int, shape: Sequence[int], name: str) -> int:
        """Another shape of the same numbers."""
        if tuple(shape) == self.file.shape(tensor):
            return tensor
        made = self.file.tensor(f"{name}/reshaped", shape, np.float32)
        self.reshape(tensor, made)
        return made

    def reshape(self, tensor: int, into: int) -> None:
        options = schema.ReshapeOptionsT()
        options.newShape = list(self.file.shape(into))
        shape = self.constant("shape", np.array(options.newShape, np.int32))
        self.file.operator("RESHAPE", [tensor, shape], [into], options)

    def constant(self, name: str, array: NDArray[Any]) -> int:
        return self.file.constant(f"{name}/constant", _plain(array))

    def emit(
        self,
        code: str,
        inputs: Sequence[int],
        name: str,
        options: Any = None,
        order: Order | None = None,
        dtype: Any = np.float32,
    ) -> None:
        """An operator that computes an ONNX value.

        Args:
            code, inputs, options: of the operator.
            name: of the value.
            order: of its axes in the tensor; ONNX's by default.
            dtype: of the tensor.
        """
        shape = self.shape(name)
        order = natural(len(shape)) if order is None else order
        made = self.file.tensor(name, [shape[axis] for axis in order], dtype)
        self.file.operator(code, inputs, [made], options)
        self.put(name, made, order)

    def inner(
        self, code: str, inputs: Sequence[int], shape: Sequence[int], name: str, options: Any = None
    ) -> int:
        """An operator whose result ONNX has no name for."""
        made = self.file.tensor(name, shape, np.float32)
        self.file.operator(code, inputs, [made], options)
        return made

    def put(self, name: str, tensor: int, order: Order | None = None) -> None:
        """Say that a tensor holds a value."""
        order = natural(len(self.file.shape(tensor))) if order is None else order
        self._values[name] = Value(tensor, order)


def natural(rank: int) -> Order:
    return tuple(range(rank))


def refused(node: Node, reason: str) -> UsageError:
    """What a node that cannot be converted ends with."""
    return UsageError(
        f"--to tflite: the operator {node.kind} ({node.name}) cannot be converted: {reason}; "
        "nothing was written",
        hint="--to onnx and --to ort hold every network; report the operator to have it added",
    )


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """With a type that TFLite's operators take."""
    if array.dtype == np.int64:
        return array.astype(np.int32)
    if array.dtype.name not in TYPE_NAMES or array.dtype == np.float16:
        return array.astype(np.float32)
    return array
