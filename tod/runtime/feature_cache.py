"""Feature rows by the hash of their picture, in a file that is mapped into memory.

docs/format.md describes the file. Knows hashes and rows of numbers; knows no pictures, no datasets,
no runtime. Axes: N pictures.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tod.data.file_hashes import CONTENTS, FOLDER, NAME
from tod.errors import DataError, DeviceError, UsageError
from tod.system.text import record_problems

try:
    import fcntl
except ImportError:  # Windows; without locks nothing is kept on disk
    fcntl = None  # type: ignore[assignment]

_ROWS = f"features-{NAME}.rows"
_MAGIC = b"tod-rows 1\n"
_HEADER_BYTES = 4096  # a page, so that what follows can be mapped
# Pages that were looked at count as the process's memory until they are given back; Linux maps
# more of them around each row. Those of a small file may stay: looking again costs time.
_KEPT_BYTES, _MAPPED_AROUND_BYTES = 8 << 20, 64 << 10


class FeatureCache:
    """Rows of float32, found by the SHA-256 of their picture.

    Several processes may use one file at once: rows are only ever added, each with a check sum,
    under a lock. Where no file can be written, an unnamed one in memory takes its place.

    Args:
        shape: of one row.
        folder: where the file lies; None for memory.
        origin: what the numbers depend on beside the picture; another origin, another file.

    Attributes:
        notices: what a user should know about the file.
        on_disk: the file outlives this process.
    """

    def __init__(
        self, shape: Sequence[int], *, folder: Path | None, origin: Mapping[str, Any]
    ) -> None:
        self.notices: list[str] = []
        self._record = _record(shape)
        self._places: dict[str, int] = {}
        self._learned = 0  # so many records have their places noted
        self._map: NDArray[Any] | None = None
        self._pages: mmap.mmap | None = None
        self._taken_bytes = 0
        about = msgspec.json.encode(dict(sorted(origin.items())))
        self._header = (_MAGIC + about).ljust(_HEADER_BYTES)
        self._descriptor = -1
        self.on_disk = folder is not None
        if folder is not None:
            path = folder / _ROWS.replace(NAME, hashlib.sha256(about).hexdigest()[:16])
            try:
                self._open(path)
            except OSError as error:
                self._to_memory(error)
        else:
            self._descriptor = _unnamed(self._header)

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._places

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)

    def add(self, hashes: Sequence[str], rows: NDArray[np.float32]) -> None:
        """Keep the rows [N, ...] of N pictures, on disk at once: a killed process loses none. Those
        that another process has added meanwhile are taken from there."""
        records = np.zeros(len(hashes), self._record)
        records["sha256"] = np.frombuffer(b"".join(map(bytes.fromhex, hashes)), "V32")
        records["row"] = rows
        records["crc32"] = [_check_sum(record) for record in records]
        try:
            self._append(hashes, records)
        except OSError as error:
            with _in_memory():
                self._to_memory(error)
                self._append(hashes, records)

    def places(self, hashes: Sequence[str]) -> NDArray[np.int64]:
        """Where the rows of these pictures are, for `take`."""
        return np.array([self._places[sha256] for sha256 in hashes], np.int64)

    def take(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Copies of rows, [N, ...]."""
        rows: NDArray[np.float32] = self._records(int(places.max(initial=-1)) + 1)["row"][places]
        self._count(len(rows) * max(self._record.itemsize, _MAPPED_AROUND_BYTES))
        return rows

    def _open(self, path: Path) -> None:
        """Open or make the file, and look at every row in it.

        Raises:
            OSError: it cannot be written or locked.
        """
        if fcntl is None:
            raise OSError("this system has no file locks")
        path.parent.mkdir(parents=True, exist_ok=True)
        while not self._is_ready(path):
            pass
        with self._locked():
            count, rest = divmod(self._size_bytes() - _HEADER_BYTES, self._record.itemsize)
            if rest:  # of a process that was killed while it wrote
                os.ftruncate(self._descriptor, self._end(count))
            damaged = self._learn(count) + bool(rest)
        if damaged:
            self.notices.append(
                f"{path}: {damaged} rows are damaged or cut off; they are computed again"
            )

    def _is_ready(self, path: Path) -> bool:
        """Whether the file that is opened here is the one at `path` and has our header; what is in
        the way is removed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        # A link in a data folder that came from elsewhere may lead to a file of the user's.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor = os.open(path, flags, 0o666)
        with self._locked(), contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._descriptor), os.stat(path)):
                found = _read(self._descriptor, _HEADER_BYTES, 0)
                if not found:
                    _write_all(self._descriptor, self._header, 0)
                elif found != self._header:
                    text = f"{path} is damaged or of another program; it is made again"
                    self.notices.append(text)
                    # Not cut to nothing: another process may have it mapped.
                    path.unlink()
                    return False
                return True
        return False  # another process has removed it between two of our calls

    def _learn(self, count: int) -> int:
        """Note the places of the records up to `count` that are new and good.

        Returns:
            How many are not good; they are blanked, so that it is said only once.
        """
        damaged = []
        for place, record in enumerate(self._records(count)[self._learned : count], self._learned):
            key = record["sha256"].tobytes()
            if key == bytes(32):
                continue
            if record["crc32"] == _check_sum(record):
                # The string that the dataset and its contents have as well.
                self._places.setdefault(sys.intern(key.hex()), place)
            else:
                damaged.append(place)
            self._count(self._record.itemsize)
        for place in damaged:
            _write_all(self._descriptor, bytes(32), self._end(place))
        self._learned = count
        return len(damaged)

    def _append(self, hashes: Sequence[str], records: NDArray[Any]) -> None:
        """Add records at the end of the file, but those that it has."""
        with self._locked():
            # What is no whole record is written over.
            count = (self._size_bytes() - _HEADER_BYTES) // self._record.itemsize
            self._learn(count)
            new = {sha256: i for i, sha256 in enumerate(hashes) if sha256 not in self._places}
            _write_all(self._descriptor, records[[*new.values()]].tobytes(), self._end(count))
            self._places |= {sha256: count + i for i, sha256 in enumerate(new)}
            self._learned = count + len(new)

    def _end(self, count: int) -> int:
        """Where in the file so many records end."""
        return _HEADER_BYTES + count * self._record.itemsize

    def _records(self, count: int) -> NDArray[Any]:
        """The first `count` records or more, mapped."""
        if self._map is None or len(self._map) < count:
            whole = (self._size_bytes() - _HEADER_BYTES) // self._record.itemsize
            if whole == 0:
                return np.empty(0, self._record)
            length = self._end(whole)
            try:
                self._pages = mmap.mmap(self._descriptor, length, access=mmap.ACCESS_READ)
            except OSError as error:  # some file systems (FUSE) map nothing
                self._to_memory(error)
                self._pages = mmap.mmap(self._descriptor, length, access=mmap.ACCESS_READ)
            self._map = np.frombuffer(self._pages, self._record, whole, _HEADER_BYTES)
        return self._map

    def _count(self, taken_bytes: int) -> None:
        """Give pages back once so many were looked at."""
        self._taken_bytes += taken_bytes
        if self._taken_bytes < _KEPT_BYTES or self._pages is None:
            return
        self._taken_bytes = 0
        if len(self._pages) > _KEPT_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)

    def _to_memory(self, error: OSError) -> None:
        """Go on with an unnamed file in memory that holds the same rows."""
        self.notices.append(
            f"features cannot be kept on disk ({error.strerror or error}); this run keeps them in "
            "memory"
        )
        self.on_disk = False
        before = self._descriptor
        self._descriptor, self._map, self._pages = _unnamed(self._header), None, None
        if before >= 0:
            for start in range(_HEADER_BYTES, os.fstat(before).st_size, _KEPT_BYTES):
                _write_all(self._descriptor, _read(before, _KEPT_BYTES, start), start)
            os.close(before)

    def _size_bytes(self) -> int:
        return os.fstat(self._descriptor).st_size

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if fcntl is None:
            yield
            return
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)


def choose_folder(
    dataset: Path, model: Path, wanted: str | os.PathLike[str] | bool = True
) -> Path | None:
    """Where a dataset's features are kept.

    Args:
        dataset: its folder.
        model: the .tod file.
        wanted: a folder, which is made; True for `.tod-cache` in the dataset, or beside the model
            where that cannot be written; False for none.

    Returns:
        The folder, whole from the root, or None for memory.

    Raises:
        UsageError: the folder that was asked for cannot be written.
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
    for place in (dataset, model.parent) if wanted else ():
        folder = Path(os.path.abspath(place)) / FOLDER
        if _writable(folder if folder.is_dir() else folder.parent):
            return folder
    return None


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
    return tuple(_cache_file(path) for path in sorted(folder.glob(_ROWS)))


