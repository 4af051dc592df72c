"""`tod check`: find the problems of a dataset before training does.

Axes: N pictures, C classes.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tod.data.dataset import Dataset
from tod.data.file_hashes import Contents
from tod.data.image import glance
from tod.data.index import INDEX_NAME
from tod.data.left_out import summary, told
from tod.data.near_duplicates import THUMBNAIL_PX, alike
from tod.data.opening import finish
from tod.data.opening import look_at as look_at_files
from tod.data.own_splits import share_out
from tod.data.picture_limits import MAX_FILE_BYTES
from tod.data.rows import Columns
from tod.data.samples import Sample
from tod.data.scan import scan
from tod.data.splits import FRACTIONS
from tod.data.targets import NO_LINE, TARGETS_NAME
from tod.errors import DataError, PictureError
from tod.system.files import read_regular
from tod.system.machine import available_cores
from tod.system.text import shown

Severity = Literal["wrong", "warn", "remark"]
SEVERITIES: tuple[Severity, ...] = ("wrong", "warn", "remark")
_FLAT = 8  # of 255: largest difference within each colour channel
_FEW = 20
_IMBALANCED = 5.0
_ROWS = 256


@dataclass(frozen=True)
class Finding:
    """One kind of problem. `items` lists the places, the worst first; a tuple is a group."""

    kind: str
    severity: Severity
    text: str
    hint: str = ""
    items: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Look:
    """The size of a picture and its thumbnail uint8 [16, 17, 3]; or why it cannot be read."""

    size_px: tuple[int, int] = (0, 0)
    thumbnail: NDArray[np.uint8] | None = None
    problem: str = ""


@dataclass(frozen=True)
class Doubt:
    """A label that a model doubts, with the probabilities of the two classes."""

    path: str
    label: str
    label_probability: float
    says: str
    says_probability: float


def gather(
    path: Path,
    *,
    seed: int,
    cache: str | Path | bool,
    splits: bool = False,
    columns: Columns | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Dataset, DataError | None]:
    """Open the dataset as training does; if training refuses it, collect the pictures that it has.

    Args:
        path, seed, cache, splits, progress: as for `Dataset.open`.

    Returns:
        The dataset, and why training refuses it; None if it does not.

    Raises:
        DataError: there are no pictures to check.
    """
    try:
        steps = Dataset.opening(path, seed=seed, cache=cache, splits=splits, columns=columns)
        return finish(steps, progress), None
    except DataError as error:
        if not path.is_dir() or (path / TARGETS_NAME).is_file():
            raise
        refused = error
    scanned = scan(path, splits=splits, lenient=True)
    names = tuple(scanned.classes)
    found, others, said = finish(look_at_files(path, scanned.rows, Contents(path, None)))
    left_out = scanned.left_out_now(others)
    keys = [content.pixels for _, _, content in found]
    own = {file: scanned.own[file] for file, _, _ in found if file in scanned.own}
    files, labels = [file for file, _, _ in found], [label for _, label, _ in found]
    shared, _ = share_out(path, files, labels, keys, seed, own)
    samples = tuple(
        Sample(name, label, split, content.sha256, content.pixels)
        for (name, label, content), split in zip(found, shared, strict=True)
    )
    notices = (*scanned.notices, *said, *summary(path, left_out))
    cropped = (path / INDEX_NAME).is_file()
    return Dataset(path, names, samples, seed, cropped, notices, left_out), refused


def look_at(dataset: Dataset) -> Iterator[tuple[str, Look]]:
    """Look at each different content once; yield its hash and its look. Of samples that are no
    pictures there is nothing to see; what is wrong with them was found when they were read."""
    samples = list({sample.sha256: sample for sample in dataset.samples}.values())
    if dataset.rows is not None:
        yield from ((sample.sha256, Look()) for sample in samples)
        return
    with ThreadPoolExecutor(available_cores()) as pool:
        try:
            # Work in blocks, because looks that wait to be used take memory.
            for start in range(0, len(samples), _ROWS):
                part = samples[start : start + _ROWS]
                looks = pool.map(partial(_look, dataset.root), part)
                yield from zip((sample.sha256 for sample in part), looks, strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def examine(
    dataset: Dataset,
    looks: Mapping[str, Look],
    *,
    refused: DataError | None = None,
    size_px: int | None = None,
    doubts: Sequence[Doubt] = (),
) -> list[Finding]:
    """Find all problems, the most serious first.

    Args:
        dataset: from `gather`.
        looks: every content's hash and look, from `look_at`.
        refused: why training refuses the dataset.
        size_px: the side of the model's input.
        doubts: from `doubtful`.
    """
    readable = tuple(s for s in dataset.samples if not looks[s.sha256].problem)
    seen = replace(dataset, samples=readable)
    pictures = dataset.rows is None
    found = [
        *([] if refused is None else [_refused(refused)]),
        *(_empty_folders(dataset) if pictures else ()),
        *_empty_splits(dataset, seen),
        *_unreadable(dataset, looks),
        *_without_line(dataset),
        *_same_content(seen),
        *(_nearly_same(seen, looks) if pictures else ()),
        *_doubted(doubts),
        *([] if dataset.has_targets else _sizes_of_classes(seen)),
        *(_flat(seen, looks) if pictures else ()),
        *(_small(seen, looks, size_px) if pictures else ()),
        *_left_out(dataset),
    ]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))


def doubtful(
    samples: Sequence[Sample],
    classes: Sequence[str],
    probabilities: NDArray[np.float32],  # [N, C]
) -> list[Doubt]:
    """Find labels where the model predicts another class, the most doubtful first.

    They are sorted by the probability that the model gives the label ("self-confidence"). In a
    test, 20 labels of 1,200 photographs were changed, and a linear head was trained on a part of
    them. This order put 18 of the 20 among the first 20 and all among the first 30. Sorting by the
    margin to the other class put 17 and 18 there; thresholds by class missed 7.

    Source: Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset
    Labels", https://arxiv.org/abs/1911.00068, section 3.2.
    """
    labels = np.array([sample.label for sample in samples], np.int64)
    rows = np.arange(len(labels))
    own, says = probabilities[rows, labels], probabilities.argmax(axis=1)
    order = sorted(rows[says != labels], key=lambda i: (float(own[i]), samples[i].path))
    return [
        Doubt(
            samples[i].path, classes[labels[i]], float(own[i]),
            classes[says[i]], float(probabilities[i, says[i]]),
        )
        for i in order
    ]  # fmt: skip


def _look(root: Path, sample: Sample) -> Look:
    try:
        data, _ = read_regular(root / sample.path, limit_bytes=MAX_FILE_BYTES)
        size, thumbnail = glance(data, *THUMBNAIL_PX)
    except OSError as error:
        return Look(problem=f"cannot be read: {error.strerror}")
    except PictureError as error:
        return Look(problem=error.problem)
    return Look(size, thumbnail)


def _refused(why: DataError) -> Finding:
    text = f"training refuses it: {why.problem}"
    return Finding("refused", "wrong", f"{text}; {why.hint}" if why.hint else text)


def _empty_folders(dataset: Dataset) -> Iterator[Finding]:
    """Find the outermost folders that hold no pictures, if folders are classes. An empty folder was
    probably meant to be filled."""
    if dataset.cropped or dataset.has_targets:
        return
    files = [dataset.root / sample.path for sample in dataset.samples]
    # Files that are left out have their own finding; a folder that holds such files is not empty.
    files += [dataset.root / one.path for one in dataset.left_out if one.class_name]
    left_out = {dataset.root / one.path for one in dataset.left_out}
    used = {folder for path in files for folder in path.parents} | left_out
    empty: list[Path] = []
    for folder, folders, _ in os.walk(dataset.root, followlinks=True):
        others = sorted({Path(folder, name) for name in folders} - used)
        empty += [p for p in others if not (p.name.startswith(".") or p.is_symlink())]
        folders[:] = [name for name in folders if Path(folder, name) in used - left_out]
    if empty:
        text = f"{_counted(len(empty), 'folder holds', 'folders hold')} no pictures"
        hint = "put some there, or remove what is empty"
        items = tuple(shown(path.relative_to(dataset.root).as_posix()) for path in empty)
        yield Finding("empty_folder", "warn", text, hint, items)


def _empty_splits(dataset: Dataset, seen: Dataset) -> Iterator[Finding]:
    if len(dataset.classes) < 2 and not dataset.has_targets:
        return  # training refuses it, which has its own finding
    found = {(s.label, s.split) for s in seen.samples}
    for split in FRACTIONS:
        names = [c for i, c in enumerate(dataset.classes) if (i, split) not in found]
        if dataset.has_targets:
            names = [] if found & {(0, split)} else ["all"]
        if len(names) == len(dataset.classes) or names == ["all"]:
            text = f"no picture of the {split} split can be read"
            yield Finding("empty_split", "wrong", text, "add pictures, or repair them")
        elif names:
            have = _counted(len(names), "class has", "classes have")
            text = f"{have} no readable picture in the {split} split"
            yield Finding("empty_split", "warn", text, "add pictures to them", tuple(names))


def _unreadable(dataset: Dataset, looks: Mapping[str, Look]) -> Iterator[Finding]:
    meant = [one for one in dataset.left_out if one.meant and one.reason != NO_LINE]
    bad = [(one.path, one.reason) for one in meant]
    bad += [(s.path, looks[s.sha256].problem) for s in dataset.samples if looks[s.sha256].problem]
    if bad:
        total = len(dataset.samples) + len(meant)
        text = f"{len(bad)} of {total} pictures cannot be read"
        yield Finding("unreadable", "warn", text, "training passes them over", tuple(bad))


def _without_line(dataset: Dataset) -> Iterator[Finding]:
    found = tuple(one.path for one in dataset.left_out if one.reason == NO_LINE)
    if found:
        text = f"{_counted(len(found), 'picture has', 'pictures have')} no line in {TARGETS_NAME}"
        yield Finding("no_line", "warn", text, "add lines, or remove the pictures", found)


def _left_out(dataset: Dataset) -> Iterator[Finding]:
    """Find other files that were left out and were probably not meant to be pictures."""
    others = [one for one in told(dataset.left_out) if not one.meant and one.reason != NO_LINE]
    if others:
        text = (
            f"{_counted(len(others), 'other file or folder', 'other files and folders')} left out"
        )
        items = tuple((one.path, one.reason) for one in others)
        yield Finding("left_out", "remark", text, "look whether a picture is among them", items)


def _same_content(seen: Dataset) -> Iterator[Finding]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in seen.samples:
        # Prepared pictures are compared by file: their pixel hash is that of the source.
        groups[sample.sha256 if seen.cropped else sample.pixels].append(sample)
    yield from _groups_of_one(seen, [g for g in groups.values() if len(g) > 1], "", "the same")


def _nearly_same(seen: Dataset, looks: Mapping[str, Look]) -> Iterator[Finding]:
    """Find groups of pictures with different contents that look the same. Pictures of a single
    colour are left out, because they all look alike."""
    first = {s.pixels: s for s in reversed(seen.samples)}
    samples = [s for s in first.values() if not _is_flat(looks[s.sha256])]
    if not samples:
        return
    thumbnails = [_thumbnail(looks[s.sha256]) for s in samples]
    group = list(range(len(samples)))
    for a, b in alike(thumbnails):
        low, high = sorted((group[a], group[b]))
        group = [low if g == high else g for g in group]
    found: dict[int, list[Sample]] = defaultdict(list)
    for sample, number in zip(samples, group, strict=True):
        found[number].append(sample)
    groups = [sorted(g, key=lambda s: s.path) for g in found.values() if len(g) > 1]
    yield from _groups_of_one(seen, groups, "near_", "nearly the same")


def _groups_of_one(
    seen: Dataset, groups: Sequence[Sequence[Sample]], prefix: str, how: str
) -> Iterator[Finding]:
    """Report each group once, as the kind that does most harm."""
    kinds: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for group in groups:
        labels, splits = {s.label for s in group}, {s.split for s in group}
        answers = {s.targets for s in group} if seen.has_targets else labels
        several = len(answers) > 1
        kind = "contradiction" if several else "leak" if len(splits) > 1 else "duplicate"
        kinds[kind].append(tuple(s.path for s in group))
    in_several = "with different numbers" if seen.has_targets else "in several classes"
    said: dict[str, tuple[Severity, str, str]] = {
        "contradiction": ("warn", in_several, "keep the right one of them"),
        "leak": ("warn", "in several splits, so that scores are too good", "keep one of each"),
        "duplicate": ("remark", "several times in a class and split", "keep one of each"),
    }
    for kind, (severity, where, hint) in said.items():
        if found := kinds[kind]:
            text = f"{how} picture {where}: {len(found)} group{'s' * (len(found) > 1)}"
            yield Finding(prefix + kind, severity, text, hint, tuple(found))


def _doubted(doubts: Sequence[Doubt]) -> Iterator[Finding]:
    if doubts:
        text = f"the model says another class than the label of {_counted(len(doubts), 'picture')}"
        hint = "look at them, the most doubtful come first"
        yield Finding("doubtful", "remark", text, hint, tuple(doubts))


def _sizes_of_classes(seen: Dataset) -> Iterator[Finding]:
    counts = Counter(s.label for s in seen.samples if s.split == "train")
    sizes = {name: counts[label] for label, name in enumerate(seen.classes)}
    few = sorted((count, name) for name, count in sizes.items() if count < _FEW)
    if few:
        have = _counted(len(few), "class has", "classes have")
        text = f"{have} fewer than {_FEW} readable pictures to train with"
        items = tuple((name, count) for count, name in few)
        yield Finding("few", "warn", text, "add pictures to them", items)
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if sizes[most] > _IMBALANCED * sizes[least]:
        have = _counted(sizes[most], "picture")
        text = (
            f"class {most} has {have} to train with, {least} has {sizes[least]}: "
            "the model will prefer the former"
        )
        yield Finding("imbalance", "warn", text, "export with --class-weights auto, or add some")


def _flat(seen: Dataset, looks: Mapping[str, Look]) -> Iterator[Finding]:
    found = tuple(s.path for s in seen.samples if _is_flat(looks[s.sha256]))
    if found:
        text = f"{_counted(len(found), 'picture is', 'pictures are')} of one colour"
        yield Finding("flat", "warn", text, "remove those that show nothing", found)


def _small(seen: Dataset, looks: Mapping[str, Look], size_px: int | None) -> Iterator[Finding]:
    sizes = {s.path: looks[s.sha256].size_px for s in seen.samples}
    small = [
        (path, f"{w} x {h} px") for path, (w, h) in sizes.items() if 2 * min(w, h) < (size_px or 0)
    ]
    if small:
        have = _counted(len(small), "picture has", "pictures have")
        text = f"{have} less than half the {size_px} px that the model wants"
        yield Finding("small", "remark", text, "larger ones are recognised better", tuple(small))


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def _is_flat(look: Look) -> bool:
    thumbnail = _thumbnail(look)
    spread = thumbnail.max(axis=(0, 1)).astype(int) - thumbnail.min(axis=(0, 1))
    return bool(spread.max() <= _FLAT)


def _thumbnail(look: Look) -> NDArray[np.uint8]:
    assert look.thumbnail is not None
    return look.thumbnail
