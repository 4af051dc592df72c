"""Pictures per second of `tod prepare-dataset` against a bare loop with Pillow on all cores.

Run it with `python -m benchmarks.prepare [ROUNDS]`. The 1200 JPEGs of `scenes`, 190 to 500 px, to
BMPs of 224 px: decode, shorter side to 256, centre crop, save. Whole processes, in turn.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.data import machine, subset
from benchmarks.processes import module, program, run
from benchmarks.sides import in_turn, ratio

SIDE_PX, SHORTER_PX = 224, 256


def bare(source: Path, out: Path) -> None:
    """The least that the job is: no hash, no journal, no index, no care for odd pictures."""
    from PIL import Image

    def one(path: Path) -> None:
        image = Image.open(path).convert("RGB")
        scale = SHORTER_PX / min(image.size)
        size = round(image.width * scale), round(image.height * scale)
        image = image.resize(size, Image.Resampling.BICUBIC)
        left, top = (size[0] - SIDE_PX) // 2, (size[1] - SIDE_PX) // 2
        cropped = image.crop((left, top, left + SIDE_PX, top + SIDE_PX))
        cropped.save(out / path.parent.name / f"{path.stem}.bmp")

    paths = sorted(source.glob("*/*"))
    for folder in {path.parent.name for path in paths}:
        (out / folder).mkdir(parents=True)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(one, paths))


def main(rounds: int = 5) -> None:
    print(machine())
    source = subset("scenes", 120)
    count = sum(1 for _ in source.glob("*/*"))

    def a_second(*command: object) -> float:
        with tempfile.TemporaryDirectory() as folder:
            return count / run([*command, source, Path(folder, "out")]).seconds

    sides = {
        "ours": partial(a_second, program("tod"), "prepare-dataset"),
        "bare": partial(a_second, *module("prepare", "bare")),
    }
    found = in_turn(sides, rounds)
    mine, others = map(statistics.median, found.values())
    times = ratio(found["ours"], found["bare"])
    print(f"{count} pictures: ours {mine:.0f}/s, bare loop {others:.0f}/s, ratio {times:.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        bare(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(*map(int, sys.argv[1:]))
