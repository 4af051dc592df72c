"""Validation accuracy of what trains and of heads in closed form, on real pictures.

Run it with `python -m benchmarks.depth`. Seeds 0 to 2 of split and training, 60 cycles of batch 32,
the defaults of `tod export`; then a table of few pictures per class.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

import tod
from benchmarks.data import PICTURES, machine, subset
from model.export import export
from model.step.optimizers import SGD
from tod.data.splits import shuffle_key
from tod.runtime.features import FeatureStore
from tod.training.records import Evaluated
from tod.training.settings import InitName

SEEDS = range(3)
KINDS: tuple[InitName, ...] = ("imprint", "ridge")
WAYS: tuple[tuple[InitName | None, int], ...] = (("imprint", 0), ("ridge", 0), (None, 60))
MOBILENET = PICTURES / "weights" / "mobilenet_v2-imagenet.pth"


def accuracy(
    model: Path,
    tree: Path,
    seed: int,
    stores: dict[Path, FeatureStore],
    init: InitName | None = None,
    cycles: int = 60,
    per_class: int | None = None,
) -> float:
    """Validation accuracy after training, or of a head in closed form with no cycle at all."""
    session = tod.TrainSession.load(model)
    if tree in stores:
        session.store = stores[tree]
    stores[tree] = session.store
    dataset = tod.Dataset.open(tree, seed=seed)
    if per_class is not None:
        dataset = few(dataset, per_class, seed)
    records = tod.train(session, dataset, cycles=cycles, seed=seed, target_accuracy=1, init=init)
    return [record for record in records if isinstance(record, Evaluated)][-1].accuracy


def few(dataset: tod.Dataset, per_class: int, seed: int) -> tod.Dataset:
    """Only so many training pictures of each class."""
    from dataclasses import replace

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
            stores: dict[Path, FeatureStore] = {}
            for kind in KINDS:
                start = time.perf_counter()
                found = [accuracy(head, tree, s, stores, kind, 0) for s in SEEDS]
                print(f"{time.perf_counter() - start:.1f} s for three, pictures included once")
                row(f"--init {kind}, no cycle", found)
            row("--trainable head", [accuracy(head, tree, s, stores) for s in SEEDS])
            deep_stores: dict[Path, FeatureStore] = {}
            row("--trainable last:2", [accuracy(deep, tree, s, deep_stores) for s in SEEDS])
            other: dict[Path, FeatureStore] = {}
            row("mobilenet_v2, head", [accuracy(mobile, tree, s, other) for s in SEEDS])
            print(
                f"\n| {name}: pictures per class | imprint | ridge | 60 cycles |\n|---|---|---|---|"
            )
            for count in (1, 2, 5, 10, 20):
                cells = [
                    np.mean(
                        [accuracy(head, tree, s, stores, kind, cycles, count) for s in range(5)]
                    )
                    for kind, cycles in WAYS
                ]
                print(f"| {count} | {' | '.join(f'{c:.3f}' for c in cells)} |", flush=True)


if __name__ == "__main__":
    main()
