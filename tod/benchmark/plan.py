"""Measure time and memory of a model on this machine, one measurement after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tod.benchmark import measurements
from tod.benchmark.measurements import Samples
from tod.benchmark.results import Progress, Result
from tod.data.dataset import Dataset
from tod.data.pictures import array_of
from tod.data.tensors import random_samples
from tod.errors import DataError, PictureError, UsageError
from tod.format import artifact as artifacts
from tod.format.manifest import SampleSpec
from tod.runtime.features import BATCH
from tod.system.machine import available_cores
from tod.system.processes import isolated

_POOL = 32
_Task = tuple[Callable[..., Iterator[Any]], tuple[Any, ...]]


@dataclass(frozen=True)
class Plan:
    """The measurements to make, and their duration.

    Attributes:
        batches: pictures in a batch of the backbone.
        threads: numbers of threads; each is tried as threads of one session and as workers.
        seconds: duration of each measurement.
        sustained_seconds: duration of the sustained run; None leaves it out.
        cycles: cycles of the whole job.
        profile: also measure the time by operator.
        splits: the data has ready-made splits, see `Dataset.open`.
    """

    batches: tuple[int, ...] = (1, 2, 4, 8)
    threads: tuple[int, ...] = ()
    seconds: float = 1.0
    sustained_seconds: float | None = None
    cycles: int = 60
    profile: bool = False
    splits: bool = False

    def check_ranges(self) -> None:
        """Refuse settings that cannot be measured, all of them at once.

        Raises:
            UsageError: names them.
        """
        counts = [("batch", b, 1) for b in self.batches] + [("threads", t, 1) for t in self.threads]
        counts.append(("cycles", self.cycles, 0))
        problems = [
            f"{n} is {v}, at least {least} is wanted" for n, v, least in counts if v < least
        ]
        times = {"seconds": self.seconds, "sustained": self.sustained_seconds}
        problems += [
            f"{name} is {value:g}, a number above 0 is wanted"
            for name, value in times.items()
            if value is not None and not 0 < value < math.inf
        ]
        if problems:
            raise UsageError("; ".join(problems))

    def ways(self) -> list[tuple[int, int, int]]:
        """Return batch, workers and threads of each measurement of the backbone. An ordinary
        program uses all threads for one batch; a job gives batches to workers of one thread
        each."""
        numbers = self.threads or (1, available_cores())
        ways = dict.fromkeys(way for t in numbers for way in ((1, t), (t, 1)))
        return [(batch, *way) for way in ways for batch in dict.fromkeys(self.batches)]

    @property
    def workers(self) -> int:
        """Workers of a job, and threads of a training step with convolutions."""
        return max(self.threads, default=available_cores())


def benchmark(
    path: Path, plan: Plan, *, data: Path | None, should_stop: Callable[[], bool]
) -> Iterator[Result | Progress]:
    """Measure one model.

    Args:
        path: a .tod file of any kind.
        plan: the measurements to make.
        data: pictures for the backbone and for the whole job. Without them the backbone takes
            random pixels, and the job is left out.
        should_stop: called ten times a second.

    Raises:
        UsageError: the plan has invalid settings.
        ArtifactError: the file is missing, damaged or not a .tod file.
        DataError: the dataset does not fit the model, or no picture can be read.
        DeviceError: onnxruntime is too old for it, or memory ran out.
        Interrupted: `should_stop` returned True.
    """
    plan.check_ranges()
    pool = sample_pool(artifacts.read(path).manifest.samples, data, splits=plan.splits)
    tasks: list[_Task] = [(measurements.describe_machine, ())]
    # Run the job first, so that data that does not fit is noticed at once, not after minutes.
    if data is not None:
        tasks.append((measurements.run_job, (path, data, plan.splits, plan.cycles, plan.workers)))
    tasks.append((measurements.time_load, (path, plan.seconds)))
    tasks += [(measurements.time_backbone, (path, pool, *way, plan.seconds)) for way in plan.ways()]
    tasks.append((measurements.time_head, (path, plan.workers, plan.seconds)))
    if plan.sustained_seconds is not None:
        settings = (path, pool, BATCH, plan.workers, plan.sustained_seconds)
        tasks.append((measurements.run_sustained, settings))
    if plan.profile:
        tasks.append((measurements.profile_graphs, (path, pool, BATCH)))
    yield from _run(tasks, should_stop)


def duel(
    paths: tuple[Path, Path], plan: Plan, *, data: Path | None, should_stop: Callable[[], bool]
) -> Iterator[Result | Progress]:
    """Measure two models in turn, pair by pair; arguments and errors are those of `benchmark`."""
    plan.check_ranges()
    pools = tuple(
        sample_pool(artifacts.read(path).manifest.samples, data, splits=plan.splits)
        for path in paths
    )
    tasks: list[_Task] = [(measurements.describe_machine, ())]
    for batch in dict.fromkeys(plan.batches):
        settings = (paths, pools, batch, plan.workers, plan.seconds)
        tasks.append((measurements.compare_backbones, settings))
    tasks.append((measurements.compare_heads, (paths, plan.workers, plan.seconds)))
    yield from _run(tasks, should_stop)


def sample_pool(spec: SampleSpec, data: Path | None, *, splits: bool = False) -> Samples:
    """Load the first samples of a dataset; without a dataset, make random ones."""
    if data is None:
        return random_samples(spec, _POOL)
    dataset = Dataset.open(data, splits=splits)
    found: list[Samples] = []
    for sample in dataset.samples:
        try:
            found.append(array_of(dataset.source(sample), spec, cropped=dataset.cropped))
        except PictureError:
            continue
        if len(found) == _POOL:
            break
    if not found:
        raise DataError(f"{data}: no picture can be read")
    return np.stack(found)


def _run(tasks: Sequence[_Task], should_stop: Callable[[], bool]) -> Iterator[Result | Progress]:
    """Run all tasks; yield their results, and the progress in percent."""
    for index, (task, arguments) in enumerate(tasks):
        for record in isolated(task, *arguments, should_stop=should_stop):
            if isinstance(record, Progress):
                part = record.done / max(record.total, 1)
                yield Progress(int(100 * (index + part) / len(tasks)), 100)
            else:
                yield record
        yield Progress(100 * (index + 1) // len(tasks), 100)
