"""NNStreamer's description of tensors: `other/tensors, format=(string)static, dimensions=...`.

Dimensions are written innermost first, "28:28:1:1" for 1 x 1 x 28 x 28; several tensors stand
between points. Source: NNStreamer, gst/nnstreamer/include/tensor_typedef.h and
Documentation/component-description.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Format = Literal["static", "flexible", "sparse"]
# In the order of NNStreamer's enumeration, which flexible headers hold.
TYPES = ("int32", "uint32", "int16", "uint16", "int8", "uint8", "float64", "float32", "int64",
         "uint64", "float16")  # fmt: skip
MAX_RANK, MAX_TENSORS = 16, 256
MAX_BYTES = 1 << 30  # of one tensor
_FORMATS: tuple[Format, ...] = ("static", "flexible", "sparse")
_FIELD = re.compile(r"([A-Za-z][\w-]*)\s*=\s*(?:\([\w/]+\)\s*)?(.*)", re.DOTALL)


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a sample: `shape` in NumPy's order, without outer axes of length 1."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def dimensions(self) -> str:
        """As NNStreamer writes it, with at least four axes."""
        axes = [*reversed(self.shape)]
        return ":".join(map(str, [*axes, *[1] * (4 - len(axes))]))


@dataclass(frozen=True)
class Caps:
    """What a stream holds. `media` is "other/tensors", or "image/png" and the like; `tensors` are
    those of each sample, none if every sample says it itself."""

    media: str
    format: Format
    tensors: tuple[TensorInfo, ...]


def parse(text: str) -> Caps:
    """Read a description.

    Raises:
        ValueError: it is none, or contradicts itself.
    """
    # A comma ends a field only if a name follows: dimensions may be between commas, too.
    media, *fields = re.split(r",\s*(?=[A-Za-z][\w-]*\s*=)", text.strip())
    found: dict[str, str] = {}
    for field in fields:
        match = _FIELD.fullmatch(field.strip())
        if match is None:
            raise ValueError(f"{field!r} is no field of a description of tensors")
        found[match[1]] = match[2].strip().strip('"{}').strip()
    if media not in ("other/tensors", "other/tensor"):
        return Caps(media, "static", ())
    named = found.get("format", "static")
    if named not in _FORMATS:
        raise ValueError(f"the format is {named!r}, wanted {', '.join(_FORMATS)}")
    if named != "static":
        return Caps("other/tensors", named, ())
    dimensions = re.split(r"[.,]\s*", found.get("dimensions", found.get("dimension", "")))
    types = re.split(r"[.,]\s*", found.get("types", found.get("type", "")))
    count = int(found.get("num_tensors", len(dimensions)))
    if not len(dimensions) == len(types) == count or count > MAX_TENSORS:
        raise ValueError(
            f"{len(dimensions)} dimensions, {len(types)} types and num_tensors {count} do not fit"
        )
    pairs = zip(dimensions, types, strict=True)
    return Caps("other/tensors", "static", tuple(tensor(axes, kind) for axes, kind in pairs))


def tensor(dimensions: str, dtype: str) -> TensorInfo:
    """One tensor, from "28:28:1:1" and "float32".

    Raises:
        ValueError: no such type, or no such dimensions.
    """
    if dtype not in TYPES:
        raise ValueError(f"the type is {dtype!r}, wanted one of {', '.join(TYPES)}")
    if not re.fullmatch(r"[0-9]{1,10}(:[0-9]{1,10})*", dimensions):
        raise ValueError(f"the dimensions are {dimensions!r}, wanted numbers such as 28:28:1:1")
    axes = [int(axis) for axis in dimensions.split(":")]
    while axes and axes[-1] == 0:  # what is not used may be zero
        axes.pop()
    return info(dtype, axes)


def info(dtype: str, axes: Sequence[int]) -> TensorInfo:
    """One tensor, from its axes innermost first.

    Raises:
        ValueError: an axis is zero, or it is too large.
    """
    if not 0 < len(axes) <= MAX_RANK or not all(axis > 0 for axis in axes):
        raise ValueError(f"the dimensions are {':'.join(map(str, axes))}")
    shape = [*reversed(axes)]
    while len(shape) > 1 and shape[0] == 1:
        shape.pop(0)
    found = TensorInfo(dtype, tuple(shape))
    if found.bytes > MAX_BYTES:
        raise ValueError(f"a tensor has {found.bytes:,} bytes, at most {MAX_BYTES:,} are read")
    return found


def text(format_: Format, tensors: Sequence[TensorInfo] = ()) -> str:
    """Write a description, as NNStreamer's datareposink does."""
    begin = f"other/tensors, format=(string){format_}, framerate=(fraction)0/1"
    if format_ != "static":
        return begin
    dimensions = ".".join(one.dimensions for one in tensors)
    types = ".".join(one.dtype for one in tensors)
    return (
        f"{begin}, num_tensors=(int){len(tensors)}, dimensions=(string){dimensions}, "
        f"types=(string){types}"
    )
