"""Seeded draws: the rows of each batch, and the noise of dropout.

Everything here is a pure function of its arguments: no generator is advanced, so a resumed run
needs no saved random state but the seed and the cycle. Only NumPy's bit generators are used,
whose streams are the same in every NumPy version and on every platform.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def batch_rows(*, seed: int, cycle: int, batch_size: int, rows: int) -> NDArray[np.int64]:
    """The rows of the training batch of one cycle.

    Rows are dealt like cards: every row once in random order, then all again in another order. A
    batch may reach into the next deal, so each one has `batch_size` rows, even when there are
    fewer rows than that.

    Args:
        seed: of the run.
        cycle: 1 for the first cycle.
        batch_size: rows in the batch.
        rows: number of rows to draw from.
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
        index: which dropout layer, from 0.
        shape: of the result.
    """
    stream = np.random.Philox(np.random.SeedSequence([seed, cycle, batch, index]))
    raw = stream.random_raw(int(np.prod(shape))) >> np.uint64(40)
    return (raw.astype(np.float32) * np.float32(2**-24)).reshape(shape)


@lru_cache(maxsize=2)
def _deal(seed: int, deal: int, rows: int) -> NDArray[np.int64]:
    """Return one random order of all rows."""
    # Not Generator.permutation: NumPy reserves the right to change its stream.
    raw = np.random.Philox(np.random.SeedSequence([seed, deal])).random_raw(rows)
    return np.argsort(raw, kind="stable")
