"""Sample: one picture of a dataset; and checks of a set of samples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tod.data.splits import FRACTIONS, Split
from tod.errors import DataError
from tod.system.names import listed

MIN_PICTURES = 5
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture. `path` is relative to the dataset's folder, with "/" between its parts.

    `sha256` is the hash of the file. `pixels` is the hash of the upright sRGB pixels that the
    picture had before it was prepared (`tod.data.file_hashes.pixels_hash`); it identifies a picture
    in any file. `targets` holds one number for each class, if the labels are numbers or several
    classes. `row` is the sample's place in a file that holds many; its `path` is only a name then.
    """

    path: str
    label: int
    split: Split
    sha256: str
    pixels: str
    targets: tuple[float, ...] | None = None
    row: int | None = None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or folder below the data's folder that gives no sample, and why.

    `class_name` is the class it would belong to, empty if it would belong to none. `meant` says
    that it was probably meant to be a picture of the class.
    """

    path: str
    class_name: str
    reason: str
    meant: bool = True


def check_classes(
    where: Path,
    classes: Sequence[str],
    labels: Sequence[int],
    contents: Sequence[str],
    left_out: Sequence[LeftOut] = (),
    *,
    what: str = "pictures",
) -> None:
    """Check that every class has enough different pictures, and that there are two classes.

    Args:
        where: the folder.
        classes: their names.
        labels: labels of the pictures, indices into the names.
        contents: pixel hashes of the pictures.
        left_out: files that gave no sample; the message counts them.
        what: the samples are.

    Raises:
        DataError: names the classes that are too small.
    """
    distinct = Counter(label for label, _ in set(zip(labels, contents, strict=True)))
    few = {name: distinct[i] for i, name in enumerate(classes) if distinct[i] < MIN_PICTURES}
    if few:
        raise too_small(where, few, left_out, what=what)
    if len(classes) < 2:
        raise DataError(
            f"{where}: only the class {listed(classes)} was found, two are needed",
            hint="give the folder that holds one folder per class"
            if what == "pictures"
            else "choose another target, or give samples of more classes",
        )


def too_small(
    where: Path,
    counts: Mapping[str, int],
    left_out: Sequence[LeftOut],
    *,
    what: str = "pictures",
) -> DataError:
    """Return the error for a dataset whose classes have too few pictures.

    Args:
        where: the folder.
        counts: number of different pictures by class name.
        left_out: files that gave no sample; the message counts them.
        what: the samples are.
    """
    some = [f"{name} ({count})" for name, count in list(counts.items())[:_SHOWN]]
    more = len(counts) - len(some)
    small = ", ".join(some) + (f" and {more} more" if more else "")
    why = reasons_of(left_out, list(counts))
    return DataError(
        f"{where}: a class needs at least {MIN_PICTURES} different {what} to be split; "
        f"too small: {small}{f'; {why}' if why else ''}",
        hint="repair what was left out, or add pictures to these classes"
        if why
        else "add pictures to these classes or remove their folders"
        if what == "pictures"
        else "add samples of these; numbers to learn want a model of --loss mse, or --numbers",
    )


def reasons_of(left_out: Sequence[LeftOut], names: Sequence[str]) -> str:
    """Say how many files of some classes were left out and why, as a part of a sentence; empty if
    none was."""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in left_out:
        if one.class_name in names:
            groups.setdefault((one.class_name, one.reason), []).append(one.path)
    kinds = sorted(groups.items(), key=lambda item: -len(item[1]))
    said = [f"{len(p)} of {name}, e.g. {p[0]}: {reason}" for (name, reason), p in kinds[:5]]
    return f"left out were {'; '.join(said)}" if said else ""


def check_splits(where: Path, classes: Sequence[str], samples: Sequence[Sample]) -> None:
    """Check that every class is in every split; only pictures that must stay together prevent it.

    Raises:
        DataError: names the class and the split.
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
