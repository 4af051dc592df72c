"""Read ONNX files before a runtime does, and join two of them into one.

Knows protobuf and the ONNX format; knows no runtime, no pictures, no training. The device has no
`onnx` package (16 MB), so the few messages that are needed are declared here, with the numbers of
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Fields that are not declared pass through
unchanged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.errors import ArtifactError

MAX_OPSET = 21
MAX_IR_VERSION = 10

# Deterministic tensor arithmetic of the standard domain. Not on the list: control flow (holds
# graphs of its own), random numbers, strings, optional and sequence types.
ALLOWED_OPERATORS = frozenset(
    """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Clip Concat
    Constant ConstantOfShape Conv ConvInteger ConvTranspose Cos CumSum DepthToSpace
    DequantizeLinear Div DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand Flatten Floor
    Gather GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater
    GreaterOrEqual GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization
    LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax MatMul MatMulInteger Max
    MaxPool Mean Min Mish Mod Mul Neg Not OneHot Or PRelu Pad Pow QLinearConv QLinearMatMul
    QuantizeLinear Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize Round
    ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Size Slice Softmax
    SoftmaxCrossEntropyLoss NegativeLogLikelihoodLoss Softplus Softsign SpaceToDepth Split Sqrt
    Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Where Xor
    """.split()
)

_INT, _STRING, _BYTES = "int", "string", "bytes"
# message -> field -> (number, type, repeated)
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Model": {
        "ir_version": (1, _INT, False),
        "graph": (7, "Graph", False),
        "opset_import": (8, "OperatorSet", True),
        "metadata_props": (14, "Entry", True),
        "functions": (25, _BYTES, True),
    },
    "OperatorSet": {"domain": (1, _STRING, False), "version": (2, _INT, False)},
    "Entry": {"key": (1, _STRING, False), "value": (2, _STRING, False)},
    "Graph": {
        "node": (1, "Node", True),
        "name": (2, _STRING, False),
        "initializer": (5, "Tensor", True),
        "input": (11, "Value", True),
        "output": (12, "Value", True),
    },
    "Node": {
        "input": (1, _STRING, True),
        "output": (2, _STRING, True),
        "name": (3, _STRING, False),
        "op_type": (4, _STRING, False),
        "attribute": (5, "Attribute", True),
        "domain": (7, _STRING, False),
    },
    "Attribute": {
        "name": (1, _STRING, False),
        "i": (3, _INT, False),
        "t": (5, "Tensor", False),
        "g": (6, _BYTES, False),
        "tensors": (10, "Tensor", True),
        "graphs": (11, _BYTES, True),
        "type": (20, _INT, False),
    },
    "Tensor": {
        "dims": (1, _INT, True),
        "data_type": (2, _INT, False),
        "name": (8, _STRING, False),
        "raw_data": (9, _BYTES, False),
        "external_data": (13, "Entry", True),
        "data_location": (14, _INT, False),
    },
    "Value": {"name": (1, _STRING, False), "type": (2, "Type", False)},
    "Type": {"tensor_type": (1, "TensorType", False)},
    "TensorType": {"elem_type": (1, _INT, False), "shape": (2, "Shape", False)},
    "Shape": {"dim": (1, "Dimension", True)},
    "Dimension": {"dim_value": (1, _INT, False), "dim_param": (2, _STRING, False)},
}
_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16"}
_ATTRIBUTE_INT = 2


@dataclass(frozen=True)
class TensorType:
    """An input or output of a graph; a text axis is symbolic."""

    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphInfo:
    opset: int
    ir_version: int
    operators: Mapping[str, int]
    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]


def inspect(data: bytes, *, where: str) -> GraphInfo:
    """Parse an ONNX file and refuse whatever a train graph has no business to hold.

    Args:
        data: the ONNX file.
        where: its name, for error messages.

    Raises:
        ArtifactError: not ONNX, too new, or with operators, functions, subgraphs or external
            data that are not allowed.
    """
    model = _parse(data, where)
    operators = Counter(node.op_type for node in model.graph.node)
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    problems = []
    if set(opsets) != {""}:
        problems.append(f"it wants the operator domains {sorted(opsets)}, only '' is allowed")
    if opsets.get("", 0) > MAX_OPSET:
        problems.append(f"opset {opsets['']}, at most {MAX_OPSET} is read")
    if model.ir_version > MAX_IR_VERSION:
        problems.append(f"IR version {model.ir_version}, at most {MAX_IR_VERSION} is read")
    foreign = sorted(set(operators) - ALLOWED_OPERATORS)
    foreign += sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    if foreign:
        problems.append(f"operators that are not allowed: {', '.join(foreign)}")
    if model.functions:
        problems.append("it defines functions")
    attributes = [attribute for node in model.graph.node for attribute in node.attribute]
    if any(attribute.HasField("g") or attribute.graphs for attribute in attributes):
        problems.append("it holds subgraphs")
    tensors = list(model.graph.initializer)
    for attribute in attributes:
        tensors += [attribute.t, *attribute.tensors]
    if any(tensor.external_data or tensor.data_location for tensor in tensors):
        problems.append("it refers to data in other files")
    if problems:
        raise ArtifactError(f"{where}: the graph is refused: {'; '.join(problems)}")
    return GraphInfo(
        opset=opsets[""],
        ir_version=model.ir_version,
        operators=dict(sorted(operators.items())),
        inputs={value.name: _tensor_type(value) for value in model.graph.input},
        outputs={value.name: _tensor_type(value) for value in model.graph.output},
    )


def join_inference(
    features: bytes,
    predict: bytes,
    parameters: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str],
    *,
    activation: str | None = "Softmax",
) -> bytes:
    """One ordinary ONNX file: `pixels` uint8 [N, S, S, 3] -> `probabilities` float32 [N, C].

    The nodes of both graphs stand one after the other, joined at the tensor `features`; the
    parameters become constants. Export keeps the names of the two apart.

    Args:
        features: `features.onnx`.
        predict: `predict.onnx`.
        parameters: value by name for every input of `predict` but `features`.
        metadata: entries for the file's `metadata_props`.
        activation: "Softmax" or "Sigmoid"; None leaves the numbers as they are, named `values`.
    """
    model = _parse(features, "features.onnx")
    tail = _parse(predict, "predict.onnx").graph
    graph = model.graph
    graph.name = "inference"
    graph.node.extend(tail.node)
    graph.initializer.extend(tail.initializer)
    for name, value in sorted(parameters.items()):
        value = np.asarray(value, dtype=np.dtype("<f4"), order="C")
        tensor = graph.initializer.add(name=name, data_type=1, raw_data=value.tobytes())
        tensor.dims.extend(value.shape)
    name = "values" if activation is None else "probabilities"
    last = graph.node.add(name=name, op_type=activation or "Identity")
    last.input.append("logits")
    last.output.append(name)
    if activation == "Softmax":
        last.attribute.add(name="axis", i=-1, type=_ATTRIBUTE_INT)
    del graph.output[:]
    graph.output.extend(tail.output)
    graph.output[0].name = name
    for key, value_text in sorted(metadata.items()):
        model.metadata_props.add(key=key, value=value_text)
    return bytes(model.SerializeToString(deterministic=True))


def _parse(data: bytes, where: str) -> Any:
    from google.protobuf.message import DecodeError

    model = _message_class("Model")()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ArtifactError(f"{where}: it is not an ONNX file: {error}") from error
    return model


def _tensor_type(value: Any) -> TensorType:
    tensor = value.type.tensor_type
    dtype = _DTYPES.get(tensor.elem_type, f"type {tensor.elem_type}")
    axes = (d.dim_param if d.HasField("dim_param") else d.dim_value for d in tensor.shape.dim)
    return TensorType(dtype, tuple(axes))


@cache
def _message_class(name: str) -> Any:
    """The class of one message of `_MESSAGES`."""
    # Importing protobuf takes 30 ms, which `--help` need not pay.
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_types = descriptor_pb2.FieldDescriptorProto
    scalars = {
        _INT: field_types.TYPE_INT64,
        _STRING: field_types.TYPE_STRING,
        _BYTES: field_types.TYPE_BYTES,
    }
    file = descriptor_pb2.FileDescriptorProto(name="tod_onnx.proto", package="tod_onnx")
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for field_name, (number, kind, repeated) in fields.items():
            label = field_types.LABEL_REPEATED if repeated else field_types.LABEL_OPTIONAL
            entry = message.field.add(name=field_name, number=number, label=label)
            if kind in scalars:
                entry.type = scalars[kind]
            else:
                entry.type = field_types.TYPE_MESSAGE
                entry.type_name = f".tod_onnx.{kind}"
    # A pool of its own: the default pool is shared with every other protobuf user.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tod_onnx.{name}"))
