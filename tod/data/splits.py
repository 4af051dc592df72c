"""Which picture goes to which split: a pure function of contents, classes and a seed."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Literal

Split = Literal["train", "test", "validation"]
FRACTIONS: dict[Split, float] = {"train": 0.6, "test": 0.2, "validation": 0.2}


def shuffle_key(seed: int, text: str) -> bytes:
    """A sort key that puts texts into a seeded random order, independent of their first order."""
    return hashlib.sha256(f"{seed}\n{text}".encode("utf-8", "surrogateescape")).digest()


def assign_splits(labels: Sequence[int], contents: Sequence[str], seed: int) -> list[Split]:
    """Share pictures out: 60 % train, 20 % test, 20 % validation, class by class.

    Pictures with the same content always get the same split, also across classes. The result
    depends on labels, contents and seed alone, not on names or on the order of the files.

    Args:
        labels: class index of each picture.
        contents: SHA-256 of each picture.
        seed: another seed, another split.

    Returns:
        The split of each picture, in the order of the arguments.
    """
    groups: dict[str, list[int]] = defaultdict(list)
    for index, content in enumerate(contents):
        groups[content].append(index)
    # What is still wanted, by class and split; whoever lacks most gets the next picture.
    lack: dict[int, dict[Split, float]] = {
        label: {split: share * count for split, share in FRACTIONS.items()}
        for label, count in Counter(labels).items()
    }
    splits: dict[int, Split] = {}
    # Duplicates first: while every split lacks much, a large group upsets the shares least.
    for content in sorted(groups, key=lambda c: (-len(groups[c]), shuffle_key(seed, c))):
        members = groups[content]
        split = max(
            FRACTIONS, key=lambda s: round(sum(lack[labels[index]][s] for index in members), 6)
        )
        for index in members:
            splits[index] = split
            lack[labels[index]][split] -= 1
    return [splits[index] for index in range(len(labels))]
