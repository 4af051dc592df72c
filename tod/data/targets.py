"""Read targets.csv: the numbers of each picture, or yes and no for each class (docs/format.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tod.data.index import check_names, escapes, read_limited
from tod.data.own_splits import COLUMNS, Own, own_of
from tod.data.table import existing, read_table
from tod.errors import DataError
from tod.system.names import listed

TARGETS_NAME = "targets.csv"
NO_LINE = f"it has no line in {TARGETS_NAME}"


@dataclass(frozen=True)
class Targets:
    """The content of targets.csv.

    Attributes:
        names: names of the numbers.
        rows: file and numbers of each good line, each file once.
        own: splits and groups, by file.
        problems: what is wrong with the other lines.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float, ...]], ...]
    own: dict[str, Own]
    problems: tuple[str, ...]


def read_targets(path: Path) -> Targets:
    """Read targets.csv. Columns called split and group say where a picture goes
    (`tod.data.own_splits`), all others are numbers.

    Raises:
        DataError: it is not readable, has no header, or contradicts itself on a picture.
    """
    try:
        table = read_table(path, read_limited(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    header = table.header
    names = tuple(name for name in header[1:] if name not in COLUMNS)
    if not names or header[0] != "file" or len(set(header)) != len(header) or "" in header:
        raise DataError(
            f"{path}: its first line is {list(header)}, wanted file and then a name for "
            "each number",
            hint="for example: file,weight,height",
        )
    check_names(path, names)
    files = existing(path.parent, [row.cells[0] for row in table.rows])
    found: dict[str, tuple[int, tuple[float, ...], Own]] = {}
    problems: list[str] = []
    for row in table.rows:
        where, file = f"{path} line {row.number}", files[row.cells[0]]
        cells = dict(zip(header, row.cells, strict=False))
        try:
            if len(row.cells) != len(header):
                raise ValueError(f"it has {len(row.cells)} cells, the header {len(header)}")
            numbers = tuple(table.value(cells[name]) for name in names)
        except ValueError as error:
            problems.append(f"{where} was passed over: {error}")
            continue
        if escapes(file):
            problems.append(f"{where} was passed over: wanted a file below {path.parent}")
            continue
        own = own_of(where, cells)
        first, *said = found.setdefault(file, (row.number, numbers, own))
        if said != [numbers, own]:
            raise DataError(
                f"{path}: lines {first} and {row.number} say different things of {file}",
                hint="keep the right one",
            )
        if first != row.number:
            problems.append(f"{where} was passed over: {file} stands in line {first} as well")
    return Targets(
        names, tuple((file, numbers) for file, (_, numbers, _) in found.items()),
        {file: own for file, (*_, own) in found.items()}, tuple(problems),
    )  # fmt: skip


def contradictions(
    rows: list[tuple[str, tuple[float, ...], str]],
) -> list[tuple[str, ...]]:
    """Find groups of files that have equal pixels and different numbers.

    Args:
        rows: file, numbers and hash of the pixels.
    """
    groups: dict[str, list[tuple[str, tuple[float, ...]]]] = {}
    for file, numbers, pixels in rows:
        groups.setdefault(pixels, []).append((file, numbers))
    return [
        tuple(file for file, _ in group)
        for group in groups.values()
        if len({numbers for _, numbers in group}) > 1
    ]


def contradiction_notice(root: Path, groups: list[tuple[str, ...]]) -> list[str]:
    """Write a sentence about contradictions, if there are any."""
    if not groups:
        return []
    return [
        f"{root}: {len(groups)} pictures lie there several times with different numbers, e.g. "
        f"{listed(groups[0][:3])}"
    ]
