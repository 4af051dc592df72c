"""Read the file that describes a dataset on disk: dataset.json or targets.csv.

Reads names and numbers; opens no picture. docs/format.md describes the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from tod.data.splits import Split
from tod.errors import DataError
from tod.system.text import MAX_TEXT, printable, shown

INDEX_NAME = "dataset.json"
JOURNAL_NAME = "dataset.journal"
# A million pictures take 400 MB.
_MAX_INDEX_BYTES = 512 << 20


@dataclass(frozen=True)
class IndexedClass:
    name: str
    folder: str


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """One prepared picture. `file` is in the dataset, `source` in the folder that it was made
    from."""

    file: str
    label: int
    split: Split
    sha256: str
    source: str
    source_sha256: str
    # Pixel hash of the source, see `tod.data.file_hashes.pixels_hash`; older datasets have none.
    pixels: str = ""
    cropped: bool = False  # the source was cropped already


@dataclass(frozen=True)
class Index:
    """The content of dataset.json, see docs/format.md."""

    format: Literal["tod-dataset"]
    schema: Literal[1]
    size_px: int
    resize_px: int
    interpolation: Literal["bicubic", "bilinear"]
    picture_format: Literal["bmp", "png", "jpeg"]
    seed: int
    per_class: int | None
    classes: tuple[IndexedClass, ...]
    files: tuple[IndexedFile, ...]


def read_index(path: Path) -> Index:
    """Read dataset.json.

    Raises:
        DataError: it is not readable or not a dataset index.
    """
    try:
        index = msgspec.json.decode(read_limited(path), type=Index)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(
            f"{path}: it is not a readable dataset index: {error}",
            hint="prepare the dataset again with 'tod prepare-dataset'",
        ) from error
    bad = [f.file for f in index.files if not 0 <= f.label < len(index.classes) or escapes(f.file)]
    if bad:
        raise DataError(f"{path}: {len(bad)} files have no class or lie elsewhere, e.g. {bad[0]!r}")
    names = [entry.name for entry in index.classes]
    check_names(path, names)
    if len(set(names)) != len(names):
        raise DataError(f"{path}: two of its classes have the same name", hint="rename one")
    return index


def read_limited(path: Path) -> bytes:
    """Read a regular file that is not larger than a dataset index may be.

    Raises:
        DataError: it is not.
        OSError: it cannot be read.
    """
    if not path.is_file() or (file_bytes := path.stat().st_size) > _MAX_INDEX_BYTES:
        raise DataError(f"{path}: not a file of at most {_MAX_INDEX_BYTES:,} bytes")
    with open(path, "rb") as file:
        return file.read(file_bytes)


def check_names(where: Path, names: Sequence[str]) -> None:
    """Check class names, because they are printed and kept in the model.

    Raises:
        DataError: a name holds control characters or line ends, or is too long.
    """
    for name in names:
        if not printable(name) or len(name) > MAX_TEXT:
            raise DataError(
                f"{where}: the class name '{shown(name[:60])}' has {len(name)} characters, of "
                "which some cannot be printed",
                hint="rename it",
            )


def escapes(file: str) -> bool:
    """Tell whether a file's name leads out of its folder."""
    path = PurePosixPath(file)
    return path.is_absolute() or ".." in path.parts or "\0" in file
