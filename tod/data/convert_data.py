"""Turn a dataset of one form into another: repository, arrays, class folders of pictures.

Axes: N samples, S side in pixels.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.dataset import Dataset
from tod.data.image import encode
from tod.data.pictures import array_of
from tod.data.repository import write_repository
from tod.data.samples import Sample
from tod.data.sort_into import class_folder
from tod.data.tensor_caps import Format
from tod.data.tensors import as_pixels
from tod.errors import DataError, PictureError, UsageError
from tod.format.manifest import TensorSpec
from tod.system.files import write_whole

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Read:
    """All samples in memory: `values` [N, ...], and what was left out."""

    values: NDArray[Any]
    labels: NDArray[Any]
    classes: tuple[str, ...]
    left_out: tuple[str, ...]


def read(dataset: Dataset, *, size_px: int | None, grey: bool, progress: Progress) -> Read:
    """Read all samples of a dataset.

    Args:
        dataset: of any form.
        size_px: S of pictures, which are cropped to squares.
        grey: pictures become grey.
        progress: called with the samples done and to do.

    Raises:
        UsageError: it holds pictures, and no size was given; or no pictures, and one was.
        DataError: nothing can be read.
    """
    if (dataset.rows is None) == (size_px is None):
        raise UsageError(
            "--size belongs to pictures, and pictures need it",
            hint="--size 64 makes squares of 64 pixels",
        )
    found: list[NDArray[Any]] = []
    kept: list[Sample] = []
    left_out: list[str] = []
    spec = None
    if size_px is not None:
        spec = TensorSpec((size_px, size_px) if grey else (size_px, size_px, 3), "uint8")
    for done, sample in enumerate(dataset.samples, 1):
        try:
            found.append(_array(dataset, sample, spec))
            kept.append(sample)
        except PictureError as error:
            left_out.append(f"{sample.path}: {error.problem}")
        progress(done, len(dataset.samples))
    if not kept:
        raise DataError(f"{dataset.root}: nothing in it can be read")
    targets = [sample.targets for sample in kept if sample.targets is not None]
    labels = (
        np.array(targets, np.float32) if targets
        else np.array([sample.label for sample in kept], np.int64)
    )  # fmt: skip
    return Read(np.stack(found), labels, dataset.classes, tuple(left_out))


def _array(dataset: Dataset, sample: Sample, spec: TensorSpec | None) -> NDArray[Any]:
    source = dataset.source(sample)
    if isinstance(source, np.ndarray):
        return source
    assert spec is not None  # pictures have a size
    return array_of(source, spec, cropped=dataset.cropped)


def write_arrays(path: Path, data: Read, parts: Sequence[tuple[str, range]]) -> None:
    """Write an .npz file: `x` and `y`, or `x_train`, `y_train` ... for named parts.

    Classes are written as texts, so that their names come along.
    """
    labels = data.labels
    if labels.dtype.kind != "f":
        labels = np.array(data.classes)[labels]
    arrays: dict[str, NDArray[Any]] = {}
    for name, part in parts or [("", range(len(labels)))]:
        end = f"_{name}" if name else ""
        arrays[f"x{end}"] = data.values[part.start : part.stop]
        arrays[f"y{end}"] = labels[part.start : part.stop]
    made = io.BytesIO()
    np.savez(made, **arrays)  # type: ignore[arg-type]
    write_whole(path, made.getvalue())


def write_tensors(path: Path, data: Read, format_: Format) -> None:
    """Write a repository: the sample, then its label: numbers, or a row with a single one."""
    labels = data.labels
    if labels.dtype.kind != "f":
        labels = np.eye(len(data.classes), dtype=np.float32)[labels]
    samples = list(zip(data.values, labels, strict=True))
    write_repository(path, samples, format_=format_, classes=data.classes)


def write_folders(folder: Path, data: Read) -> int:
    """Write each sample as a PNG file below the folder of its class.

    Returns:
        How many were written.

    Raises:
        DataError: the samples have no shape of a picture, or the labels are numbers.
        UsageError: a value is not from 0 to 255.
    """
    if data.labels.dtype.kind == "f":
        raise DataError(f"{folder}: labels that are numbers have no folders")
    for number, pixels in enumerate(_pictures(data)):
        place = class_folder(folder, data.classes[int(data.labels[number])])
        place.mkdir(parents=True, exist_ok=True)
        write_whole(place / f"{number:06d}.png", encode(pixels, "png"), durable=False)
    return len(data.labels)


def _pictures(data: Read) -> Iterator[NDArray[np.uint8]]:
    for number, values in enumerate(data.values):
        try:
            yield as_pixels(values)
        except PictureError as error:
            raise DataError(
                f"sample {number} is no picture: {error.problem}",
                hint="-o DATA.npz or -o DATA.json hold numbers of every kind",
            ) from error
