"""Calibration pictures: real ones, or pictures made by rule.

Knows numpy and pictures; knows no network. Axes: N pictures, S side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.dataset import Dataset
from tod.data.pictures import array_of
from tod.data.samples import Sample
from tod.errors import DataError, PictureError
from tod.format.manifest import InputSpec, SampleSpec

# Two thirds calibrate, one third measures. More real pictures do not improve the ranges
# (docs/performance.md).
REAL, MADE = 300, 96
_SHARE = 2 / 3
# Memory limit for the features of all pictures: a map close to the pixels has a million numbers.
_FEATURE_BYTES = 256 << 20
_LEAST = 12


@dataclass(frozen=True)
class Pictures:
    """Pictures to calibrate on, and held-out pictures to measure with.

    Attributes:
        pixels: uint8 [N, S, S, 3], RGB.
        labels: int64 [N]; None if no class is known.
        classes: the number of classes; 0 if none is known.
        data_sha256: digest of their dataset; None: they were made by rule.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: int
    data_sha256: str | None

    @property
    def calibrating(self) -> int:
        """The number of pictures, from the first on, that calibrate; the others are held out."""
        return max(1, min(len(self.pixels) - 1, round(len(self.pixels) * _SHARE)))


def count_for(feature_shape: tuple[int, ...], wanted: int) -> int:
    """Return how many pictures have features that fit into the allowed memory.

    Args:
        feature_shape: the shape of one picture's features.
        wanted: the largest number of pictures.
    """
    each = 4 * int(np.prod(feature_shape))
    return max(_LEAST, min(wanted, _FEATURE_BYTES // each))


def from_dataset(dataset: Dataset, spec: SampleSpec, count: int = REAL) -> Pictures:
    """Draw a seeded sample of the train split, with the classes in turn.

    Args:
        dataset: unreadable pictures are passed over.
        spec: what a sample is.
        count: largest number of pictures.

    Raises:
        DataError: fewer than two pictures can be read.
    """
    pixels: list[NDArray[Any]] = []
    kept: list[Sample] = []
    for sample in _in_turn(dataset.split("train")):
        if len(kept) == count:
            break
        try:
            pixels.append(array_of(dataset.source(sample), spec, cropped=dataset.cropped))
            kept.append(sample)
        except PictureError:
            continue
    if len(kept) < 2:
        raise DataError(
            f"{dataset.root}: {len(kept)} pictures of its train split can be read, calibration "
            "needs at least 2",
            hint="give a folder with a few hundred pictures like those of the device",
        )
    labels = None if dataset.has_targets else np.array([s.label for s in kept], np.int64)
    classes = 0 if labels is None else len(dataset.classes)
    return Pictures(np.stack(pixels), labels, classes, dataset.digest())


def _in_turn(samples: tuple[Sample, ...]) -> list[Sample]:
    """Sort different pictures in a seeded order that takes one of each class, then again."""
    unique = list({sample.sha256: sample for sample in samples}.values())
    unique.sort(key=lambda sample: sample.sha256)
    order = np.random.default_rng(0).permutation(len(unique))
    taken: dict[int, int] = {}
    ranked = []
    for place, index in enumerate(order):
        label = unique[index].label
        taken[label] = turn = taken.get(label, -1) + 1
        ranked.append((turn, place, unique[index]))
    return [sample for _, _, sample in sorted(ranked, key=lambda entry: entry[:2])]


# Mean and spread of the decimal logarithm of light in the axes of Ruderman, Cronin and Chiao 1998
# ("Statistics of cone responses to natural images"): brightness, yellow-blue, red-green; as
# measured on 100 photographs of scenes.
_LOG_MEAN = np.array([-1.61, 0.03, -0.005])
_LOG_SPREAD = np.array([1.1, 0.2, 0.035])
# Matrices from these axes to the logarithms of cone responses, and from cone responses to linear
# RGB: Reinhard, Ashikhmin, Gooch and Shirley 2001, "Color Transfer between Images".
_TO_LOG_CONES = np.array([[1, 1, 1], [1, 1, -1], [1, -2, 0]]) * np.array([3, 6, 2]) ** -0.5
_TO_RGB = np.array(
    [[4.4679, -3.5873, 0.1193], [-1.2186, 2.3809, -0.1624], [0.0497, -0.2439, 1.2045]]
)


def made_by_rule(spec: InputSpec, count: int = MADE) -> Pictures:
    """Make seeded pictures with the statistics of photographs, if no photographs are given.

    Dead leaves (Lee, Mumford and Huang 2001, "Occlusion Models for Natural Images": discs that hide
    one another, with a density of radii that falls as 1/radius^3) in natural colours, under a cloud
    whose amplitudes fall as 1/frequency (Field 1987).

    Args:
        spec: gives their size.
        count: how many.
    """
    generator = np.random.default_rng(0)
    pictures = [_dead_leaves(generator, spec.size_px) for _ in range(count)]
    return Pictures(np.stack(pictures), None, 0, None)


def _dead_leaves(generator: np.random.Generator, side_px: int) -> NDArray[np.uint8]:
    least, largest, leaves = 0.015, 0.5, 600
    # Inverse of the distribution function of a density that falls as 1/radius^3.
    share = generator.random(leaves)
    radii = (least**-2 + share * (largest**-2 - least**-2)) ** -0.5 * side_px
    centres = generator.random((leaves, 2)) * side_px
    colours = generator.normal(_LOG_MEAN, _LOG_SPREAD, (leaves, 3))
    picture = np.broadcast_to(colours[0], (side_px, side_px, 3)).copy()
    for (x, y), radius, colour in zip(centres, radii, colours, strict=True):
        top, bottom = max(0, int(y - radius)), min(side_px, int(y + radius) + 1)
        left, right = max(0, int(x - radius)), min(side_px, int(x + radius) + 1)
        rows, columns = np.ogrid[top:bottom, left:right]
        inside = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        picture[top:bottom, left:right][inside] = colour
    picture[..., 0] += 0.3 * _cloud(generator, side_px)
    light = 10 ** (picture @ _TO_LOG_CONES.T) @ _TO_RGB.T
    return np.round(255 * np.clip(light, 0, 1) ** (1 / 2.2)).astype(np.uint8)


def _cloud(generator: np.random.Generator, side_px: int) -> NDArray[np.float64]:
    """Make noise [S, S] whose amplitudes fall as 1/frequency; mean 0, standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(side_px)[:, None], np.fft.rfftfreq(side_px)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(generator.standard_normal((side_px, side_px))) / frequency
    cloud = np.fft.irfft2(spectrum, (side_px, side_px))
    return np.asarray(cloud / cloud.std())
