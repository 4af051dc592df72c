"""What describes a dataset on disk: dataset.json, targets.csv, or the class folders themselves.

Reads names and numbers; opens no picture. docs/format.md describes the files.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from tod.data.image import SUFFIXES
from tod.data.splits import Split
from tod.errors import DataError
from tod.system.names import listed, natural_key
from tod.system.text import MAX_TEXT, printable, shown

INDEX_NAME = "dataset.json"
JOURNAL_NAME = "dataset.journal"
# A million pictures take 400 MB; more is no description of pictures.
_MAX_INDEX_BYTES = 512 << 20
_NOT_TEXT = "its name is not valid UTF-8"
_READY_MADE_SPLITS = {"train", "training", "test", "val", "valid", "validation"}


@dataclass(frozen=True)
class IndexedClass:
    name: str
    folder: str


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """One prepared picture. `file` lies in the dataset, `source` in what it was made from."""

    file: str
    label: int
    split: Split
    sha256: str
    source: str
    source_sha256: str
    # Of the source, see `tod.data.file_hashes.pixels_hash`; datasets from before have none.
    pixels: str = ""
    cropped: bool = False  # the source had been cut out already


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
    """A file's bytes, if it is one and no larger than any that describes pictures.

    Raises:
        DataError: it is not.
        OSError: it cannot be read.
    """
    if not path.is_file() or (file_bytes := path.stat().st_size) > _MAX_INDEX_BYTES:
        raise DataError(f"{path}: not a file of at most {_MAX_INDEX_BYTES:,} bytes")
    with open(path, "rb") as file:
        return file.read(file_bytes)


def check_names(where: Path, names: Sequence[str]) -> None:
    """Class names are printed, and kept in the model.

    Raises:
        DataError: one steers a terminal, ends a line or is endless.
    """
    for name in names:
        if not printable(name) or len(name) > MAX_TEXT:
            raise DataError(
                f"{where}: the class name '{shown(name[:60])}' has {len(name)} characters, of "
                "which some cannot be printed",
                hint="rename it",
            )


def find_pictures(root: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """All pictures below a folder, by the relative name of the folder that holds them.

    Returns:
        Class name -> sorted picture files, in natural order of the names; and notices of files
        that were passed over.

    Raises:
        DataError: there is no class folder, or one has a name that is not text.
    """
    classes: dict[str, list[Path]] = {}
    notices: list[str] = []
    ignored = 0
    visited: set[str] = {os.path.realpath(root)}
    for folder, folders, files in os.walk(root, followlinks=True):
        # A link to a folder above would go round for ever.
        folders[:] = [name for name in folders if not name.startswith(".")]
        folders[:] = [
            name for name in folders if os.path.realpath(Path(folder, name)) not in visited
        ]
        visited.update(os.path.realpath(Path(folder, name)) for name in folders)
        pictures = [name for name in files if Path(name).suffix.lower() in SUFFIXES]
        pictures = [name for name in pictures if not name.startswith(".")]
        ignored += len(files) - len(pictures)
        undecodable = [name for name in pictures if not _is_text(name)]
        notices += [f"{str(Path(folder, n))!a} was passed over: {_NOT_TEXT}" for n in undecodable]
        pictures = [name for name in pictures if _is_text(name)]
        name = Path(folder).relative_to(root).as_posix()
        if pictures and not _is_text(name):
            raise DataError(f"{folder!a}: {_NOT_TEXT}", hint="rename the folder")
        if pictures and name != ".":
            classes[name] = [Path(folder, p) for p in sorted(pictures, key=natural_key)]
        elif pictures:
            ignored += len(pictures)
    check_names(root, list(classes))
    tops = {name.split("/")[0].lower() for name in classes}
    if tops and tops <= _READY_MADE_SPLITS and any("/" in name for name in classes):
        raise DataError(
            f"{root}: it holds ready-made splits ({listed(sorted(tops))}), not classes",
            hint="put the class folders together in one folder; TOD makes its own split",
        )
    if not classes:
        raise DataError(
            f"{root}: no class folder with pictures in it",
            hint="make one folder per class and put its pictures (JPEG, PNG, BMP ...) there",
        )
    if ignored:
        notices.append(f"{root}: {ignored} files that are not pictures of a class were passed over")
    return dict(sorted(classes.items(), key=lambda item: natural_key(item[0]))), notices


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def escapes(file: str) -> bool:
    path = PurePosixPath(file)
    return path.is_absolute() or ".." in path.parts or "\0" in file
