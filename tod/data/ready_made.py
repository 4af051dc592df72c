"""Find ready-made splits: folders beside each other that hold the same class names.

They can be at any level: `Training/cat`, `Testing/cat`; `photos/train/cat`; `cat/train`,
`cat/test`; `seg_train/seg_train/cat`. They are known by their names, or only because they repeat
the same classes. Knows names, no files.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tod.data.own_splits import SPLIT_WORDS
from tod.data.splits import Split
from tod.system.names import natural_key

_Path = tuple[str, ...]
# Folders with other names are splits only if most of their contents are the same.
_ALIKE = 2 / 3


@dataclass(frozen=True)
class ReadyMade:
    """Ready-made splits among class folders.

    Attributes:
        names: class folder's path -> its class without the split; empty if its pictures have no
            class.
        splits: class folder's path -> its split; None if it is in no split's folder.
        folders: paths of the splits' folders, in natural order.
        unknown: the split folders with classes whose names do not say which split they are.
        by_name: at least one folder's name is that of a split.
    """

    names: Mapping[str, str]
    splits: Mapping[str, Split | None]
    folders: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    by_name: bool = True


def ready_made_splits(class_names: Iterable[str]) -> ReadyMade | None:
    """Find the ready-made splits among class folders; None if there are none.

    Args:
        class_names: paths of the folders that hold pictures, with "/" between their parts.
    """
    whole = {name: tuple(name.split("/")) for name in class_names}
    inside = _inside(whole.values())
    paths = {name: _without_repeats(path, inside) for name, path in whole.items()}
    deep = {path[: i + 1] for path in paths.values() for i in range(len(path) - 1)}
    points = _points(set(paths.values()))
    if not points:
        return None
    inside_of = _inside(paths.values())
    names: dict[str, _Path] = {}
    splits: dict[str, Split | None] = {}
    folders: dict[str, Split | None] = {}
    unknown: set[str] = set()
    for name, path in paths.items():
        at = next((i for i in range(len(path)) if path[:i] in points), None)
        if at is None:
            names[name], splits[name] = path, None
            continue
        # Pictures beside a split's class folders have no class; pictures in `cat/train` have one.
        beside = len(path) == at + 1 and not deep.isdisjoint(
            (*path[:at], other) for other in inside_of[path[:at]]
        )
        names[name] = () if beside else path[:at] + path[at + 1 :]
        splits[name] = split_of(path[at])
        folder = "/".join(path[: at + 1])
        if splits[name] or names[name]:
            folders[folder] = splits[name]
        if splits[name] is None and names[name]:
            unknown.add(folder)
    shared = _shared([path for path in names.values() if path])
    known = any(folders.values())
    return ReadyMade(
        {name: "/".join(path[shared:]) for name, path in names.items()},
        splits,
        tuple(sorted(folders, key=natural_key)),
        tuple(sorted(unknown, key=natural_key)),
        known,
    )


def split_of(name: str) -> Split | None:
    """Return the split that a folder's name means: the whole name (`Training`), or one of its words
    (`seg_train`, `val2017`, `testset`)."""
    if exact := SPLIT_WORDS.get(name.lower()):
        return exact
    words = [w.removesuffix("set").removesuffix("data") for w in re.split("[^a-z]+", name.lower())]
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else None


def _inside(paths: Iterable[_Path]) -> Mapping[_Path, set[str]]:
    """The folders inside each folder."""
    found: dict[_Path, set[str]] = defaultdict(set)
    for path in paths:
        for i, part in enumerate(path):
            found[path[:i]].add(part)
    return found


def _without_repeats(path: _Path, inside: Mapping[_Path, set[str]]) -> _Path:
    """`seg_train/seg_train/cat` -> `seg_train/cat`, if the outer folder holds only the inner
    one."""
    kept = list(path[:1])
    for i, part in enumerate(path[1:], start=1):
        if part != path[i - 1] or inside[path[:i]] != {part}:
            kept.append(part)
    return tuple(kept)


def _points(paths: Collection[_Path]) -> set[_Path]:
    """Find the folders whose subfolders are splits."""
    below: dict[_Path, dict[str, set[_Path]]] = defaultdict(lambda: defaultdict(set))
    for path in paths:
        for i, part in enumerate(path):
            below[path[:i]][part].add(path[i + 1 :])
    total = len(paths)
    by_name = {
        parent
        for parent, folders in below.items()
        if _said_by_names(folders, sum(map(len, folders.values())) == total)
    }
    return by_name or {p for p, folders in below.items() if _said_by_repeats(folders, total)}


def _said_by_names(folders: Mapping[str, set[_Path]], holds_all: bool) -> bool:
    """Tell whether folders beside each other are splits by their names.

    Args:
        folders: name -> the relative paths to class folders; the empty path is the folder itself.
        holds_all: no class folder is elsewhere.
    """
    exact = {name for name in folders if name.lower() in SPLIT_WORDS}
    kinds = {SPLIT_WORDS[name.lower()] for name in exact}
    with_classes = {name for name, ways in folders.items() if ways != {()}}
    if not with_classes:
        return len(kinds) > 1 and len(exact) == len(folders)
    if len(kinds) > 1 and exact & with_classes:
        return True
    if holds_all and len(exact) == len(folders):
        return True
    in_words = {name: split_of(name) for name in with_classes}
    several = len({split for split in in_words.values() if split}) > 1
    return several and _alike([folders[name] for name, split in in_words.items() if split], 1)


def _said_by_repeats(folders: Mapping[str, set[_Path]], total: int) -> bool:
    """Tell whether all class folders are in folders beside each other that hold the same names. At
    least two names must repeat: `church/indoor` beside `arena/indoor` are two classes."""
    ways = list(folders.values())
    complete = sum(map(len, ways)) == total and all(() not in way for way in ways)
    return complete and len(ways) > 1 and _alike(ways, 2)


def _alike(ways: list[set[_Path]], least: int) -> bool:
    """Tell whether sets of names are mostly the same, and each shares a name with another."""
    counts = Counter(way for one in ways for way in one if way)
    repeated = {way for way, count in counts.items() if count > 1}
    return (
        len(repeated) >= least
        and all(one & repeated for one in ways)
        and sum(counts[way] for way in repeated) >= _ALIKE * sum(counts.values())
    )


def _shared(paths: list[_Path]) -> int:
    """Count the outer folders that hold all classes and so tell nothing about them."""
    count = 0
    while len({path[: count + 1] for path in paths}) == 1 and all(
        len(path) > count + 1 for path in paths
    ):
        count += 1
    return count
