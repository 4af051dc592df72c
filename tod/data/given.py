"""Find the pictures that a user named: files, folders, patterns, lists, arrays."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tod.data.pictures import Picture
from tod.data.walk import DESCRIPTION, OWN, walk
from tod.errors import UsageError

_ARRAYS = (".npy", ".npz")
_STDIN = "-"


@dataclass(frozen=True, slots=True)
class Given:
    """One picture that a user named.

    Attributes:
        name: the name to show.
        picture: what `tod.data.pictures` takes: a path, or pixels uint8 [H, W, 3].
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


def collect(arguments: Sequence[str], lines: Iterable[str]) -> Iterator[Given | NotGiven]:
    """Find the pictures behind what a user wrote, in that order; reads no picture yet.

    Args:
        arguments: paths of picture files, of folders (which are searched to the bottom) and of
            arrays (.npy, .npz: uint8 [H, W, 3] or [N, H, W, 3]); patterns such as "a/**/*.jpg";
            and "-" for the lines.
        lines: paths, one in each line.

    Raises:
        UsageError: "-" stands there twice.
    """
    if list(arguments).count(_STDIN) > 1:
        raise UsageError("- stands there twice", hint="the list on stdin can be read once")
    for argument in arguments:
        if argument != _STDIN:
            yield from _found(argument)
            continue
        for line in lines:
            if name := line.rstrip("\r\n"):
                yield from _found(name)


def _found(name: str) -> Iterator[Given | NotGiven]:
    path = Path(name)
    if os.path.isdir(path):
        yield from _in_folder(path)
    elif path.suffix.lower() in _ARRAYS and os.path.exists(path):
        yield from _in_array(path)
    elif not os.path.lexists(path) and glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True))
        if not matches:
            yield NotGiven(name, "no file fits this pattern")
        for match in matches:
            if not os.path.isdir(match):
                yield from _found(match)
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


def _in_array(path: Path) -> Iterator[Given | NotGiven]:
    try:
        # An array on disk is read row by row; a pickle in it would run code.
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        arrays = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError) as error:
        yield NotGiven(str(path), f"no arrays can be read from it: {error}")
        return
    for key, array in arrays.items():
        name = f"{path}:{key}" if key else str(path)
        yield from _rows(name, array)


def _rows(name: str, array: NDArray[np.uint8]) -> Iterator[Given | NotGiven]:
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3:
        found = f"{array.dtype} {list(array.shape)}"
        yield NotGiven(name, f"wanted uint8 [H, W, 3] or [N, H, W, 3], found {found}")
    elif array.ndim == 3:
        yield Given(name, array)
    else:
        for index, row in enumerate(array):
            yield Given(f"{name}[{index}]", row)
