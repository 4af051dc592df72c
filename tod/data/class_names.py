"""Turn a folder's path into the name of its class, always written in the same way."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# "Design rule for Camera File system" (DCF 2.0, JEITA CP-3461), section 3.2.2: three digits from
# 100 on and five capitals, digits or underscores.
_CAMERA = re.compile(r"[1-9][0-9]{2}[A-Z0-9_]{5}")
_CAMERA_ROOT = "dcim"


def plain_name(part: str) -> str:
    """Return a name in Unicode NFC without blanks around it, so that names that look the same are
    equal."""
    return unicodedata.normalize("NFC", part).strip() or part


def class_name(name: str) -> str:
    """`plain_name` of each part of a class's name."""
    return "/".join(map(plain_name, name.split("/")))


def is_camera_folder(parts: Sequence[str]) -> bool:
    """Tell whether a folder was made by a camera: DCIM, or 100CANON and the like.

    A name of eight digits counts only below DCIM, because article numbers are used as classes.
    """
    if parts[-1].lower() == _CAMERA_ROOT:
        return True
    below = len(parts) > 1 and parts[-2].lower() == _CAMERA_ROOT
    return bool(_CAMERA.fullmatch(parts[-1])) and (below or not parts[-1].isdecimal())


def class_of(parts: Sequence[str]) -> str:
    """The class of pictures in a folder.

    Args:
        parts: the parts of the folder's path below the data's folder; a camera's folders below a
            class belong to that class.

    Returns:
        Its name; empty for the data's folder itself.
    """
    parts = list(parts)
    while len(parts) > 1 and is_camera_folder(parts):
        parts.pop()
    return "/".join(map(plain_name, parts))
