"""Class folders -> candidate picture files of each class, and everything that was left out.

Every folder that holds pictures is a class, named by its path below the data's folder. Opens no
picture; only decoding shows whether a candidate is a picture.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tod.data.class_names import class_of, is_camera_folder, plain_name
from tod.data.index import check_names
from tod.data.own_splits import SPLITS_NAME, Own
from tod.data.ready_made import ReadyMade, ready_made_splits
from tod.data.samples import LeftOut
from tod.data.walk import NOT_TEXT, Entry, walk
from tod.errors import DataError
from tod.system.names import listed, natural_key
from tod.system.text import shown

OUTSIDE = "it lies outside the class folders"
IN_NO_CLASS = "it lies in a split's folder, but in no class"
_FEW, _MANY = 3, 6


@dataclass(frozen=True)
class Scan:
    """The content of a folder.

    Attributes:
        classes: class name -> its candidates below the folder, in natural order; a class has none
            if all its files are left out.
        left_out: every other file and folder, and why.
        notices: messages for the user on how folders became classes.
        own: the split of each file, if ready-made splits are used.
        lost: folders without read permission, so that a class may be missing.
    """

    classes: Mapping[str, list[str]]
    left_out: tuple[LeftOut, ...] = ()
    notices: tuple[str, ...] = ()
    own: Mapping[str, Own] = field(default_factory=dict)
    lost: tuple[LeftOut, ...] = ()

    @property
    def rows(self) -> list[tuple[str, int]]:
        """All candidates, each with the number of its class."""
        return [(file, i) for i, files in enumerate(self.classes.values()) for file in files]

    def left_out_now(self, others: Mapping[str, str]) -> tuple[LeftOut, ...]:
        """Return all files that are left out, with the candidates that cannot be decoded."""
        names = list(self.classes)
        found = [LeftOut(f, names[i], others[f]) for f, i in self.rows if f in others]
        return (*found, *self.left_out)


def scan(root: Path, *, splits: bool = False, lenient: bool = False) -> Scan:
    """Find the classes and candidates of a folder.

    Args:
        root: the folder.
        splits: take ready-made splits (`tod.data.ready_made`) as they are.
        lenient: do not raise where training would refuse the folder.

    Raises:
        DataError: there is no class folder, or a class folder has a name that is not text or may
            not be read; there are ready-made splits without `splits`, or none with it.
    """
    folders: dict[tuple[str, ...], list[str]] = defaultdict(list)
    others: list[Entry] = []
    renamed: set[str] = set()
    for entry in walk(root):
        entry, was = _as_folders(entry)
        renamed |= was
        if entry.reason:
            others.append(entry)
        else:
            folders[entry.folder].append(entry.path)
        if entry.meant and entry.folder and not entry.unreadable:
            folders.setdefault(entry.folder, [])
    outside = folders.pop((), [])
    classes, notices = _classes(root, folders)
    left_out = [_left_out(entry, classes) for entry in others]
    left_out += [LeftOut(path, "", OUTSIDE, meant=False) for path in outside]
    lost = tuple(_left_out(entry, classes) for entry in others if entry.unreadable)
    if renamed:
        notices.append(
            f"{root}: names with a backslash are read as folders, as in archives made by Windows: "
            f"{len(renamed)} files, e.g. {listed(sorted(renamed, key=natural_key)[:_FEW])}"
        )
    found = Scan(classes, tuple(left_out), tuple(notices), lost=lost)
    if not lenient:
        _check_read(root, lost)
    if not classes and outside:
        lie = "1 picture lies" if len(outside) == 1 else f"{len(outside)} pictures lie"
        raise DataError(
            f"{root}: no class folder in it; {lie} in the folder itself",
            hint="move them into class folders, such as "
            f"{root / 'cat' / outside[0]}: one folder for each class",
        )
    if not classes:
        raise DataError(
            f"{root}: no class folder with pictures in it",
            hint="; ".join(
                [
                    *[f"{one.path}: {one.reason}" for one in found.left_out[:_FEW]],
                    "make one folder per class and put its pictures (JPEG, PNG, BMP ...) there",
                ]
            ),
        )
    try:
        return with_ready_made(root, found, splits=splits)
    except DataError:
        if lenient:
            return found
        raise


def with_ready_made(root: Path, found: Scan, *, splits: bool) -> Scan:
    """Apply ready-made splits: class names without the split, and the split of each file.

    Raises:
        DataError: see `scan`.
    """
    ready = ready_made_splits(found.classes)
    if ready is None and splits and not (root / SPLITS_NAME).is_file():
        raise DataError(
            f"{root}: it holds no ready-made splits: no folders beside each other, called train "
            "and test or the like, that hold the same classes",
            hint="without --splits TOD makes its own split",
        )
    if ready is None:
        return found
    if not splits or ready.unknown:
        raise _refused(root, ready, splits=splits)
    # Pictures of a single split are divided like the pictures of any folder.
    several = len({s for folder, s in ready.splits.items() if ready.names[folder]}) > 1
    classes: dict[str, list[str]] = defaultdict(list)
    own: dict[str, Own] = {}
    outside: list[LeftOut] = []
    for folder, files in found.classes.items():
        name, split = ready.names[folder], ready.splits[folder]
        if not name:
            outside += [LeftOut(file, "", IN_NO_CLASS) for file in files]
            continue
        classes[name] += files
        if split is not None and several:
            own |= dict.fromkeys(files, Own(split))
    left_out = tuple(
        replace(one, class_name=ready.names.get(one.class_name, "")) for one in found.left_out
    )
    check_names(root, list(classes))
    names = sorted(classes, key=natural_key)
    by_name = {name: sorted(classes[name], key=natural_key) for name in names}
    notices = [n for n in found.notices if "named by their path" not in n]
    notices.append(f"{root}: these splits are taken as they are: {_some(ready.folders)}")
    return replace(
        found, classes=by_name, left_out=(*outside, *left_out), notices=tuple(notices), own=own
    )


def _refused(root: Path, ready: ReadyMade, *, splits: bool) -> DataError:
    folders = _some(ready.folders)
    if not ready.by_name:
        return DataError(
            f"{root}: {folders} repeat the same folders: they are ready-made splits or groups, or "
            "classes of two parts, and TOD cannot know which",
            hint="rename splits to train, test and validation and give --splits; put classes "
            "together in one folder; join two names that are one class's (church_indoor)",
        )
    if splits:
        return DataError(
            f"{root}: of the ready-made splits ({folders}) the names of {_some(ready.unknown)} do "
            "not say which they are",
            hint="rename them to train, test or validation, or move them away",
        )
    return DataError(
        f"{root}: it holds ready-made splits ({folders}), not classes",
        hint="--splits (in Python splits=True) takes them as they are; or put the class folders "
        "together in one folder, and TOD makes its own split",
    )


def _some(names: Sequence[str]) -> str:
    return listed(names[:_MANY]) + f" and {len(names) - _MANY} more" * (len(names) > _MANY)


def _as_folders(entry: Entry) -> tuple[Entry, set[str]]:
    """Read backslashes in an entry's name as folders."""
    if os.sep == "\\" or "\\" not in entry.path:
        return entry, set()
    parts = entry.path.replace("\\", "/").split("/")
    if not all(part.strip(". ") for part in parts) or ":" in parts[0]:
        reason = entry.reason or "backslashes in its name, which name no folder"
        return replace(entry, reason=reason, meant=False), set()
    is_file = len(entry.folder) < len(entry.path.split("/"))
    folder = tuple(parts[:-1] if is_file else parts)
    return replace(entry, folder=folder), set() if entry.reason else {entry.path}


