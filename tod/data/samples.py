"""Sample: one picture of a dataset; and what a set of them has to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tod.data.splits import FRACTIONS, Split
from tod.errors import DataError
from tod.system.names import listed

MIN_PICTURES = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture. `path` is relative to the dataset's folder, with "/" between its parts.

    `sha256` is that of the file. `pixels` is the hash of the upright sRGB pixels that the picture
    had before it was prepared (`tod.data.file_hashes.pixels_hash`): by it a picture is known again,
    whatever file it stands in. `targets` holds one number for each class, where the answers are
    numbers or several classes.
    """

    path: str
    label: int
    split: Split
    sha256: str
    pixels: str
    targets: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or folder below the data's folder that gives no sample, and why.

    `class_name` is that of the class it would belong to, empty where it would belong to none.
    """

    path: str
    class_name: str
    reason: str


def check_classes(
    where: Path, classes: Sequence[str], labels: Sequence[int], contents: Sequence[str]
) -> None:
    """Every class needs enough different pictures, and there must be two classes.

    Raises:
        DataError: naming every class that is too small.
    """
    distinct = Counter(label for label, _ in set(zip(labels, contents, strict=True)))
    small = [
        f"{name} ({distinct[i]})" for i, name in enumerate(classes) if distinct[i] < MIN_PICTURES
    ]
    if small:
        raise DataError(
            f"{where}: a class needs at least {MIN_PICTURES} different pictures to be split; "
            f"too small: {', '.join(small)}",
            hint="add pictures to these classes or remove their folders",
        )
    if len(classes) < 2:
        raise DataError(
            f"{where}: only the class {listed(classes)} was found, two are needed",
            hint="give the folder that holds one folder per class",
        )


def check_splits(where: Path, classes: Sequence[str], samples: Sequence[Sample]) -> None:
    """Every class must be in every split; only pictures that stay together can prevent it.

    Raises:
        DataError: naming the class and the split.
    """
    found = {(sample.label, sample.split) for sample in samples}
    for label, name in enumerate(classes):
        for split in FRACTIONS:
            if (label, split) not in found:
                raise DataError(
                    f"{where}: class {name} has no picture left for the {split} split, "
                    "because too many of its pictures are in other classes as well, or in one "
                    "group, or were given to another split",
                    hint="remove pictures that are in several classes; make smaller groups",
                )
