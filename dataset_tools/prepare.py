"""Write the pictures of a source to OUT/<class>/<n>.bmp and OUT/dataset.json.

A second call keeps the files that an earlier call made from the same contents, and makes the rest
(`dataset_tools.journal`). Labels, classes and splits come from the source of the second call.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from dataset_tools.journal import Journal, holds
from dataset_tools.sources import Picture, Source
from tod.data import image
from tod.data.file_hashes import pixels_hash
from tod.data.index import Index, IndexedClass, IndexedFile
from tod.data.own_splits import share_out
from tod.data.samples import MIN_PICTURES, LeftOut, Sample, check_classes, check_splits, reasons_of
from tod.data.splits import shuffle_key
from tod.errors import DataError, Interrupted, PictureError, UsageError
from tod.format.manifest import InputSpec
from tod.system.files import write_whole
from tod.system.machine import available_cores

_RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(10))}


@dataclass(frozen=True)
class Prepared:
    """The result: the index, the number of pictures that this call made, the number of earlier
    pictures that it removed, unreadable pictures with the reason, notices, and all files that were
    left out."""

    index: Index
    made: int
    removed: int
    unreadable: dict[str, str]
    notices: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()


def prepare(
    source: Source,
    out: Path,
    *,
    size_px: int = 224,
    resize_px: int | None = None,
    picture_format: Literal["bmp", "png", "jpeg"] = "bmp",
    seed: int = 0,
    per_class: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Prepared:
    """Prepare a dataset, or finish one.

    Args:
        source: the pictures.
        out: the folder to make; it may hold pictures of an earlier call. If they are no longer in
            the source, they are removed.
        size_px: side of the square crop.
        resize_px: length of the shorter side before the crop; size_px * 256 / 224 by default.
        picture_format: format of the written pictures.
        seed: the seed of the split and of the sample.
        per_class: largest number of pictures of each class, a seeded sample.
        progress: called with pictures done and pictures in all.
        should_stop: called after each picture.

    Raises:
        UsageError: sizes without a meaning.
        DataError: a class is too small, `out` holds another dataset or cannot be written.
        Interrupted: `should_stop` returned True; the next call continues.
    """
    resize = resize_px if resize_px is not None else round(size_px * 256 / 224)
    if not 8 <= size_px <= resize <= 4096:
        raise UsageError(f"--size {size_px} --resize {resize}: wanted 8 <= size <= resize <= 4096")
    if per_class is not None and per_class < MIN_PICTURES:
        raise UsageError(f"--per-class is {per_class}, at least {MIN_PICTURES} is wanted")
    spec = InputSpec(size_px, resize, "bicubic", "center", "rgb", (0, 0, 0), (1, 1, 1))
    recipe = Index(
        "tod-dataset", 1, size_px, resize, "bicubic", picture_format, seed, per_class,
        tuple(map(IndexedClass, source.classes, _folders(source.classes))), (),
    )  # fmt: skip
    chosen = _sample(source, per_class, seed)
    _check_counts(source, chosen)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with Journal(out, recipe, {picture.origin: picture for picture in chosen}) as journal:
            files, unreadable, made = _make_all(chosen, journal, spec, progress, should_stop)
            left_out = _left_out(chosen, unreadable, source)
            placed, told = _with_splits(out, recipe, source, files, left_out)
            index = replace(recipe, files=placed)
            removed = journal.close(index)
    except OSError as error:
        raise DataError(
            f"{error.filename or out}: cannot be written: {error.strerror or error}",
            hint="free some room or choose another folder, then run the same command again",
        ) from error
    return Prepared(index, made, removed, unreadable, (*source.notices, *told), left_out)


def _left_out(
    pictures: list[Picture], unreadable: dict[str, str], source: Source
) -> tuple[LeftOut, ...]:
    found = [
        LeftOut(picture.origin, picture.class_name, unreadable[picture.origin])
        for picture in pictures
        if picture.origin in unreadable
    ]
    return (*found, *source.left_out)


def _make_all(
    pictures: list[Picture],
    journal: Journal,
    spec: InputSpec,
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> tuple[list[IndexedFile], dict[str, str], int]:
    """Make every picture that is missing, on all cores, in the order of the source."""
    labels = {entry.name: label for label, entry in enumerate(journal.recipe.classes)}
    jobs = [(picture, labels[picture.class_name]) for picture in pictures]
    names = journal.names(pictures, [label for _, label in jobs])
    work = partial(_make, journal, spec)
    files: list[IndexedFile] = []
    unreadable: dict[str, str] = {}
    made = 0
    with ThreadPoolExecutor(available_cores()) as pool:
        futures = [pool.submit(work, *job, name) for job, name in zip(jobs, names, strict=True)]
        try:
            for done, (future, picture) in enumerate(zip(futures, pictures, strict=True), start=1):
                try:
                    file, written = future.result()
                except PictureError as error:
                    unreadable[picture.origin] = error.problem
                else:
                    files.append(file)
                    if written:
                        journal.add(file)
                        made += 1
                progress(done, len(pictures))
                if should_stop():
                    raise Interrupted(
                        f"stopped after {done} of {len(pictures)} pictures",
                        hint="run the same command again; it does only what is missing",
                    )
        finally:
            pool.shutdown(cancel_futures=True)
    return files, unreadable, made


def _make(
    journal: Journal, spec: InputSpec, picture: Picture, label: int, name: str
) -> tuple[IndexedFile, bool]:
    """Make one picture, unless it exists and its source has not changed.

    Returns:
        Its record, and whether it was made now.
    """
    try:
        data = picture.read()
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror or error}") from error
    source_sha256 = hashlib.sha256(data).hexdigest()
    before = journal.made_of(picture, label, source_sha256)
    if before is not None:
        if holds(journal.out / before.file, before.sha256):
            pixels = picture.pixels or before.pixels or pixels_hash(image.decode(data))
            return replace(before, label=label, pixels=pixels), False
        name = before.file
    made, decoded = image.prepare(
        data, spec, journal.recipe.picture_format, cropped=picture.cropped
    )
    pixels = picture.pixels or pixels_hash(decoded)
    path = journal.out / name
    path.parent.mkdir(exist_ok=True)
    write_whole(path, made, durable=False)
    return IndexedFile(
        name, label, "train", hashlib.sha256(made).hexdigest(), picture.origin, source_sha256,
        pixels, picture.cropped,
    ), True  # fmt: skip


def _check_counts(source: Source, pictures: list[Picture]) -> None:
    """Refuse classes with too few pictures at once, not after all other pictures were made."""
    counts = Counter(picture.class_name for picture in pictures)
    small = [f"{name} ({counts[name]})" for name in source.classes if counts[name] < MIN_PICTURES]
    if small or len(source.classes) < 2:
        wanted = f"at least two classes with {MIN_PICTURES} pictures each are needed"
        found = f"too small: {', '.join(small)}" if small else f"found: {', '.join(source.classes)}"
        why = reasons_of(source.left_out, [n for n in source.classes if counts[n] < MIN_PICTURES])
        found += f"; {why}" if why else ""
        raise DataError(f"{wanted}; {found}", hint="add pictures, or leave these classes out")


def _with_splits(
    out: Path, recipe: Index, source: Source, files: list[IndexedFile], left_out: Sequence[LeftOut]
) -> tuple[tuple[IndexedFile, ...], list[str]]:
    """Return the files with their splits, and notices for the user. The splits are the same as for
    a plain folder of these pictures."""
    labels = [f.label for f in files]
    names = [entry.name for entry in recipe.classes]
    check_classes(out, names, labels, [f.pixels for f in files], left_out)
    # Pictures that became equal only by preparation stay together, too.
    keys: dict[str, str] = {}
    for file in sorted(files, key=lambda file: shuffle_key(recipe.seed, file.pixels)):
        keys.setdefault(file.sha256, file.pixels)
    passed_over = {one.path for one in left_out}
    splits, notices = share_out(
        out, [f.source for f in files], labels, [keys[f.sha256] for f in files], recipe.seed,
        {file: own for file, own in source.own.items() if file not in passed_over},
    )  # fmt: skip
    placed = [replace(file, split=split) for file, split in zip(files, splits, strict=True)]
    check_splits(out, names, [Sample(f.file, f.label, f.split, f.sha256, f.pixels) for f in placed])
    return tuple(placed), notices


def _sample(source: Source, per_class: int | None, seed: int) -> list[Picture]:
    """Choose at most `per_class` pictures of each class by seed, in the order of the source."""
    if per_class is None:
        return list(source.pictures)
    by_class: dict[str, list[Picture]] = defaultdict(list)
    for picture in source.pictures:
        by_class[picture.class_name].append(picture)
    kept = {
        picture.origin
        for pictures in by_class.values()
        for picture in sorted(pictures, key=lambda p: shuffle_key(seed, p.origin))[:per_class]
    }
    return [picture for picture in source.pictures if picture.origin in kept]


def _folders(names: tuple[str, ...]) -> list[str]:
    """Choose a folder name for each class. The names are different and valid on any file system."""
    folders: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:64] or "class"
        if plain.lower() in _RESERVED:
            plain += "_"
        folder, number = plain, 2
        # On some file systems, names that differ only in case are the same folder.
        while folder.lower() in {taken.lower() for taken in folders}:
            folder, number = f"{plain}_{number}", number + 1
        folders.append(folder)
    return folders
