"""Estimate the memory of a training step from its graph, at export."""

from __future__ import annotations

import math

import numpy as np
import onnx

from tod.format.manifest import CLASSES_AXIS

# Their output shares the memory of their input.
_VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"}


def step_bytes(model: onnx.ModelProto, batch_size: int, classes: int) -> int:
    """Return the peak of bytes in use during one step, inputs and constants included.

    As in onnxruntime, nodes run in the order of the file, and a value is freed after its last
    reader. Memory inside kernels is not counted.

    Args:
        model: `train.onnx`.
        batch_size: rows in a batch.
        classes: number of classes.
    """
    sizes = _sizes(model, batch_size, classes)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    fixed = {value.name for value in (*graph.input, *graph.output)} | constants
    owners = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type in _VIEWS and node.output[0] not in fixed
    }

    def owner(name: str) -> str:
        while name in owners:
            name = owners[name]
        return name

    last = {owner(name): index for index, node in enumerate(graph.node) for name in node.input}
    alive = sum(sizes.get(name, 0) for name in fixed)
    most = alive
    for index, node in enumerate(graph.node):
        made = [name for name in node.output if name not in fixed and name not in owners]
        alive += sum(sizes.get(name, 0) for name in made)
        most = max(most, alive)
        done = {owner(name) for name in (*node.input, *made)} - fixed
        alive -= sum(sizes.get(name, 0) for name in done if last.get(name, index) == index)
    return int(most)


def _sizes(model: onnx.ModelProto, batch_size: int, classes: int) -> dict[str, int]:
    """Return the bytes of every value whose shape can be inferred."""
    bound = onnx.ModelProto()
    bound.CopyFrom(model)
    for value in (*bound.graph.input, *bound.graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_value = classes if axis.dim_param == CLASSES_AXIS else batch_size
    inferred = onnx.shape_inference.infer_shapes(bound, data_prop=True).graph
    sizes = {t.name: _bytes(t.data_type, list(t.dims)) for t in inferred.initializer}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        tensor = value.type.tensor_type
        sizes[value.name] = _bytes(tensor.elem_type, [d.dim_value for d in tensor.shape.dim])
    return sizes


def _bytes(data_type: int, shape: list[int]) -> int:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(data_type)).itemsize * math.prod(shape)
