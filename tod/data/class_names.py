"""The name of the class that a folder's pictures belong to: its path, written in one way."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# "Design rule for Camera File system" (DCF 2.0, JEITA CP-3461), section 3.2.2: three digits from
# 100 on and five capitals, digits or underscores.
_CAMERA = re.compile(r"[1-9][0-9]{2}[A-Z0-9_]{5}")
_CAMERA_ROOT = "dcim"


def plain_name(part: str) -> str:
    """A name as everyone sees it: composed (Unicode NFC), without blanks around it. Names that
    look the same are one."""
    return unicodedata.normalize("NFC", part).strip() or part


def class_name(name: str) -> str:
    """`plain_name` of each part of a class's name."""
    return "/".join(map(plain_name, name.split("/")))


def is_camera_folder(parts: Sequence[str]) -> bool:
    """Whether a folder was made by a camera: DCIM, or 100CANON and the like.

    Eight digits alone (an article's number is a class) count only below DCIM.
    """
    if parts[-1].lower() == _CAMERA_ROOT:
        return True
    below = len(parts) > 1 and parts[-2].lower() == _CAMERA_ROOT
    return bool(_CAMERA.fullmatch(parts[-1])) and (below or not parts[-1].isdecimal())


def class_of(parts: Sequence[str]) -> str:
    """The class of pictures in a folder.

    Args:
        parts: of the folder's path below the data's folder; a camera's folders below a class
            belong to it.

    Returns:
        Its name; empty for the data's folder itself.
    """
    parts = list(parts)
    while len(parts) > 1 and is_camera_folder(parts):
        parts.pop()
    return "/".join(map(plain_name, parts))
