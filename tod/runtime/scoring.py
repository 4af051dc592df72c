"""Turn a network's outputs into predictions and scores, depending on its task.

Axes: N pictures, C classes, or outputs if the labels are numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.splits import Split
from tod.errors import DataError
from tod.format.manifest import Task
from tod.runtime.class_score import ClassScore, Confusion

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
        scores: precision, recall and F1 of each class; empty for measured quantities.
        confusion: how many pictures of each class got which answer. Of one class for each picture:
            a row for each true class, a column for each answer, in the order of the classes. Of yes
            and no for each class: a row (yes taken for yes, yes for no, no for yes, no for no).
            Empty for measured quantities.
    """

    split: Split
    metric: str
    accuracy: float
    correct: int
    total: int
    pictures: int
    by_class: dict[str, float]
    scores: dict[str, ClassScore] = field(default_factory=dict)
    confusion: Confusion = ()


def mean_loss(task: Task, outputs: NDArray[np.float32], labels: Labels) -> float:
    """The mean loss of outputs [N, C], as the training step has it without smoothing or weights."""
    x = outputs.astype(np.float64)
    if task == "regression":
        return float(np.square(x - labels).mean())
    if task == "multi-label":
        return float((np.maximum(x, 0) - x * labels + np.log1p(np.exp(-np.abs(x)))).mean())
    highest = x.max(axis=1, keepdims=True)
    sums = np.log(np.exp(x - highest).sum(axis=1)) + highest[:, 0]
    return float((sums - x[np.arange(len(x)), labels]).mean())


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
        counts = _yes_and_no(outputs > 0, labels > 0.5)
        hits, said, true = counts[:, 0], counts[:, 0] + counts[:, 2], counts[:, :2].sum(axis=1)
    else:
        answers = outputs.argmax(axis=1)
        right = answers == labels
        counts = confusion(labels, answers, len(classes))
        hits, said, true = counts.diagonal(), counts.sum(axis=0), counts.sum(axis=1)
        by_class = {
            name: float(right[labels == label].mean()) if (labels == label).any() else 0.0
            for label, name in enumerate(classes)
        }
    correct, total = int(right.sum()), right.size
    return Evaluation(
        split, "accuracy", correct / total, correct, total, len(labels), by_class,
        scores={
            name: ClassScore(t, _share(hit, s), _share(hit, t), _share(2 * hit, t + s))
            for name, hit, s, t in zip(
                classes, hits.tolist(), said.tolist(), true.tolist(), strict=True
            )
        },
        confusion=tuple(map(tuple, counts.tolist())),
    )  # fmt: skip


def confusion(
    labels: NDArray[np.int64],  # [N]
    answers: NDArray[np.int64],  # [N]
    classes: int,
) -> NDArray[np.int64]:  # [C, C]
    """How many pictures of each class (row) got which answer (column)."""
    places = labels * classes + answers
    return np.bincount(places, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def confused(counts: Confusion) -> list[tuple[int, int, int]]:
    """What is taken for what in a square matrix: true class, answer, pictures; most first."""
    pairs = [
        (true, said, count)
        for true, row in enumerate(counts)
        for said, count in enumerate(row)
        if count and true != said
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair))


def interval(correct: int, total: int) -> tuple[float, float]:
    """Between what shares the accuracy lies with 95 % certainty, were there endless pictures.

    Source: Wilson, "Probable Inference", Journal of the American Statistical Association 22, 1927.
    """
    z = 1.959964
    share, part = correct / total, z * z / total
    middle = (share + part / 2) / (1 + part)
    half = z / (1 + part) * math.sqrt(share * (1 - share) / total + part / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_f1(scores: Iterable[ClassScore]) -> float | None:
    """The mean F1 over the classes that have one, each of them counting the same (macro F1)."""
    known = [score.f1 for score in scores if score.f1 is not None]
    return sum(known) / len(known) if known else None


def _yes_and_no(said: NDArray[np.bool_], true: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[N, C] twice -> [C, 4]: yes taken for yes, yes for no, no for yes, no for no."""
    found = (true & said, true & ~said, ~true & said, ~true & ~said)
    return np.stack([which.sum(axis=0) for which in found], axis=1).astype(np.int64)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


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
