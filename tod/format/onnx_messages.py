"""The parts of the ONNX format that TOD reads and writes.

The device has no `onnx` package (16 MB), so the few messages that are needed are declared here,
with the numbers of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. Knows protobuf; checks
nothing.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tod.format.wire import BYTES, FLOAT, FLOATS, INT, INTS, STRING

# message -> field -> (number, type, repeated), for all fields that exports and TOD write. A graph
# with another field is refused, because onnxruntime might read that field.
MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Model": {
        "ir_version": (1, INT, False),
        "producer_name": (2, STRING, False),
        "producer_version": (3, STRING, False),
        "graph": (7, "Graph", False),
        "opset_import": (8, "OperatorSet", True),
        "metadata_props": (14, "Entry", True),
    },
    "OperatorSet": {"domain": (1, STRING, False), "version": (2, INT, False)},
    "Entry": {"key": (1, STRING, False), "value": (2, STRING, False)},
    "Graph": {
        "node": (1, "Node", True),
        "name": (2, STRING, False),
        "initializer": (5, "Tensor", True),
        "input": (11, "Value", True),
        "output": (12, "Value", True),
    },
    "Node": {
        "input": (1, STRING, True),
        "output": (2, STRING, True),
        "name": (3, STRING, False),
        "op_type": (4, STRING, False),
        "attribute": (5, "Attribute", True),
        "domain": (7, STRING, False),
    },
    "Attribute": {
        "name": (1, STRING, False),
        "f": (2, FLOAT, False),
        "i": (3, INT, False),
        "s": (4, BYTES, False),
        "t": (5, "Tensor", False),
        "floats": (7, FLOAT, True),
        "ints": (8, INT, True),
        "type": (20, INT, False),
    },
    "Tensor": {
        "dims": (1, INT, True),
        "data_type": (2, INT, False),
        "float_data": (4, FLOATS, False),
        "int32_data": (5, INTS, False),
        "int64_data": (7, INTS, False),
        "name": (8, STRING, False),
        "raw_data": (9, BYTES, False),
        "data_location": (14, INT, False),
    },
    "Value": {"name": (1, STRING, False), "type": (2, "Type", False)},
    "Type": {"tensor_type": (1, "TensorType", False)},
    "TensorType": {"elem_type": (1, INT, False), "shape": (2, "Shape", False)},
    "Shape": {"dim": (1, "Dimension", True)},
    "Dimension": {"dim_value": (1, INT, False), "dim_param": (2, STRING, False)},
}
# (message, number) -> the meaning of such a field.
FORBIDDEN = {
    ("Model", 20): "it holds training information",
    ("Model", 25): "it defines functions",
    ("Graph", 15): "it holds sparse tensors",
    ("Attribute", 6): "it holds subgraphs",
    ("Attribute", 11): "it holds subgraphs",
    ("Attribute", 21): "it refers to the attributes of a function",
    ("Tensor", 13): "it refers to data in other files",
}
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16",
    11: "float64",
}  # fmt: skip


@cache
def message_class(name: str) -> Any:
    """Return protobuf's class for one message of `MESSAGES`, for writing."""
    # Importing protobuf takes 30 ms, so `--help` must not do it.
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_types = descriptor_pb2.FieldDescriptorProto
    scalars = {
        INT: field_types.TYPE_INT64,
        INTS: field_types.TYPE_INT64,
        FLOAT: field_types.TYPE_FLOAT,
        FLOATS: field_types.TYPE_FLOAT,
        STRING: field_types.TYPE_STRING,
        BYTES: field_types.TYPE_BYTES,
    }
    file = descriptor_pb2.FileDescriptorProto(name="tod_onnx.proto", package="tod_onnx")
    for message_name, fields in MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for field_name, (number, kind, repeated) in fields.items():
            packed = kind in (FLOATS, INTS)
            many = repeated or packed
            label = field_types.LABEL_REPEATED if many else field_types.LABEL_OPTIONAL
            entry = message.field.add(name=field_name, number=number, label=label)
            if packed:
                entry.options.packed = True
            if kind in scalars:
                entry.type = scalars[kind]
            else:
                entry.type = field_types.TYPE_MESSAGE
                entry.type_name = f".tod_onnx.{kind}"
    # A pool of its own: the default pool is shared with every other protobuf user.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tod_onnx.{name}"))