def _classes(
    root: Path, folders: Mapping[tuple[str, ...], list[str]]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the files of each class, in natural order, and notices about the class names."""
    for parts in folders:
        try:
            "/".join(parts).encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"{str(root / '/'.join(parts))!a}: {NOT_TEXT}", hint="rename the folder"
            ) from error
    files: dict[str, list[str]] = defaultdict(list)
    places: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for parts, paths in folders.items():
        files[class_of(parts)] += paths
        places[class_of(parts)].add(_without_camera(parts))
    check_names(root, list(files))
    names = sorted(files, key=natural_key)
    classes = {name: sorted(files[name], key=natural_key) for name in names}
    return classes, [*_said_of_names(root, places), *_said_of_folders(root, folders, names)]


def _without_camera(parts: tuple[str, ...]) -> tuple[str, ...]:
    while len(parts) > 1 and is_camera_folder(parts):
        parts = parts[:-1]
    return parts


def _said_of_names(root: Path, places: Mapping[str, set[tuple[str, ...]]]) -> Iterable[str]:
    for name, folders in places.items():
        if len(folders) > 1:
            # Write escapes, because the names look the same.
            spelled = listed([f"{'/'.join(parts)!a}" for parts in sorted(folders)])
            yield f"{root}: folders whose names look the same are one class, {name}: {spelled}"


def _said_of_folders(
    root: Path, folders: Iterable[tuple[str, ...]], names: list[str]
) -> Iterable[str]:
    cameras = sorted("/".join(p) for p in folders if len(p) > 1 and is_camera_folder(p))
    if cameras:
        some = _some(cameras)
        yield f"{root}: pictures in a camera's folder belong to the class above it: {some}"
    if deep := [name for name in names if "/" in name]:
        some = _some(deep)
        yield f"{root}: folders below folders are classes of their own, named by their path: {some}"


def _left_out(entry: Entry, classes: Mapping[str, list[str]]) -> LeftOut:
    """Turn an entry into a `LeftOut`; its path becomes printable text."""
    path = shown(entry.path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
    if entry.unreadable:
        name = "/".join(map(plain_name, entry.folder))
        return LeftOut(path or ".", shown(name), entry.reason)
    name = class_of(entry.folder) if entry.folder else ""
    return LeftOut(path, name if name in classes else "", entry.reason, entry.meant)


def _check_read(root: Path, lost: tuple[LeftOut, ...]) -> None:
    """Refuse unreadable folders: each could be a whole class that is missing unnoticed.

    Raises:
        DataError: names each folder and its class.
    """
    if lost:
        said = [
            f"{root / one.path} (class {one.class_name}) {one.reason}"
            if one.class_name
            else f"{root} {one.reason}"
            for one in lost
        ]
        raise DataError(
            "; ".join(said),
            hint="get the permission to read it, or move it away if it is no class",
        )
