"""Copy pictures into one folder for each class. Copies only; nothing is moved or overwritten."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from pathlib import Path

from tod.errors import DataError

# Characters that Windows or a Unix shell cannot have in the name of a folder.
_UNSAFE = re.compile(r'[\x00-\x1f<>:"\\|?*]')


def copy_to_class(picture: Path, class_name: str, folder: Path) -> Path:
    """Copy a picture into the folder of its class.

    Args:
        picture: the file.
        class_name: the name of the class, whose parts between "/" become folders.
        folder: the folder of all classes; made if it is not there.

    Returns:
        The copy. If another file has its name already, the copy gets a number; if that file has
        the same content, no copy is made.

    Raises:
        DataError: it cannot be copied.
    """
    place = class_folder(folder, class_name)
    try:
        place.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10_000):
            middle = "" if number == 1 else f"-{number}"
            copy = place / f"{picture.stem}{middle}{picture.suffix}"
            if not os.path.lexists(copy):
                # Exclusively: what appears there in this moment is not overwritten.
                with open(picture, "rb") as source, open(copy, "xb") as target:
                    shutil.copyfileobj(source, target)
                shutil.copystat(picture, copy)
                return copy
            if copy.is_file() and filecmp.cmp(picture, copy, shallow=False):
                return copy
    except OSError as error:
        raise DataError(
            f"{picture}: cannot be copied to {place}: {error.strerror or error}",
            hint="give another folder for --sort-into, or make room or get permission there",
        ) from error
    raise DataError(f"{place}: it holds too many files that are called {picture.name}")


def class_folder(folder: Path, class_name: str) -> Path:
    """The folder of a class: the parts of its name between "/", each made safe."""
    return folder.joinpath(*map(_safe, class_name.split("/")))


def _safe(part: str) -> str:
    """A name that is one folder: neither "", "." nor "..", and without forbidden characters."""
    name = _UNSAFE.sub("_", part).strip(" .")
    return name or "_"
