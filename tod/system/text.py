"""Limits for every record that is read from a file. Knows no file and no field."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

MAX_TEXT = 1024
MAX_ENTRIES = 100_000
MAX_NUMBER = 1 << 53  # above it, some JSON readers round whole numbers
# Control characters, lone surrogates, line and paragraph separators, and characters that change the
# direction of writing.
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
_TURNING = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> bool:
    """Tell whether a text can be shown: nothing in it controls a terminal, ends a line or changes
    the direction of writing."""
    return text.isprintable() or not any(
        unicodedata.category(c) in _UNPRINTABLE or c in _TURNING for c in text
    )


def shown(text: str) -> str:
    """Make any text safe for a terminal: unprintable characters become escapes."""
    if printable(text):
        return text
    return "".join(c if printable(c) else c.encode("unicode_escape").decode() for c in text)


def record_problems(value: object, name: str = "") -> Iterator[str]:
    """Find values in a record, at any depth, that are too long, too large, not finite or
    unprintable.

    Args:
        value: nested dataclasses, mappings, sequences, texts and numbers.
        name: the path of the value in the record.
    """
    if isinstance(value, str):
        if len(value) > MAX_TEXT or not printable(value):
            yield f"{name} is a text of {len(value)} characters, {shown(value[:40])!r}"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield f"{name} is {value}"
    elif isinstance(value, int):
        if abs(value) > MAX_NUMBER:
            yield f"{name} is {str(value)[:30]}"
    elif isinstance(value, Collection) or is_dataclass(value):
        yield from _collection_problems(value, name)


def _collection_problems(value: Any, name: str) -> Iterator[str]:
    if is_dataclass(value):
        for field in fields(value):
            inner = f"{name}.{field.name}" if name else field.name
            yield from record_problems(getattr(value, field.name), inner)
        return
    if len(value) > MAX_ENTRIES:
        yield f"{name} has {len(value):,} entries"
        return
    if isinstance(value, Mapping):
        yield from record_problems(list(value), f"a name in {name}")
        value = value.values()
    for entry in value:
        yield from record_problems(entry, name)
