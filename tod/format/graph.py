"""Check ONNX files before a runtime reads them, and join two of them into one.

Knows the ONNX format; knows no runtime, no pictures, no training.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.errors import ArtifactError
from tod.format.onnx_messages import DTYPES, FORBIDDEN, MESSAGES, message_class
from tod.format.wire import Reader, WireError
from tod.system.text import shown

MAX_OPSET = 21
MAX_IR_VERSION = 10

# Deterministic tensor arithmetic of the standard domain. Not on the list: control flow (it holds
# subgraphs), random numbers, strings, optional and sequence types.
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

# The largest graph so far, of ViT-B/16, has 5,845 values in 573 nodes.
_MAX_VALUES = 300_000
_MAX_TEXT_BYTES = 1024
_MAX_AXES = 8
_MAX_NUMBERS = 4096  # of an attribute
_ATTRIBUTE_INT = 2
_ATTRIBUTE_FIELDS = {1: "f", _ATTRIBUTE_INT: "i", 3: "s", 4: "t", 6: "floats", 7: "ints"}
_CONTENTS = ("raw_data", "float_data", "int32_data", "int64_data")
# Types whose numbers are not stored in int32_data.
_LISTS = {"float32": "float_data", "int64": "int64_data", "float64": ""}
_SHOWN = 8  # of many problems


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
    """Parse an ONNX file and refuse everything that a graph of a .tod file must not hold.

    Args:
        data: the ONNX file.
        where: its name, for error messages.

    Raises:
        ArtifactError: not ONNX, too new, or with operators, functions, subgraphs or external
            data that are not allowed.
    """
    try:
        reader = Reader(
            MESSAGES, forbidden=FORBIDDEN, max_values=_MAX_VALUES, max_text_bytes=_MAX_TEXT_BYTES
        )
        model = reader.read(memoryview(data), "Model")
    except WireError as error:
        raise ArtifactError(f"{where}: the graph is refused: {error}") from error
    graph = model.get("graph", {})
    nodes = graph.get("node", [])
    opsets = [(o.get("domain", ""), o.get("version", 0)) for o in model.get("opset_import", [])]
    attributes = list(chain.from_iterable(node.get("attribute", []) for node in nodes))
    tensors = [*graph.get("initializer", []), *(a["t"] for a in attributes if "t" in a)]
    values = [*graph.get("input", []), *graph.get("output", [])]
    problems = [
        *_version_problems(model.get("ir_version", 0), opsets),
        *_operator_problems(nodes),
        *chain.from_iterable(map(_attribute_problems, attributes)),
        *chain.from_iterable(map(_tensor_problems, tensors)),
        *chain.from_iterable(map(_value_problems, values)),
    ]
    if problems:
        raise ArtifactError(f"{where}: the graph is refused: {'; '.join(problems[:_SHOWN])}")
    operators = Counter(node["op_type"] for node in nodes)
    return GraphInfo(
        opset=opsets[0][1],
        ir_version=model["ir_version"],
        operators=dict(sorted(operators.items())),
        inputs={value["name"]: _tensor_type(value) for value in graph.get("input", [])},
        outputs={value["name"]: _tensor_type(value) for value in graph.get("output", [])},
    )


def _version_problems(ir_version: int, opsets: list[tuple[str, int]]) -> Iterator[str]:
    if [domain for domain, _ in opsets] != [""]:
        names = sorted(domain for domain, _ in opsets)
        yield f"it wants the operator domains {names[:_SHOWN]}, only '' is allowed"
    elif not 1 <= opsets[0][1] <= MAX_OPSET:
        yield f"opset {opsets[0][1]}, at most {MAX_OPSET} is read"
    if not 1 <= ir_version <= MAX_IR_VERSION:
        yield f"IR version {ir_version}, at most {MAX_IR_VERSION} is read"


def _operator_problems(nodes: list[dict[str, Any]]) -> Iterator[str]:
    foreign = sorted({node.get("op_type", "") for node in nodes} - ALLOWED_OPERATORS)
    foreign += sorted({node.get("domain", "") for node in nodes} - {"", "ai.onnx"})
    if foreign:
        named = ", ".join(shown(name[:60]) for name in foreign[:_SHOWN])
        yield f"operators that are not allowed: {named}"


def _attribute_problems(attribute: dict[str, Any]) -> Iterator[str]:
    name, kind = attribute.get("name", ""), attribute.get("type", 0)
    field = _ATTRIBUTE_FIELDS.get(kind)
    if field is None or set(attribute) - {"name", "type", field}:
        yield f"the attribute {name!r} has a value of a kind that is not read"
    if len(attribute.get("s", b"")) > _MAX_TEXT_BYTES:
        yield f"the attribute {name!r} has a text of {len(attribute['s']):,} bytes"
    if max(len(attribute.get(many, ())) for many in ("ints", "floats")) > _MAX_NUMBERS:
        yield f"the attribute {name!r} has more than {_MAX_NUMBERS:,} numbers"


def _tensor_problems(tensor: dict[str, Any]) -> Iterator[str]:
    """Check that a tensor has as many numbers as its shape says, and has them in this file."""
    name, axes = tensor.get("name", ""), tensor.get("dims", [])
    dtype = DTYPES.get(tensor.get("data_type", 0))
    if tensor.get("data_location", 0):
        yield "it refers to data in other files"
    if dtype is None:
        yield f"the tensor {name!r} has the type {tensor.get('data_type', 0)}, which is not read"
        return
    if len(axes) > _MAX_AXES or not all(0 <= axis < 1 << 31 for axis in axes):
        yield f"the tensor {name!r} has the shape {axes[:_MAX_AXES]}"
        return
    size_bytes = math.prod(axes) * np.dtype(dtype).itemsize
    given = [field for field in _CONTENTS if tensor.get(field)]
    if given == ["raw_data"] or (not given and size_bytes == 0):
        found = len(tensor.get("raw_data", b""))
    elif given == [_LISTS.get(dtype, "int32_data")]:
        found = tensor[given[0]] * np.dtype(dtype).itemsize
    else:
        yield f"the tensor {name!r} of {size_bytes:,} bytes has its numbers in {given}"
        return
    if found != size_bytes:
        yield f"the tensor {name!r} has {found:,} bytes, its shape {axes} wants {size_bytes:,}"


def _value_problems(value: dict[str, Any]) -> Iterator[str]:
    tensor = value.get("type", {}).get("tensor_type", {})
    axes = tensor.get("shape", {}).get("dim", [])
    sizes = [axis.get("dim_value", 1) for axis in axes]
    if len(axes) > _MAX_AXES or not all(0 <= size < 1 << 31 for size in sizes):
        yield f"{value.get('name', '')!r} has the shape {sizes[:_MAX_AXES]}"
    if "name" not in value or tensor.get("elem_type") not in DTYPES:
        yield f"{value.get('name', '')!r} has the type {tensor.get('elem_type')}, which is not read"


def join_inference(
    features: bytes,
    predict: bytes,
    parameters: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str],
    *,
    activation: str | None = "Softmax",
) -> bytes:
    """Make one ordinary ONNX file: what `features` takes -> `probabilities` float32 [N, C].

    The nodes of `predict` follow those of `features`, joined at the tensor `features`; the
    parameters become constants. The names cannot clash, because export gives them different
    prefixes.

    Args:
        features: `features.onnx`.
        predict: `predict.onnx`.
        parameters: value by name for every input of `predict` but `features`.
        metadata: entries for the file's `metadata_props`.
        activation: "Softmax" or "Sigmoid"; None leaves the numbers as they are, named `values`.
    """
    model = _parse(features)
    tail = _parse(predict).graph
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


def metadata(data: bytes) -> dict[str, str]:
    """The entries of an ONNX file's `metadata_props`; none of what is no ONNX file."""
    try:
        return {entry.key: entry.value for entry in _parse(data).metadata_props}
    except Exception:  # protobuf has an error of its own, which only its module knows
        return {}


def _parse(data: bytes) -> Any:
    model = message_class("Model")()
    model.ParseFromString(data)
    return model


def _tensor_type(value: dict[str, Any]) -> TensorType:
    tensor = value["type"]["tensor_type"]
    axes = tensor.get("shape", {}).get("dim", [])
    shape = tuple(axis.get("dim_param", axis.get("dim_value", 0)) for axis in axes)
    return TensorType(DTYPES[tensor["elem_type"]], shape)
