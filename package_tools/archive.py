"""An interpreter from a python-build-standalone archive.

https://gregoryszorc.com/docs/python-build-standalone/main/distributions.html: the flavours
`install_only` and `install_only_stripped` (.tar.gz) hold `python/bin` and `python/lib`. It brings
no C library: the device's own is used.
"""

from __future__ import annotations

import hashlib
import lzma
import tarfile
import zlib
from pathlib import Path
from typing import Any

from package_tools import libraries
from package_tools.interpreter import Interpreter, Piece
from package_tools.target import Target
from tod.errors import UsageError, first_line

_HINT = "wanted is an archive of python-build-standalone for Linux (gnu), flavour install_only"


def name(archive: Path) -> str:
    """The archive's hash, which stands for its content.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return hashlib.sha256(archive.read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"{archive}: {error.strerror}", hint=_HINT) from error


def unpack(archive: Path, target: Target, folder: Path) -> Interpreter:
    """Unpack an archive and look whether its interpreter is one for the target.

    Args:
        archive: the file.
        target: the machine it must be for.
        folder: an empty folder to work in; the interpreter stays in it.

    Raises:
        UsageError: damaged, no such archive, or for another machine.
    """
    if not hasattr(tarfile, "data_filter"):
        raise UsageError(
            "this Python cannot unpack archives safely: its tarfile has no filters",
            hint="update it: 3.10.12, 3.11.4, 3.12 and newer have them",
        )
    try:
        with tarfile.open(archive) as tar:
            _read_to_the_end(tar)
            # Refuses links and paths that lead out of the folder.
            tar.extractall(folder, filter="data")
    except (OSError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        raise UsageError(f"{archive}: {first_line(error)}", hint=_HINT) from error
    home = folder / "python"
    if not home.is_dir():
        raise UsageError(f"{archive}: it holds no folder 'python'", hint=_HINT)
    licence = next(home.glob("lib/python3.*/LICENSE.txt"), home / "LICENSE.txt")
    piece = Piece(archive.name, name(archive), frozenset(), licence)
    interpreter = Interpreter(home, (), archive.name, (piece,))
    found = libraries.machine(interpreter.program)
    if found != target.elf:
        raise UsageError(f"{archive}: its Python is for {found}, wanted {target.elf}", hint=_HINT)
    return interpreter


def _read_to_the_end(tar: tarfile.TarFile) -> None:
    """Have the compression's check sum looked at, which tarfile, stopping at the last file, never
    reaches."""
    stream: Any = tar.fileobj
    stream.seek(0)
    while stream.read(1 << 20):
        pass
