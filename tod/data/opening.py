"""Turn a folder into classes and samples: a prepared dataset, targets.csv, or class folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from tod.data.file_hashes import Content, Contents
from tod.data.index import INDEX_NAME, read_index
from tod.data.left_out import summary
from tod.data.own_splits import joined, read_own, share_out
from tod.data.picture_kind import SUFFIXES
from tod.data.rows import Columns
from tod.data.samples import MIN_PICTURES, LeftOut, Sample, check_classes, check_splits
from tod.data.scan import scan
from tod.data.targets import (
    NO_LINE,
    TARGETS_NAME,
    contradiction_notice,
    contradictions,
    read_targets,
)
from tod.errors import DataError
from tod.system.names import listed, natural_key

_Row = TypeVar("_Row")
_Result = TypeVar("_Result")
Step = tuple[int, int]  # files that were read, and files to read


@dataclass(frozen=True)
class Found:
    """The fields of a `tod.data.dataset.Dataset`."""

    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    seed: int
    cropped: bool = False
    notices: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    rows: NDArray[Any] | None = None
    columns: Columns | None = None


def finish(
    steps: Generator[Step, None, _Result], progress: Callable[[int, int], None] = lambda *_: None
) -> _Result:
    """Go through all steps of a generator, and return its result.

    Args:
        progress: called with each step.
    """
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: _Result = end.value
            return result
        progress(*step)


def look_at(
    root: Path, rows: Sequence[tuple[str, _Row]], contents: Contents
) -> Generator[Step, None, tuple[list[tuple[str, _Row, Content]], dict[str, str], list[str]]]:
    """Find the pictures among some files, each with its row.

    Args:
        root: the folder.
        rows: files below the root, each with any value.
        contents: the known hashes; it learns new ones, also if the work is stopped.

    Yields:
        Files that were read and files to read; nothing if all are known.

    Returns:
        The files that can be decoded, with their content; the others with the reason; notices for
        the user about the kept hashes.
    """
    looks: dict[str, Content | OSError] = {}
    missing = [file for file, _ in rows if not contents.knows(file)]
    reading = contents.look_at_all(missing)
    try:
        for done, (file, look) in enumerate(zip(missing, reading, strict=True), start=1):
            looks[file] = look
            yield done, len(missing)
    finally:
        reading.close()
        contents.save()
    found: list[tuple[str, _Row, Content]] = []
    others: dict[str, str] = {}
    for file, row in rows:
        look = looks[file] if file in looks else contents.look(file)
        if isinstance(look, OSError):
            others[file] = f"cannot be read: {look.strerror or look}"
        elif look.problem:
            others[file] = look.problem
        else:
            found.append((file, row, look))
    notices = [*contents.notices]
    contents.notices.clear()
    return found, others, notices


def from_index(root: Path) -> Found:
    """Read a prepared dataset from dataset.json. Its pictures are not read.

    Raises:
        DataError: it is not readable, or pictures are missing.
    """
    index = read_index(root / INDEX_NAME)
    samples = tuple(
        Sample(f.file, f.label, f.split, sys.intern(f.sha256), f.pixels or f.source_sha256)
        for f in index.files
    )
    # Do not use Path objects here: Python keeps their parts in memory for ever.
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
    return Found(names, samples, index.seed, cropped=True)


def from_tree(
    root: Path, seed: int, contents: Contents, *, ready_made: bool = False
) -> Generator[Step, None, Found]:
    """Read class folders; with `ready_made` they are inside the folders of splits.

    Raises:
        DataError: no class, or one with too few pictures that can be decoded.
    """
    scanned = scan(root, splits=ready_made)
    names = tuple(scanned.classes)
    found, others, told = yield from look_at(root, scanned.rows, contents)
    left_out = scanned.left_out_now(others)
    files = [file for file, _, _ in found]
    labels = [label for _, label, _ in found]
    hashes = [content.pixels for _, _, content in found]
    check_classes(root, names, labels, hashes, left_out)
    notices = [*scanned.notices, *told, *summary(root, left_out)]
    own = joined({f: scanned.own[f] for f in files if f in scanned.own}, read_own(root))
    splits, said = share_out(root, files, labels, hashes, seed, own)
    samples = tuple(
        Sample(file, label, split, content.sha256, content.pixels)
        for (file, label, content), split in zip(found, splits, strict=True)
    )
    check_splits(root, names, samples)
    return Found(names, samples, seed, notices=(*notices, *said), left_out=left_out)


def from_targets(root: Path, seed: int, contents: Contents) -> Generator[Step, None, Found]:
    """Read pictures with numbers from targets.csv.

    Raises:
        DataError: it is not readable, or too few pictures can be decoded.
    """
    path = root / TARGETS_NAME
    targets = read_targets(path)
    found, others, notices = yield from look_at(root, targets.rows, contents)
    left_out = [LeftOut(file, "", reason) for file, reason in others.items()]
    notices += [*summary(root, left_out), *targets.problems]
    hashes = [content.pixels for _, _, content in found]
    if len(set(hashes)) < MIN_PICTURES:
        raise DataError(
            f"{path}: {len(set(hashes))} different pictures can be read; at least "
            f"{MIN_PICTURES} are needed",
            hint="; ".join(notices[:3]) or "add lines",
        )
    files = [file for file, _, _ in found]
    own = read_own(root) | targets.own
    splits, said = share_out(root, files, [0] * len(files), hashes, seed, own)
    samples = tuple(
        Sample(file, 0, split, content.sha256, content.pixels, numbers)
        for (file, numbers, content), split in zip(found, splits, strict=True)
    )
    if without := _without_row(root, {file for file, _ in targets.rows}):
        left_out += [LeftOut(file, "", NO_LINE) for file in without]
        said.append(
            f"{root}: {len(without)} pictures have no line in {TARGETS_NAME}, e.g. "
            f"{listed(without[:3])}"
        )
    groups = contradictions([(s.path, s.targets or (), s.pixels) for s in samples])
    said += contradiction_notice(root, groups)
    return Found(targets.names, samples, seed, notices=(*notices, *said), left_out=tuple(left_out))


def _without_row(root: Path, rows: Set[str]) -> list[str]:
    """Find files below a folder that have a picture's suffix and are not in the table."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(folder).relative_to(root)
        names = [(below / name).as_posix() for name in files if not name.startswith(".")]
        found += [name for name in names if Path(name).suffix.lower() in SUFFIXES]
    return sorted(set(found) - rows, key=natural_key)
