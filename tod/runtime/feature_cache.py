"""Feature rows, found by the hash of their picture; in a file, or in memory.

docs/format.md describes the file. Knows hashes and rows of numbers; knows no pictures, no datasets,
no runtime. Axes: N pictures.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tod.data.file_hashes import NAME
from tod.runtime.row_file import HEADER_BYTES, RowFile, in_memory
from tod.system.text import record_problems

FILES = f"features-{NAME}.rows"
"""The names of such files, as a pattern for glob."""
_MAGIC = b"tod-rows 1\n"


class FeatureCache:
    """Rows of float32, found by the SHA-256 of their picture.

    Several processes may use one file at once: rows are only ever added, each with a check sum,
    under a lock. If no file can be written, the rows are kept in memory.

    Args:
        shape: the shape of one row.
        folder: the folder of the file; None for memory.
        origin: what the numbers depend on beside the picture; each origin has its own file.

    Attributes:
        notices: messages for the user about the file; the caller that reports them clears the list.
    """

    def __init__(
        self, shape: Sequence[int], *, folder: Path | None, origin: Mapping[str, Any]
    ) -> None:
        self.notices: list[str] = []
        self._record = _record(shape)
        self._places: dict[str, int] = {}
        self._learned = 0  # records whose places are noted
        about = msgspec.json.encode(dict(sorted(origin.items())))
        name = FILES.replace(NAME, hashlib.sha256(about).hexdigest()[:16])
        path = None if folder is None else folder / name
        self._file = RowFile(path, self._record, _MAGIC + about, self.notices)
        try:
            damaged = self._learn_all()
        except OSError as error:
            self._file.move_to_memory(error)
            damaged = 0
        if damaged:
            self.notices.append(
                f"{path}: {damaged} rows are damaged or cut off; they are computed again"
            )

    @property
    def on_disk(self) -> bool:
        """True if the rows stay when this process ends."""
        return self._file.on_disk

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._places

    def places(self, hashes: Sequence[str]) -> NDArray[np.int64]:
        """Return the places of these pictures' rows, for `take`."""
        return np.array([self._places[sha256] for sha256 in hashes], np.int64)

    def take(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Copies of rows, [N, ...]."""
        records = self._file.records(int(places.max(initial=-1)) + 1)
        rows: NDArray[np.float32] = records["row"][places]
        self._file.have_read(len(rows), scattered=True)
        return rows

    def add(self, hashes: Sequence[str], rows: NDArray[np.float32]) -> None:
        """Keep the rows [N, ...] of N pictures. They are written to disk at once, so a killed
        process loses none. Rows that another process has added meanwhile are not added again."""
        records = np.zeros(len(hashes), self._record)
        records["sha256"] = np.frombuffer(b"".join(map(bytes.fromhex, hashes)), "V32")
        records["row"] = rows
        records["crc32"] = [_check_sum(record) for record in records]
        try:
            self._append(hashes, records)
        except OSError as error:
            with in_memory():
                self._file.move_to_memory(error)
                self._append(hashes, records)

    def _append(self, hashes: Sequence[str], records: NDArray[Any]) -> None:
        """Add records at the end of the file, except those that it has."""
        with self._file.locked():
            count = self._file.count()  # an incomplete record after them is overwritten
            self._learn(count)
            new = {sha256: i for i, sha256 in enumerate(hashes) if sha256 not in self._places}
            self._file.write(count, records[[*new.values()]].tobytes())
            self._places |= {sha256: count + i for i, sha256 in enumerate(new)}
            self._learned = count + len(new)

    def _learn_all(self) -> int:
        """Check every record of a file that was just opened.

        Returns:
            How many are damaged or cut off.
        """
        with self._file.locked():
            cut = self._file.cut_rest()
            return self._learn(self._file.count()) + cut

    def _learn(self, count: int) -> int:
        """Note the places of the records up to `count` that are new and good.

        Returns:
            How many are damaged; they are blanked, so that they are reported only once.
        """
        damaged = []
        new = self._file.records(count)[self._learned : count]
        for place, record in enumerate(new, self._learned):
            key = record["sha256"].tobytes()
            if key == bytes(32):
                continue
            if record["crc32"] == _check_sum(record):
                # Share the memory of equal strings in the dataset and its contents.
                self._places.setdefault(sys.intern(key.hex()), place)
            else:
                damaged.append(place)
            self._file.have_read(1, scattered=False)
        for place in damaged:
            self._file.write(place, bytes(32))
        self._learned = count
        return len(damaged)


def read_head(path: Path) -> tuple[dict[str, Any], int]:
    """Return the origin of a file's rows and their number; an empty origin and 0 if it is
    unreadable.

    Raises:
        OSError: there is no such file.
    """
    size_bytes = path.lstat().st_size
    try:
        if not path.is_file():  # opening a pipe would wait for someone to write into it
            return {}, 0
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES)
        origin = msgspec.json.decode(header.removeprefix(_MAGIC), type=dict[str, Any])
        shape = msgspec.convert(origin["shape"], tuple[int, ...])
        record_bytes = _record(shape).itemsize
    except (OSError, msgspec.MsgspecError, KeyError, TypeError, ValueError, RecursionError):
        return {}, 0
    if any(record_problems(origin)):
        return {}, 0
    return origin, max(0, size_bytes - HEADER_BYTES) // record_bytes


def _record(shape: Sequence[int]) -> np.dtype[Any]:
    return np.dtype(
        [("sha256", "V32"), ("crc32", "<u4"), ("", "V28"), ("row", "<f4", tuple(shape))]
    )


def _check_sum(record: Any) -> int:
    return zlib.crc32(record["row"], zlib.crc32(record["sha256"]))
