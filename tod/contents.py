"""The content hashes of a folder's files, remembered by path, size and time of change.

A file that has not been touched need not be read to know what it holds. Knows files and hashes;
knows no pictures and no features.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Literal

import msgspec

from tod.files import write_whole

# A file may change again without its time changing, within the two seconds that FAT counts in.
_YOUNG_NS = 2_000_000_000
CONTENTS = "contents-*.json"


class _File(msgspec.Struct, frozen=True, array_like=True, gc=False):
    size_bytes: int
    mtime_ns: int
    sha256: str


class _Table(msgspec.Struct):
    format: Literal["tod-contents"]
    schema: Literal[1]
    files: dict[str, _File]


class Contents:
    """Content hashes of the files below one folder.

    Args:
        root: the folder.
        cache: the folder that keeps what is known from one run to the next; None keeps nothing.
            What is there but cannot be read is forgotten: it only says what can be read anew.
    """

    def __init__(self, root: Path, cache: Path | None) -> None:
        self._root = os.fspath(root)
        self._path: Path | None = None
        self._files: dict[str, _File] = {}
        self._changed = False
        if cache is not None:
            # By the way from one to the other, so that both may be moved together.
            way = os.path.relpath(os.path.realpath(root), os.path.realpath(cache))
            name = hashlib.sha256(os.fsencode(way)).hexdigest()[:16]
            self._path = cache / CONTENTS.replace("*", name)
            with contextlib.suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError):
                self._files = msgspec.json.decode(self._path.read_bytes(), type=_Table).files

    def known(self, path: str) -> str | None:
        """The hash of a file that has not changed since it was read; None if it must be read.

        Args:
            path: below the root.

        Raises:
            OSError: there is no such file.
        """
        found = os.stat(f"{self._root}/{path}")
        entry = self._files.get(path)
        if entry and (entry.size_bytes, entry.mtime_ns) == (found.st_size, found.st_mtime_ns):
            return entry.sha256
        return None

    def read(self, path: str) -> tuple[bytes, str]:
        """A file's bytes and their hash, which is remembered. May be called from several threads.

        Raises:
            OSError: it cannot be read.
        """
        with open(f"{self._root}/{path}", "rb") as file:
            before = os.fstat(file.fileno())
            data = file.read()
        # Interned: the same string stands in the dataset and in the cache of features.
        sha256 = sys.intern(hashlib.sha256(data).hexdigest())
        if before.st_mtime_ns < time.time_ns() - _YOUNG_NS:
            self._files[path] = _File(before.st_size, before.st_mtime_ns, sha256)
            self._changed = True
        return data, sha256

    def sha256(self, path: str) -> str:
        """The hash of a file, read if need be.

        Raises:
            OSError: it cannot be read.
        """
        return self.known(path) or self.read(path)[1]

    def save(self) -> None:
        """Write down what was learned; without a place for it nothing happens."""
        if self._path is None or not self._changed:
            return
        table = _Table("tod-contents", 1, dict(sorted(self._files.items())))
        # It saves work, no more: whatever goes wrong, the files are read once more next time.
        with contextlib.suppress(OSError, UnicodeEncodeError):
            write_whole(self._path, msgspec.json.encode(table), durable=False)
            self._changed = False
