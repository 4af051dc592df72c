"""Compare a frozen graph of reduced precision with the float32 graph.

Axes: N pictures, F features.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.reduce.calibration import Pictures
from tod.runtime.engine import Engine
from tod.training.closed_form import Head, ridge

_BATCH = 8
_ROUNDS = 7
Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Heads:
    """Top-1 accuracy of linear heads on held-out pictures; they are fitted by ridge regression.

    Attributes:
        agreement: share of pictures for which a head trained on float32 features predicts the same
            class from both kinds of features.
        before, after: accuracy of a head trained and tested on float32 features, and on features of
            reduced precision.
    """

    agreement: float
    before: float
    after: float


def features(graph: bytes, pixels: NDArray[np.uint8]) -> Rows:
    """Compute features [N, F] of pictures; feature maps are flattened."""
    engine = Engine({"features.onnx": graph})
    parts = [engine.features(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)]
    return np.concatenate([part.reshape(len(part), -1) for part in parts])


def cosines(before: Rows, after: Rows) -> NDArray[np.float64]:
    """Cosine between each row of `before` and of `after`, [N]; 0 if a row is zero or not finite."""
    x, y = before.astype(np.float64), after.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (x * y).sum(axis=1) / lengths
    return np.where(np.isfinite(found), found, 0.0)


def heads(before: Rows, after: Rows, pictures: Pictures) -> Heads | None:
    """Train heads on the calibration pictures and test them on the others; None without classes.

    Args:
        before, after: features [N, F] of all pictures.
        pictures: gives the classes and the held-out pictures.
    """
    if pictures.labels is None:
        return None
    seen, held_out = (
        pictures.labels[: pictures.calibrating],
        pictures.labels[pictures.calibrating :],
    )

    def answers(head: Head, rows: Rows) -> NDArray[np.int64]:
        weight, bias = head
        return (rows[len(seen) :] @ weight.T + bias).argmax(axis=1)

    on_before = ridge(before[: len(seen)], seen, pictures.classes)
    on_after = ridge(after[: len(seen)], seen, pictures.classes)
    wanted = answers(on_before, before)
    return Heads(
        agreement=float((answers(on_before, after) == wanted).mean()),
        before=float((wanted == held_out).mean()),
        after=float((answers(on_after, after) == held_out).mean()),
    )


def speeds(graphs: tuple[bytes, ...], pixels: NDArray[np.uint8]) -> tuple[float, ...]:
    """Measure milliseconds a picture for each graph: one thread, batches of 8, the graphs in turn,
    median of 7 rounds."""
    engines = [Engine({"features.onnx": graph}) for graph in graphs]
    batch = pixels[:_BATCH]
    times: list[list[float]] = [[] for _ in graphs]
    for round_ in range(_ROUNDS + 1):
        for engine, found in zip(engines, times, strict=True):
            start = time.perf_counter()
            engine.features(batch)
            if round_:  # the first one loads the graph
                found.append(1e3 * (time.perf_counter() - start) / len(batch))
    return tuple(float(np.median(found)) for found in times)
