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
from tod.data.pictures import array_of
from tod.data.samples import Sample as Read
from tod.data.tensors import random_samples
from tod.errors import DataError, PictureError, UsageError
from tod.format.manifest import InputSpec, SampleSpec, TensorSpec
from tod.runtime.scoring import Labels

# A thousand pictures tell a drop of one per cent from none.
MOST = 1000
_RANDOM = 200


def for_calibration(dataset: Dataset | None, spec: SampleSpec) -> Pictures:
    """Of the train split; made by rule where there is no dataset.

    Raises:
        UsageError: there is none, and no rule for samples that are no pictures.
    """
    if dataset is None:
        if isinstance(spec, TensorSpec):
            raise UsageError(
                "quantization has to look at samples, and there is no rule to make those of this "
                f"model, {list(spec.shape)}",
                hint="give some with --calibrate or -d",
            )
        return calibration.made_by_rule(spec)
    return calibration.from_dataset(dataset, spec)


def to_compare(dataset: Dataset | None, spec: SampleSpec, *, labels: bool) -> Sample:
    """Of the validation split, a seeded choice where there are many; made by rule where there is
    no dataset.

    Args:
        dataset: as the model numbers its classes, where labels are wanted.
        spec: how pictures are brought to size.
        labels: they are the model's.

    Raises:
        DataError: no picture of the split can be read.
    """
    if dataset is None and isinstance(spec, TensorSpec):
        return Sample(random_samples(spec, _RANDOM), None, f"{_RANDOM} random samples")
    if dataset is None:
        assert isinstance(spec, InputSpec)
        pixels = calibration.made_by_rule(spec).pixels
        return Sample(pixels, None, f"{len(pixels)} pictures made by rule")
    chosen = list(dataset.split("validation"))
    if len(chosen) > MOST:
        order = np.random.default_rng(0).permutation(len(chosen))[:MOST]
        chosen = [chosen[index] for index in sorted(order)]
    found, kept = [], []
    for sample in chosen:
        try:
            found.append(array_of(dataset.source(sample), spec, cropped=dataset.cropped))
            kept.append(sample)
        except PictureError:
            continue
    if not kept:
        raise DataError(
            f"{dataset.root}: no picture of its validation split can be read",
            hint="give a folder with more pictures; tod check says what is wrong with these",
        )
    what = "pictures" if isinstance(spec, InputSpec) else "samples"
    of = f"{len(kept)} {what} of the validation split of {dataset.root}"
    return Sample(np.stack(found), _labels(kept) if labels else None, of)


def _labels(samples: Sequence[Read]) -> Labels:
    if samples[0].targets is not None:
        return np.array([sample.targets for sample in samples], np.float32)
    return np.array([sample.label for sample in samples], np.int64)
