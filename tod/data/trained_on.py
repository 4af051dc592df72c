"""Which pictures a model was trained on: 32 bits of the hash of each one's pixels.

Enough to tell them from others: of 1,000 new pictures and 10,000 that trained, one in 430 data sets
has a pair that looks alike, and then one picture is left out of a score. Knows no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.dataset import Dataset
from tod.data.samples import Sample
from tod.data.splits import FRACTIONS

Trained = NDArray[np.uint32]  # sorted, each once
NONE: Trained = np.empty(0, np.uint32)
_DIGITS = 8  # hexadecimal, of the hash


def marks(samples: Iterable[Sample]) -> NDArray[np.uint32]:
    """What is kept of each sample, in their order."""
    return np.array([int(sample.pixels[:_DIGITS], 16) for sample in samples], np.uint32)


def with_more(trained: Trained, samples: Iterable[Sample]) -> Trained:
    """What was trained on so far, and these samples."""
    return np.union1d(trained, marks(samples))


def without_trained(dataset: Dataset, trained: Sequence[tuple[str, NDArray[Any]]]) -> Dataset:
    """The dataset without the test and validation pictures that models were trained on, and a
    notice of how many they were: nothing that was learned may count in a score.

    Args:
        dataset: a train picture stays where it is.
        trained: the name of each model, and what it was trained on.
    """
    scoring = [sample for sample in dataset.samples if sample.split != "train"]
    out: set[str] = set()
    notices = []
    for name, known in trained:
        found = [s for s, seen in zip(scoring, np.isin(marks(scoring), known), strict=True) if seen]
        if new := {s.path for s in found} - out:
            counts = [(sum(s.split == split for s in found), split) for split in FRACTIONS]
            parts = ", ".join(f"{count} of the {split} split" for count, split in counts if count)
            notices.append(
                f"{len(found)} pictures do not count in a score, as {name} was trained on them: "
                f"{parts}"
            )
            out |= new
    if not out:
        return dataset
    kept = tuple(sample for sample in dataset.samples if sample.path not in out)
    return replace(dataset, samples=kept, notices=(*dataset.notices, *notices))
