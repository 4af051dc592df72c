"""Find the pictures, or other samples, that a user named: files, folders, patterns, lists, arrays,
tables."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.array_rows import load
from tod.data.pictures import Picture
from tod.data.table_rows import read_inputs
from tod.data.tensors import fits
from tod.data.walk import DESCRIPTION, OWN, walk
from tod.errors import DataError, TodError, UsageError
from tod.format.manifest import SampleSpec, TensorSpec

_ARRAYS = (".npy", ".npz")
_TABLES = (".csv", ".tsv")
_STDIN = "-"


@dataclass(frozen=True, slots=True)
class Given:
    """One picture that a user named.

    Attributes:
        name: the name to show.
        picture: what `tod.data.pictures` takes: a path, or an array.
    """

    name: str
    picture: Picture


@dataclass(frozen=True, slots=True)
class NotGiven:
    """Something that a user named, or that lies in a folder he named, and that gives no picture.

    Attributes:
        name: the name to show.
        reason: why it gives none.
        meant: it was probably meant to be a picture.
    """

    name: str
    reason: str
    meant: bool = True


def collect(
    arguments: Sequence[str], lines: Iterable[str], spec: SampleSpec
) -> Iterator[Given | NotGiven]:
    """Find the samples behind what a user wrote, in that order; reads no picture yet.

    Args:
        arguments: paths of picture files, of folders (which are searched to the bottom) and of
            arrays (.npy, .npz: one sample, or several); patterns such as "a/**/*.jpg"; and "-" for
            the lines. For a model that takes columns of a table, also tables (.csv, .tsv).
        lines: paths, one in each line.
        spec: what the model takes.

    Raises:
        UsageError: "-" stands there twice.
    """
    if list(arguments).count(_STDIN) > 1:
        raise UsageError("- stands there twice", hint="the list on stdin can be read once")
    for argument in arguments:
        if argument != _STDIN:
            yield from _found(argument, spec)
            continue
        for line in lines:
            if name := line.rstrip("\r\n"):
                yield from _found(name, spec)


def _found(name: str, spec: SampleSpec) -> Iterator[Given | NotGiven]:
    path = Path(name)
    if os.path.isdir(path):
        yield from _in_folder(path)
    elif path.suffix.lower() in _ARRAYS and os.path.exists(path):
        yield from _in_array(path, spec)
    elif isinstance(spec, TensorSpec) and path.suffix.lower() in _TABLES and path.is_file():
        yield from _in_table(path, spec)
    elif not os.path.lexists(path) and glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            yield NotGiven(name, "no file fits this pattern")
        for match in matches:
            if not os.path.isdir(match):
                yield from _found(match, spec)
    else:
        yield Given(name, name)


def _in_folder(folder: Path) -> Iterator[Given | NotGiven]:
    empty = True
    for entry in walk(folder):
        if entry.reason in (DESCRIPTION, OWN):
            continue
        empty = False
        name = str(folder / entry.path)
        if entry.reason:
            yield NotGiven(name, entry.reason, entry.meant)
        else:
            yield Given(name, name)
    if empty:
        yield NotGiven(str(folder), "there is no file in this folder")


def _in_array(path: Path, spec: SampleSpec) -> Iterator[Given | NotGiven]:
    try:
        arrays = load(path)
    except DataError as error:
        yield NotGiven(str(path), error.problem.removeprefix(f"{path}: "))
        return
    known = [key for key in getattr(spec, "inputs", ()) if key in arrays]
    for key in known or arrays:
        yield from _rows(f"{path}:{key}" if key else str(path), arrays[key], spec)


def _rows(name: str, array: NDArray[Any], spec: SampleSpec) -> Iterator[Given | NotGiven]:
    if isinstance(spec, TensorSpec):
        one = fits(array.shape, spec.shape)
        several = array.ndim > 0 and fits(array.shape[1:], spec.shape)
        wanted = f"{list(spec.shape)} or {['N', *spec.shape]}".replace("'", "")
    else:
        picture = array.dtype == np.uint8 and array.ndim in (3, 4) and array.shape[-1] == 3
        one, several = picture and array.ndim == 3, picture and array.ndim == 4
        wanted = "uint8 [H, W, 3] or [N, H, W, 3]"
    if several:
        for index, row in enumerate(array):
            yield Given(f"{name}[{index}]", row)
    elif one:
        yield Given(name, array)
    else:
        yield NotGiven(name, f"wanted {wanted}, found {array.dtype} {list(array.shape)}")


def _in_table(path: Path, spec: TensorSpec) -> Iterator[Given | NotGiven]:
    if not spec.inputs:
        yield NotGiven(str(path), "the model does not know which columns it takes")
        return
    try:
        values, names, problems = read_inputs(path, spec.inputs)
    except TodError as error:
        yield NotGiven(str(path), error.problem.removeprefix(f"{path}: "))
        return
    for name, row in zip(names, values, strict=True):
        yield Given(f"{path} {name}", row)
    for problem in problems:
        name, _, reason = problem.partition(": ")
        yield NotGiven(f"{path} {name}", reason)
