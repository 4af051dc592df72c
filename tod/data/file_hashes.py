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
import zlib
from pathlib import Path

import msgspec

from tod.data.picture_limits import MAX_FILE_BYTES
from tod.system.files import read_regular, write_whole

# A file may change again without its time changing, within the two seconds that FAT counts in.
_YOUNG_NS = 2_000_000_000
_MAX_TABLE_BYTES = 512 << 20  # a million pictures take 150 MB
FOLDER = ".tod-cache"  # of a data folder: what was found out about its files
NAME = "[0-9a-f]" * 16  # of a file in the cache folder
CONTENTS = f"contents-{NAME}.json"


class _File(msgspec.Struct, frozen=True, array_like=True, gc=False):
    size_bytes: int
    mtime_ns: int
    # A rename changes it, which a picture's size and time survive.
    ctime_ns: int
    sha256: str


class Contents:
    """Content hashes of the files below one folder.

    Args:
        root: the folder.
        cache: the folder that keeps what is known from one run to the next; None keeps nothing.

    Attributes:
        notices: what a user should know about what was kept.
    """

    def __init__(self, root: Path, cache: Path | None) -> None:
        self.notices: list[str] = []
        self._root = os.path.abspath(root)
        self._path: Path | None = None
        self._files: dict[str, _File] = {}
        self._changed = False
        if cache is not None:
            # By the way from one to the other, so that both may be moved together.
            way = os.path.relpath(os.path.realpath(root), os.path.realpath(cache))
            name = hashlib.sha256(os.fsencode(way)).hexdigest()[:16]
            self._path = Path(os.path.abspath(cache)) / CONTENTS.replace(NAME, name)
            self._files = self._kept(self._path)

    def _kept(self, path: Path) -> dict[str, _File]:
        try:
            # What lies in a data folder may be anyone's: a pipe there must not be waited for.
            data, _ = read_regular(path, limit_bytes=_MAX_TABLE_BYTES)
            head, _, table = data.partition(b"\n")
            if head == _head(table):
                return msgspec.json.decode(table, type=dict[str, _File])
        except OSError:
            return {}
        except (msgspec.MsgspecError, UnicodeDecodeError):
            pass
        self.notices.append(f"{path} is damaged; the files that it tells of are read again")
        return {}

    def known(self, path: str) -> str | None:
        """The hash of a file that has not changed since it was read; None if it must be read.

        Args:
            path: below the root.

        Raises:
            OSError: there is no such file.
        """
        found = os.stat(f"{self._root}/{path}")
        entry = self._files.get(path)
        if entry is None or entry != _entry(found, entry.sha256):
            return None
        return entry.sha256

    def read(self, path: str) -> tuple[bytes, str]:
        """A file's bytes and their hash, which is remembered. May be called from several threads.

        Raises:
            OSError: it cannot be read.
        """
        data, before = read_regular(f"{self._root}/{path}", limit_bytes=MAX_FILE_BYTES)
        # Interned: the same string stands in the dataset and in the cache of features.
        sha256 = sys.intern(hashlib.sha256(data).hexdigest())
        if before.st_mtime_ns < time.time_ns() - _YOUNG_NS:
            self._files[path] = _entry(before, sha256)
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
        table = msgspec.json.encode(dict(sorted(self._files.items())))
        # It saves work, no more: whatever goes wrong, the files are read once more next time.
        with contextlib.suppress(OSError):
            write_whole(self._path, _head(table) + b"\n" + table, durable=False)
            self._changed = False


def _entry(found: os.stat_result, sha256: str) -> _File:
    return _File(found.st_size, found.st_mtime_ns, found.st_ctime_ns, sha256)


def _head(table: bytes) -> bytes:
    return b"tod-contents 1 %08x" % zlib.crc32(table)
