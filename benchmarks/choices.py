"""What the defaults of `tod export` were chosen by: validation accuracy of every alternative.

Run it with `python -m benchmarks.choices`. Ten seeds of split and training, 60 cycles of batch 32,
the best of the evaluations on the test split, as `tod.train` does it.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import tod
from benchmarks.data import machine, subset
from model.export import export_backbone
from model.networks.load import load_backbone
from model.step.optimizers import SGD, Adam, Optimizer
from tod.runtime.features import FeatureStore
from tod.training.records import Evaluated

SEEDS = range(10)
INPUTS: dict[str, dict[str, Any]] = {
    "mean 127 std 128, bicubic": {},
    "mean 127 std 128, bilinear": {"interpolation": "bilinear"},
    "ImageNet mean and std, bicubic": {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    },
}
HEADS: list[tuple[Optimizer, float]] = [
    (SGD(0.0015, dampening=0.01), 0.1),
    (SGD(0.05, dampening=0.01), 0.1),
    (SGD(0.1, dampening=0.01), 0.1),
    (SGD(0.02, dampening=0.01), 0.01),
    (SGD(0.05, dampening=0.01), 0.01),
    (SGD(0.1, dampening=0.01), 0.01),
    (Adam(0.001), 0.01),
    (Adam(0.003), 0.01),
    (Adam(0.01), 0.01),
]


def accuracies(
    model: Path, tree: Path, store: FeatureStore | None
) -> tuple[list[float], FeatureStore | None]:
    """Validation accuracy for each seed, and the features for the next call."""
    found = []
    for seed in SEEDS:
        session = tod.TrainSession.load(model)
        session.store = store = store or session.store
        data = tod.Dataset.open(tree, seed=seed)
        records = tod.train(session, data, cycles=60, target_accuracy=1, seed=seed)
        found.append([r for r in records if isinstance(r, Evaluated)][-1].accuracy)
    return found, store


def main() -> None:
    print(machine())
    print("validation accuracy: mean (least) of 10 seeds\n")
    print("| input | optimizer | head std | scenes | places |")
    print("|---|---|---|---|---|")
    trees = subset("scenes", 100), subset("places", 200)
    with tempfile.TemporaryDirectory() as folder:
        for input_name, change in INPUTS.items():
            base = load_backbone()
            base = replace(base, input=replace(base.input, **change))
            stores: list[FeatureStore | None] = [None, None]
            for optimizer, std in HEADS:
                model = Path(folder, "model.tod")
                export_backbone(model, base, optimizer=optimizer, head_std=std)
                cells = []
                for i, tree in enumerate(trees):
                    found, stores[i] = accuracies(model, tree, stores[i])
                    cells.append(f"{np.mean(found):.3f} ({min(found):.3f})")
                label = f"{optimizer.name} {optimizer.learning_rate:g}"
                print(f"| {input_name} | {label} | {std} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
