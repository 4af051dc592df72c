"""A file of feature rows: records of one size behind a header, added under a lock, read mapped.

If no file can be written, an unnamed file in memory replaces it. Knows records and bytes; knows no
hashes and no datasets. Axes: N records.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.errors import DeviceError

try:
    import fcntl
except ImportError:  # Windows; without locks nothing is kept on disk
    fcntl = None  # type: ignore[assignment]

HEADER_BYTES = 4096  # a page, so that what follows can be mapped
# Pages that were read count as the process's memory until they are released, and Linux maps more
# pages around each row. Pages of a small file may stay, because reading them again costs time.
_KEPT_BYTES, _MAPPED_AROUND_BYTES = 8 << 20, 64 << 10


class RowFile:
    """Records in a file that several processes use at once, or in memory.

    Args:
        path: the file, made if it is missing; None for memory.
        record: the type of one record.
        header: the first bytes of the file; a file with another header is made again.
        notices: messages for the user about the file are added to it.

    Attributes:
        on_disk: the file stays when this process ends.
    """

    def __init__(
        self, path: Path | None, record: np.dtype[Any], header: bytes, notices: list[str]
    ) -> None:
        self._record = record
        self._header = header.ljust(HEADER_BYTES)
        self._notices = notices
        self._map: NDArray[Any] | None = None
        self._pages: mmap.mmap | None = None
        self._read_bytes = 0
        self._descriptor = -1
        self.on_disk = path is not None
        if path is None:
            self._descriptor = _unnamed(self._header)
            return
        try:
            self._open(path)
        except OSError as error:
            self.move_to_memory(error)

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)

    def _open(self, path: Path) -> None:
        """Open or make the file.

        Raises:
            OSError: it cannot be written or locked.
        """
        if fcntl is None:
            raise OSError("this system has no file locks")
        path.parent.mkdir(parents=True, exist_ok=True)
        while not self._is_ready(path):
            pass

    def _is_ready(self, path: Path) -> bool:
        """Open the file, and tell whether it is the one at `path` and has our header. A file with
        another header is removed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        # Follow no link: in a data folder from elsewhere it may lead to a file of the user.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        self._descriptor = os.open(path, flags, 0o666)
        with self.locked(), contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(self._descriptor), os.stat(path)):
                found = _read(self._descriptor, HEADER_BYTES, 0)
                if not found:
                    _write(self._descriptor, self._header, 0)
                elif found != self._header:
                    text = f"{path} is damaged or of another program; it is made again"
                    self._notices.append(text)
                    # Remove it, do not truncate it: another process may have it mapped.
                    path.unlink()
                    return False
                return True
        return False  # another process has removed it between two of our calls

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock, so that no other process adds records meanwhile."""
        if fcntl is None:
            yield
            return
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def count(self) -> int:
        """Return the number of whole records in the file."""
        return self._whole_and_rest()[0]

    def cut_rest(self) -> bool:
        """Cut off half a record at the end, left by a process that was killed while it wrote.

        Returns:
            True if there was one.
        """
        count, rest = self._whole_and_rest()
        if rest:
            os.ftruncate(self._descriptor, self._start(count))
        return bool(rest)

    def write(self, place: int, data: bytes) -> None:
        """Write bytes from the start of a record on.

        Raises:
            OSError: there is no room for them.
        """
        _write(self._descriptor, data, self._start(place))

    def records(self, count: int) -> NDArray[Any]:
        """The first `count` records or more, mapped: [N]."""
        if self._map is None or len(self._map) < count:
            whole = self.count()
            if whole == 0:
                return np.empty(0, self._record)
            length = self._start(whole)
            try:
                self._pages = mmap.mmap(self._descriptor, length, access=mmap.ACCESS_READ)
            except OSError as error:  # some file systems (FUSE) map nothing
                self.move_to_memory(error)
                self._pages = mmap.mmap(self._descriptor, length, access=mmap.ACCESS_READ)
            self._map = np.frombuffer(self._pages, self._record, whole, HEADER_BYTES)
        return self._map

    def have_read(self, count: int, *, scattered: bool) -> None:
        """Release the mapped pages after enough records were read from them.

        Args:
            count: records that were just read.
            scattered: each record is in another place, and Linux maps more pages around it.
        """
        around_bytes = _MAPPED_AROUND_BYTES if scattered else 0
        self._read_bytes += count * max(self._record.itemsize, around_bytes)
        if self._read_bytes < _KEPT_BYTES or self._pages is None:
            return
        self._read_bytes = 0
        if len(self._pages) > _KEPT_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)

    def move_to_memory(self, error: OSError) -> None:
        """Continue with an unnamed file in memory that holds the same records.

        Args:
            error: why the disk cannot be used.

        Raises:
            DeviceError: no memory is left either.
        """
        self._notices.append(
            f"features cannot be kept on disk ({error.strerror or error}); this run keeps them in "
            "memory"
        )
        self.on_disk = False
        before = self._descriptor
        self._descriptor, self._map, self._pages = _unnamed(self._header), None, None
        if before >= 0:
            with in_memory():
                for start in range(HEADER_BYTES, os.fstat(before).st_size, _KEPT_BYTES):
                    _write(self._descriptor, _read(before, _KEPT_BYTES, start), start)
            os.close(before)

    def _whole_and_rest(self) -> tuple[int, int]:
        """Whole records, and bytes behind them."""
        size_bytes = os.fstat(self._descriptor).st_size
        return divmod(size_bytes - HEADER_BYTES, self._record.itemsize)

    def _start(self, place: int) -> int:
        """Return the position of a record in the file."""
        return HEADER_BYTES + place * self._record.itemsize


@contextlib.contextmanager
def in_memory() -> Iterator[None]:
    """Use this around writes to a file in memory, the last place for features.

    Raises:
        DeviceError: there is no room in memory either; the run ends.
    """
    try:
        yield
    except OSError as error:
        raise DeviceError(
            "the pictures' features find no room on disk, and none in memory: "
            f"{error.strerror or error}",
            hint="free some memory, or raise the limit on file sizes (ulimit -f)",
        ) from error


def _unnamed(header: bytes) -> int:
    """A file in memory that holds the header; it vanishes with the process."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("tod-rows")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    with in_memory():
        _write(descriptor, header, 0)
    return descriptor


def _read(descriptor: int, count_bytes: int, start: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    return os.read(descriptor, count_bytes)


def _write(descriptor: int, data: bytes, start: int) -> None:
    os.lseek(descriptor, start, os.SEEK_SET)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
