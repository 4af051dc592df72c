"""A data repository as samples with labels: first the sample, then the label."""

from __future__ import annotations

from pathlib import Path

from tod.data.array_rows import with_answers
from tod.data.repository import open_repository
from tod.data.rows import Columns, Rows
from tod.errors import UsageError


def read_rows(path: Path, columns: Columns) -> Rows:
    """Read a repository.

    Args:
        path: of its JSON file.
        columns: the number of the tensor of the samples and of the labels; by default 0 and 1.

    Raises:
        DataError: it is not readable, or its samples are not of one kind.
        UsageError: the columns are no numbers.
    """
    found = open_repository(path)
    inputs = _place(columns.inputs, "--inputs", 0)
    target = _place(columns.target, "--target", 1)
    values = found.column(inputs)
    answers = found.column(target)
    chosen = Columns((str(inputs),), (str(target),), columns.numbers)
    names = tuple(f"sample {index}" for index in range(found.total))
    return with_answers(path, values, names, answers, chosen, {}, found.classes)


def _place(given: tuple[str, ...], option: str, default: int) -> int:
    if not given:
        return default
    if len(given) != 1 or not given[0].isdecimal() or len(given[0]) > 3:
        raise UsageError(
            f"{option} {','.join(given)}: wanted the number of one tensor of a sample",
            hint=f"{option} {default} is the default",
        )
    return int(given[0])
