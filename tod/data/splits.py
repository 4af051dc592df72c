"""Which picture goes to which split: a function of contents, groups and a seed alone.

A picture's place is a keyed hash of its content, a number from 0 to 1 that is compared with fixed
thresholds. So it stays where it is, whatever pictures are added or removed beside it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Split = Literal["train", "test", "validation"]
FRACTIONS: dict[Split, float] = {"train": 0.6, "test": 0.2, "validation": 0.2}


def shuffle_key(seed: int, text: str) -> bytes:
    """A sort key that puts texts into a seeded random order, independent of their first order."""
    return hashlib.sha256(f"{seed}\n{text}".encode("utf-8", "surrogateescape")).digest()


@dataclass
class _Unit:
    """Pictures that stay together. `place` is the lowest of their numbers, so that a picture that
    joins can move the others to the train split only."""

    place: float
    labels: set[int]
    least: str
    fixed: Split | None
    split: Split = "train"


def assign_splits(
    labels: Sequence[int],
    contents: Sequence[str],
    seed: int,
    *,
    groups: Sequence[str | None] | None = None,
    fixed: Sequence[Split | None] | None = None,
    fractions: Mapping[Split, float] = FRACTIONS,
) -> list[Split]:
    """Share pictures out by content: about 60 % train, 20 % test, 20 % validation.

    Pictures with the same content or of the same group always get the same split, also across
    classes. Where a class has no picture in a split by its numbers, it gets the highest that
    another split can spare (train the lowest). So more pictures never turn one that trained into
    one that scores, but where a class had no number of the train split at all: of classes of five
    pictures that is one in a hundred.

    Args:
        labels: class index of each picture.
        contents: hash of each picture's pixels.
        seed: another seed, another split.
        groups: name of what each picture belongs to, None for itself alone.
        fixed: the split that each picture was given by its owner, None for the rule's. Of pictures
            that stay together and were given several, all get the first of train, test and
            validation.
        fractions: what each split gets of the pictures that were given none.

    Returns:
        The split of each picture, in the order of the arguments.
    """
    groups = groups or [None] * len(labels)
    fixed = fixed or [None] * len(labels)
    root = _joined(contents, groups)
    units: dict[int, _Unit] = {}
    for index, (label, content, group, own) in enumerate(
        zip(labels, contents, groups, fixed, strict=True)
    ):
        number = place(seed, content if group is None else f"group {group}")
        unit = units.setdefault(root[index], _Unit(number, set(), content, own))
        unit.place = min(unit.place, number)
        unit.least = min(unit.least, content)
        unit.labels.add(label)
        unit.fixed = next((s for s in FRACTIONS if s in (unit.fixed, own)), None)
    bounds = list(zip(fractions, accumulate(fractions.values()), strict=True))
    for unit in units.values():
        natural = next((split for split, top in bounds if unit.place < top), bounds[-1][0])
        unit.split = unit.fixed or natural
    _fill_gaps(units.values(), [split for split, share in fractions.items() if share])
    return [units[root[index]].split for index in range(len(labels))]


def place(seed: int, key: str) -> float:
    """The number, 0 <= x < 1, that decides where a content or a group goes."""
    return int.from_bytes(shuffle_key(seed, key)[:6], "big") / 2**48


def _joined(contents: Sequence[str], groups: Sequence[str | None]) -> list[int]:
    """For each picture the number of the first of those that it stays together with."""
    root = list(range(len(contents)))

    def find(index: int) -> int:
        while root[index] != index:
            root[index] = root[root[index]]
            index = root[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, (content, group) in enumerate(zip(contents, groups, strict=True)):
        keys = [("content", content), *([] if group is None else [("group", group)])]
        for key in keys:
            one, other = find(first.setdefault(key, index)), find(index)
            root[max(one, other)] = min(one, other)
    return [find(index) for index in range(len(root))]


def _fill_gaps(units: Iterable[_Unit], wanted: Sequence[Split]) -> None:
    """Give every class a picture in every split, as far as the others can spare one."""
    by_class: dict[int, list[_Unit]] = defaultdict(list)
    for unit in sorted(units, key=lambda u: (u.place, u.least)):
        for label in unit.labels:
            by_class[label].append(unit)

    def count(label: int, split: Split) -> int:
        return sum(unit.split == split for unit in by_class[label])

    # The order of the classes must not hang on how they are called.
    for label in sorted(by_class, key=lambda name: min(u.least for u in by_class[name])):
        for split in sorted(wanted, key=("validation", "test", "train").index):
            if not count(label, split):
                spare = [
                    unit
                    for unit in by_class[label]
                    if unit.fixed is None and all(count(own, unit.split) > 1 for own in unit.labels)
                ]
                if spare:
                    spare[0 if split == "train" else -1].split = split
