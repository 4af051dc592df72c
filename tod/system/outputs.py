"""Check the paths of results: right kind, no file used twice, and writable.

All checks run before the work. Knows names, files and suffixes; knows no formats.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tod.errors import ArtifactError, DataError, UsageError
from tod.system.files import try_writing

_LOG_BEGINS = b'{"record"'
# How much of a file is looked at, to see whether TOD made it.
_START_BYTES = 1 << 12
# Suffixes of other results, which a log must not have.
_NOT_LOGS = (".tod", ".onnx")


@dataclass(frozen=True)
class Output:
    """A file that a command is about to make.

    Attributes:
        option: its option on the command line, such as "-o".
        path: where it is written; None if it was not asked for.
        suffix: required end of its name.
        is_log: it is written line by line, and may be a pipe or a device.
        least_bytes: the least size of the file.
        mark: what the start of such a file holds if TOD made it; one without it, such as a source
            that the user wrote, is not replaced. Empty: any file is.
    """

    option: str
    path: Path | None
    suffix: str = ".tod"
    is_log: bool = False
    least_bytes: int = 0
    mark: bytes = b""


def log(path: Path | None) -> Output:
    """The file of --log."""
    return Output("--log", path, "", is_log=True)


def check(outputs: Iterable[Output], inputs: Mapping[str, Path | None]) -> None:
    """Refuse results that cannot be written or would destroy another file, before any work.

    A test file is made and removed in the folder of each result.

    Args:
        outputs: the results.
        inputs: files that are read, by the name that the user knows.

    Raises:
        UsageError: a name has the wrong kind, or the file is also read or written.
        ArtifactError: a place that cannot be written.
    """
    wanted = [(output, output.path) for output in outputs if output.path is not None]
    taken = [(name, path) for name, path in inputs.items() if path is not None]
    for output, path in wanted:
        _check_kind(output, path)
        for name, other in taken:
            if same_file(path, other):
                raise UsageError(
                    f"{output.option} {path} is the same file as {name} {other}",
                    hint="give the result a name of its own",
                )
        taken.append((output.option, path))
    for output, path in wanted:
        _check_place(output, path)


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or, if it exists, cannot be written to. The folder that
    holds it has to be there, as that of a file has: a slip in a path makes no tree of folders.

    Raises:
        DataError: it says why.
    """
    try:
        place = Path(os.path.realpath(folder))
        if not place.exists():
            place = place.parent
            if not place.exists():
                raise FileNotFoundError(errno.ENOENT, f"the folder {place} does not exist")
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, f"{place} is a file, no folder")
        try_writing(place / "tod")
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written: {error.strerror or error}",
            hint="give another place, or make the folder, or get permission to write there",
        ) from error


def same_file(one: str | Path, other: str | Path) -> bool:
    """Tell whether two paths mean the same file, also through links, even if it does not exist
    yet."""
    try:
        return os.path.samefile(one, other)
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)


def _check_kind(output: Output, path: Path) -> None:
    suffix = path.suffix.lower()
    if output.suffix and suffix != output.suffix:
        raise UsageError(
            f"{output.option} {path}: the name of what is written there has to end in "
            f"{output.suffix}",
            hint=f"for instance {output.option} {_with_suffix(path, output.suffix)}",
        )
    if output.is_log and suffix in _NOT_LOGS:
        raise UsageError(
            f"{output.option} {path}: a log is no {suffix} file",
            hint=f"for instance {output.option} {path.with_suffix('.jsonl')}",
        )


def _with_suffix(path: Path, suffix: str) -> Path:
    if path.is_dir():
        return path / f"model{suffix}"
    return path.with_suffix(suffix) if path.name else Path(f"model{suffix}")


def _check_place(output: Output, path: Path) -> None:
    """Check by trying, because only the system knows whether a file can be written.

    Raises:
        ArtifactError: it cannot.
    """
    try:
        found = _status(path)
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise ArtifactError(f"{path}: cannot be written: it is a folder", hint="name a file")
        # The file will be written at the target of a link.
        place = Path(os.path.realpath(path))
        if not place.parent.is_dir():
            what = "is a file, no folder" if place.parent.exists() else "does not exist"
            raise ArtifactError(
                f"{path}: cannot be written: the folder {what}",
                hint="make the folder, or give another place",
            )
        if found is not None and not stat.S_ISREG(found.st_mode):
            if not output.is_log:
                raise ArtifactError(f"{path}: cannot be written: it is there, and no file")
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        if found is not None:
            _check_existing(output, path, found, place.parent.stat())
        if found is None or not output.is_log:
            _try(place)
        _check_room(output, place)
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written: {error.strerror or error}",
            hint=f"give another place for {output.option}, or make room or get permission there",
        ) from error


def _try(place: Path) -> None:
    try:
        try_writing(place)
    except FileNotFoundError as error:  # the folder is there
        raise OSError(error.errno, "no file can be made in this folder") from error


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _check_existing(
    output: Output, path: Path, found: os.stat_result, folder: os.stat_result
) -> None:
    """Check that an existing file may be replaced or, for a log, continued."""
    if output.is_log:
        with open(path, "rb") as file:
            start = file.read(len(_LOG_BEGINS))
        if start and start != _LOG_BEGINS:
            raise UsageError(
                f"{output.option} {path}: this file is there already, and is no log of TOD",
                hint="give the log a name of its own",
            )
        open(path, "ab").close()
        return
    if output.mark:
        with open(path, "rb") as file:
            if output.mark not in file.read(_START_BYTES):
                raise UsageError(
                    f"{output.option} {path}: this file is there already, and TOD did not make it",
                    hint=f"give another name with {output.option}, or move that file away",
                )
    # In a sticky folder such as /tmp, only its owner may replace a file.
    sticky = folder.st_mode & stat.S_ISVTX and hasattr(os, "geteuid")
    if sticky and os.geteuid() not in (0, found.st_uid, folder.st_uid):
        raise PermissionError(errno.EPERM, "it belongs to another user")
    try:
        open(path, "r+b").close()
    except PermissionError as error:
        # A read-only file can still be replaced; an immutable file (EPERM) cannot.
        if error.errno == errno.EPERM:
            raise


def _check_room(output: Output, place: Path) -> None:
    if output.least_bytes and hasattr(os, "statvfs"):
        system = os.statvfs(place.parent)
        free_bytes = system.f_bavail * system.f_frsize
        if system.f_blocks and free_bytes < output.least_bytes:
            raise OSError(
                errno.ENOSPC,
                f"{free_bytes / 1e6:,.1f} MB are free there, at least "
                f"{output.least_bytes / 1e6:,.1f} MB are needed",
            )
