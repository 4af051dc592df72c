"""Score models of every kind on the same pictures of a dataset.

Axes: N pictures, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tod.data.dataset import Dataset
from tod.data.splits import Split
from tod.runtime.matching import labelled_for
from tod.runtime.model import Model
from tod.runtime.predictor import Predictor, answers
from tod.runtime.scoring import Evaluation, nothing_to_score, score

_SPLIT: Split = "validation"
# Above it a probability is a yes; in logits that is 0.
_YES = 0.5


@dataclass(frozen=True)
class Scored:
    """How good a model is on the validation pictures.

    Attributes:
        evaluation: its score.
        predicted: picture -> the most probable class; empty for quantities and for several classes.
        unreadable: picture -> why it cannot be read, so that it does not count.
    """

    evaluation: Evaluation
    predicted: dict[str, str]
    unreadable: dict[str, str]

    def agreement(self, other: Scored) -> float | None:
        """The share of pictures for which both predict the same class; None if they share none."""
        both = self.predicted.keys() & other.predicted.keys()
        same = sum(self.predicted[path] == other.predicted[path] for path in both)
        return same / len(both) if both else None


def score_model(model: Model, dataset: Dataset, progress: Callable[[int, int], None]) -> Scored:
    """Score a .tod file; rows of features that are in its store are not computed again.

    Args:
        model: its classes are matched by name.
        dataset: the pictures.
        progress: called with the pictures done and the pictures to do.

    Raises:
        DataError: its classes are not the data's, or no picture can be read.
    """
    matched = model.match(dataset)
    samples = matched.split(_SPLIT)
    model.store.fill(matched, samples, progress)
    rows, labels = model.store.rows(matched, samples)
    evaluation = model.score(rows, labels, _SPLIT)
    paths = [sample.path for sample in model.store.readable(matched, samples)]
    found = model.predict_features(rows)
    task = model.manifest.loss.task
    unreadable = {str(path): reason for path, reason in model.store.unreadable.items()}
    return Scored(evaluation, _predicted(task, paths, found, model.classes or ()), unreadable)


def score_file(
    predictor: Predictor, dataset: Dataset, progress: Callable[[int, int], None]
) -> Scored:
    """Score an .onnx or .tflite file; see `score_model`."""
    task = predictor.task
    matched = labelled_for(task, dataset).matched(predictor.classes)
    samples = matched.split(_SPLIT)
    files = [str(matched.root / sample.path) for sample in samples]
    sources = [matched.source(sample) for sample in samples]
    found: list[NDArray[np.float32]] = []
    seen, unreadable = [], {}
    every = answers(predictor, sources, cropped=matched.cropped)
    for done, (sample, file, answer) in enumerate(zip(samples, files, every, strict=True), 1):
        if answer.values is None:
            unreadable[file] = answer.problem
        else:
            found.append(answer.values)
            seen.append(sample)
        progress(done, len(samples))
    if not seen:
        raise nothing_to_score(_SPLIT)
    outputs = np.stack(found)
    labels = np.array([sample.label for sample in seen], np.int64)
    if task != "single-label":
        labels = np.array([sample.targets for sample in seen], np.float32)
    logits = outputs - _YES if task == "multi-label" else outputs
    evaluation = score(task, logits, labels, _SPLIT, predictor.classes)
    paths = [sample.path for sample in seen]
    return Scored(evaluation, _predicted(task, paths, outputs, predictor.classes), unreadable)


def _predicted(
    task: str, paths: list[str], outputs: NDArray[np.float32], classes: tuple[str, ...]
) -> dict[str, str]:
    if task != "single-label":
        return {}
    return {p: classes[i] for p, i in zip(paths, outputs.argmax(axis=1), strict=True)}
