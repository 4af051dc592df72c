"""Rows: the samples of one file that holds many, with their labels.

Each reader (`tod.data.table_rows`, `tod.data.array_rows`) turns a file into one record of this
kind. Axes: N samples, C classes or numbers.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.own_splits import Own
from tod.errors import DataError

_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class Columns:
    """Which parts of a file are samples and labels.

    Attributes:
        inputs: columns of a table, or the array; none: all but the target, or the usual names.
        target: the column of the classes, or those of the numbers; or the array.
        numbers: the target is numbers, not the name of a class.
    """

    inputs: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    numbers: bool = False


@dataclass(frozen=True)
class Rows:
    """The content of a file.

    Attributes:
        values: [N, ...]; on disk, if the file allows it.
        names: of the samples, for messages; each once.
        answers: class names, or the names of the numbers.
        labels: int64 [N], if each sample has one class.
        targets: float32 [N, C], if it has numbers.
        columns: as they were chosen.
        own: splits and groups that the file gives, by name.
        problems: why a part of the file is no sample, by name.
        draws: equal samples are separate observations, as in a table; otherwise they are copies,
            which have to stay together.
    """

    values: NDArray[Any]
    names: tuple[str, ...]
    answers: tuple[str, ...]
    columns: Columns
    labels: NDArray[np.int64] | None = None
    targets: NDArray[np.float32] | None = None
    own: Mapping[str, Own] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    draws: bool = False


def content_hashes(values: NDArray[Any]) -> list[str]:
    """SHA-256 of each sample, over dtype, shape and numbers; the numbers little-endian, so that
    equal samples have equal hashes on every machine."""
    head = f"{values.dtype.newbyteorder('<').str} {list(values.shape[1:])}\n".encode()
    found = []
    for block in blocks(values):
        block = np.ascontiguousarray(block, block.dtype.newbyteorder("<"))
        found += [hashlib.sha256(head + row.tobytes()).hexdigest() for row in block]
    return found


def identities(contents: Sequence[str]) -> list[str]:
    """A hash of its own for each of several equal contents: the first keeps its hash, the n-th gets
    that of the content and n. So a file that grows at its end keeps its splits."""
    counts: Counter[str] = Counter()
    found = []
    for content in contents:
        number = counts[content]
        counts[content] += 1
        text = f"{content} {number}".encode()
        found.append(hashlib.sha256(text).hexdigest() if number else content)
    return found


def finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which samples have only finite numbers."""
    if values.dtype.kind != "f":
        return np.ones(len(values), bool)
    axes = tuple(range(1, values.ndim))
    return np.concatenate([np.isfinite(block).all(axis=axes) for block in blocks(values)])


def blocks(values: NDArray[Any]) -> list[NDArray[Any]]:
    """Parts of the samples that take little memory, in order."""
    each = max(1, values[:1].nbytes)
    count = max(1, _BLOCK_BYTES // each)
    return [values[start : start + count] for start in range(0, len(values), count)]


def one_hot_labels(path: Path, targets: NDArray[Any]) -> NDArray[np.int64]:
    """The place of the one in each row of zeros [N, C].

    Raises:
        DataError: a row is something else.
    """
    wrong = ~((targets == 0) | (targets == 1)).all(axis=1) | (targets.sum(axis=1) != 1)
    if wrong.any():
        raise DataError(
            f"{path}: the label of sample {int(wrong.argmax())} is no class: wanted one number, or "
            f"a row of zeros with a single one, found {_shown(targets[wrong.argmax()])}",
            hint="numbers of any kind are learned by a model of --loss mse",
        )
    return np.asarray(targets.argmax(axis=1), np.int64)


def _shown(row: Sequence[Any]) -> str:
    some = " ".join(f"{value:g}" for value in row[:6])
    return f"[{some}{' ...' if len(row) > 6 else ''}]"
