"""Which pictures a report shows: those that the model gets most wrong, and those it doubts most.

Axes: N pictures, C classes or quantities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tod.data.samples import Sample
from tod.format.manifest import Task
from tod.report.contents import Shot

SHOWN = 12  # of each kind
_ANSWERS = 3


def worst(
    task: Task,
    samples: Sequence[Sample],
    classes: Sequence[str],
    said: NDArray[np.float32],  # [N, C]
) -> tuple[Shot, ...]:
    """Wrong answers, those first that the model was surest of; of quantities the largest errors."""
    shots = _shots(task, samples, classes, said)
    if task == "regression":
        return tuple(sorted(shots, key=lambda shot: (-shot.own, shot.path))[:SHOWN])
    wrong = [shot for shot in shots if not shot.right]
    return tuple(sorted(wrong, key=lambda shot: (shot.own, shot.path))[:SHOWN])


def doubtful(
    task: Task,
    samples: Sequence[Sample],
    classes: Sequence[str],
    said: NDArray[np.float32],  # [N, C]
) -> tuple[Shot, ...]:
    """Answers, right or wrong, between which the model could hardly decide; none of quantities,
    which come without a doubt."""
    if task == "regression" or said.shape[1] < 2:
        return ()
    if task == "multi-label":
        margins = np.abs(said - 0.5).min(axis=1)
    else:
        first_two = np.partition(said, said.shape[1] - 2, axis=1)[:, -2:]
        margins = first_two[:, 1] - first_two[:, 0]
    order = sorted(range(len(samples)), key=lambda i: (float(margins[i]), samples[i].path))
    chosen = order[:SHOWN]
    return _shots(task, [samples[i] for i in chosen], classes, said[chosen])


def _shots(
    task: Task, samples: Sequence[Sample], classes: Sequence[str], said: NDArray[np.float32]
) -> tuple[Shot, ...]:
    if task == "single-label":
        return tuple(_of_class(s, classes, row) for s, row in zip(samples, said, strict=True))
    targets = np.array([s.targets for s in samples], np.float64).reshape(len(samples), -1)
    if task == "multi-label":
        rows = zip(samples, said, targets, strict=True)
        return tuple(_of_several(sample, classes, row, true) for sample, row, true in rows)
    spread = targets.std(axis=0)
    errors = np.abs(said - targets) / np.where(spread > 0, spread, 1)
    rows_ = zip(samples, said, targets, errors.max(axis=1), strict=True)
    return tuple(_of_numbers(s, classes, row, true, float(off)) for s, row, true, off in rows_)


def _of_class(sample: Sample, classes: Sequence[str], row: NDArray[np.float32]) -> Shot:
    order = np.argsort(-row, kind="stable")[:_ANSWERS]
    answers = tuple((classes[i], float(row[i])) for i in order)
    right = bool(order[0] == sample.label)
    return Shot(sample.path, classes[sample.label], answers, float(row[sample.label]), right)


def _of_several(
    sample: Sample, classes: Sequence[str], row: NDArray[np.float32], true: NDArray[np.float64]
) -> Shot:
    """Of several classes: the one that is most wrong decides."""
    yes = true > 0.5
    label = ", ".join(name for name, is_so in zip(classes, yes, strict=True) if is_so) or "none"
    of_truth = np.where(yes, row, 1 - row)
    order = np.argsort(of_truth, kind="stable")[:_ANSWERS]
    answers = tuple((classes[i], float(row[i])) for i in order)
    right = bool(((row > 0.5) == yes).all())
    return Shot(sample.path, label, answers, float(of_truth.min()), right)


def _of_numbers(
    sample: Sample,
    names: Sequence[str],
    row: NDArray[np.float32],
    true: NDArray[np.float64],
    off: float,
) -> Shot:
    shown = list(zip(names, row, true, strict=True))[:_ANSWERS]
    label = ", ".join(f"{name} {value:.4g}" for name, _, value in shown)
    answers = tuple((name, float(value)) for name, value, _ in shown)
    return Shot(sample.path, label, answers, off, None)
