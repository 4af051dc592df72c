"""Batches are pure functions with the promised shares."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tod.runtime.draws import batch_rows

seeds = st.integers(0, 2**32)


@given(seeds, st.integers(1, 40), st.integers(1, 40), st.integers(1, 8))
def test_rows_are_dealt_evenly(seed, batch_size, rows, cycles):
    dealt = [
        row
        for cycle in range(1, cycles + 1)
        for row in batch_rows(seed=seed, cycle=cycle, batch_size=batch_size, rows=rows)
    ]
    assert len(dealt) == batch_size * cycles
    counts = Counter(dealt)
    assert set(counts) <= set(range(rows))
    times = [counts[row] for row in range(rows)]
    assert max(times) - min(times) <= 1


def test_batches_are_the_same_in_every_numpy_version():
    """Recorded with NumPy 2.2.6 and 2.5.5: a run can be resumed after an upgrade."""
    batch = batch_rows(seed=7, cycle=3, batch_size=6, rows=10)
    assert batch.tolist() == [6, 1, 4, 8, 3, 2]


@pytest.mark.parametrize("rows", [1, 5])
def test_a_batch_larger_than_the_data_is_full(rows):
    batch = batch_rows(seed=0, cycle=1, batch_size=32, rows=rows)
    assert batch.dtype == np.int64
    assert batch.shape == (32,)
