"""An interpreter from a python-build-standalone archive.

https://gregoryszorc.com/docs/python-build-standalone/main/distributions.html: the flavours
`install_only` and `install_only_stripped` (.tar.gz) hold `python/bin` and `python/lib`. It brings
no C library: the device's own is used.
"""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

from package_tools import libraries
from package_tools.interpreter import Interpreter
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
    try:
        with tarfile.open(archive) as tar:
            # Refuses links and paths that lead out of the folder.
            tar.extractall(folder, filter="data")
    except (OSError, EOFError, tarfile.TarError) as error:
        raise UsageError(f"{archive}: {first_line(error)}", hint=_HINT) from error
    home = folder / "python"
    if not home.is_dir():
        raise UsageError(f"{archive}: it holds no folder 'python'", hint=_HINT)
    interpreter = Interpreter(home, (), _licences(home), (f"{archive.name} {name(archive)}",))
    found = libraries.machine(interpreter.program)
    if found != target.elf:
        raise UsageError(f"{archive}: its Python is for {found}, wanted {target.elf}", hint=_HINT)
    return interpreter


def _licences(home: Path) -> dict[str, Path]:
    return {path.parent.name: path for path in sorted(home.glob("lib/python3.*/LICENSE.txt"))}
