"""How far the answers of a converted file are from the original's, and how fast they come.

Axes: N pictures, S side in pixels, C answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.convert.runners import Runner
from tod.format.manifest import Task
from tod.runtime.scoring import Labels, score

Rows = NDArray[np.float32]
_WARM = 3  # runs that are not timed
_LEAST = 1e-7  # of a probability, so that its logarithm is a number


@dataclass(frozen=True)
class Sample:
    """Pictures to compare on.

    Attributes:
        pixels: uint8 [N, S, S, 3].
        labels: None where the classes are not known.
        source: what they are, in words.
    """

    pixels: NDArray[np.uint8]
    labels: Labels | None
    source: str


@dataclass(frozen=True)
class Answers:
    """Of one file: float32 [N, C], and the milliseconds that each picture took."""

    rows: Rows
    times_ms: NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """One file beside the original.

    Attributes:
        largest, mean: absolute difference of the answers.
        cosine: of all logits to the original's, taken together; of the values themselves where the
            model answers with numbers.
        agreement: share of pictures with the same most likely class, or with every class on the
            same side of 1/2 where several may hold; None of numbers.
        accuracy: on the sample's labels (R2 of numbers); None where there are none.
        median_ms, p90_ms: a picture, one thread.
    """

    bytes: int
    largest: float
    mean: float
    cosine: float
    agreement: float | None
    accuracy: float | None
    median_ms: float
    p90_ms: float


def answers(
    run: Runner,
    pixels: NDArray[np.uint8],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Answers:
    """Answer for all pictures, one at a time.

    Args:
        run: see `model.convert.runners`.
        pixels: uint8 [N, S, S, 3].
        progress: called with the pictures done and to do.
    """
    for _ in range(_WARM):
        run(pixels[:1])
    rows, times = [], []
    for index in range(len(pixels)):
        picture = pixels[index : index + 1]
        start = time.perf_counter()
        found = run(picture)
        times.append(1e3 * (time.perf_counter() - start))
        rows.append(found[0].copy())
        progress(index + 1, len(pixels))
    return Answers(np.stack(rows).astype(np.float32), np.array(times))


def compare(
    size_bytes: int, after: Answers, before: Answers, sample: Sample, task: Task, classes: int
) -> Measured:
    """The figures of one file.

    Args:
        size_bytes: of the file.
        after: its answers.
        before: those of the original.
        sample: the pictures that they are for.
        task: of the model.
        classes: how many answers there are.
    """
    apart = np.abs(after.rows.astype(np.float64) - before.rows)
    accuracy = None
    if sample.labels is not None:
        names = tuple(map(str, range(classes)))
        scored = score(task, logits(after.rows, task), sample.labels, "validation", names)
        accuracy = scored.accuracy
    return Measured(
        bytes=size_bytes,
        largest=float(apart.max()),
        mean=float(apart.mean()),
        cosine=cosine(after.rows, before.rows, task),
        agreement=_agreement(after.rows, before.rows, task),
        accuracy=accuracy,
        median_ms=float(np.median(after.times_ms)),
        p90_ms=float(np.percentile(after.times_ms, 90)),
    )


def logits(rows: Rows, task: Task) -> Rows:
    """What the last activation was given, as far as its answers tell; [N, C]."""
    if task == "regression":
        return rows
    likely = np.clip(rows.astype(np.float64), _LEAST, 1.0)
    if task == "multi-label":
        likely = np.clip(likely, _LEAST, 1 - _LEAST)
        return np.asarray(np.log(likely / (1 - likely)), np.float32)
    logs = np.log(likely)
    return np.asarray(logs - logs.mean(axis=1, keepdims=True), np.float32)


def cosine(after: Rows, before: Rows, task: Task) -> float:
    """Of all the logits of one to those of the other; 0 where a number is not finite."""
    x, y = (logits(rows, task).astype(np.float64).ravel() for rows in (after, before))
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    if lengths == 0:
        return float(np.array_equal(x, y))
    found = float(x @ y / lengths)
    return found if np.isfinite(found) else 0.0


def _agreement(after: Rows, before: Rows, task: Task) -> float | None:
    if task == "regression":
        return None
    if task == "multi-label":
        same = ((after > 0.5) == (before > 0.5)).all(axis=1)
    else:
        same = after.argmax(axis=1) == before.argmax(axis=1)
    return float(same.mean())
