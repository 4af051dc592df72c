"""Write files whole or not at all. Knows bytes and paths; knows no format."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def write_whole(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` by `data`: whoever looks finds the old file or the new one, never a part.

    Temporary file in the same folder, write, flush, fsync, `os.replace`, fsync of the folder.

    Args:
        path: the file to make or replace.
        data: its whole content.
        durable: also survive a power cut; without it (pictures that can be made again) the two
            fsyncs are left out, which is many times faster for small files.

    Raises:
        OSError: the folder is missing, read-only or full; the old file is then untouched.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}.part"
    try:
        # "x" obeys the umask, where tempfile.mkstemp would leave mode 0600 behind.
        with open(temporary, "xb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # Some file systems (FAT, network shares) refuse to sync a folder.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
