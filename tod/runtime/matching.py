"""Fit data to a model: kind of labels, shape of samples, and which parts of a file they are.

Knows manifests and datasets; runs no graph.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tod.data.dataset import Dataset
from tod.data.rows import Columns
from tod.data.tensors import fits, picture_spec
from tod.errors import DataError, UsageError
from tod.format.manifest import InputSpec, Manifest, Task, TensorSpec


def labelled_for(task: Task, dataset: Dataset) -> Dataset:
    """Return the dataset with the kind of labels that a task takes.

    Raises:
        DataError: it has the other kind.
    """
    if task == "multi-label":
        return dataset.with_targets()
    if dataset.has_targets != (task == "regression"):
        found = "numbers (targets.csv)" if dataset.has_targets else "classes"
        raise DataError(
            f"{dataset.root}: its labels are {found}; this model was made for {task}",
            hint="export with --loss mse for numbers, bce for several classes per picture, "
            "cross-entropy for one",
        )
    return dataset


def check_kind(manifest: Manifest, data: Path) -> None:
    """Refuse a table for a model of pictures before its columns are asked for.

    Raises:
        DataError: it is one.
    """
    if manifest.tensor is None and data.suffix.lower() in (".csv", ".tsv") and data.is_file():
        raise DataError(
            f"{data}: it is a table of numbers; this model takes pictures",
            hint="give a folder of class folders",
        )


def check_samples(manifest: Manifest, dataset: Dataset) -> None:
    """Refuse samples that are not those of a model.

    Raises:
        DataError: it takes another kind, or another shape.
    """
    spec = manifest.samples
    if dataset.rows is None:
        if isinstance(spec, TensorSpec) and picture_spec(spec) is None:
            raise DataError(
                f"{dataset.root}: it holds pictures; this model takes {list(spec.shape)}",
                hint="give samples in a .csv, .npz or .npy file",
            )
        return
    found = list(dataset.rows.shape[1:])
    if isinstance(spec, InputSpec):
        if len(found) == 3 and found[-1] == 3:
            return  # pictures that were decoded already
        raise DataError(
            f"{dataset.root}: it holds samples of numbers, {found} each; this model takes pictures",
            hint="give a folder of class folders",
        )
    if not fits(found, spec.shape):
        raise DataError(
            f"{dataset.root}: its samples are {found}, this model takes {list(spec.shape)}",
            hint="choose columns with --inputs, or export with another shape in INPUT",
        )


def columns_of(manifest: Manifest) -> Columns:
    """Which parts of a file a model's samples and labels are, as far as it is chosen."""
    spec, numbers = manifest.tensor, manifest.loss.task != "single-label"
    return Columns() if spec is None else Columns(spec.inputs, spec.target, numbers)


def with_columns(manifest: Manifest, columns: Columns) -> Manifest:
    """Return the manifest with chosen columns; what is empty stays as it is.

    Raises:
        UsageError: the model takes pictures.
    """
    spec = manifest.tensor
    if not columns.inputs and not columns.target:
        return manifest
    if spec is None:
        raise UsageError(
            "--inputs and --target choose parts of a table or of arrays; this model takes pictures",
            hint="the classes of pictures are their folders, their numbers stand in targets.csv",
        )
    inputs, target = columns.inputs or spec.inputs, columns.target or spec.target
    return replace(manifest, tensor=replace(spec, inputs=inputs, target=target))
