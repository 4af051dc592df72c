"""Sort, compare and list names of classes, files and options."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts "2.bmp" before "10.bmp", in the same way on every file system."""
    parts = re.split(r"([0-9]+)", text)
    return tuple((0, int(p), p) if p.isdecimal() else (1, 0, p) for p in parts if p)


def near_names(name: str, known: Sequence[str]) -> str:
    """A hint with the names most like `name`."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {listed(list(known)[:12])}"


def listed(names: Sequence[str]) -> str:
    """Names with commas between them."""
    return ", ".join(names) if names else "none"
