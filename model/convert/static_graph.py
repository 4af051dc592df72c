"""An inference graph for one sample, with everything that no sample can change computed beforehand.

Knows ONNX and nothing of other formats. Exports compute shapes inside the graph and bring weights
into order there; both are constants once the number of pictures is fixed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from model.reduce.pixel_input import keep
from tod.runtime.engine import Engine

_SHAPES = ("Shape", "Size")  # known as soon as the shapes are, whatever the numbers
_NAME = "inference.onnx"


@dataclass(frozen=True)
class Node:
    """One operator.

    Attributes:
        kind: ONNX's name of it.
        name: of the node; unique.
        inputs: names of values; "" where an optional one is left out.
        attributes: ints, floats, tuples of them, texts or arrays.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class StaticGraph:
    """Attributes:
    nodes: in the order in which they run; each depends on the pixels.
    constants: value by name.
    shapes: of every value, the picture's axis included.
    input, output: names of values.
    dtype: of the input.
    """

    nodes: tuple[Node, ...]
    constants: dict[str, NDArray[Any]]
    shapes: dict[str, tuple[int, ...]]
    input: str
    output: str
    dtype: str = "uint8"


def of(data: bytes, *, variable: Collection[str] = ()) -> StaticGraph:
    """The graph of one picture.

    Args:
        data: ONNX, one input [N, ...] of known sides to one output.
        variable: constants of which nothing is to be computed beforehand.
    """
    model = onnx.load_from_string(data)
    values = _values(model)
    every = _initializers(model)
    constants = {name: value for name, value in every.items() if name not in variable}
    nodes = []
    for index, node in enumerate(model.graph.node):
        inputs = [name for name in node.input if name]
        if node.op_type in _SHAPES or all(name in constants for name in inputs):
            constants |= {name: values[name] for name in node.output if name}
        else:
            nodes.append(_node(node, index))
    wanted = {name for node in nodes for name in node.inputs}
    constants |= every
    return StaticGraph(
        nodes=tuple(nodes),
        constants={name: value for name, value in constants.items() if name in wanted},
        shapes={name: value.shape for name, value in (values | constants).items()},
        input=model.graph.input[0].name,
        output=model.graph.output[0].name,
        dtype=str(values[model.graph.input[0].name].dtype),
    )


def folded(data: bytes) -> onnx.ModelProto:
    """The same graph for any number of pictures, with what depends on weights alone computed.

    onnxruntime's quantizer finds weights only where they are constants.

    Args:
        data: ONNX.
    """
    model = onnx.load_from_string(data)
    values = None
    constants = _initializers(model)
    nodes = []
    for node in model.graph.node:
        inputs = [name for name in node.input if name]
        if not all(name in constants for name in inputs):
            nodes.append(node)
            continue
        if values is None:
            values = _values(model)
        for name in node.output:
            constants[name] = values[name]
            model.graph.initializer.append(numpy_helper.from_array(values[name], name))
    wanted = {name for node in nodes for name in node.input}
    keep(model.graph.node, nodes)
    keep(model.graph.initializer, [t for t in model.graph.initializer if t.name in wanted])
    return model


def _initializers(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _values(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Every value of the graph for one picture: runs it with all of them as outputs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {value.name for value in model.graph.output}
    for node in model.graph.node:
        for name in node.output:
            if name and name not in known:
                watched.graph.output.add(name=name)
    feeds = {model.graph.input[0].name: _example(model.graph.input[0])}
    found = Engine({_NAME: watched.SerializeToString()}).run(_NAME, feeds)
    return {**feeds, **{name: np.asarray(value) for name, value in found.items()}}


def _example(value: onnx.ValueInfoProto) -> NDArray[Any]:
    """One sample without a meaning."""
    tensor, random = value.type.tensor_type, np.random.default_rng(0)
    shape = (1, *(side.dim_value for side in tensor.shape.dim[1:]))
    if tensor.elem_type == onnx.TensorProto.UINT8:
        return random.integers(0, 256, shape, np.uint8)
    return random.standard_normal(shape, np.float32)


def _node(node: onnx.NodeProto, index: int) -> Node:
    attributes = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        elif isinstance(value, list):
            value = tuple(value)
        attributes[attribute.name] = value
    name = node.name or f"{node.op_type}_{index}"
    return Node(node.op_type, name, tuple(node.input), tuple(node.output), attributes)
