"""Assign pictures to splits by contents, groups and a seed alone.

A keyed hash of a picture's content gives a number from 0 to 1, which is compared with fixed
thresholds. So a picture keeps its split when other pictures are added or removed.
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
    """Return a sort key that gives texts a seeded random order, independent of their first
    order."""
    return hashlib.sha256(f"{seed}\n{text}".encode("utf-8", "surrogateescape")).digest()


@dataclass
class _Unit:
    """Pictures that stay together. `place` is the lowest of their numbers, so that a new picture
    can move the others only towards the train split."""

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
    """Divide pictures by content: about 60 % train, 20 % test, 20 % validation.

    Pictures with the same content or of the same group always get the same split, also across
    classes. If no number of a class falls into a split, that split gets the picture with the
    highest number that another split can spare (train gets the lowest). So adding pictures never
    moves a picture from train to a scoring split, except if no number of the class fell into the
    train split, which happens to one in a hundred classes of five pictures.

    Args:
        labels: class index of each picture.
        contents: hash of each picture's pixels.
        seed: each seed gives another split.
        groups: name of each picture's group, None for no group.
        fixed: the split that the owner gave to each picture, None for the rule's. If pictures that
            stay together were given different splits, all get the first of train, test and
            validation.
        fractions: each split's share of the pictures without a given split.

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
    """Return the number, 0 <= x < 1, that decides the split of a content or a group."""
    return int.from_bytes(shuffle_key(seed, key)[:6], "big") / 2**48


def _joined(contents: Sequence[str], groups: Sequence[str | None]) -> list[int]:
    """Return for each picture the index of the first picture that it stays together with."""
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
    """Give every class a picture in every split, if the other splits can spare one."""
    by_class: dict[int, list[_Unit]] = defaultdict(list)
    for unit in sorted(units, key=lambda u: (u.place, u.least)):
        for label in unit.labels:
            by_class[label].append(unit)

    def count(label: int, split: Split) -> int:
        return sum(unit.split == split for unit in by_class[label])

    # The order must not depend on the names of the classes.
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
