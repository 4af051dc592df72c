"""The pictures and models that the benchmarks work on."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tod.dataset import natural_key

ROOT = Path(__file__).resolve().parent.parent
PICTURES = Path(os.environ.get("TOD_TEST_DATA", ROOT.parent / "shared" / "data"))


def subset(name: str, per_class: int) -> Path:
    """A temporary tree with links to the first pictures of each class of `scenes` or `places`."""
    source = PICTURES / name
    if not source.is_dir():
        sys.exit(f"{source}: no such folder; set TOD_TEST_DATA to a folder that holds {name}/")
    tree = Path(tempfile.mkdtemp(prefix=f"tod-{name}-"))
    for folder in sorted(source.iterdir()):
        (tree / folder.name).mkdir()
        pictures = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
        for picture in pictures[:per_class]:
            (tree / folder.name / picture.name).symlink_to(picture)
    return tree


def machine() -> str:
    """One line about where the figures come from."""
    import platform

    from tod.engine import runtime_version
    from tod.machine import available_cores, processor

    return (
        f"{processor()}, {available_cores()} cores, onnxruntime {runtime_version()}, "
        f"Python {platform.python_version()}"
    )
