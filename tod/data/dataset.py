"""Dataset: pictures, or other samples, with classes and splits, for all layouts on disk."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tod.data.file_hashes import FOLDER, Contents
from tod.data.index import INDEX_NAME, JOURNAL_NAME
from tod.data.opening import finish, from_index, from_targets, from_tree
from tod.data.opening_rows import SUFFIXES, from_rows
from tod.data.rows import Columns
from tod.data.samples import LeftOut, Sample
from tod.data.splits import FRACTIONS, Split
from tod.data.targets import TARGETS_NAME
from tod.errors import DataError
from tod.system import file_kind
from tod.system.names import listed, natural_key


@dataclass(frozen=True)
class Dataset:
    """Pictures, or other samples, with classes and splits.

    Attributes:
        root: the folder; or the file that holds all samples.
        classes: class names; a sample's label is an index into them.
        samples: all pictures, ordered by class and name.
        seed: the seed of the split.
        cropped: the pictures were cropped by `tod prepare-dataset` and are only resized.
        notices: messages for the user about files that were passed over.
        left_out: files, or parts of the file, that give no sample, and why.
        rows: the samples of one file [N, ...]; None if each has a file of its own.
        columns: which parts of that file they are.
    """

    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    seed: int = 0
    cropped: bool = False
    notices: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    rows: NDArray[Any] | None = None
    columns: Columns | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        seed: int = 0,
        cache: str | os.PathLike[str] | bool = True,
        splits: bool = False,
        inputs: Sequence[str] = (),
        target: Sequence[str] = (),
        numbers: bool = False,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Dataset:
        """Open a prepared dataset (with dataset.json), a folder with targets.csv, any tree of class
        folders, or one file that holds samples (.csv, .npz, .npy).

        In the second and third case every picture is decoded once, because its split follows from
        its pixels.

        Args:
            path: the folder or file. With targets.csv (a header `file,NAME,NAME...`, then a line
                for each picture) the classes are the named columns, and a picture's targets are
                the numbers in its line. Without it and dataset.json every folder in it that holds
                pictures is a class, named by its path below the folder. With splits.csv in it
                (`tod.data.own_splits`) the splits come from that file.
            seed: the seed of the split; a prepared dataset has its own.
            cache: the folder that keeps the hashes of unchanged files (`tod.data.file_hashes`): the
                dataset's own for True, none for False.
            splits: take folders called train and test, or the like, at any level
                (`tod.data.ready_made`) as the splits; the class folders are inside them.
            inputs, target, numbers: which parts of a file are samples and labels, see
                `tod.data.rows.Columns`; a table needs a target.
            progress: called with the pictures that were read and the pictures to read.

        Raises:
            DataError: no folder, no class, or a class with fewer than 5 different pictures.
        """
        columns = Columns(tuple(inputs), tuple(target), numbers)
        steps = cls.opening(path, seed=seed, cache=cache, splits=splits, columns=columns)
        return finish(steps, progress)

    @classmethod
    def opening(
        cls,
        path: str | os.PathLike[str],
        *,
        seed: int = 0,
        cache: str | os.PathLike[str] | bool = True,
        splits: bool = False,
        columns: Columns | None = None,
    ) -> Generator[tuple[int, int], None, Dataset]:
        """Do `open` step by step, for callers that wait or stop in between.

        Yields:
            Pictures that were read and pictures to read; nothing if all are known. To stop the
            work, stop iterating; its results so far are kept.
        """
        root = Path(path)
        if root.suffix.lower() in SUFFIXES and root.is_file():
            return cls(root, **vars((yield from from_rows(root, seed, columns or Columns()))))
        check_folder(root)
        if (root / INDEX_NAME).is_file():
            found = from_index(root)
        elif (root / JOURNAL_NAME).exists():
            raise DataError(
                f"{root}: preparing this dataset was interrupted",
                hint="run the same 'tod prepare-dataset' command again; it does what is missing",
            )
        else:
            kept = (root / FOLDER if cache else None) if isinstance(cache, bool) else Path(cache)
            contents = Contents(root, kept)
            if (root / TARGETS_NAME).is_file():
                found = yield from from_targets(root, seed, contents)
            else:
                found = yield from from_tree(root, seed, contents, ready_made=splits)
        return cls(root, **vars(found))

    @property
    def has_targets(self) -> bool:
        """True if each picture has a number for every class, instead of one class."""
        return any(sample.targets is not None for sample in self.samples)

    def split(self, name: Split) -> tuple[Sample, ...]:
        """The samples of one split."""
        return tuple(sample for sample in self.samples if sample.split == name)

    def source(self, sample: Sample) -> Path | NDArray[Any]:
        """What one sample is read from: its file, or its numbers."""
        if self.rows is None or sample.row is None:
            return self.root / sample.path
        numbers: NDArray[Any] = self.rows[sample.row]
        return numbers

    def counts(self) -> dict[str, int]:
        """Number of pictures by split."""
        found = Counter(sample.split for sample in self.samples)
        return {split: found[split] for split in FRACTIONS}

    def digest(self) -> str:
        """SHA-256 over classes, contents and splits: equal for equal data in any folder."""
        lines = sorted(
            f"{s.targets or self.classes[s.label]}\t{s.sha256}\t{s.split}" for s in self.samples
        )
        digest = hashlib.sha256()
        for number, line in enumerate(lines):
            digest.update(("\n" * bool(number) + line).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def matched(self, class_names: Sequence[str]) -> Dataset:
        """The same pictures with labels that index `class_names`: classes are matched by name.

        Raises:
            DataError: the two sets of names differ.
        """
        if set(class_names) != set(self.classes):
            missing = sorted(set(class_names) - set(self.classes), key=natural_key)
            unseen = sorted(set(self.classes) - set(class_names), key=natural_key)
            texts = {"missing from the data": missing, "unknown to the model": unseen}
            differences = "; ".join(f"{t}: {listed(names)}" for t, names in texts.items() if names)
            raise DataError(
                f"{self.root}: its classes are not the model's; {differences}",
                hint="rename the folders, let new ones be added with --add-classes, or start from "
                "a model that has no classes bound yet; --resume may have found one that has",
            )
        if tuple(class_names) == self.classes:
            return self
        position = {name: index for index, name in enumerate(class_names)}
        columns = [self.classes.index(name) for name in class_names]
        samples = tuple(
            replace(
                sample,
                label=position[self.classes[sample.label]],
                targets=sample.targets and tuple(sample.targets[i] for i in columns),
            )
            for sample in self.samples
        )
        return replace(self, classes=tuple(class_names), samples=samples)

    def with_targets(self) -> Dataset:
        """Turn class folders into one yes or no for each class: a picture that is in several
        folders belongs to all of them."""
        if self.has_targets:
            return self
        labels: dict[str, set[int]] = {}
        for sample in self.samples:
            labels.setdefault(sample.pixels, set()).add(sample.label)
        first = {sample.pixels: sample for sample in reversed(self.samples)}
        samples = tuple(
            replace(
                s, targets=tuple(float(i in labels[s.pixels]) for i in range(len(self.classes)))
            )
            for s in self.samples
            if s is first[s.pixels]
        )
        return replace(self, samples=samples)

    def only(self, class_names: Sequence[str]) -> Dataset:
        """Keep only the pictures of some classes."""
        kept = {self.classes.index(name) for name in class_names}
        return replace(self, samples=tuple(s for s in self.samples if s.label in kept))


def check_folder(root: Path) -> None:
    """Check that the place for pictures is a folder.

    Raises:
        DataError: it is not; says what is there instead, and what to do with it.
    """
    if root.is_dir():
        return
    kind = file_kind.look(root)
    if kind is not None:
        raise DataError(f"{root}: it is {kind.name}, no folder", hint=kind.as_data)
    if root.suffix.lower() in SUFFIXES and not root.exists():
        raise DataError(f"{root}: no such file", hint="check the path")
    found = "it is no folder" if root.exists() else "no such folder"
    raise DataError(f"{root}: {found}", hint=file_kind.CLASSES)
