"""SHA256SUMS: the hash of every file below a folder, in the format of coreutils' sha256sum."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from tod.errors import DataError

NAME = "SHA256SUMS"


def of(folder: Path) -> dict[str, str]:
    """SHA-256 of all files by their name below the folder, sorted by name."""
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in sorted(name.as_posix() for name in names)
    }


def write(folder: Path, hashes: Mapping[str, str]) -> None:
    """Write the list into the folder."""
    lines = [f"{digest}  {name}\n" for name, digest in hashes.items()]
    (folder / NAME).write_text("".join(lines), encoding="utf-8")


def read(folder: Path) -> dict[str, str]:
    """The list of a folder.

    Raises:
        DataError: it is none.
    """
    # Not splitlines(): a name may hold what Unicode takes for the end of a line.
    lines = (folder / NAME).read_bytes().decode(errors="replace").split("\n")[:-1]
    pairs = [line.partition("  ") for line in lines]
    if not pairs or any(len(digest) != 64 or not name for digest, _, name in pairs):
        raise DataError(f"{folder / NAME}: it is no list of SHA-256 sums", hint="remove the folder")
    return {name: digest for digest, _, name in pairs}
