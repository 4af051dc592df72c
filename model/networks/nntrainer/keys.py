"""Kinds of keys: from a value's text to what it means, or why it means nothing.

Axes: c channels, h height, w width of one sample; nntrainer writes c:h:w.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from model.networks.nntrainer.text import Item, Section
from tod.system.names import near_names

Shape = tuple[int, int, int]  # c, h, w
MAX_NUMBER = 1 << 28  # of units, filters, pixels: what a tensor of a .tod file may have
_MAX_SHAPE = 1 << 28
Convert = Callable[[str], Any]  # raises ValueError, which says what is wanted


@dataclass(frozen=True)
class Key:
    """A key that a section may have.

    Attributes:
        convert: from its text to its value.
        default: its value if it is not given.
        needed: it must be given.
        refused: why TOD does not do what it asks for; `neutral` are the values that ask for
            nothing.
    """

    convert: Convert = str
    default: Any = None
    needed: bool = False
    refused: str = ""
    neutral: tuple[str, ...] = ()


Table = Mapping[str, Key]


def read(section: Section, table: Table, what: str) -> dict[str, Any]:
    """The values of all keys of a table, as a section gives them.

    Args:
        section: its items.
        table: the keys that it may have.
        what: whose keys they are, for messages.

    Raises:
        UsageError: an unknown or refused key, a value without a meaning, a missing one.
    """
    values = {name: key.default for name, key in table.items()}
    for name, item in section.items.items():
        if name not in table:
            hint = near_names(name, [n for n, key in table.items() if not key.refused])
            raise item.place.wrong(f"{what} has no key '{name}'", hint)
        values[name] = _value(name, table[name], item)
    missing = [n for n, key in table.items() if key.needed and n not in section.items]
    if missing:
        raise section.place.wrong(f"{what} needs {' and '.join(missing)}")
    return values


def _value(name: str, key: Key, item: Item) -> Any:
    if key.refused:
        if item.value.lower() in key.neutral:
            return None
        raise item.place.wrong(f"{name} = {item.value} is not supported", key.refused)
    try:
        return key.convert(item.value)
    except ValueError as error:
        raise item.place.wrong(f"{name} is {item.value!r}, wanted {error}") from None


def unsupported(reason: str, *neutral: str) -> Key:
    """A key that nntrainer knows and TOD does not."""
    return Key(refused=reason, neutral=neutral)


def whole(least: int = 1, most: int = MAX_NUMBER) -> Convert:
    """A whole number."""

    def convert(text: str) -> int:
        value = _int(text)
        if value is None or not least <= value <= most:
            raise ValueError(f"a whole number from {least} to {most:,}")
        return value

    return convert


def number(least: float = 0.0, *, above: bool = False, below: float = math.inf) -> Convert:
    """A number from `least` (or above it) up to below another."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (value > least if above else value >= least) or not value < below:
            end = "" if below == math.inf else f" and below {below:g}"
            raise ValueError(f"a number {'above' if above else 'from'} {least:g}{end}")
        return value

    return convert


def numbers(one: Convert) -> Convert:
    """Numbers with commas between them."""

    def convert(text: str) -> tuple[Any, ...]:
        try:
            return tuple(one(part.strip()) for part in text.split(","))
        except ValueError as error:
            raise ValueError(f"{error}, or several with commas between") from None

    return convert


def exactly(count: int, one: Convert) -> Convert:
    """So many numbers with commas between them."""

    def convert(text: str) -> tuple[Any, ...]:
        values = numbers(one)(text)
        if len(values) != count:
            raise ValueError(f"{count} numbers with a comma between")
        return values

    return convert


def flag(text: str) -> bool:
    """true or false."""
    if text.lower() not in ("true", "false"):
        raise ValueError("true or false")
    return text.lower() == "true"


def choice(*names: str) -> Convert:
    """One of some words, in any case."""

    def convert(text: str) -> str:
        if text.lower() not in names:
            raise ValueError(f"{', '.join(names)}; {near_names(text.lower(), names)}")
        return text.lower()

    return convert


def shape(text: str) -> Shape:
    """c:h:w, h:w or w; a fourth number in front is the batch, which must be 1."""
    parts = [_int(part) for part in text.split(":")]
    if len(parts) == 4 and parts[0] == 1:
        parts = parts[1:]
    sizes = [part for part in parts if part is not None and part >= 1]
    if not 1 <= len(parts) <= 3 or len(sizes) != len(parts) or math.prod(sizes) > _MAX_SHAPE:
        raise ValueError("channels:height:width, such as 1:28:28")
    c, h, w = [1] * (3 - len(sizes)) + sizes
    return c, h, w


def padding(sides: int) -> Convert:
    """valid, same, one number, or those of the sides: 2 of a row, 4 of a picture."""
    words = ("valid", "same", "causal") if sides == 2 else ("valid", "same")
    counts = (1, 2) if sides == 2 else (1, 2, 4)

    def convert(text: str) -> str | tuple[int, ...]:
        if text.lower() in words:
            return text.lower()
        values = [_int(part) for part in text.split(",")]
        given = tuple(value for value in values if value is not None and 0 <= value <= MAX_NUMBER)
        if len(given) != len(values) or len(given) not in counts:
            raise ValueError(f"{', '.join(words)}, or {' or '.join(map(str, counts))} numbers")
        return given

    return convert


def layer_names(text: str) -> tuple[str, ...]:
    """Names of layers with commas between them, in lower case."""
    names = tuple(part.strip().lower() for part in text.split(","))
    if not all(names):
        raise ValueError("names of layers with commas between")
    return names


def _int(text: str) -> int | None:
    text = text.strip()
    # int() also takes digits of other scripts, signs and underscores; thousands of digits raise.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
