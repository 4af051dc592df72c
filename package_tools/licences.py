"""The licences of what a runtime is made of, and the texts that they refer to."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from package_tools.interpreter import Piece

# Debian's copyright files name the common licences instead of repeating them.
COMMON = Path("/usr/share/common-licenses")


def take(pieces: Iterable[Piece], folder: Path) -> None:
    """Copy licences into a folder.

    Args:
        pieces: what they cover.
        folder: the folder to make.
    """
    folder.mkdir()
    named: set[str] = set()
    for piece in pieces:
        if piece.licence.is_file():
            shutil.copyfile(piece.licence, folder / f"{piece.name}.txt")
            text = piece.licence.read_text(errors="replace")
            named |= set(re.findall(rf"{COMMON}/([\w.-]*\w)", text))
    for name in sorted(named):
        if (COMMON / name).is_file():
            shutil.copyfile(COMMON / name, folder / name)
