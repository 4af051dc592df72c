"""What a receiver has on disk of one job: the offer, the frames that came, and the result.

Frames are appended as they came and are their own check: what a power cut leaves half written is
cut off when the file is read again. Nothing counts before it is synced.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from tod.errors import UsageError
from tod.offload import frames
from tod.offload.frames import HEADER_BYTES, Frame, Kind
from tod.offload.job import Offer, Part, from_json, to_json
from tod.system.files import read_regular, sync, write_whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_OFFER, _INDEX, _PARTS, _RESULT, _DONE = "offer.json", "index", "parts", "result", "done"
_MAX_INDEX_BYTES = 1 << 30


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder of all jobs, so that no second receiver writes the same files.

    Raises:
        UsageError: another one holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError as error:
        raise UsageError(
            f"{folder}: another receiver works in this spool",
            hint="give this one a spool of its own with --spool",
        ) from error
    except PermissionError as error:
        raise UsageError(f"{folder}: the spool cannot be written: {error.strerror}") from error


class Spool:
    """One job's folder.

    Args:
        folder: made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places: dict[int, tuple[int, int]] = {}  # part -> begin and length
        self._waiting: dict[int, tuple[int, int]] = {}  # not synced yet
        self._end = 0

    def begin(self, offer: Offer) -> None:
        """Keep the offer; the job exists from now on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / _OFFER).exists():
            write_whole(self.folder / _OFFER, to_json(offer))

    @property
    def offer(self) -> Offer:
        """Raises:
        OSError, ValueError: there is none.
        """
        data, _ = read_regular(self.folder / _OFFER, limit_bytes=1 << 16)
        return from_json(data, Offer)

    @property
    def index(self) -> bytes | None:
        """The list of samples, once it is complete."""
        path = self.folder / _INDEX
        return read_regular(path, limit_bytes=_MAX_INDEX_BYTES)[0] if path.exists() else None

    def keep_index(self, data: bytes) -> None:
        write_whole(self.folder / _INDEX, data)

    def open_parts(self, wanted: Sequence[Part]) -> None:
        """Read again which parts are there; cut off what is damaged."""
        self._places, self._waiting, self._end = {}, {}, 0
        path = self.folder / _PARTS
        if not path.exists():
            return
        with path.open("r+b") as file:
            size = os.fstat(file.fileno()).st_size
            while self._end + HEADER_BYTES <= size:
                head = file.read(HEADER_BYTES)
                try:
                    payload = file.read(frames.length(head))
                    frame = frames.decode(head + payload)
                except frames.FrameError:
                    break
                if not _is_part(frame, wanted):
                    break
                self._places[frame.number] = (self._end + HEADER_BYTES, len(payload))
                self._end += HEADER_BYTES + len(payload)
            if self._end < size:
                file.truncate(self._end)
                os.fsync(file.fileno())

    def add(self, frame: Frame, wanted: Sequence[Part]) -> bool:
        """Append a part, unless it is there. It counts after `sync`.

        Returns:
            Whether it was new.
        """
        if frame.number in self._places or frame.number in self._waiting:
            return False
        if not _is_part(frame, wanted):
            return False
        with (self.folder / _PARTS).open("ab") as file:
            file.write(frames.encode(frame))
        self._waiting[frame.number] = (self._end + HEADER_BYTES, len(frame.payload))
        self._end += HEADER_BYTES + len(frame.payload)
        return True

    def sync(self) -> None:
        """Flush what was added to the disk; only now it counts."""
        if self._waiting:
            sync(self.folder / _PARTS)
            self._places |= self._waiting
            self._waiting = {}

    def has(self, part: int) -> bool:
        return part in self._places

    @property
    def count(self) -> int:
        """Parts that count."""
        return len(self._places)

    def missing(self, total: int) -> list[int]:
        """Parts that neither count nor wait to be synced."""
        return [n for n in range(total) if n not in self._places and n not in self._waiting]

    def part(self, number: int) -> bytes:
        """The bytes of a part."""
        begin, size = self._places[number]
        with (self.folder / _PARTS).open("rb") as file:
            file.seek(begin)
            return file.read(size)

    @property
    def result(self) -> bytes | None:
        path = self.folder / _RESULT
        return read_regular(path, limit_bytes=1 << 31)[0] if path.exists() else None

    def keep_result(self, data: bytes) -> None:
        write_whole(self.folder / _RESULT, data)

    @property
    def done(self) -> bool:
        """The sender has the result."""
        return (self.folder / _DONE).exists()

    def finish(self) -> None:
        """The sender has the result: keep that for repeated offers, and let all else go."""
        write_whole(self.folder / _DONE, b"")
        for path in self.folder.iterdir():
            if path.is_file() and path.name not in (_OFFER, _RESULT, _DONE):
                path.unlink()
        self._places, self._waiting = {}, {}

    @property
    def bytes(self) -> int:
        """On disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def _is_part(frame: Frame, wanted: Sequence[Part]) -> bool:
    if frame.kind is not Kind.SAMPLE or frame.number >= len(wanted):
        return False
    part = wanted[frame.number]
    return len(frame.payload) == part.bytes and _digest(frame.payload) == part.sha256


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
