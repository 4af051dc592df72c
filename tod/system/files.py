"""Write files whole or not at all. Knows bytes and paths; knows no format."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows; without locks nothing that is left over is removed
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part", re.DOTALL)
# More bytes than a file system stores inside a folder entry, so that a full disk is noticed.
_TRIAL_BYTES = 1 << 12
_PART_BYTES = 1 << 20


def write_whole(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` by `data`: a reader finds the old file or the new one, never a part.

    Temporary file in the same folder, write, flush, fsync, `os.replace`, fsync of the folder. The
    temporary file is locked while it is written, see `remove_unfinished`.

    Args:
        path: the file to make or replace.
        data: its whole content.
        durable: also survive a power cut; without it (pictures that can be made again) the two
            fsyncs are left out, which is many times faster for small files.

    Raises:
        OSError: the folder is missing, read-only or full; the old file is then untouched.
    """
    temporary, file = _new_beside(path)
    try:
        with file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows cannot rename an open file
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        with contextlib.suppress(OSError):
            sync(path.parent)


def try_writing(path: Path) -> None:
    """Write and remove a temporary file as `write_whole` would for `path`; `path` is not changed.

    Raises:
        OSError: `write_whole` would fail.
    """
    temporary, file = _new_beside(path)
    try:
        with file:
            file.write(bytes(_TRIAL_BYTES))
            file.flush()
    finally:
        temporary.unlink()


def remove_unfinished(folder: Path, written: Callable[[str], object]) -> None:
    """Remove the temporary files that a killed `write_whole` left in a folder.

    A file that a living process writes is locked and stays. Without file locks, all files stay.

    Args:
        folder: where to look.
        written: tells whether the caller writes a file of this name; other files stay.
    """
    if fcntl is None:
        return
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            name = _TEMPORARY.fullmatch(path.name)
            if name and written(name[1]) and path.is_file() and not path.is_symlink():
                with contextlib.suppress(OSError), open(path, "r+b") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()


def _new_beside(path: Path) -> tuple[Path, IO[bytes]]:
    """Make a temporary file in the folder of `path`, and lock it if there are locks."""
    while True:
        temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
        # Mode "x" obeys the umask; tempfile.mkstemp would leave a file with mode 0600.
        file = open(temporary, "xb")  # noqa: SIM115 - the caller closes it
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        if temporary.exists():
            return temporary, file
        file.close()  # another process removed it as left over before it was locked


def read_regular(path: str | Path, *, limit_bytes: int) -> tuple[bytes, os.stat_result]:
    """Return a regular file's bytes, and its status before they were read. Links are followed. A
    pipe, a device or a folder is refused, because reading it might never end.

    Raises:
        OSError: no such file, no regular file, larger than the limit, or growing.
    """
    _check_regular(os.stat(path), limit_bytes)
    # The file may have been replaced by a pipe since; opening that must not block.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        _check_regular(found, limit_bytes)
        data = file.read(found.st_size + 1)
    if len(data) > found.st_size:
        raise OSError(errno.EBUSY, "it grows while it is read")
    return data, found


def sha256(path: str | Path, *, limit_bytes: int) -> str:
    """The SHA-256 of a regular file, of which only a part is in memory at a time.

    Raises:
        OSError: as for `read_regular`.
    """
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:
        _check_regular(os.fstat(descriptor), limit_bytes)
        while part := file.read(_PART_BYTES):
            digest.update(part)
    return digest.hexdigest()


def read_start(path: str | Path, count: int) -> bytes:
    """Read the first bytes of a regular file, with the checks of `read_regular`.

    Raises:
        OSError: no such file, no regular file, or it may not be read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    with open(descriptor, "rb") as file:
        _check_regular(os.fstat(descriptor), sys.maxsize)
        return file.read(count)


def _check_regular(found: os.stat_result, limit_bytes: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    if found.st_size > limit_bytes:
        raise OSError(errno.EFBIG, f"it is over {limit_bytes >> 20} MiB")


def sync(path: Path) -> None:
    """Flush a file or folder to the disk, with its names and times.

    Raises:
        OSError: some file systems (FAT, network shares) refuse it for a folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
