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

from benchmarks.data import machine, subset
from benchmarks.seeds import Stores, scores
from model.export import export_backbone
from model.networks.load import load_backbone
from model.step.optimizers import SGD, Adam, Optimizer

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
            stores: Stores = {}
            for optimizer, std in HEADS:
                model = Path(folder, "model.tod")
                export_backbone(model, base, optimizer=optimizer, head_std=std)
                cells = []
                for tree in trees:
                    found = scores(model, tree, SEEDS, stores)
                    cells.append(f"{np.mean(found):.3f} ({min(found):.3f})")
                label = f"{optimizer.name} {optimizer.learning_rate:g}"
                print(f"| {input_name} | {label} | {std} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
