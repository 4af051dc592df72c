"""Turn a network's outputs into predictions and scores, depending on its task.

Axes: N pictures, C classes, or outputs if the labels are numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.splits import Split
from tod.errors import DataError
from tod.format.manifest import Task

Labels = NDArray[Any]  # labels int64 [N], or targets float32 [N, C]


@dataclass(frozen=True)
class Evaluation:
    """How good a model is on a split.

    Attributes:
        accuracy: the share of right predictions, 0 to 1; for measured quantities R2, the share of
            their variance that is explained (1 is perfect, the mean alone gives 0).
        metric: "accuracy" or "R2".
        correct: right predictions; 0 for R2.
        total: number of predictions: one for each picture, or with several classes per picture one
            for each picture and class.
        pictures: the number of pictures.
        by_class: the accuracy for each class alone.
    """

    split: Split
    metric: str
    accuracy: float
    correct: int
    total: int
    pictures: int
    by_class: dict[str, float]


def nothing_to_score(split: Split) -> DataError:
    """Return the error for a split without a picture that counts."""
    return DataError(
        f"the {split} split has no picture that can be read and that the model was not trained on",
        hint="the notices say what was left out; a plain folder that is split with the seed of the "
        "training (tod info names it) has its split of then",
    )


def score(
    task: Task,
    outputs: NDArray[np.float32],  # [N, C]
    labels: Labels,
    split: Split,
    classes: Sequence[str],
) -> Evaluation:
    """Compare outputs with the labels, of one picture or more."""
    if task == "regression":
        # Use float64: in float32 the squares of large numbers overflow, and the score would be
        # -inf.
        left = np.square(outputs.astype(np.float64) - labels).sum(axis=0)
        spread = np.square(labels - labels.mean(axis=0)).sum(axis=0, dtype=np.float64)
        # R2 of a quantity that never varies is 1 if it is predicted exactly, else 0.
        shares = np.where(spread > 0, 1 - left / np.where(spread > 0, spread, 1), left == 0)
        named = dict(zip(classes, map(float, shares), strict=True))
        return Evaluation(split, "R2", float(shares.mean()), 0, labels.size, len(labels), named)
    if task == "multi-label":
        right = (outputs > 0) == (labels > 0.5)
        by_class = dict(zip(classes, map(float, right.mean(axis=0)), strict=True))
    else:
        right = outputs.argmax(axis=1) == labels
        by_class = {
            name: float(right[labels == label].mean()) if (labels == label).any() else 0.0
            for label, name in enumerate(classes)
        }
    correct, total = int(right.sum()), right.size
    return Evaluation(split, "accuracy", correct / total, correct, total, len(labels), by_class)


def predictions(task: Task, logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits [N, C] -> probabilities [N, C], or the quantities themselves."""
    if task == "regression":
        return logits
    if task == "multi-label":
        return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
    return softmax(logits)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:  # [N, C] -> [N, C]
    """Probabilities; the maximum is subtracted first so that nothing overflows."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities
