"""Read a TIFF's tags about its samples. Knows bytes, no pixels.

Format: TIFF 6.0, and BigTIFF's wider fields.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339
_KINDS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # the field types of whole numbers
_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1


@dataclass(frozen=True)
class Samples:
    """How the samples of the first picture are stored, by its tags."""

    bits: int = 1
    white_is_zero: bool = False
    signed: bool = False
    planes: bool = False
    """The samples of a pixel are stored apart from each other."""


@dataclass(frozen=True)
class _Field:
    value: int  # the first one
    place: int  # in the file
    code: str  # of struct


def is_tiff(data: bytes) -> bool:
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_samples(data: bytes) -> Samples:
    """Read a TIFF's tags; missing or damaged tags give the format's defaults."""
    fields = _fields(data)
    values = {tag: field.value for tag, field in fields.items()}
    return Samples(
        bits=values.get(_BITS, 1),
        white_is_zero=values.get(_PHOTOMETRIC) == _WHITE_IS_ZERO,
        signed=values.get(_SAMPLE_FORMAT) == 2,
        planes=values.get(_PLANES) == 2,
    )


def as_black_is_zero(data: bytes) -> bytes:
    """Relabel the samples so that zero is black: white becomes black."""
    field = _fields(data)[_PHOTOMETRIC]
    value = struct.pack(field.code, _BLACK_IS_ZERO)
    return b"".join((data[: field.place], value, memoryview(data)[field.place + len(value) :]))


def _fields(data: bytes) -> dict[int, _Field]:
    """Read the fields above that hold whole numbers; none if the file is damaged."""
    order, big = ("<" if data[:1] == b"I" else ">"), data[2:4] in (b"+\0", b"\0+")
    word, count, first, size = ("Q", "Q", 8, 20) if big else ("I", "H", 4, 12)
    found = {}
    try:
        (place,) = struct.unpack_from(order + word, data, first)
        (number,) = struct.unpack_from(order + count, data, place)
        place += struct.calcsize("=" + count)
        for at in range(place, min(place + size * number, len(data)), size):
            tag, kind, values = struct.unpack_from(f"{order}HH{word}", data, at)
            if tag in (_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT) and kind in _KINDS:
                code, inside = order + _KINDS[kind], at + 4 + struct.calcsize("=" + word)
                if struct.calcsize(code) * values > struct.calcsize("=" + word):
                    (inside,) = struct.unpack_from(order + word, data, inside)
                found[tag] = _Field(struct.unpack_from(code, data, inside)[0], inside, code)
    except struct.error:
        return {}
    return found
