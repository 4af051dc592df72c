"""Read samples and labels from NumPy's files: .npz with several arrays, or .npy with one.

An .npz file holds `x` and `y`, or `x_train`, `y_train`, `x_test`, `y_test` as Keras' data sets do
(also `_validation` or `_val`); other names are chosen. Axes: N samples, C classes or numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.index import check_names
from tod.data.own_splits import SPLIT_WORDS, Own
from tod.data.rows import Columns, Rows, finite, one_hot_labels
from tod.errors import DataError, UsageError
from tod.system.names import listed, natural_key

_INPUTS, _TARGET = "x", "y"


def read_rows(path: Path, columns: Columns) -> Rows:
    """Read arrays.

    Args:
        path: of the .npz or .npy file. The labels of an .npy file are in another one, which
            `columns.target` names.
        columns: names of the arrays; without, those named above.

    Raises:
        DataError: it is not readable, or its arrays do not fit together.
        UsageError: it has no such array.
    """
    if path.suffix.lower() == ".npy":
        if len(columns.target) != 1:
            raise UsageError(
                f"{path}: it holds samples; where are their labels?", hint="--target LABELS.npy"
            )
        chosen = Columns((), columns.target, columns.numbers)
        labels = path.parent / columns.target[0]
        pairs = [("", load(path)[""], load(labels)[""])]
    else:
        arrays = load(path)
        chosen, pairs = _pairs(path, arrays, columns)
    for part, values, found in pairs:
        _check_pair(path, part, values, found)
    values = pairs[0][1] if len(pairs) == 1 else _joined(path, [v for _, v, _ in pairs])
    answers = pairs[0][2] if len(pairs) == 1 else _joined(path, [a for *_, a in pairs])
    names, own = [], {}
    for part, some, _ in pairs:
        for index in range(len(some)):
            name = f"{part} row {index}" if part else f"row {index}"
            names.append(name)
            if part:
                own[name] = Own(SPLIT_WORDS[part])
    return with_answers(path, values, tuple(names), answers, chosen, own)


def with_answers(
    path: Path,
    values: NDArray[Any],
    names: tuple[str, ...],
    answers: NDArray[Any],
    columns: Columns,
    own: Mapping[str, Own],
    known: tuple[str, ...] = (),
) -> Rows:
    """Put samples and their labels together.

    Args:
        path: of the file, for messages.
        values: [N, ...].
        names: of the samples.
        answers: [N] classes, as whole numbers or texts; [N, C] zeros with a single one; or numbers
            [N] or [N, C], if `columns.numbers`.
        columns: as chosen.
        own: splits, by name.
        known: names of the C classes or numbers; by default their place.

    Raises:
        DataError: the answers are something else.
    """
    flat = answers.reshape(len(answers), -1)
    if known and flat.shape[1] not in (1, len(known)):
        raise DataError(f"{path}: {flat.shape[1]} numbers in a label, {len(known)} names for them")
    if columns.numbers:
        if flat.dtype.kind not in "fiub":
            raise DataError(f"{path}: its labels are {flat.dtype}, wanted numbers")
        count = flat.shape[1]
        stem = columns.target[0] if len(columns.target) == 1 else _TARGET
        default = (stem,) if count == 1 else tuple(f"{stem}{place}" for place in range(count))
        good = finite(flat)
        problems = {
            n: "its label is not finite" for n, ok in zip(names, good, strict=True) if not ok
        }
        return Rows(
            values[good] if problems else values,
            tuple(n for n in names if n not in problems),
            known or default, columns, targets=flat[good].astype(np.float32), own=own,
            problems=problems,
        )  # fmt: skip
    if flat.shape[1] > 1:
        labels = one_hot_labels(path, flat)
        classes = known or tuple(map(str, range(flat.shape[1])))
        return Rows(values, names, classes, columns, labels=labels, own=own)
    column = flat[:, 0]
    if column.dtype.kind == "f" and bool((column == np.floor(column)).all()):
        column = column.astype(np.int64)
    if column.dtype.kind not in "iubU":
        raise DataError(
            f"{path}: its labels are {answers.dtype}, wanted classes: whole numbers or texts",
            hint="numbers of any kind are learned by a model of --loss mse",
        )
    if known and column.dtype.kind != "U":
        if not 0 <= int(column.min()) <= int(column.max()) < len(known):
            raise DataError(f"{path}: a label is not from 0 to {len(known) - 1}")
        return Rows(values, names, known, columns, labels=column.astype(np.int64), own=own)
    found, places = np.unique(column, return_inverse=True)
    texts = [str(one) for one in found.tolist()]
    classes = tuple(sorted(texts, key=natural_key))
    check_names(path, classes)
    place_of = np.array([classes.index(text) for text in texts], np.int64)
    return Rows(values, names, classes, columns, labels=place_of[places.reshape(-1)], own=own)


def load(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz file by name; of an .npy file under an empty name, read from disk as
    they are needed.

    Raises:
        DataError: it cannot be read, or holds what is no array of numbers or texts.
    """
    try:
        # A pickle would run code.
        with open(path, "rb") as file:
            if file.read(2) == b"PK":
                file.seek(0)
                with np.load(file, allow_pickle=False) as archive:
                    return dict(archive)
        return {"": np.load(path, mmap_mode="r", allow_pickle=False)}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise DataError(
            f"{path}: no arrays can be read from it: {error}",
            hint="write it with numpy.save or numpy.savez",
        ) from error
    except Exception as error:  # zipfile and zlib have errors of their own
        raise DataError(f"{path}: it is damaged: {error}", hint="copy it again") from error


def _pairs(
    path: Path, arrays: Mapping[str, NDArray[Any]], columns: Columns
) -> tuple[Columns, list[tuple[str, NDArray[Any], NDArray[Any]]]]:
    """Samples and labels of each split; one pair with an empty name where there are no splits."""
    for names, what in ((columns.inputs, "inputs"), (columns.target, "target")):
        if len(names) > 1:
            raise UsageError(f"--{what} {','.join(names)}: give the name of one array")
    x, y = (*columns.inputs, _INPUTS)[0], (*columns.target, _TARGET)[0]
    chosen = Columns((x,), (y,), columns.numbers)
    if x in arrays and y in arrays:
        return chosen, [("", arrays[x], arrays[y])]
    parts = [word for word in SPLIT_WORDS if f"{x}_{word}" in arrays and f"{y}_{word}" in arrays]
    if not parts:
        raise UsageError(
            f"{path}: it has no arrays {x} and {y}, but {listed(sorted(arrays))}",
            hint="say which are samples and labels: --inputs NAME --target NAME",
        )
    return chosen, [(word, arrays[f"{x}_{word}"], arrays[f"{y}_{word}"]) for word in parts]


def _check_pair(path: Path, part: str, values: NDArray[Any], labels: NDArray[Any]) -> None:
    what = f" of {part}" if part else ""
    if values.ndim < 1 or labels.ndim < 1 or len(values) != len(labels) or not len(values):
        raise DataError(
            f"{path}: {list(values.shape)} samples{what} and {list(labels.shape)} labels do not "
            "fit together: their first axes must be equal"
        )
    if values.dtype.kind not in "fiub":
        raise DataError(f"{path}: the samples{what} are {values.dtype}, wanted numbers")


def _joined(path: Path, parts: list[NDArray[Any]]) -> NDArray[Any]:
    if len({(part.shape[1:], part.dtype) for part in parts}) > 1:
        kinds = listed([f"{part.dtype} {list(part.shape)}" for part in parts])
        raise DataError(f"{path}: its splits differ in more than their length: {kinds}")
    return np.concatenate(parts)
