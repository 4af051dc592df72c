"""Validation accuracy of what trains and of heads in closed form, on real pictures.

Run it with `python -m benchmarks.depth`. Seeds 0 to 2 of split and training, 60 cycles of batch 32,
the defaults of `tod export`; then a table of few pictures per class.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

import tod
from benchmarks.data import PICTURES, machine, subset
from benchmarks.seeds import Stores, scores
from model.export import export
from model.step.optimizers import SGD
from tod.data.splits import shuffle_key
from tod.training.settings import InitName

SEEDS = range(3)
KINDS: tuple[InitName, ...] = ("imprint", "ridge")
WAYS: tuple[tuple[InitName | None, int], ...] = (("imprint", 0), ("ridge", 0), (None, 60))
MOBILENET = PICTURES / "weights" / "mobilenet_v2-imagenet.pth"


def few(dataset: tod.Dataset, seed: int, per_class: int) -> tod.Dataset:
    """Only so many training pictures of each class."""
    kept = []
    for label in range(len(dataset.classes)):
        rows = [s for s in dataset.split("train") if s.label == label]
        kept += sorted(rows, key=lambda s: shuffle_key(seed, s.sha256))[:per_class]
    others = [s for s in dataset.samples if s.split != "train"]
    return replace(dataset, samples=(*kept, *others))


def row(name: str, values: list[float]) -> None:
    print(f"| {name} | {np.mean(values):.3f} ({min(values):.3f}) |", flush=True)


def main() -> None:
    print(machine())
    trees = {"scenes": subset("scenes", 100), "places": subset("places", 200)}
    rule = SGD(0.02, dampening=0.01)
    with tempfile.TemporaryDirectory() as folder:
        head, deep, mobile = (Path(folder, f"{n}.tod") for n in ("head", "deep", "mobile"))
        export(head, optimizer=rule)
        export(deep, optimizer=rule, trainable="last:2")
        export(mobile, backbone="torchvision:mobilenet_v2", weights=str(MOBILENET), optimizer=rule)
        for name, tree in trees.items():
            print(f"\n| {name} | validation, mean (least) of 3 seeds |\n|---|---|")
            stores: Stores = {}
            for kind in KINDS:
                start = time.perf_counter()
                found = scores(head, tree, SEEDS, stores, init=kind, cycles=0)
                print(f"{time.perf_counter() - start:.1f} s for three, pictures included once")
                row(f"--init {kind}, no cycle", found)
            row("--trainable head", scores(head, tree, SEEDS, stores))
            row("--trainable last:2", scores(deep, tree, SEEDS, {}))
            row("mobilenet_v2, head", scores(mobile, tree, SEEDS, {}))
            print(
                f"\n| {name}: pictures per class | imprint | ridge | 60 cycles |\n|---|---|---|---|"
            )
            for count in (1, 2, 5, 10, 20):
                part = partial(few, per_class=count)
                cells = [
                    np.mean(scores(head, tree, range(5), stores, part, init=kind, cycles=cycles))
                    for kind, cycles in WAYS
                ]
                print(f"| {count} | {' | '.join(f'{c:.3f}' for c in cells)} |", flush=True)


if __name__ == "__main__":
    main()
