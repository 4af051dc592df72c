"""Timings are consistent in themselves, and a task in a process of its own loses nothing."""

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import astuple

import pytest

from tod.benchmark.timing import MIN_RUNS, laps, measure, sustain
from tod.errors import DataError, DeviceError, Interrupted
from tod.system.processes import isolated

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


class Work:
    """Counts its runs, and the threads that made them."""

    def __init__(self, takes_s=0.001):
        self.takes_s = takes_s
        self.by_thread = {}

    def __call__(self):
        time.sleep(self.takes_s)
        name = threading.get_ident()
        self.by_thread[name] = self.by_thread.get(name, 0) + 1

    @property
    def runs(self):
        return sum(self.by_thread.values())


@pytest.mark.parametrize("workers", [1, 3])
def test_measure(workers):
    work = Work()
    timing = measure(work, seconds=0.05, workers=workers)
    assert len(work.by_thread) <= workers
    assert MIN_RUNS <= timing.count <= work.runs - workers  # each worker warms up
    order = (timing.min_ms, timing.median_ms, timing.p90_ms, timing.p99_ms, timing.max_ms)
    assert order == tuple(sorted(order))
    assert timing.min_ms >= 1e3 * work.takes_s
    assert timing.min_ms <= timing.average_ms <= timing.max_ms
    assert timing.duration_ms >= 25  # it begins with the first run, not with the call
    # All runs of a worker lie in its time, one after the other.
    assert timing.average_ms * timing.count <= timing.duration_ms * workers * (1 + 1e-9)
    assert timing.per_second(4) == pytest.approx(4e3 * timing.count / timing.duration_ms)


@pytest.mark.parametrize("workers", [1, 3])
def test_slow_work_is_run_often_enough(workers):
    work = Work(takes_s=0.01)
    timing = measure(work, seconds=0.001, workers=workers, least=5)
    assert timing.count >= 5
    assert work.runs - timing.count == workers


def test_an_error_of_the_work_ends_the_measurement():
    def fail():
        raise DataError("rotten")

    with pytest.raises(DataError, match="rotten"):
        measure(fail, seconds=5)
    with pytest.raises(DataError, match="rotten"):
        next(sustain(fail, seconds=5, workers=1, slices=2))


@pytest.mark.parametrize("workers", [1, 2])
def test_sustain_counts_every_run_once(workers):
    work, seconds, slices = Work(takes_s=0.003), 0.1, 5
    running = sustain(work, seconds=seconds, workers=workers, slices=slices)
    numbers = []
    while True:
        try:
            numbers.append(next(running))
        except StopIteration as end:
            rates = end.value
            break
    assert numbers == [1, 2, 3, 4, 5]
    assert len(rates) == slices
    assert min(rates) > 0
    inside = sum(rates) * seconds / slices
    made = work.runs - workers  # without the warm-up
    assert made - workers <= inside <= made * (1 + 1e-9)  # the last one of each may end later


def test_laps_add_up():
    start = time.perf_counter()
    items, took_ms = zip(*laps(iter("abc")), strict=True)
    whole_ms = (time.perf_counter() - start) * 1e3
    assert items == ("a", "b", "c")
    assert 0 <= sum(took_ms) <= whole_ms


def three(first):
    yield first
    yield os.getpid()
    yield {"last": 3}


def data_error():
    yield 1
    raise DataError("no such folder", hint="make it")


def out_of_memory():
    yield from [bytearray(1 << 62)]


def killed():
    yield 1
    os.kill(os.getpid(), signal.SIGKILL)


def endless():
    yield os.getpid()
    while True:
        time.sleep(0.01)


def test_isolated_yields_what_the_task_yields():
    first, pid, last = isolated(three, "x", should_stop=lambda: False)
    assert (first, last) == ("x", {"last": 3})
    assert pid != os.getpid()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("task", "kind", "problem", "hint"),
    [
        (data_error, DataError, "no such folder", "make it"),
        (out_of_memory, DeviceError, "memory ran out", "smaller --batch"),
        (killed, DeviceError, r"without a result \(exit code -9\)", "memory ran out"),
    ],
)
def test_errors_come_back_whole(task, kind, problem, hint):
    with pytest.raises(kind, match=problem) as found:
        list(isolated(task, should_stop=lambda: False))
    assert type(found.value) is kind
    assert hint in found.value.hint
    assert not multiprocessing.active_children()


def test_isolated_stops_when_told():
    stop = False
    records = isolated(endless, should_stop=lambda: stop)
    pid = next(records)
    stop = True
    with pytest.raises(Interrupted, match="stopped while measuring"):
        next(records)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_timing_is_plain_numbers():
    """They go through a pipe and into JSON."""
    timing = measure(Work(), seconds=0.001)
    assert {type(value) for value in astuple(timing)} == {int, float}
