"""Decode picture files one after the other under a limit of memory: a process of its own.

    python -m tests.support.decode_all decode|load BYTES < LIST

For each line of LIST, a path, one JSON line: size and coarse look, or why it was refused; and the
most memory that was held meanwhile.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tod.data.image import decode, load
from tod.data.picture_limits import MAX_FILE_BYTES
from tod.errors import PictureError
from tod.format.manifest import InputSpec
from tod.system.files import read_regular
from tod.system.machine import peak_memory_mb

ROOT = Path(__file__).resolve().parents[2]
SPEC = InputSpec(224, 256, "bicubic", "center", "rgb", (0, 0, 0), (1, 1, 1))
CELLS = 4


def coarse(pixels: NDArray[np.uint8]) -> str:
    """What a picture looks like, turned ones too: the mean colours of 4 x 4 parts, in hex."""
    means = np.empty((CELLS, CELLS, 3))
    rows, columns = (np.linspace(0, side, CELLS + 1).astype(int) for side in pixels.shape[:2])
    for y in range(CELLS):
        for x in range(CELLS):
            part = pixels[rows[y] : max(rows[y + 1], rows[y] + 1)]
            means[y, x] = part[:, columns[x] : max(columns[x + 1], columns[x] + 1)].mean((0, 1))
    return means.round().astype(np.uint8).tobytes().hex()


def difference(left: str, right: str) -> int:
    """The largest of two coarse looks."""
    a, b = (np.frombuffer(bytes.fromhex(text), np.uint8).astype(int) for text in (left, right))
    return int(np.abs(a - b).max())


def decode_all(files: Iterable[Path], *, mode: str, limit_bytes: int) -> list[dict]:
    """Start the process; a crash or a lack of memory of its own fails the test."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "tests.support.decode_all",
        mode,
        str(limit_bytes),
    ]
    listed = "".join(f"{file}\n" for file in files)
    done = subprocess.run(command, input=listed, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def _one(path: str, mode: str) -> dict:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    try:
        data, _ = read_regular(path, limit_bytes=MAX_FILE_BYTES)
        pixels = decode(data) if mode == "decode" else load(data, SPEC)
    except PictureError as error:
        return {"refused": error.problem}
    return {"size": pixels.shape[1::-1], "coarse": coarse(pixels)}


if __name__ == "__main__":
    bytes_limit = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (bytes_limit, bytes_limit))
    for line in sys.stdin:
        found = _one(line.rstrip("\n"), sys.argv[1])
        print(json.dumps({**found, "peak_mb": peak_memory_mb()}), flush=True)
