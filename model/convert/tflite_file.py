"""Write a TFLite file: tensors, operators, one signature. Knows the format and nothing of networks.

Made with the classes that the ai-edge-litert wheel generates from
https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated
from numpy.typing import NDArray

schema: Any = schema_py_generated
_IDENTIFIER = b"TFL3"
_ALIGNMENT = 16  # of a buffer, as the schema says
SIGNATURE = "serving_default"
_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "uint8": schema.TensorType.UINT8,
    "int8": schema.TensorType.INT8,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "bool": schema.TensorType.BOOL,
}
TYPE_NAMES = frozenset(_TYPES)
# Operators whose file names another version than 1, for what is written here.
_VERSIONS = {"FULLY_CONNECTED": 5, "DEPTHWISE_CONV_2D": 2, "BROADCAST_TO": 2}
# Operators that take an activation at their end.
FUSES_ACTIVATION = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "SUB", "DIV"}
)


class TFLiteFile:
    """A file in the making. Tensors and operators are numbered in the order in which they come."""

    def __init__(self) -> None:
        self._model = schema.ModelT()
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._buffers: list[bytes] = [b""]  # the first one is empty by definition
        self._codes: dict[str, int] = {}
        self._constants: dict[tuple[bytes, str, tuple[int, ...]], int] = {}
        self._names: set[str] = set()
        self._makers: dict[int, Any] = {}

    def tensor(self, name: str, shape: Sequence[int], dtype: Any) -> int:
        """A value that is computed, or an input."""
        return self._add_tensor(name, shape, dtype, 0)

    def constant(self, name: str, value: NDArray[Any]) -> int:
        """A value of the file's own; equal ones are stored once."""
        value = np.asarray(value, order="C")
        key = (value.tobytes(), value.dtype.name, value.shape)
        if key not in self._constants:
            self._buffers.append(key[0])
            index = self._add_tensor(name, value.shape, value.dtype, len(self._buffers) - 1)
            self._constants[key] = index
        return self._constants[key]

    def operator(
        self, code: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None
    ) -> None:
        """One operator.

        Args:
            code: its name in the schema's `BuiltinOperator`.
            inputs, outputs: tensors.
            options: the schema's options for it.
        """
        made = schema.OperatorT()
        made.opcodeIndex = self._codes.setdefault(code, len(self._codes))
        made.inputs, made.outputs = list(inputs), list(outputs)
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            made.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            made.builtinOptions = options
        self._graph.operators.append(made)
        for output in outputs:
            self._makers[output] = (code, made)

    def fuse(self, tensor: int, activation: str, name: str) -> bool:
        """Let the operator that makes a tensor apply an activation, if it can.

        Args:
            tensor: nothing else may take it.
            activation: its name in the schema's `ActivationFunctionType`.
            name: what the tensor is called from now on.
        """
        code, made = self._makers.get(tensor, ("", None))
        none = schema.ActivationFunctionType.NONE
        if code not in FUSES_ACTIVATION or made.builtinOptions.fusedActivationFunction != none:
            return False
        made.builtinOptions.fusedActivationFunction = getattr(
            schema.ActivationFunctionType, activation
        )
        self._graph.tensors[tensor].name = self._unique(name)
        return True

    def is_positive(self, tensor: int) -> bool:
        """Whether a tensor comes out of a Relu or the like."""
        code, made = self._makers.get(tensor, ("", None))
        if code in ("RELU", "RELU6", "RELU_0_TO_1", "LOGISTIC", "MAX_POOL_2D"):
            return code != "MAX_POOL_2D"
        kinds = (schema.ActivationFunctionType.RELU, schema.ActivationFunctionType.RELU6)
        return code in FUSES_ACTIVATION and made.builtinOptions.fusedActivationFunction in kinds

    def shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self._graph.tensors[tensor].shape)

    def data(self, inputs: dict[str, int], outputs: dict[str, int]) -> bytes:
        """The file.

        Args:
            inputs, outputs: tensors by the names that they have in the signature.
        """
        model, graph = self._model, self._graph
        graph.name = "main"
        graph.inputs, graph.outputs = list(inputs.values()), list(outputs.values())
        model.version, model.description = 3, "TOD"
        model.subgraphs = [graph]
        model.operatorCodes = [_code(name) for name in self._codes]
        model.buffers = [_Buffer(data) for data in self._buffers]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = SIGNATURE, 0
        signature.inputs, signature.outputs = _maps(inputs), _maps(outputs)
        model.signatureDefs = [signature]
        return pack(model)

    def _add_tensor(self, name: str, shape: Sequence[int], dtype: Any, buffer: int) -> int:
        made = schema.TensorT()
        made.name, made.shape = self._unique(name), [int(size) for size in shape]
        made.type, made.buffer = _TYPES[np.dtype(dtype).name], buffer
        made.hasRank = True
        self._graph.tensors.append(made)
        return len(self._graph.tensors) - 1

    def _unique(self, name: str) -> str:
        """The quantizer knows tensors by their names."""
        found, number = name, 1
        while found in self._names:
            number += 1
            found = f"{name};{number}"
        self._names.add(found)
        return found


def pack(model: Any) -> bytes:
    """The bytes of a `ModelT`."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def unpack(data: bytes) -> Any:
    """A `ModelT` of a file; `pack` writes it again."""
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    model.buffers = [_Buffer(_content(found, data)) for found in model.buffers]
    return model


def buffer(data: bytes) -> Any:
    """A buffer for `ModelT.buffers`."""
    return _Buffer(data)


class _Buffer:
    """The schema's `BufferT`, whose own `Pack` does not align its bytes as the schema asks."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def Pack(self, builder: Any) -> int:  # noqa: N802 - as the generated classes call it
        if not self.data:
            schema.BufferStart(builder)
            return int(schema.BufferEnd(builder))
        builder.StartVector(1, len(self.data), _ALIGNMENT)
        head = builder.Head() - len(self.data)
        builder.head = head
        builder.Bytes[head : head + len(self.data)] = self.data
        place = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, place)
        return int(schema.BufferEnd(builder))


def _content(found: Any, data: bytes) -> bytes:
    """The bytes of a buffer. The quantizer puts large ones behind the tables, where only newer
    runtimes look for them."""
    if found.offset > 1 and found.size > 0:
        return data[found.offset : found.offset + found.size]
    return b"" if found.data is None else np.asarray(found.data, np.uint8).tobytes()


def _code(name: str) -> Any:
    made = schema.OperatorCodeT()
    made.builtinCode = getattr(schema.BuiltinOperator, name)
    # Older runtimes read the first field only, which ends at 127.
    made.deprecatedBuiltinCode = min(made.builtinCode, 127)
    made.version = _VERSIONS.get(name, 1)
    return made


def _maps(tensors: dict[str, int]) -> list[Any]:
    made = []
    for name, index in tensors.items():
        entry = schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        made.append(entry)
    return made
