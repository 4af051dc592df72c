"""Class folders -> samples with a class, a split and a content hash. Decodes no picture."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tod.data.file_hashes import FOLDER, Contents
from tod.data.index import (
    INDEX_NAME,
    JOURNAL_NAME,
    TARGETS_NAME,
    Index,
    find_pictures,
    read_index,
    read_targets,
)
from tod.data.splits import FRACTIONS, Split, assign_splits
from tod.errors import DataError
from tod.system.names import listed, natural_key

MIN_PICTURES = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture. `path` is relative to the dataset's folder, with "/" between its parts.

    `targets` holds one number for each class, where the answers are numbers or several classes.
    """

    path: str
    label: int
    split: Split
    sha256: str
    targets: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Dataset:
    """Pictures with classes and splits.

    Attributes:
        root: the folder.
        classes: class names; a sample's label is an index into them.
        samples: all pictures, ordered by class and name.
        seed: of the split.
        cropped: the pictures were cut out by `tod prepare-dataset` and are only resized.
        notices: what a user should know about files that were passed over.
    """

    root: Path
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    seed: int = 0
    cropped: bool = False
    notices: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        seed: int = 0,
        cache: str | os.PathLike[str] | bool = True,
    ) -> Dataset:
        """Open a prepared dataset (with dataset.json), a folder with targets.csv, or any tree of
        class folders.

        Args:
            path: the folder. With targets.csv (a header `file,NAME,NAME...`, then a line for each
                picture) the classes are the named columns, and a picture's answer is its line of
                numbers. Without it and dataset.json every folder in it that holds pictures is a
                class, named by its path below the folder.
            seed: of the split; a prepared dataset brings its own.
            cache: the folder that remembers what untouched files hold (`tod.data.file_hashes`): the
                dataset's own for True, none for False. Nothing is written there.

        Raises:
            DataError: no folder, no class, or a class with fewer than 5 different pictures.
        """
        root = Path(path)
        if not root.is_dir():
            raise DataError(
                f"{root}: no such folder", hint="give the folder that holds one folder per class"
            )
        if (root / INDEX_NAME).is_file():
            return _from_index(root, read_index(root / INDEX_NAME))
        if (root / JOURNAL_NAME).exists():
            raise DataError(
                f"{root}: preparing this dataset was interrupted",
                hint="run the same 'tod prepare-dataset' command again; it does what is missing",
            )
        kept = (root / FOLDER if cache else None) if isinstance(cache, bool) else Path(cache)
        contents = Contents(root, kept)
        if (root / TARGETS_NAME).is_file():
            return _from_targets(root, seed, contents)
        return _from_tree(root, seed, contents)

    @property
    def has_targets(self) -> bool:
        """Whether answers are numbers for every class, instead of one class."""
        return any(sample.targets is not None for sample in self.samples)

    def split(self, name: Split) -> tuple[Sample, ...]:
        """The samples of one split."""
        return tuple(sample for sample in self.samples if sample.split == name)

    def counts(self) -> dict[str, int]:
        """Number of pictures by split."""
        found = Counter(sample.split for sample in self.samples)
        return {split: found[split] for split in FRACTIONS}

    def digest(self) -> str:
        """SHA-256 over classes, contents and splits: equal for equal data, whatever its place."""
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
        """Class folders as answers to "is it this?", one for each class: a picture that lies in
        several folders belongs to all of them."""
        if self.has_targets:
            return self
        labels: dict[str, set[int]] = {}
        for sample in self.samples:
            labels.setdefault(sample.sha256, set()).add(sample.label)
        first = {sample.sha256: sample for sample in reversed(self.samples)}
        samples = tuple(
            replace(
                s, targets=tuple(float(i in labels[s.sha256]) for i in range(len(self.classes)))
            )
            for s in self.samples
            if s is first[s.sha256]
        )
        return replace(self, samples=samples)

    def only(self, class_names: Sequence[str]) -> Dataset:
        """The pictures of some of the classes."""
        kept = {self.classes.index(name) for name in class_names}
        return replace(self, samples=tuple(s for s in self.samples if s.label in kept))


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
    """Every class must be in every split; only pictures shared between classes can prevent it.

    Raises:
        DataError: naming the class and the split.
    """
    found = {(sample.label, sample.split) for sample in samples}
    for label, name in enumerate(classes):
        for split in FRACTIONS:
            if (label, split) not in found:
                raise DataError(
                    f"{where}: class {name} has no picture left for the {split} split, "
                    "because too many of its pictures are in other classes as well",
                    hint="remove pictures that are in several classes",
                )


def _from_index(root: Path, index: Index) -> Dataset:
    samples = [Sample(f.file, f.label, f.split, sys.intern(f.sha256)) for f in index.files]
    # Not as Path objects: their parts stay in memory for good.
    missing = [sample.path for sample in samples if not os.path.isfile(f"{root}/{sample.path}")]
    if missing:
        raise DataError(
            f"{root}: {len(missing)} of {len(samples)} pictures of {INDEX_NAME} are missing, "
            f"e.g. {missing[0]}",
            hint="copy the folder again, or run the same 'tod prepare-dataset' command again",
        )
    names = tuple(entry.name for entry in index.classes)
    check_classes(root, names, [s.label for s in samples], [s.sha256 for s in samples])
    check_splits(root, names, samples)
    return Dataset(root, names, tuple(samples), seed=index.seed, cropped=True)


def _from_tree(root: Path, seed: int, contents: Contents) -> Dataset:
    classes, notices = find_pictures(root)
    names = tuple(classes)
    files, hashes = [], []
    for label, paths in enumerate(classes.values()):
        for path in paths:
            file = path.relative_to(root).as_posix()
            try:
                hashes.append(contents.sha256(file))
                files.append((label, file))
            except OSError as error:
                notices.append(f"{path} was passed over: {error.strerror}")
    labels = [label for label, _ in files]
    check_classes(root, names, labels, hashes)
    splits = assign_splits(labels, hashes, seed)
    samples = tuple(
        Sample(file, label, split, content)
        for (label, file), content, split in zip(files, hashes, splits, strict=True)
    )
    check_splits(root, names, samples)
    return Dataset(root, names, samples, seed=seed, notices=tuple(notices))


def _from_targets(root: Path, seed: int, contents: Contents) -> Dataset:
    path = root / TARGETS_NAME
    names, rows, problems = read_targets(path)
    files, hashes, notices = [], [], []
    for file, numbers in rows:
        try:
            hashes.append(contents.sha256(file))
            files.append((file, numbers))
        except OSError as error:
            notices.append(f"{root / file} was passed over: {error.strerror}")
    notices += problems
    if len(set(hashes)) < MIN_PICTURES:
        raise DataError(
            f"{path}: {len(set(hashes))} different pictures can be read; at least "
            f"{MIN_PICTURES} are needed",
            hint="; ".join(notices[:3]) or "add lines",
        )
    splits = assign_splits([0] * len(files), hashes, seed)
    samples = tuple(
        Sample(file, 0, split, content, numbers)
        for (file, numbers), content, split in zip(files, hashes, splits, strict=True)
    )
    return Dataset(root, names, samples, seed=seed, notices=tuple(notices))
