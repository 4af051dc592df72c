"""Pictures for a conversion: to calibrate on, and to compare the answers on.

Axes: N pictures, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.convert.comparison import Sample
from model.reduce import calibration
from model.reduce.calibration import Pictures
from tod.data.dataset import Dataset
from tod.data.image import load
from tod.data.samples import Sample as Read
from tod.errors import DataError, PictureError
from tod.format.manifest import InputSpec
from tod.runtime.scoring import Labels

# A thousand pictures tell a drop of one per cent from none.
MOST = 1000


def for_calibration(dataset: Dataset | None, spec: InputSpec) -> Pictures:
    """Of the train split; made by rule where there is no dataset."""
    if dataset is None:
        return calibration.made_by_rule(spec)
    return calibration.from_dataset(dataset, spec)


def to_compare(dataset: Dataset | None, spec: InputSpec, *, labels: bool) -> Sample:
    """Of the validation split, a seeded choice where there are many; made by rule where there is
    no dataset.

    Args:
        dataset: as the model numbers its classes, where labels are wanted.
        spec: how pictures are brought to size.
        labels: they are the model's.

    Raises:
        DataError: no picture of the split can be read.
    """
    if dataset is None:
        pixels = calibration.made_by_rule(spec).pixels
        return Sample(pixels, None, f"{len(pixels)} pictures made by rule")
    chosen = list(dataset.split("validation"))
    if len(chosen) > MOST:
        order = np.random.default_rng(0).permutation(len(chosen))[:MOST]
        chosen = [chosen[index] for index in sorted(order)]
    found, kept = [], []
    for sample in chosen:
        try:
            data = (dataset.root / sample.path).read_bytes()
            found.append(load(data, spec, cropped=dataset.cropped))
            kept.append(sample)
        except (OSError, PictureError):
            continue
    if not kept:
        raise DataError(
            f"{dataset.root}: no picture of its validation split can be read",
            hint="give a folder with more pictures; tod check says what is wrong with these",
        )
    of = f"{len(kept)} pictures of the validation split of {dataset.root}"
    return Sample(np.stack(found), _labels(kept) if labels else None, of)


def _labels(samples: Sequence[Read]) -> Labels:
    if samples[0].targets is not None:
        return np.array([sample.targets for sample in samples], np.float32)
    return np.array([sample.label for sample in samples], np.int64)
