"""The frozen part in int8 against float32: speed, size, accuracy, and what a lower cosine costs.

Run it with `python -m benchmarks.int8`.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData

from benchmarks.accuracy import RECIPES, SEEDS
from benchmarks.data import machine, subset
from benchmarks.seeds import scores
from benchmarks.sides import in_turn, ratio
from model.export import export
from model.reduce import calibration, parity, pixel_input, quantize
from model.reduce.precision import Precision
from tod.data.dataset import Dataset
from tod.data.tensors import random_samples
from tod.format import artifact
from tod.runtime.engine import Engine
from tod.training.closed_form import ridge

_ROUNDS, _BATCHES = 15, 8


def speed(files: dict[str, Path], workers: int, rows: int) -> None:
    """Milliseconds a picture with so many workers of one thread each: in turn, medians."""
    engines = {name: Engine(artifact.read(file).graphs) for name, file in files.items()}
    spec = artifact.read(next(iter(files.values()))).manifest.samples
    batch = random_samples(spec, rows)

    def picture_ms(engine: Engine) -> float:
        start = time.perf_counter()
        list(pool.map(engine.features, [batch] * _BATCHES))
        return (time.perf_counter() - start) / _BATCHES / rows * 1e3

    with ThreadPoolExecutor(workers) as pool:
        measures = {name: partial(picture_ms, engine) for name, engine in engines.items()}
        in_turn(measures, 1)
        times = in_turn(measures, _ROUNDS)
    first = next(iter(times.values()))
    text = ", ".join(
        f"{name} {np.median(found):.2f} ms ({ratio(first, found):.2f}x)"
        for name, found in times.items()
    )
    print(f"{workers} workers, batch {rows}: {text}")


def lower_cosines(file: Path, name: str, rows: int = 600, seeds: int = 10) -> None:
    """Ridge heads on features of ranges that are too narrow or too wide, so worse by steps."""
    found = artifact.read(file)
    spec, model = found.manifest.input, onnx.ModelProto.FromString(found.graphs["features.onnx"])
    assert spec is not None
    pictures = calibration.from_dataset(Dataset.open(subset(name, 100)), spec, rows)
    ranges = quantize.ranges(model, pictures.pixels[:100])
    pixels, labels = pictures.pixels[100:], pictures.labels
    assert labels is not None
    before = parity.features(found.graphs["features.onnx"], pixels)
    print(f"{name}: float32 {_accuracy(before, labels[100:], seeds):.4f}")
    for factor in (1, 0.9, 1.5, 2, 3, 0.8, 0.7):
        scaled = {
            key: tuple(np.float32(factor) * end for end in value.range_value)
            for key, value in ranges.items()
        }
        worse = quantize.int8(
            model,
            TensorsData(CalibrationMethod.MinMax, scaled),
            pixels=pixel_input.find(model, spec),
        )
        after = parity.features(worse.SerializeToString(), pixels)
        cosine = parity.cosines(before, after).mean()
        print(f"  ranges x {factor}: {cosine:.3f} {_accuracy(after, labels[100:], seeds):.4f}")


def _accuracy(features: NDArray[np.float32], labels: NDArray[np.int64], seeds: int) -> float:
    """Mean over splits of 70 % to train on."""
    found = []
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(labels))
        seen, rest = np.split(order, [int(0.7 * len(order))])
        weight, bias = ridge(features[seen], labels[seen], int(labels.max()) + 1)
        answers = (features[rest] @ weight.T + bias).argmax(axis=1)
        found.append(float((answers == labels[rest]).mean()))
    return float(np.mean(found))


def main() -> None:
    print(machine())
    settings = next(iter(RECIPES.values()))
    with tempfile.TemporaryDirectory() as folder:
        scenes = Dataset.open(subset("scenes", 100))
        asked = {
            "float32": None,
            "int8, made by rule": Precision("int8"),
            "int8": Precision("int8", scenes),
            "float16": Precision("float16"),
        }
        files = {name: Path(folder, f"{name}.tod") for name in asked}
        for name, precision in asked.items():
            made = export(files[name], precision=precision, **settings)
            print(name, made.file_bytes, made.reduced and made.reduced.parity)
        for workers in (1, 2):
            for rows in (4, 8):
                speed(files, workers, rows)
        for data, per_class in (("scenes", 100), ("places", 200)):
            tree = subset(data, per_class)
            for name, file in files.items():
                found = scores(file, tree, SEEDS, {})
                print(f"{data}, {name}: mean {np.mean(found):.4f} min {min(found):.3f}")
        for data in ("scenes", "places"):
            lower_cosines(files["float32"], data)


if __name__ == "__main__":
    main()
