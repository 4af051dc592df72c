"""What it costs to open a data folder: every picture decoded, or known from the time before.

Run it with `python -m benchmarks.opening [ROUNDS]`. The 1200 JPEGs of `scenes`, 190 to 500 px, as
a plain folder and prepared, beside the one pass of EfficientNet-Lite0 over their pixels.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.data import machine, subset
from benchmarks.processes import program
from tod.data.dataset import Dataset
from tod.runtime.model import Model


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def one_round(model: Path, plain: Path, prepared: Path) -> dict[str, float]:
    """Seconds of each kind of opening, and of the pass over the pictures."""
    with tempfile.TemporaryDirectory() as cache:
        first = seconds(lambda: Dataset.open(plain, cache=cache))
        again = seconds(lambda: Dataset.open(plain, cache=cache))
    index = seconds(lambda: Dataset.open(prepared, cache=False))
    dataset = Dataset.open(plain, cache=False)
    store = Model.load(model, cache=False).store
    features = seconds(lambda: store.fill(dataset, dataset.samples))
    return {"first": first, "again": again, "prepared": index, "features": features}


def main(rounds: int = 5) -> None:
    print(machine())
    plain = subset("scenes", 120)
    with tempfile.TemporaryDirectory() as folder:
        model, prepared = Path(folder, "m.tod"), Path(folder, "prepared")
        for command in (["export", "-o", model], ["prepare-dataset", plain, prepared]):
            subprocess.run(
                [str(part) for part in (program("tod"), *command)], check=True, capture_output=True
            )
        found = [one_round(model, plain, prepared) for _ in range(rounds)]
    for name in found[0]:
        median = statistics.median(one[name] for one in found)
        share = statistics.median(one[name] / one["features"] for one in found)
        print(f"{name:10} {median:7.3f} s, {share:6.1%} of the pass over the pictures")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
