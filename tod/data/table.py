"""Tables of text as spreadsheets write them: separators, decimal commas, encodings.

Nothing is guessed: the separator is the character after the header's first word. A comma in a
number is a decimal comma if no number of the table has a point. In a table separated by commas such
numbers are in quotes, and at least one must not have exactly three digits after the comma: 1,234
could mean 1234. Knows text; knows no pictures.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tod.errors import DataError

_SEPARATORS = ",;\t"
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CSV = "save it as CSV in UTF-8"


@dataclass(frozen=True)
class Row:
    """One line of a table; `number` counts lines from 1, `cells` are without blanks around them."""

    number: int
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A header and rows. `decimal_comma` says how numbers are written."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    decimal_comma: bool

    def value(self, text: str) -> float:
        """The number in a cell.

        Raises:
            ValueError: it is no number, or could be two numbers.
        """
        if "," in text and not self.decimal_comma:
            raise ValueError(f"{text!r} may be two numbers: write decimals with a point")
        number = float(text.replace(",", ".") if text.count(",") == 1 else text)
        if not math.isfinite(number):
            raise ValueError(f"{text!r} is not finite")
        return number


def read_table(path: Path, data: bytes, *, names: int = 1) -> Table:
    """Read a table.

    Args:
        path: for error messages.
        data: UTF-8, or UTF-16 with its mark; separated by commas, semicolons or tabs.
        names: the number of columns at the left that hold names.

    Raises:
        DataError: it is not readable.
    """
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: it is not a text in UTF-8: {error}", hint=_CSV) from error
    skipped = 0
    if text.startswith("sep=") and text[5:6] in ("\r", "\n"):  # for Excel
        text, skipped = text[5:].removeprefix("\r").removeprefix("\n"), 1
    head = text.split("\n", 1)[0]
    separator = next((c for c in head if c in _SEPARATORS), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    found: list[Row] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                row = tuple(cell.strip() for cell in cells)
                found.append(Row(reader.line_num + skipped, row))
    except csv.Error as error:
        line = reader.line_num + skipped
        raise DataError(f"{path} line {line}: it is not a readable CSV file: {error}") from error
    if not found:
        return Table((), (), False)
    header, rows = found[0].cells, found[1:]
    return Table(header, tuple(rows), _has_decimal_commas(rows, separator, names))


def _has_decimal_commas(rows: Sequence[Row], separator: str, names: int) -> bool:
    numbers = [c for row in rows for c in row.cells[names:] if re.fullmatch(r"[-+]?[0-9.,]+", c)]
    if any("." in number for number in numbers):
        return False
    behind = [number.partition(",")[2] for number in numbers if "," in number]
    return separator != "," or any(len(digits) != 3 for digits in behind)


def existing(root: Path, names: Sequence[str]) -> dict[str, str]:
    r"""Return the file below `root` that each name means: `cat\1.jpg` is cat/1.jpg, if only that
    exists."""
    return {
        name: name.replace("\\", "/") if "\\" in name and not (root / name).exists() else name
        for name in names
    }
