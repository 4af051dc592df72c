"""Choose the folder that keeps features, list its files, and clear it.

Knows folders and datasets; knows no rows.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tod.data.file_hashes import CONTENTS, FOLDER
from tod.errors import DataError, UsageError
from tod.runtime.feature_cache import FILES, read_head


def choose_folder(
    dataset: Path, model: Path, wanted: str | os.PathLike[str] | bool = True
) -> Path | None:
    """Choose the folder that keeps a dataset's features.

    Args:
        dataset: the folder of the dataset, or its file.
        model: the .tod file.
        wanted: a folder, which is made if missing; True for `.tod-cache` in the dataset, or beside
            the model if the dataset is read-only; False for none.

    Returns:
        The folder as an absolute path, or None for memory.

    Raises:
        UsageError: the requested folder cannot be written.
    """
    if not isinstance(wanted, bool):
        folder = Path(os.path.abspath(wanted))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            problem = "" if _writable(folder) else "it is read-only"
        except OSError as error:
            problem = error.strerror or str(error)
        if problem:
            raise UsageError(
                f"the cache folder {wanted} cannot be used: {problem}",
                hint="name another with --cache-dir, or use --no-cache",
            )
        return folder
    beside = dataset.parent if dataset.is_file() else dataset
    for place in (beside, model.parent) if wanted else ():
        folder = Path(os.path.abspath(place)) / FOLDER
        if _writable(folder if folder.is_dir() else folder.parent):
            return folder
    return None


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


@dataclass(frozen=True)
class CacheFile:
    """One file of a cache folder. `origin` says what its rows depend on; empty if not readable."""

    path: Path
    file_bytes: int
    rows: int
    origin: dict[str, Any]


def cache_folder(folder: Path) -> Path:
    """The cache folder of a dataset or of a model's folder; or `folder`, if it is one itself.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder", hint="give the folder of the pictures")
    return folder / FOLDER if (folder / FOLDER).is_dir() else folder


def cache_files(folder: Path) -> tuple[CacheFile, ...]:
    """The files of features in a cache folder."""
    return tuple(_cache_file(path) for path in sorted(folder.glob(FILES)))


def _cache_file(path: Path) -> CacheFile:
    origin, rows = read_head(path)
    return CacheFile(path, path.lstat().st_size, rows, origin)


def clear(folder: Path) -> int:
    """Remove everything that TOD keeps in a cache folder, and `.tod-cache` itself if it is empty.

    A process that works with these files is not disturbed.

    Returns:
        The number of bytes removed.

    Raises:
        OSError: something cannot be removed.
    """
    files = [file.path for file in cache_files(folder) if file.origin or folder.name == FOLDER]
    files += [*folder.glob(CONTENTS), *folder.glob(f".{CONTENTS}.*.part")]
    removed_bytes = sum(path.lstat().st_size for path in files)
    for path in files:
        path.unlink()
    if folder.name == FOLDER:
        with contextlib.suppress(OSError):  # the user keeps other files in it
            folder.rmdir()
    return removed_bytes
