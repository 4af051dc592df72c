"""The container of a .tod file: a ZIP of stored members, exact to the byte.

Any ZIP program can open such a file, but for given members only one sequence of bytes is right:
each member with its header, from the first byte on, then the directory, then its end. So two
readers cannot see different contents in one file, and every flipped bit is noticed. Knows bytes,
names and sizes; knows no manifest and no graphs.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tod.errors import ArtifactError
from tod.system import file_kind
from tod.system.names import listed

# Offsets stay below 2 GiB, which every ZIP program reads without zip64. Larger networks need more
# memory than the devices of this format have.
MAX_FILE_BYTES = (2 << 30) - 1
MAX_MEMBER_BYTES = 1 << 30
# A file up to this size is kept in memory while it is checked. A larger file is read twice, so that
# refusing it takes no memory.
_HELD_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
_LOOK_BYTES = 1024

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s4B4H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_LOCAL_FIELDS = (
    "signature", "version", "flags", "compression", "time", "date", "CRC-32", "stored size",
    "size", "name length", "extra length",
)  # fmt: skip
# A fixed date (1 January 1980) gives the same bytes on every day. Version 2.0, made on Unix, mode
# 0644.
_DATE, _VERSION, _UNIX, _MODE = 33, 20, 3, 0o644 << 16


@dataclass(frozen=True)
class Entry:
    """One member that was found.

    Attributes:
        name: its name.
        offset: position of its first byte in the file.
        size_bytes: its length.
        crc32: CRC-32 of its content.
        sha256: SHA-256 of its content.
        data: its content, None in a large file; see `content`.
    """

    name: str
    offset: int
    size_bytes: int
    crc32: int
    sha256: str
    data: bytes | None


def pack(members: Sequence[tuple[str, bytes]]) -> bytes:
    """Make the file that holds these members, in this order."""
    parts: list[bytes] = []
    entries: list[Entry] = []
    offset = 0
    for name, data in members:
        header = _local(name, zlib.crc32(data), len(data))
        offset += len(header)
        entries.append(Entry(name, offset, len(data), zlib.crc32(data), "", None))
        offset += len(data)
        parts += [header, data]
    return b"".join([*parts, _directory(entries)])


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for `walk`. A pipe, a device or a folder is refused at once.

    Raises:
        ArtifactError: there is no such file, it cannot be read, or it is too large. Read errors are
            turned into this error, too.
    """
    try:
        # Opening a pipe would otherwise wait for someone to write into it.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _binary())
        with open(descriptor, "rb", buffering=0) as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ArtifactError(f"{path}: not a file, but {_kind(found.st_mode)}")
            if found.st_size > MAX_FILE_BYTES:
                raise ArtifactError(
                    f"{path}: it has {found.st_size:,} bytes; at most {MAX_FILE_BYTES:,} are read"
                )
            start = file.read(_LOOK_BYTES)
            if kind := file_kind.of_bytes(start):
                raise ArtifactError(
                    f"{path}: not a readable .tod file: it is {kind.name}", hint=kind.as_model
                )
            file.seek(0)
            yield file
    except IsADirectoryError:
        raise ArtifactError(f"{path}: it is a folder", hint=_models_in(path)) from None
    except FileNotFoundError:
        raise ArtifactError(
            f"{path}: no such file", hint="make one with 'tod export', or check the path"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero in it
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(f"{path}: cannot be read: {reason}") from error


def walk(file: BinaryIO, names: Sequence[str], *, where: str) -> Iterator[Entry]:
    """Yield the members of a file, each as soon as it was read; then check the rest of the file.

    Args:
        file: from `opened`.
        names: the allowed names, in their order.
        where: the file's name, for error messages.

    Raises:
        ArtifactError: any byte of the file is not as `pack` writes it.
    """
    file_bytes = os.fstat(file.fileno()).st_size
    entries: list[Entry] = []
    allowed = list(names)
    while (start := file.read(_LOCAL.size)).startswith(b"PK\x03\x04"):
        entry = _entry(file, start, allowed, file_bytes, where)
        allowed = allowed[allowed.index(entry.name) + 1 :]
        entries.append(entry)
        yield entry
    wanted = _directory(entries)
    if not entries or start + file.read(len(wanted) + 1) != wanted:
        what = f"what follows the member {entries[-1].name}" if entries else "its beginning"
        raise _damaged(where, f"{what} is not as TOD writes it")


def content(file: BinaryIO, entry: Entry, *, where: str) -> bytes:
    """Return the bytes of a member that `walk` has found."""
    if entry.data is not None:
        return entry.data
    file.seek(entry.offset)
    data = file.read(entry.size_bytes)
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise _damaged(where, f"the member {entry.name} changed while it was read")
    return data


def _entry(file: BinaryIO, start: bytes, allowed: list[str], file_bytes: int, where: str) -> Entry:
    """Read the member whose header begins with `start`, which was read already."""
    if len(start) < _LOCAL.size:
        raise _damaged(where, "it ends within a header")
    fields = _LOCAL.unpack(start)
    crc32, size_bytes, name_bytes = fields[6], fields[8], fields[9]
    raw_name = file.read(min(name_bytes, 64))
    name = raw_name.decode("ascii", "backslashreplace")
    if name not in allowed:
        raise _damaged(where, f"it holds {name!r}, wanted {' or '.join(allowed) or 'its end'}")
    wanted = _local(name, crc32, size_bytes)
    for label, found, right in zip(_LOCAL_FIELDS, fields, _LOCAL.unpack_from(wanted), strict=True):
        if found != right:
            raise _damaged(where, f"the header of {name} has the {label} {found}, wanted {right}")
    if size_bytes > MAX_MEMBER_BYTES:
        raise ArtifactError(f"{where}: member {name} has {size_bytes:,} bytes, over 1 GiB")
    offset = file.tell()
    if size_bytes > file_bytes - offset:
        raise _damaged(where, f"it ends within the member {name}")
    held: list[bytes] | None = [] if file_bytes <= _HELD_BYTES else None
    found_crc32, sha256 = _check_sums(file, size_bytes, held)
    if found_crc32 != crc32:
        raise _damaged(where, f"the member {name} has another CRC-32 than its header says")
    data = None if held is None else b"".join(held)
    return Entry(name, offset, size_bytes, crc32, sha256, data)


def _check_sums(file: BinaryIO, size_bytes: int, held: list[bytes] | None) -> tuple[int, str]:
    """Read bytes and return their CRC-32 and SHA-256; a file that became shorter gives -1."""
    crc32, digest = 0, hashlib.sha256()
    # Read kept content at once, for speed; read other content in parts, to save memory.
    most_bytes = _CHUNK_BYTES if held is None else size_bytes
    while size_bytes and (chunk := file.read(min(size_bytes, most_bytes))):
        crc32 = zlib.crc32(chunk, crc32)
        digest.update(chunk)
        size_bytes -= len(chunk)
        if held is not None:
            held.append(chunk)
    return (-1 if size_bytes else crc32), digest.hexdigest()


def _local(name: str, crc32: int, size_bytes: int) -> bytes:
    raw = name.encode("ascii")
    sizes = (crc32, size_bytes, size_bytes, len(raw), 0)
    return _LOCAL.pack(b"PK\x03\x04", _VERSION, 0, 0, 0, _DATE, *sizes) + raw


def _directory(entries: Sequence[Entry]) -> bytes:
    """Make the part of the file after the last member."""
    parts = []
    for entry in entries:
        raw = entry.name.encode("ascii")
        sizes = (entry.crc32, entry.size_bytes, entry.size_bytes, len(raw), 0, 0, 0, 0)
        place = entry.offset - _LOCAL.size - len(raw)
        versions = (_VERSION, _UNIX, _VERSION, 0)
        parts.append(
            _CENTRAL.pack(b"PK\x01\x02", *versions, 0, 0, 0, _DATE, *sizes, _MODE, place) + raw
        )
    start = entries[-1].offset + entries[-1].size_bytes if entries else 0
    count, size_bytes = len(entries), sum(map(len, parts))
    end = _END.pack(b"PK\x05\x06", 0, 0, count, count, size_bytes, start, 0)
    return b"".join([*parts, end])


def _damaged(where: str, problem: str) -> ArtifactError:
    return ArtifactError(
        f"{where}: not a readable .tod file: {problem}",
        hint="copy it again from where it was made, or export it again",
    )


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _models_in(path: Path) -> str:
    """Suggest a file instead of a folder."""
    names = sorted(found.name for found in path.glob("*.tod"))[:5]
    return f"it holds {listed(names)}: give one of them" if names else "give a .tod file"


def _binary() -> int:
    return getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
