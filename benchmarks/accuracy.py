"""Validation accuracy on real pictures, seeds 0 to 4 of both split and training.

Run it with `python -m benchmarks.accuracy`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import tod
from benchmarks.data import machine, subset
from benchmarks.seeds import Stores, sessions
from model.export import export
from model.step.optimizers import SGD
from tod.training.records import CycleDone, Evaluated

SEEDS = range(5)
RECIPES: dict[str, dict[str, Any]] = {
    "default (pooled, lr 0.02)": {"optimizer": SGD(0.02, dampening=0.01)},
    "mindspore (logits, lr 0.0015)": {
        "optimizer": SGD(0.0015, dampening=0.01),
        "features": "logits",
        "head_std": 0.1,
    },
}


def runs(model: Path, tree: Path, stores: Stores) -> list[dict[str, float]]:
    """Accuracies and cycles by name for each seed: with early stopping, and to cycle 60."""
    rows: list[dict[str, float]] = [{} for _ in SEEDS]
    for target in (0.9, 1.0):
        for found, (session, data, seed) in zip(
            rows, sessions(model, tree, SEEDS, stores), strict=True
        ):
            found["untrained"] = session.evaluate(data).accuracy
            records = list(tod.train(session, data, cycles=60, target_accuracy=target, seed=seed))
            scores = [record for record in records if isinstance(record, Evaluated)]
            found[f"test, target {target}"] = max(r.accuracy for r in scores if r.split == "test")
            found[f"validation, target {target}"] = scores[-1].accuracy
            found[f"cycles, target {target}"] = sum(isinstance(r, CycleDone) for r in records)
    return rows


def main() -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        for recipe, settings in RECIPES.items():
            model = Path(folder, "model.tod")
            export(model, **settings)
            for name, per_class in (("scenes", 100), ("places", 200)):
                rows = runs(model, subset(name, per_class), {})
                print(f"\n{name}, {recipe}")
                for key in rows[0]:
                    values = [row[key] for row in rows]
                    text = " ".join(f"{value:.3g}" for value in values)
                    print(f"  {key:24} mean {np.mean(values):.4f} min {min(values):.3f}: {text}")


if __name__ == "__main__":
    main()
