"""Seeded choices: which picture goes to which split, which rows make which batch.

Everything here is a pure function of its arguments: no generator is advanced, so a resumed run
needs no saved random state but the seed and the cycle. Only NumPy's bit generators are used,
whose streams are the same in every NumPy version and on every platform.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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


def batch_rows(*, seed: int, cycle: int, batch_size: int, rows: int) -> NDArray[np.int64]:
    """The rows of the training batch of one cycle.

    Rows are dealt like cards: every row once in random order, then all again in another order. A
    batch may reach into the next deal, so each one has `batch_size` rows, even when there are
    fewer rows than that.

    Args:
        seed: of the run.
        cycle: 1 for the first cycle.
        batch_size: rows in the batch.
        rows: how many rows there are to draw from.
    """
    position, end = (cycle - 1) * batch_size, cycle * batch_size
    parts = []
    while position < end:
        deal, place = divmod(position, rows)
        parts.append(_deal(seed, deal, rows)[place : place + end - position])
        position += len(parts[-1])
    return np.concatenate(parts)


def uniform_noise(
    *, seed: int, cycle: int, batch: int, index: int, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """The noise of one dropout: 0 <= x < 1, float32 with 24 random bits.

    Args:
        seed: of the run.
        cycle: 1 for the first cycle.
        batch: which batch of the cycle, from 0.
        index: which dropout, from 0.
        shape: of the result.
    """
    stream = np.random.Philox(np.random.SeedSequence([seed, cycle, batch, index]))
    raw = stream.random_raw(int(np.prod(shape))) >> np.uint64(40)
    return (raw.astype(np.float32) * np.float32(2**-24)).reshape(shape)


@lru_cache(maxsize=2)
def _deal(seed: int, deal: int, rows: int) -> NDArray[np.int64]:
    """One random order of all rows."""
    # Not Generator.permutation: NumPy reserves the right to change its stream.
    raw = np.random.Philox(np.random.SeedSequence([seed, deal])).random_raw(rows)
    return np.argsort(raw, kind="stable")