def clear(folder: Path) -> int:
    """Remove everything that TOD keeps in a cache folder, and `.tod-cache` itself if it is empty.

    A process that works with these files is not disturbed.

    Returns:
        How many bytes that were.

    Raises:
        OSError: something cannot be removed.
    """
    files = [file.path for file in cache_files(folder) if file.origin or folder.name == FOLDER]
    files += [*folder.glob(CONTENTS), *folder.glob(f".{CONTENTS}.*.part")]
    removed_bytes = sum(path.lstat().st_size for path in files)
    for path in files:
        path.unlink()
    if folder.name == FOLDER:
        with contextlib.suppress(OSError):  # it holds something of the user's
            folder.rmdir()
    return removed_bytes


def _cache_file(path: Path) -> CacheFile:
    size_bytes = path.lstat().st_size
    try:
        if not path.is_file():  # opening a pipe would wait for someone to write into it
            return CacheFile(path, size_bytes, 0, {})
        with open(path, "rb") as file:
            header = file.read(_HEADER_BYTES)
        origin = msgspec.json.decode(header.removeprefix(_MAGIC), type=dict[str, Any])
        shape = msgspec.convert(origin["shape"], tuple[int, ...])
        record_bytes = _record(shape).itemsize
    except (OSError, msgspec.MsgspecError, KeyError, TypeError, ValueError, RecursionError):
        return CacheFile(path, size_bytes, 0, {})
    if any(record_problems(origin)):
        return CacheFile(path, size_bytes, 0, {})
    rows = max(0, size_bytes - _HEADER_BYTES) // record_bytes
    return CacheFile(path, size_bytes, rows, origin)


def _record(shape: Sequence[int]) -> np.dtype[Any]:
    return np.dtype(
        [("sha256", "V32"), ("crc32", "<u4"), ("", "V28"), ("row", "<f4", tuple(shape))]
    )


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _check_sum(record: Any) -> int:
    return zlib.crc32(record["row"], zlib.crc32(record["sha256"]))


def _read(descriptor: int, count_bytes: int, start: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    return os.read(descriptor, count_bytes)


def _write_all(descriptor: int, data: bytes, start: int) -> None:
    os.lseek(descriptor, start, os.SEEK_SET)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _unnamed(header: bytes) -> int:
    """A file without a name that holds the header; it goes with the process."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("tod-rows")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    with _in_memory():
        _write_all(descriptor, header, 0)
    return descriptor


@contextlib.contextmanager
def _in_memory() -> Iterator[None]:
    """The last place for features: where it has no room either, the run ends."""
    try:
        yield
    except OSError as error:
        raise DeviceError(
            "the pictures' features find no room on disk, and none in memory: "
            f"{error.strerror or error}",
            hint="free some memory, or raise the limit on file sizes (ulimit -f)",
        ) from error
