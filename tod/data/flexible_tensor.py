"""One tensor that describes itself: NNStreamer's header of 128 bytes, then the numbers.

Words of 32 bits, little-endian: 0 magic 0xfeedcced, 1 version 0xde001000, 2 type, 3 to 18
dimensions innermost first, 19 format, 20 media type, 21 numbers that are not zero (sparse only).
Source: NNStreamer, gst/nnstreamer/nnstreamer_plugin_api_util_impl.c (gst_tensor_meta_info_*).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.tensor_caps import MAX_RANK, TYPES, TensorInfo, info

HEADER_BYTES = 128
MAGIC = 0xFEEDCCED
_VERSION, _VERSION_MARK, _MAJOR = 0xDE001000, 0xDE000000, 1
_STATIC, _FLEXIBLE, _SPARSE = range(3)
_MEDIA_TENSOR = 4  # _NNS_TENSOR
_WORDS = struct.Struct("<22I")


def decode(data: bytes | memoryview) -> NDArray[Any]:
    """Read a tensor, flexible or sparse.

    Args:
        data: the header and exactly the numbers.

    Raises:
        ValueError: it is no tensor, or its size lies.
    """
    if len(data) < HEADER_BYTES:
        raise ValueError(f"{len(data)} bytes, a header has {HEADER_BYTES}")
    magic, version, kind, *rest = _WORDS.unpack_from(data)
    axes, (form, _, filled) = rest[:MAX_RANK], rest[MAX_RANK:]
    if magic != MAGIC:
        raise ValueError(f"it begins with {magic:#010x}, wanted {MAGIC:#010x}")
    if version & 0xFFF00000 != _VERSION_MARK or (version >> 12 & 0xFF) != _MAJOR:
        raise ValueError(f"its version is {version:#010x}, wanted {_VERSION:#010x}")
    if kind >= len(TYPES) or form not in (_FLEXIBLE, _SPARSE):
        raise ValueError(f"its type is {kind} and its format {form}")
    used = next((i for i, axis in enumerate(axes) if axis == 0), MAX_RANK)
    if any(axes[used:]):
        raise ValueError(f"its dimensions are {':'.join(map(str, axes))}")
    tensor = info(TYPES[kind], axes[:used])
    dtype = np.dtype(tensor.dtype).newbyteorder("<")
    body = memoryview(data)[HEADER_BYTES:]
    if form == _FLEXIBLE:
        if len(body) != tensor.bytes:
            raise ValueError(f"{len(body)} bytes of numbers, its header wants {tensor.bytes}")
        return np.frombuffer(body, dtype).reshape(tensor.shape)
    if len(body) != filled * (dtype.itemsize + 4):
        raise ValueError(f"{len(body)} bytes of numbers, its header says {filled} are not zero")
    values = np.frombuffer(body[: filled * dtype.itemsize], dtype)
    places = np.frombuffer(body[filled * dtype.itemsize :], "<u4")
    dense = np.zeros(int(np.prod(tensor.shape)), dtype)
    if filled and (places.max() >= dense.size or len(np.unique(places)) != filled):
        raise ValueError("it has numbers outside, or two at one place")
    dense[places] = values
    return dense.reshape(tensor.shape)


def encode(values: NDArray[Any], *, sparse: bool = False) -> bytes:
    """Write a tensor.

    Raises:
        ValueError: its dtype or shape has no place in a header.
    """
    name = values.dtype.name
    if name not in TYPES:
        raise ValueError(f"its type is {name}, wanted one of {', '.join(TYPES)}")
    shape = values.shape or (1,)
    info(name, [*reversed(shape)])
    axes = [*reversed(shape), *[0] * (MAX_RANK - len(shape))]
    flat = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(-1)
    places = np.flatnonzero(flat) if sparse else np.empty(0, np.int64)
    form, filled = (_SPARSE, len(places)) if sparse else (_FLEXIBLE, 0)
    words = (MAGIC, _VERSION, TYPES.index(name), *axes, form, _MEDIA_TENSOR, filled)
    head = _WORDS.pack(*words).ljust(HEADER_BYTES, b"\0")
    if sparse:
        return head + flat[places].tobytes() + places.astype("<u4").tobytes()
    return head + flat.tobytes()


def describe(values: NDArray[Any]) -> TensorInfo:
    """The description of an array as a tensor of a static stream.

    Raises:
        ValueError: its dtype or shape cannot be described.
    """
    if values.dtype.name not in TYPES:
        raise ValueError(f"its type is {values.dtype}, wanted one of {', '.join(TYPES)}")
    return info(values.dtype.name, [*reversed(values.shape or (1,))])
