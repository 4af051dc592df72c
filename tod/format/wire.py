"""Read protobuf messages strictly and without copies, before any other library sees them.

protobuf's own reader needs extra memory of the file's size, keeps unknown fields and has no limits.
Here a field that is not in the table is an error, long values are not copied, and all counts have a
limit. Knows the wire format of https://protobuf.dev/programming-guides/encoding and no message of
its own.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

INT, FLOAT, STRING, BYTES = "int", "float", "string", "bytes"
INTS, FLOATS = "ints", "floats"  # lists of numbers; only their length is read
# message -> field -> (number, one of the above or a message, repeated)
Table = Mapping[str, Mapping[str, tuple[int, str, bool]]]
_VARINT, _FIXED32, _LENGTH = 0, 5, 2
_CONTINUED = bytes(range(0x80, 0x100))  # bytes that are not the last of a number


class WireError(ValueError):
    """The bytes are not a message of the expected kind."""


class Reader:
    """Reads messages of one table.

    Args:
        table: the messages and all their fields; any other field is an error.
        forbidden: (message, number) -> the meaning of a known field that is not allowed.
        max_values: limit on the number of all values, including nested messages.
        max_text_bytes: the longest text.
    """

    def __init__(
        self,
        table: Table,
        *,
        forbidden: Mapping[tuple[str, int], str],
        max_values: int,
        max_text_bytes: int,
    ) -> None:
        self._fields = {
            message: {number: (name, kind, many) for name, (number, kind, many) in fields.items()}
            for message, fields in table.items()
        }
        self._forbidden = forbidden
        self._left = max_values
        self._max_values = max_values
        self._max_text_bytes = max_text_bytes

    def read(self, data: memoryview, message: str) -> dict[str, Any]:
        """Read the fields of a message: repeated fields as a list, bytes as a view.

        Raises:
            WireError: the bytes are not such a message, or exceed a limit.
        """
        fields = self._fields[message]
        found: dict[str, Any] = {}
        place, end = 0, len(data)
        while place < end:
            tag, place = _varint(data, place)
            number, wire = tag >> 3, tag & 7
            if number not in fields:
                unknown = f"it has the field {number} of {message}, which is not read"
                raise WireError(self._forbidden.get((message, number), unknown))
            name, kind, many = fields[number]
            value, place = self._value(data, place, wire, kind, many)
            if isinstance(value, list):
                self._count(len(value))
                found.setdefault(name, []).extend(value)
            else:
                self._count(1)
                if many:
                    found.setdefault(name, []).append(value)
                elif name in found:  # even if both values are equal, as list lengths may be
                    raise WireError(f"it has {message}.{name} twice")
                else:
                    found[name] = value
        return found

    def _value(
        self, data: memoryview, place: int, wire: int, kind: str, many: bool
    ) -> tuple[Any, int]:
        if wire == _VARINT and kind == INT:
            value, place = _varint(data, place)
            return _signed(value), place
        if wire == _FIXED32 and kind == FLOAT and place + 4 <= len(data):
            return struct.unpack_from("<f", data, place)[0], place + 4
        if wire != _LENGTH:
            raise WireError(f"it has a {kind} of wire type {wire}, or ends within it")
        length, place = _varint(data, place)
        if length > len(data) - place:
            raise WireError("a part of it is longer than the whole")
        part, place = data[place : place + length], place + length
        if kind == BYTES:
            return part, place
        if kind == STRING:
            return self._text(part), place
        if kind == FLOATS:
            return len(part) // 4, place
        if kind == INTS:
            return len(bytes(part).translate(None, _CONTINUED)), place
        if kind in (INT, FLOAT):
            if not many:
                raise WireError(f"it has a list where one {kind} is wanted")
            return self._packed(part, kind), place
        return self.read(part, kind), place

    def _text(self, part: memoryview) -> str:
        if len(part) > self._max_text_bytes:
            raise WireError(f"it has a text of {len(part):,} bytes")
        try:
            return str(part, "utf-8")
        except UnicodeDecodeError:
            raise WireError("it has a text that is not UTF-8") from None

    def _packed(self, part: memoryview, kind: str) -> list[Any]:
        """Read packed numbers, but no more than the limit still allows."""
        if kind == FLOAT:
            if len(part) % 4 or len(part) // 4 > self._left:
                raise WireError(f"it has {len(part):,} bytes of float numbers")
            return list(struct.unpack(f"<{len(part) // 4}f", part))
        values: list[Any] = []
        place = 0
        while place < len(part):
            value, place = _varint(part, place)
            values.append(_signed(value))
            if len(values) > self._left:
                self._count(len(values))
        return values

    def _count(self, number: int) -> None:
        self._left -= number
        if self._left < 0:
            raise WireError(f"it has more than {self._max_values:,} values")


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 70:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, place
        shift += 7
    raise WireError("it is cut off, or has a number of more than 10 bytes")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
