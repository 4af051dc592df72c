"""Hashes of a folder's files, kept by path, size and time of change: the hash of the bytes and, for
a picture, the hash of the pixels.

A file that has not changed need not be read again. Knows no features.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
import zlib
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from tod.data.image import decode, decoder_version
from tod.data.picture_limits import MAX_FILE_BYTES
from tod.errors import PictureError
from tod.system.files import read_regular, write_whole
from tod.system.machine import available_cores

# A file may change again without its time changing, within the two seconds that FAT counts in.
_YOUNG_NS = 2_000_000_000
_MAX_TABLE_BYTES = 512 << 20  # a million pictures take 150 MB
FOLDER = ".tod-cache"  # in a data folder; keeps what is known about its files
NAME = "[0-9a-f]" * 16  # pattern of a name in the cache folder
CONTENTS = f"contents-{NAME}.json"


@dataclass(frozen=True, slots=True)
class Content:
    """Content of a picture file: the hash of its bytes, the hash of its pixels (`pixels_hash`) and,
    if it cannot be decoded, the reason."""

    sha256: str
    pixels: str
    problem: str = ""


def pixels_hash(pixels: NDArray[np.uint8]) -> str:
    """BLAKE2b of a picture's size and of its upright sRGB pixels [H, W, 3], as hexadecimal digits:
    equal for all files that show the same, whatever their format and metadata."""
    digest = hashlib.blake2b(b"%d %d\n" % pixels.shape[:2], digest_size=32)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


class _File(msgspec.Struct, frozen=True, array_like=True, gc=False):
    size_bytes: int
    mtime_ns: int
    # A rename changes this time, but not size and mtime.
    ctime_ns: int
    sha256: str
    # Made by the decoder that the table names; both are empty if the pixels were not needed.
    pixels: str = ""
    problem: str = ""


class Contents:
    """Hashes of the files below one folder.

    Args:
        root: the folder.
        cache: the folder that keeps the hashes from one run to the next; None keeps nothing.

    Attributes:
        notices: messages for the user about the kept hashes.
    """

    def __init__(self, root: Path, cache: Path | None) -> None:
        self.notices: list[str] = []
        self._root = os.path.abspath(root)
        self._path: Path | None = None
        self._files: dict[str, _File] = {}
        self._changed = False
        if cache is not None:
            # Named by the relative path, so that both folders may be moved together.
            way = os.path.relpath(os.path.realpath(root), os.path.realpath(cache))
            name = hashlib.sha256(os.fsencode(way)).hexdigest()[:16]
            self._path = Path(os.path.abspath(cache)) / CONTENTS.replace(NAME, name)
            self._files = self._kept(self._path)

    def _kept(self, path: Path) -> dict[str, _File]:
        try:
            # A data folder may come from anyone: a pipe there must not block the read.
            data, _ = read_regular(path, limit_bytes=_MAX_TABLE_BYTES)
            head, _, table = data.partition(b"\n")
            if head.startswith(b"tod-contents 1 "):
                return {}
            if head == _head(table):
                found = msgspec.json.decode(table, type=_Table)
                if found.decoder == decoder_version():
                    return found.files
                return {path: _without_pixels(entry) for path, entry in found.files.items()}
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
        entry = self._unchanged(path)
        return None if entry is None else entry.sha256

    def knows(self, path: str) -> bool:
        """Tell whether `look` can answer without reading the file."""
        try:
            entry = self._unchanged(path)
        except OSError:
            return False
        return entry is not None and bool(entry.pixels or entry.problem)

    def _unchanged(self, path: str) -> _File | None:
        found = os.stat(f"{self._root}/{path}")
        entry = self._files.get(path)
        if entry is None or _times(entry) != (found.st_size, found.st_mtime_ns, found.st_ctime_ns):
            return None
        return entry

    def read(self, path: str) -> tuple[bytes, str]:
        """Read a file; return its bytes and their hash, and keep the hash. May be called from
        several threads.

        Raises:
            OSError: it cannot be read.
        """
        data, before = self._read(path)
        # Interned, because dataset and feature cache hold an equal string.
        sha256 = sys.intern(hashlib.sha256(data).hexdigest())
        earlier = self._files.get(path)
        same = earlier is not None and earlier.sha256 == sha256
        pixels, problem = (earlier.pixels, earlier.problem) if same and earlier else ("", "")
        self._remember(path, before, Content(sha256, pixels, problem))
        return data, sha256

    def look(self, path: str) -> Content:
        """Return the content of a picture file; decode it if needed. May be called from several
        threads.

        Raises:
            OSError: it cannot be read.
        """
        entry = self._unchanged(path)
        if entry is not None and (entry.pixels or entry.problem):
            return Content(sys.intern(entry.sha256), entry.pixels, entry.problem)
        data, before = self._read(path)
        sha256 = sys.intern(hashlib.sha256(data).hexdigest())
        try:
            found = Content(sha256, pixels_hash(decode(data)))
        except PictureError as error:
            found = Content(sha256, "", error.problem)
        self._remember(path, before, found)
        return found

    def _read(self, path: str) -> tuple[bytes, os.stat_result]:
        return read_regular(f"{self._root}/{path}", limit_bytes=MAX_FILE_BYTES)

    def _remember(self, path: str, before: os.stat_result, found: Content) -> None:
        if before.st_mtime_ns < time.time_ns() - _YOUNG_NS:
            self._files[path] = _File(
                before.st_size, before.st_mtime_ns, before.st_ctime_ns,
                found.sha256, found.pixels, found.problem,
            )  # fmt: skip
            self._changed = True

    def sha256(self, path: str) -> str:
        """Return the hash of a file; read it if needed.

        Raises:
            OSError: it cannot be read.
        """
        return self.known(path) or self.read(path)[1]

    def look_at_all(self, paths: Sequence[str]) -> Generator[Content | OSError, None, None]:
        """`look` at many files on all cores, in their order; an unreadable file gives its error. To
        stop the work, stop iterating."""
        with ThreadPoolExecutor(available_cores()) as pool:
            try:
                yield from pool.map(self._look_or_error, paths)
            finally:
                pool.shutdown(cancel_futures=True)

    def _look_or_error(self, path: str) -> Content | OSError:
        try:
            return self.look(path)
        except OSError as error:
            return error

    def save(self) -> None:
        """Write new hashes to the cache folder, if there is one."""
        if self._path is None or not self._changed:
            return
        table = msgspec.json.encode(_Table(decoder_version(), dict(sorted(self._files.items()))))
        # The table only saves work: if it cannot be written, the files are read again next time.
        with contextlib.suppress(OSError):
            write_whole(self._path, _head(table) + b"\n" + table, durable=False)
            self._changed = False


class _Table(msgspec.Struct):
    decoder: str
    files: dict[str, _File]


def _without_pixels(entry: _File) -> _File:
    return msgspec.structs.replace(entry, pixels="", problem="")


def _times(entry: _File) -> tuple[int, int, int]:
    return entry.size_bytes, entry.mtime_ns, entry.ctime_ns


def _head(table: bytes) -> bytes:
    return b"tod-contents 2 %08x" % zlib.crc32(table)
