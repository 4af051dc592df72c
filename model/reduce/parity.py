"""How much a frozen graph in fewer bits is like the one in float32.

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
    """Top-1 of linear heads on held-out pictures; ridge regression, in closed form.

    Attributes:
        agreement: share of pictures to which a head trained on float32 features gives the same
            class from both kinds of features.
        before, after: accuracy of a head trained and used on features of float32, of fewer bits.
    """

    agreement: float
    before: float
    after: float


def features(graph: bytes, pixels: NDArray[np.uint8]) -> Rows:
    """Features [N, F] of pictures, maps as rows."""
    engine = Engine({"features.onnx": graph})
    parts = [engine.features(pixels[i : i + _BATCH]) for i in range(0, len(pixels), _BATCH)]
    return np.concatenate([part.reshape(len(part), -1) for part in parts])


def cosines(before: Rows, after: Rows) -> NDArray[np.float64]:
    """Cosine of each row of one to that of the other, [N]; 0 where one is zero or not finite."""
    x, y = before.astype(np.float64), after.astype(np.float64)
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (x * y).sum(axis=1) / lengths
    return np.where(np.isfinite(found), found, 0.0)


def heads(before: Rows, after: Rows, pictures: Pictures) -> Heads | None:
    """Train heads on the pictures that calibrated, try them on the others; None without classes.

    Args:
        before, after: features [N, F] of all the pictures.
        pictures: tells classes, and which are held out.
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
    """Milliseconds a picture of each graph: one thread, batches of 8, in turn, the median of 7."""
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
