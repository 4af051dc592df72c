"""Read the rows of a CSV table as samples: columns of numbers, and the columns of the target.

Columns called split and group say where a row goes (`tod.data.own_splits`). A line with a cell that
is no number is passed over and named. Equal lines are separate observations, as a table of few
columns has many; a group column keeps them together.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tod.data.index import check_names, read_limited
from tod.data.own_splits import COLUMNS, Own, own_of
from tod.data.rows import Columns, Rows
from tod.data.table import Table, read_table
from tod.errors import DataError, UsageError
from tod.system.names import listed, natural_key, near_names


def read_rows(path: Path, columns: Columns) -> Rows:
    """Read a table.

    Args:
        path: of the file.
        columns: without `inputs`, all columns but the target are taken.

    Raises:
        DataError: it is not readable, or no line can be used.
        UsageError: a column that it does not have, or no target.
    """
    try:
        table = read_table(path, read_limited(path), names=0)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    chosen = _chosen(path, table, columns)
    places = [table.header.index(name) for name in chosen.inputs]
    ends = [table.header.index(name) for name in chosen.target]
    values: list[list[float]] = []
    targets: list[list[float]] = []
    labels: list[str] = []
    ids: list[str] = []
    own: dict[str, Own] = {}
    problems: dict[str, str] = {}
    for row in table.rows:
        name = f"line {row.number}"
        try:
            if len(row.cells) != len(table.header):
                raise ValueError(f"it has {len(row.cells)} cells, the header {len(table.header)}")
            numbers = [_number(table, row.cells, place) for place in places]
            if chosen.numbers:
                targets.append([_number(table, row.cells, place) for place in ends])
            elif row.cells[ends[0]]:
                labels.append(row.cells[ends[0]])
            else:
                raise ValueError(f"{chosen.target[0]} is empty")
        except ValueError as error:
            problems[name] = str(error)
            continue
        own[name] = own_of(f"{path} {name}", dict(zip(table.header, row.cells, strict=False)))
        values.append(numbers)
        ids.append(name)
    if not values:
        said = "; ".join(f"{name}: {reason}" for name, reason in list(problems.items())[:3])
        raise DataError(f"{path}: it has no line that can be used", hint=said or "add lines")
    array = np.array(values, np.float64)
    if chosen.numbers:
        return Rows(
            array, tuple(ids), chosen.target, chosen, targets=np.array(targets, np.float32),
            own=own, problems=problems, draws=True,
        )  # fmt: skip
    classes = tuple(sorted(set(labels), key=natural_key))
    check_names(path, classes)
    place_of = {name: place for place, name in enumerate(classes)}
    places_of = np.array([place_of[label] for label in labels], np.int64)
    return Rows(
        array, tuple(ids), classes, chosen, labels=places_of, own=own, problems=problems,
        draws=True,
    )  # fmt: skip


def read_inputs(
    path: Path, inputs: tuple[str, ...]
) -> tuple[NDArray[np.float64], list[str], list[str]]:
    """Read only the samples of a table, to predict their answers.

    Args:
        path: of the file.
        inputs: the columns.

    Returns:
        float64 [N, columns]; the name of each sample; what is wrong with the other lines.

    Raises:
        DataError: it is not readable, or lacks a column.
    """
    try:
        table = read_table(path, read_limited(path), names=0)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    _check_known(path, table, inputs)
    places = [table.header.index(name) for name in inputs]
    values, names, problems = [], [], []
    for row in table.rows:
        try:
            if len(row.cells) <= max(places):
                raise ValueError(f"it has {len(row.cells)} cells, the header {len(table.header)}")
            values.append([_number(table, row.cells, place) for place in places])
            names.append(f"line {row.number}")
        except ValueError as error:
            problems.append(f"line {row.number}: {error}")
    return np.array(values, np.float64).reshape(len(values), len(inputs)), names, problems


def _number(table: Table, cells: tuple[str, ...], place: int) -> float:
    try:
        return table.value(cells[place])
    except ValueError as error:
        raise ValueError(f"{table.header[place]}: {error}") from error


def _chosen(path: Path, table: Table, columns: Columns) -> Columns:
    header = table.header
    if len(set(header)) != len(header) or not all(header):
        raise DataError(
            f"{path}: its first line is {list(header)}, wanted a name for each column",
            hint="each name once; for example: watermelon,apple,grape,price",
        )
    free = [name for name in header if name not in COLUMNS]
    if not columns.target:
        raise UsageError(
            f"{path}: which of its columns is the answer? It has {listed(free)}",
            hint=f"--target {free[-1] if free else 'NAME'}",
        )
    _check_known(path, table, (*columns.inputs, *columns.target))
    inputs = columns.inputs or tuple(name for name in free if name not in columns.target)
    if both := [name for name in inputs if name in columns.target]:
        raise UsageError(f"{listed(both)} cannot be input and target at once")
    if not inputs:
        raise UsageError(f"{path}: it has no column beside the target")
    if not columns.numbers and len(columns.target) > 1:
        raise UsageError(
            f"--target {','.join(columns.target)}: a class stands in one column",
            hint="numbers are learned by a model of --loss mse, several classes by --loss bce",
        )
    check_names(path, [*inputs, *columns.target])
    return Columns(inputs, columns.target, columns.numbers)


def _check_known(path: Path, table: Table, names: tuple[str, ...]) -> None:
    if unknown := [name for name in names if name not in table.header]:
        raise UsageError(
            f"{path}: it has no column {listed(unknown)}",
            hint=near_names(unknown[0], [name for name in table.header if name not in COLUMNS]),
        )
