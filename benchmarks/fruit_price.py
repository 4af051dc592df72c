"""The table of fruit prices: how often is the rounded answer of a converted network the true price?

Run it with `python -m benchmarks.fruit_price`. Samples are rows of a table, no pictures: counts of
melons, apples and grapes, and the price of all. The network is that of docs/inference.md.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import tod
from benchmarks.data import machine
from benchmarks.processes import program, run

PRICES = np.array([100, 10, 1])
ROWS, CYCLES, SEEDS = 10_000, 40_000, 3
VARIANTS = {"float32": "none", "weights": "weights", "dynamic": "dynamic", "fp16": "fp16",
            "int8": "int8"}  # fmt: skip


def counts(seed: int, most: int = 9) -> NDArray[np.int64]:
    """Random rows of counts from 1 on, [ROWS, 3]."""
    return np.random.default_rng(seed).integers(1, most + 1, (ROWS, 3))


def write_table(path: Path) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["melon", "apple", "grape", "price"])
        rows.writerows([*row, row @ PRICES] for row in counts(0))


def right(model: Path, rows: NDArray[np.int64]) -> float:
    """The share of rows whose rounded answer is the true price."""
    interpreter = tod.Interpreter(model)
    interpreter.allocate_tensors()
    taken = interpreter.get_input_details()[0]["index"]
    given = interpreter.get_output_details()[0]["index"]
    good = 0
    for row in rows:
        interpreter.set_tensor(taken, row[None].astype(np.float32))
        interpreter.invoke()
        good += round(float(interpreter.get_tensor(given)[0, 0])) == row @ PRICES
    return good / len(rows)


def network() -> str:
    """The network's file, as the document shows it."""
    page = Path("docs/inference.md").read_text()
    start = page.index("# fruit_net.py")
    return page[start : page.index("```", start)]


def main() -> None:
    new = counts(1)
    beyond = counts(2, most=10)
    beyond = beyond[(beyond == 10).any(axis=1)]
    print(machine())
    print("file, bytes, right of 10,000 with each seed, right with a count of 10")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "fruit_net.py").write_text(network())
        data, model = folder / "fruit.csv", folder / "fruit.tod"
        write_table(data)
        step = ["--loss", "mse", "--optimizer", "adam", "--lr", 0.001, "--backbone-lr", 1]
        run([program("tod"), "export", folder / "fruit_net.py", "-o", model, *step])
        found: dict[str, list[tuple[int, float, float]]] = {name: [] for name in VARIANTS}
        for seed in range(SEEDS):
            trained = folder / f"trained{seed}.tod"
            run([
                program("tod"), "train", "-f", model, "-d", data, "--target", "price", "-q",
                "-c", CYCLES, "--schedule", "cosine", "--eval-every", 2000, "--patience", 0,
                "--target-accuracy", 1, "--seed", seed, "-o", trained,
            ])  # fmt: skip
            for name, bits in VARIANTS.items():
                made = folder / f"{name}{seed}.tflite"
                convert = ["convert", trained, "--to", "tflite", "--quantize", bits, "-d", data]
                run([program("tod"), *convert, "--max-drop", 1, "-q", "-o", made])
                size = made.stat().st_size
                found[name].append((size, right(made, new), right(made, beyond)))
    for name, rows in found.items():
        seeds = ", ".join(f"{share:.4f}" for _, share, _ in rows)
        wide = ", ".join(f"{share:.4f}" for *_, share in rows)
        print(f"{name}: {rows[0][0]:,} B; {seeds}; {wide}")


if __name__ == "__main__":
    main()
