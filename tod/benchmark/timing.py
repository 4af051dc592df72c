"""Measure the time of repeated work, by one worker or by several in parallel.

Knows no graphs and no pictures. The words are those of OpenVINO's benchmark_app: Count, Duration,
Median, Average, Min, Max.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

MIN_RUNS = 10
_WARM_UP_SHARE = 0.2
_Runs = NDArray[np.float64]  # [R, 2], begin and end of each run in seconds
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Timing:
    """How long one run takes. `duration_ms` is the time of all `count` runs; with several workers
    it is the mean of their times, because they do not end at the same moment."""

    count: int
    duration_ms: float
    median_ms: float
    average_ms: float
    min_ms: float
    max_ms: float
    p90_ms: float
    p99_ms: float

    def per_second(self, amount: int) -> float:
        """Return the throughput, if a run does `amount` things."""
        return amount * self.count / self.duration_ms * 1e3


def measure(
    work: Callable[[], object], *, seconds: float, workers: int = 1, least: int = MIN_RUNS
) -> Timing:
    """Do the work for some time and time every run; a warm-up of a fifth of that time is not
    counted.

    Args:
        work: one run. Called from several threads at once if there are several workers.
        seconds: for how long.
        workers: threads that each repeat the work.
        least: least number of runs, even if they take longer than `seconds`.
    """
    each = -(-least // workers)
    with ThreadPoolExecutor(workers) as pool:
        _together(pool, work, seconds * _WARM_UP_SHARE, workers, 1)
        return _timing(_together(pool, work, seconds, workers, each))


def sustain(
    work: Callable[[], object], *, seconds: float, workers: int, slices: int
) -> Generator[int, None, tuple[float, ...]]:
    """Do the work without a pause and measure how its speed changes.

    Yields:
        The number of the slice of time that is over.

    Returns:
        Runs per second in each slice. A run across two slices counts partly in each.
    """
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda _: work(), range(workers)))
        start = time.perf_counter()
        futures = [pool.submit(_loop, work, start + seconds, 1) for _ in range(workers)]
        edges = start + seconds * np.linspace(0, 1, slices + 1)
        for number, edge in enumerate(edges[1:], start=1):
            left = max(0.0, edge - time.perf_counter())
            wait(futures, timeout=left, return_when=FIRST_EXCEPTION)
            yield number
        begins, ends = np.concatenate([future.result() for future in futures]).T
    inside = [
        np.clip(np.minimum(ends, high) - np.maximum(begins, low), 0, None) / (ends - begins)
        for low, high in pairwise(edges)
    ]
    return tuple(float(part.sum()) * slices / seconds for part in inside)


def laps(items: Iterable[_Item]) -> Iterator[tuple[_Item, float]]:
    """Yield each item with the milliseconds since the item before."""
    start = time.perf_counter()
    for item in items:
        end = time.perf_counter()
        yield item, (end - start) * 1e3
        start = time.perf_counter()


def _together(
    pool: ThreadPoolExecutor, work: Callable[[], object], seconds: float, workers: int, least: int
) -> list[_Runs]:
    """Run the work in all workers; return the runs of each."""
    until = time.perf_counter() + seconds
    futures = [pool.submit(_loop, work, until, least) for _ in range(workers)]
    return [future.result() for future in futures]


def _loop(work: Callable[[], object], until: float, least: int) -> _Runs:
    runs: list[tuple[float, float]] = []
    while len(runs) < least or time.perf_counter() < until:
        begin = time.perf_counter()
        work()
        runs.append((begin, time.perf_counter()))
    return np.array(runs)


def _timing(by_worker: list[_Runs]) -> Timing:
    took_ms = np.concatenate([runs[:, 1] - runs[:, 0] for runs in by_worker]) * 1e3
    durations = [runs[-1, 1] - runs[0, 0] for runs in by_worker]
    median, p90, p99 = np.percentile(took_ms, (50, 90, 99))
    return Timing(
        count=len(took_ms),
        duration_ms=float(np.mean(durations)) * 1e3,
        median_ms=float(median),
        average_ms=float(took_ms.mean()),
        min_ms=float(took_ms.min()),
        max_ms=float(took_ms.max()),
        p90_ms=float(p90),
        p99_ms=float(p99),
    )
