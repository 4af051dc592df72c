"""Pictures of a source -> OUT/<class>/<n>.bmp and OUT/dataset.json.

Every picture that is finished gets a line in `dataset.journal`; a second call takes over what
dataset.json or the journal lists, and does the rest. The index is written last.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Literal

import msgspec

from dataset_tools.sources import Picture, Source
from tod.data import image
from tod.data.dataset import MIN_PICTURES, Sample, check_classes, check_splits
from tod.data.file_hashes import FOLDER
from tod.data.index import INDEX_NAME, JOURNAL_NAME, Index, IndexedClass, IndexedFile, read_index
from tod.data.splits import assign_splits, shuffle_key
from tod.errors import DataError, Interrupted, PictureError, UsageError
from tod.format.manifest import InputSpec
from tod.system.files import write_whole
from tod.system.machine import available_cores

_SAMPLE = 50
_SUFFIXES = {"bmp": ".bmp", "png": ".png", "jpeg": ".jpg"}
_RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(10))}


@dataclass(frozen=True)
class Prepared:
    """The outcome: the index, how much was made now, and what could not be read and why."""

    index: Index
    made: int
    unreadable: dict[str, str]
    notices: tuple[str, ...]


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
        out: the folder to make; it may hold what an earlier, equal call has made.
        size_px: side of the square crop.
        resize_px: length of the shorter side before the crop; size_px * 256 / 224 by default.
        picture_format: of the pictures written.
        seed: of the split and of the sample.
        per_class: largest number of pictures of each class, a seeded sample.
        progress: called with pictures done and pictures in all.
        should_stop: asked after each picture.

    Raises:
        UsageError: sizes that cannot be meant.
        DataError: a class is too small, `out` holds another dataset or cannot be written.
        Interrupted: `should_stop` said so; the next call continues.
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
        with _Journal(out, recipe, {picture.origin: picture for picture in chosen}) as journal:
            files, unreadable, made = _make_all(chosen, journal, spec, progress, should_stop)
            index = replace(recipe, files=_with_splits(out, recipe, files, unreadable))
            data = msgspec.json.format(msgspec.json.encode(index), indent=1) + b"\n"
            write_whole(out / INDEX_NAME, data)
            journal.remove()
    except OSError as error:
        raise DataError(
            f"{error.filename or out}: cannot be written: {error.strerror or error}",
            hint="free some room or choose another folder, then run the same command again",
        ) from error
    return Prepared(index, made, unreadable, source.notices)


class _Journal:
    """What was finished so far. Its first line is the recipe, each further line one picture."""

    def __init__(self, out: Path, recipe: Index, pictures: dict[str, Picture]) -> None:
        self.out = out
        self.recipe = recipe
        self._path = out / JOURNAL_NAME
        earlier = self._earlier()
        strangers = {file.source for file in earlier} - set(pictures)
        if strangers:
            raise DataError(
                f"{out}: it holds another dataset: {len(strangers)} of its pictures are not in "
                f"this source, e.g. {min(strangers)}",
                hint="choose another folder, or remove this one",
            )
        looked_at = earlier[:: max(1, len(earlier) // _SAMPLE)]
        changed = [file for file in looked_at if _changed(pictures[file.source], file)]
        if len(changed) > len(looked_at) / 2:
            raise DataError(
                f"{out}: it holds another dataset: most of its pictures have the names, but not "
                f"the content of this source's, e.g. {changed[0].source}",
                hint="choose another folder, or remove this one",
            )
        self.known = {file.source: file for file in earlier}
        self._used = {file.file for file in earlier}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> _Journal:
        for rest in (*self.out.glob(".*.part"), *self.out.glob("*/.*.part")):
            rest.unlink()  # what a killed call had in hand
        # Written anew, so that a torn last line of an interrupted call does not stay.
        lines = [msgspec.json.encode(item) for item in (self.recipe, *self.known.values())]
        write_whole(self._path, b"\n".join(lines) + b"\n")
        self._file = open(self._path, "ab")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._file is not None
        self._file.close()

    def add(self, file: IndexedFile) -> None:
        assert self._file is not None
        self._file.write(msgspec.json.encode(file) + b"\n")
        self._file.flush()

    def remove(self) -> None:
        self._path.unlink()

    def name(self, label: int, counters: Counter[int]) -> str:
        """The next free file name of a class."""
        folder = self.recipe.classes[label].folder
        while True:
            file = f"{folder}/{counters[label]}{_SUFFIXES[self.recipe.picture_format]}"
            counters[label] += 1
            if file not in self._used:
                return file

    def _earlier(self) -> list[IndexedFile]:
        """The files that an equal call has finished, from its journal or its index."""
        if self._path.exists():
            lines = self._path.read_bytes().split(b"\n")
            try:
                self._same_recipe(msgspec.json.decode(lines[0], type=Index))
            except msgspec.MsgspecError as error:
                raise DataError(
                    f"{self._path}: not readable: {error}", hint="remove this folder and try again"
                ) from error
            files = []
            for line in lines[1:-1]:  # what follows the last newline was cut off while written
                try:
                    files.append(msgspec.json.decode(line, type=IndexedFile))
                except msgspec.MsgspecError:
                    continue
            return files
        if (self.out / INDEX_NAME).exists():
            index = read_index(self.out / INDEX_NAME)
            self._same_recipe(index)
            return list(index.files)
        if any(p.suffix != ".part" and p.name != FOLDER for p in self.out.iterdir()):
            raise DataError(
                f"{self.out}: it holds files, but no dataset",
                hint="choose an empty or new folder",
            )
        return []

    def _same_recipe(self, other: Index) -> None:
        mine, theirs = replace(self.recipe, files=()), replace(other, files=())
        if mine == theirs:
            return
        names = [n for n in vars(mine) if getattr(mine, n) != getattr(theirs, n)]
        details = [
            f"{n} is {', '.join(c.name for c in getattr(theirs, n))}"
            if n == "classes"
            else f"{n} is {getattr(theirs, n)} there and {getattr(mine, n)} here"
            for n in names
        ]
        raise DataError(
            f"{self.out}: it holds another dataset: {'; '.join(details)}",
            hint="choose another folder, or remove this one",
        )


def _make_all(
    pictures: list[Picture],
    journal: _Journal,
    spec: InputSpec,
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> tuple[list[IndexedFile], dict[str, str], int]:
    """Every picture that is not there yet, on all cores, in the order of the source."""
    jobs = list(_jobs(pictures, journal))
    work = partial(_make, journal.out, spec, journal.recipe.picture_format, journal.known)
    files: list[IndexedFile] = []
    unreadable: dict[str, str] = {}
    made = 0
    with ThreadPoolExecutor(available_cores()) as pool:
        futures = [pool.submit(work, *job) for job in jobs]
        try:
            for done, (future, (picture, _)) in enumerate(zip(futures, jobs, strict=True), start=1):
                try:
                    file, written = future.result()
                except PictureError as error:
                    unreadable[picture.origin] = error.problem
                else:
                    files.append(file)
                    if written:
                        journal.add(file)
                        made += 1
                progress(done, len(jobs))
                if should_stop():
                    raise Interrupted(
                        f"stopped after {done} of {len(jobs)} pictures",
                        hint="run the same command again; it does only what is missing",
                    )
        finally:
            pool.shutdown(cancel_futures=True)
    return files, unreadable, made


def _jobs(pictures: list[Picture], journal: _Journal) -> Iterator[tuple[Picture, IndexedFile]]:
    """Each picture with the file it becomes; pictures that have one already keep it."""
    labels = {entry.name: label for label, entry in enumerate(journal.recipe.classes)}
    counters: Counter[int] = Counter()
    for picture in pictures:
        known = journal.known.get(picture.origin)
        label = labels[picture.class_name]
        file = known.file if known else journal.name(label, counters)
        yield picture, IndexedFile(file, label, "train", "", picture.origin, "")


def _make(
    out: Path,
    spec: InputSpec,
    picture_format: str,
    known: dict[str, IndexedFile],
    picture: Picture,
    planned: IndexedFile,
) -> tuple[IndexedFile, bool]:
    """Make one picture, unless it is there and its source has not changed.

    Returns:
        Its record, and whether it was made now.
    """
    try:
        data = picture.read()
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror or error}") from error
    source_sha256 = hashlib.sha256(data).hexdigest()
    path = out / planned.file
    before = known.get(picture.origin)
    if before is not None and before.source_sha256 == source_sha256 and _holds(path, before.sha256):
        return before, False
    made = image.prepare(data, spec, picture_format, cropped=picture.cropped)
    path.parent.mkdir(exist_ok=True)
    write_whole(path, made, durable=False)
    made_sha256 = hashlib.sha256(made).hexdigest()
    return replace(planned, sha256=made_sha256, source_sha256=source_sha256), True


def _holds(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _changed(picture: Picture, file: IndexedFile) -> bool:
    try:
        return hashlib.sha256(picture.read()).hexdigest() != file.source_sha256
    except OSError:
        return False


def _check_counts(source: Source, pictures: list[Picture]) -> None:
    """Too few pictures of a class are said at once, not after all the others were made."""
    counts = Counter(picture.class_name for picture in pictures)
    small = [f"{name} ({counts[name]})" for name in source.classes if counts[name] < MIN_PICTURES]
    if small or len(source.classes) < 2:
        wanted = f"at least two classes with {MIN_PICTURES} pictures each are needed"
        found = f"too small: {', '.join(small)}" if small else f"found: {', '.join(source.classes)}"
        raise DataError(f"{wanted}; {found}", hint="add pictures, or leave these classes out")


def _with_splits(
    out: Path, recipe: Index, files: list[IndexedFile], unreadable: dict[str, str]
) -> tuple[IndexedFile, ...]:
    labels, contents = [f.label for f in files], [f.sha256 for f in files]
    names = [entry.name for entry in recipe.classes]
    try:
        check_classes(out, names, labels, contents)
    except DataError as error:
        if not unreadable:
            raise
        reasons = "; ".join(f"{origin}: {reason}" for origin, reason in unreadable.items())
        raise DataError(
            f"{error.problem}. {len(unreadable)} pictures cannot be read: {reasons}",
            hint=error.hint,
        ) from error
    # By the sources' content, so that a plain tree of the same pictures is split alike; pictures
    # that became equal byte for byte share the least of their hashes, and so a side.
    keys: dict[str, str] = {}
    for file in files:
        keys[file.sha256] = min(file.source_sha256, keys.get(file.sha256, file.source_sha256))
    splits = assign_splits(labels, [keys[f.sha256] for f in files], recipe.seed)
    placed = [replace(file, split=split) for file, split in zip(files, splits, strict=True)]
    check_splits(out, names, [Sample(f.file, f.label, f.split, f.sha256) for f in placed])
    return tuple(placed)


def _sample(source: Source, per_class: int | None, seed: int) -> list[Picture]:
    """At most `per_class` pictures of each class, chosen by seed, in the order of the source."""
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
    """A folder name for each class that any file system takes, all different."""
    folders: list[str] = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._")[:64] or "class"
        if plain.lower() in _RESERVED:
            plain += "_"
        folder, number = plain, 2
        # Different only in case is the same folder on some file systems.
        while folder.lower() in {taken.lower() for taken in folders}:
            folder, number = f"{plain}_{number}", number + 1
        folders.append(folder)
    return folders
