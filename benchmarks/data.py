"""The pictures and models that the benchmarks work on."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tod.data.index import INDEX_NAME, Index, IndexedFile, read_index
from tod.system.names import natural_key

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


@contextmanager
def prepared(count: int, *, size_px: int = 224) -> Iterator[Path]:
    """A temporary dataset of so many BMPs in 10 classes, split 60/20/20; the work W1 is 1000.

    `tod prepare-dataset` makes up to 1000 of `scenes`, a seeded 100 of 120 in each class. More are
    copies of these with one row of pixels changed: no two have the same content, so nothing that
    remembers pictures by their content can share them.
    """
    source = PICTURES / "scenes"
    if not source.is_dir():
        sys.exit(f"{source}: no such folder; set TOD_TEST_DATA to a folder that holds scenes/")
    with tempfile.TemporaryDirectory(prefix="tod-bench-") as folder:
        out = Path(folder, "dataset")
        command = [Path(sys.executable).with_name("tod"), "prepare-dataset", source, out]
        options = ["--size", size_px, "--per-class", min(count, 1000) // 10]
        subprocess.run(
            [str(part) for part in (*command, *options)], check=True, capture_output=True
        )
        index = read_index(out / INDEX_NAME)
        if count > len(index.files):
            _write_index(out, replace(index, files=tuple(_copies(out, index, count))))
        yield out


def _copies(out: Path, index: Index, count: int) -> Iterator[IndexedFile]:
    """The index's files, and further ones until there are `count`."""
    yield from index.files
    generator = random.Random(0)
    for number in range(len(index.files), count):
        first = index.files[number % len(index.files)]
        data = bytearray((out / first.file).read_bytes())
        data[-3 * index.size_px :] = generator.randbytes(3 * index.size_px)
        folder = Path(first.file).parent
        made = replace(
            first, file=f"{folder}/{number}.bmp", sha256=hashlib.sha256(data).hexdigest()
        )
        (out / made.file).write_bytes(data)
        yield made


def _write_index(out: Path, index: Index) -> None:
    import msgspec

    (out / INDEX_NAME).write_bytes(msgspec.json.encode(index))


def machine() -> str:
    """One line about where the figures come from."""
    import platform

    from tod.runtime.engine import runtime_version
    from tod.system.machine import available_cores, processor

    return (
        f"{processor()}, {available_cores()} cores, onnxruntime {runtime_version()}, "
        f"Python {platform.python_version()}"
    )
