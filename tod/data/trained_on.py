"""The pictures that a model was trained on, kept as 32 bits of each pixel hash.

32 bits are enough: with 1,000 new pictures and 10,000 trained ones, one in 430 datasets has a pair
with equal bits, and then one picture is left out of a score. Knows no files.
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

Trained = NDArray[np.uint32]  # sorted and unique
NONE: Trained = np.empty(0, np.uint32)
_DIGITS = 8  # hexadecimal, of the hash


def marks(samples: Iterable[Sample]) -> NDArray[np.uint32]:
    """Return the kept bits of each sample, in order."""
    return np.array([int(sample.pixels[:_DIGITS], 16) for sample in samples], np.uint32)


def with_more(trained: Trained, samples: Iterable[Sample]) -> Trained:
    """Add samples to the trained pictures."""
    # NumPy's own functions for sets load numpy.ma, which a short run would wait for.
    return np.array(sorted({*trained.tolist(), *marks(samples).tolist()}), np.uint32)


def without_trained(dataset: Dataset, trained: Sequence[tuple[str, NDArray[Any]]]) -> Dataset:
    """Remove the test and validation pictures that models were trained on, and add a notice with
    their number, because no trained picture may count in a score.

    Args:
        dataset: its train pictures stay.
        trained: the name of each model, and its trained pictures.
    """
    scoring = [sample for sample in dataset.samples if sample.split != "train"]
    out: set[str] = set()
    notices = []
    for name, known in trained:
        seen = set(known.tolist())
        pairs = zip(scoring, marks(scoring).tolist(), strict=True)
        found = [sample for sample, mark in pairs if mark in seen]
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
