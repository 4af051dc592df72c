"""What a Python interpreter for a target is, wherever it came from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tod.errors import DeviceError


@dataclass(frozen=True)
class Piece:
    """One package that an interpreter was put together from.

    Attributes:
        name: of the package.
        version: of the package.
        files: names of its files, without folders; empty for all.
        licence: the file.
    """

    name: str
    version: str
    files: frozenset[str]
    licence: Path


@dataclass(frozen=True)
class Interpreter:
    """An unpacked interpreter.

    Attributes:
        home: holds bin/python3.X and lib/python3.X.
        libraries: folders with the C library and all else that the interpreter and the wheels may
            load; none where the device's own C library is used.
        origin: where it came from.
        pieces: what it was put together from.
    """

    home: Path
    libraries: tuple[Path, ...]
    origin: str
    pieces: tuple[Piece, ...]

    @property
    def version(self) -> str:
        """Minor version, such as '3.11'."""
        found = sorted(self.home.glob("bin/python3.*"))
        names = [path.name for path in found if re.fullmatch(r"python3\.\d+", path.name)]
        if len(names) != 1:
            raise DeviceError(
                f"{self.home}: wanted one interpreter bin/python3.X, found {names or 'none'}",
                hint="give another archive with --python-archive",
            )
        return names[0].removeprefix("python")

    def used(self, libraries: Iterable[str]) -> list[Piece]:
        """The pieces that the interpreter itself and some libraries come from."""
        names = {self.program.name, "os.py", *libraries}
        return [piece for piece in self.pieces if not piece.files or names & piece.files]

    @property
    def program(self) -> Path:
        return self.home / "bin" / f"python{self.version}"

    @property
    def standard_library(self) -> Path:
        return self.home / "lib" / f"python{self.version}"
