"""The measurements of `tod benchmark`, each a task for a separate process.

`tod.system.processes` runs them.

A task is a generator: its last record is the result, the records before it are progress.
Axes: B batch, C classes, S side in pixels.
"""

from __future__ import annotations

import math
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod import __version__
from tod.benchmark.results import (
    BackboneTiming,
    Comparison,
    HeadCycle,
    Job,
    Load,
    Machine,
    Memory,
    Profile,
    Progress,
    Sustained,
)
from tod.benchmark.timing import Timing, laps, measure, sustain
from tod.data.dataset import Dataset
from tod.format import artifact as artifacts
from tod.format.manifest import GRAPHS
from tod.runtime.engine import Engine, check_runtime, operator_times, runtime_version
from tod.system import machine
from tod.training.loop import train
from tod.training.records import CycleDone, Evaluated, FeaturesDone, Record, Saved, Started, Stopped
from tod.training.session import TrainSession

SLICES = 10
PAIRS = 10
_CLASSES = 10  # for a head cycle, if the model leaves them open
_LOADS = 3
_PROFILED_RUNS = 20
# Other records belong to the phase of the record before.
_PHASES: dict[type, str] = {
    Started: "opening",
    FeaturesDone: "pictures",
    CycleDone: "cycles",
    Evaluated: "evaluation",
    Stopped: "evaluation",
    Saved: "saving",
}
Samples = NDArray[Any]  # pixels [B, S, S, 3], or other samples


def describe_machine() -> Iterator[Machine]:
    """Describe this machine."""
    yield Machine(
        processor=machine.processor(),
        cores=machine.available_cores(),
        governor=machine.governor(),
        temperature_celsius=machine.temperature_celsius(),
        system=f"{platform.system()} {platform.release()}",
        versions={
            "tod": __version__,
            "onnxruntime": runtime_version(),
            "numpy": np.__version__,
            "Python": platform.python_version(),
        },
    )


def run_job(
    path: Path, data: Path, splits: bool, cycles: int, threads: int
) -> Iterator[Progress | Job]:
    """Run a whole training job without caches; the trained model goes to a temporary folder."""
    before = machine.peak_memory_mb()
    phases_ms = dict.fromkeys(_PHASES.values(), 0.0)
    phase, pictures, done, validation = "opening", 0, 0, math.nan
    with tempfile.TemporaryDirectory(prefix="tod-benchmark-") as folder:
        for record, took_ms in laps(_job(path, data, splits, cycles, threads, Path(folder))):
            phase = _PHASES.get(type(record), phase)
            phases_ms[phase] += took_ms
            if isinstance(record, FeaturesDone):
                pictures = record.total
                yield Progress(record.done, record.total)
            elif isinstance(record, CycleDone):
                done += 1
            elif isinstance(record, Evaluated) and record.split == "validation":
                validation = record.accuracy
    yield Job(pictures, done, threads, phases_ms, validation, _memory(before))


def _job(
    path: Path, data: Path, splits: bool, cycles: int, threads: int, folder: Path
) -> Iterator[Record]:
    session = TrainSession.load(path, threads=threads, cache=False)
    dataset = Dataset.open(data, seed=session.split_seed or 0, cache=False, splits=splits)
    # No accuracy is above 1, so every cycle is run and two jobs can be compared.
    yield from train(
        session, dataset, cycles=cycles, target_accuracy=1.0, patience=0, save_every=0,
        output=folder / "trained.tod",
    )  # fmt: skip


def time_load(path: Path, seconds: float) -> Iterator[Load]:
    """Load a file repeatedly, with the file in the system's cache and onnxruntime imported."""
    before = machine.peak_memory_mb()
    read = measure(lambda: artifacts.read(path), seconds=seconds, least=_LOADS)
    artifact = artifacts.read(path)
    check_runtime(artifact.manifest.min_onnxruntime)
    sessions = {}
    for graph in GRAPHS:
        load = partial(_load, artifact.graphs, graph)
        sessions[graph] = measure(load, seconds=seconds, least=_LOADS)
    yield Load(path.stat().st_size / 1e6, read, sessions, _memory(before))


def _load(graphs: Mapping[str, bytes], graph: str) -> None:
    Engine(graphs).load(graph)


def time_backbone(
    path: Path, pool: Samples, batch: int, workers: int, threads: int, seconds: float
) -> Iterator[BackboneTiming]:
    """Run `features.onnx` on one batch repeatedly."""
    before = machine.peak_memory_mb()
    engine, pixels = features_engine(path, threads), batch_of(pool, batch)
    timing = measure(lambda: engine.features(pixels), seconds=seconds, workers=workers)
    yield BackboneTiming(batch, workers, threads, timing.per_second(batch), timing, _memory(before))


def time_head(path: Path, threads: int, seconds: float) -> Iterator[HeadCycle]:
    """Do one training step repeatedly."""
    before = machine.peak_memory_mb()
    session = TrainSession.load(path, threads=threads)
    timing = measure(head_cycle(session), seconds=seconds)
    batch, classes = session.manifest.batch_size, len(session.classes or ())
    yield HeadCycle(batch, classes, session.engine.threads, timing, _memory(before))


def run_sustained(
    path: Path, pool: Samples, batch: int, workers: int, seconds: float
) -> Iterator[Progress | Sustained]:
    """Run the backbone as a job does, without a pause."""
    engine, pixels = features_engine(path, 1), batch_of(pool, batch)
    begin = machine.temperature_celsius()
    running = sustain(
        lambda: engine.features(pixels), seconds=seconds, workers=workers, slices=SLICES
    )
    while True:
        try:
            yield Progress(next(running), SLICES)
        except StopIteration as end:
            rates = tuple(rate * batch for rate in end.value)
            break
    drift = rates[-1] / rates[0] - 1
    end_celsius = machine.temperature_celsius()
    yield Sustained(batch, workers, seconds, rates, drift, begin, end_celsius)


def profile_graphs(path: Path, pool: Samples, batch: int) -> Iterator[Profile]:
    """Measure the time by operator of the backbone and of a training step."""
    seen: dict[str, Any] = {}
    session = TrainSession.load(path, observe=lambda graph, feeds, _: seen.update({graph: feeds}))
    head_cycle(session)()
    seen["features.onnx"] = {session.manifest.samples.name: batch_of(pool, batch)}
    for graph, size in (("features.onnx", batch), ("train.onnx", session.manifest.batch_size)):
        data = session.artifact.graphs[graph]
        times = operator_times(data, graph, seen[graph], runs=_PROFILED_RUNS)
        total_ms = sum(time.total_ms for time in times)
        shares = tuple(time.total_ms / total_ms for time in times)
        yield Profile(graph, size, _PROFILED_RUNS, tuple(times), shares)


def compare_backbones(
    paths: tuple[Path, Path],
    pools: tuple[Samples, Samples],
    batch: int,
    workers: int,
    seconds: float,
) -> Iterator[Progress | Comparison]:
    """Compare two backbones in turn, run as in a job: milliseconds per picture."""
    works = [
        partial(features_engine(path, 1).features, batch_of(pool, batch))
        for path, pool in zip(paths, pools, strict=True)
    ]
    yield from _pairs(
        "backbone", works, (batch, batch), workers, seconds, lambda t: 1e3 / t.per_second(batch)
    )


def compare_heads(
    paths: tuple[Path, Path], threads: int, seconds: float
) -> Iterator[Progress | Comparison]:
    """Compare the head cycles of two models in turn: milliseconds of each model's own batch."""
    sessions = [TrainSession.load(path, threads=threads) for path in paths]
    works = [head_cycle(session) for session in sessions]
    sizes = (sessions[0].manifest.batch_size, sessions[1].manifest.batch_size)
    yield from _pairs("head cycle", works, sizes, 1, seconds, lambda t: t.median_ms)


def _pairs(
    what: str,
    works: Sequence[Callable[[], object]],
    batch: tuple[int, int],
    workers: int,
    seconds: float,
    cost: Callable[[Timing], float],
) -> Iterator[Progress | Comparison]:
    """Measure pair by pair. Every second pair begins with B, so that a machine that gets slower
    favours neither model."""
    pairs = []
    for number in range(PAIRS):
        pair = [0.0, 0.0]
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            timing = measure(works[side], seconds=seconds / PAIRS, workers=workers, least=_LOADS)
            pair[side] = cost(timing)
        pairs.append(pair)
        yield Progress(number + 1, PAIRS)
    a_ms, b_ms = zip(*pairs, strict=True)
    ratios = tuple(a / b for a, b in pairs)
    low, median, high = map(float, np.percentile(ratios, (25, 50, 75)))
    yield Comparison(what, batch, workers, a_ms, b_ms, ratios, median, (low, high))


def batch_of(pool: Samples, count: int) -> Samples:
    """Take `count` pictures of a pool, repeated if they are too few."""
    return pool.take(range(count), axis=0, mode="wrap")


def features_engine(path: Path, threads: int) -> Engine:
    """Load the graphs of a file, if this machine can run it."""
    artifact = artifacts.read(path)
    check_runtime(artifact.manifest.min_onnxruntime)
    return Engine(artifact.graphs, features_threads=threads)


def head_cycle(session: TrainSession) -> Callable[[], object]:
    """Return a function that runs one cycle of training on random features and labels. It does not
    change the session's state, because random labels teach nothing. Open classes are bound."""
    manifest = session.manifest
    if session.classes is None:
        session.bind([str(i) for i in range(manifest.class_count or _CLASSES)])
    count = len(session.classes or ())
    generator = np.random.default_rng(0)
    shape = (manifest.batch_size, *manifest.backbone.feature_shape)
    features = generator.random(shape, np.float32)
    answers: NDArray[Any] = generator.integers(0, count, len(features))
    if manifest.loss.task != "single-label":
        answers = np.eye(count, dtype=np.float32)[answers]
    batches = [(features, answers)] * (manifest.accumulate or 1)
    lr = manifest.optimizer.lr
    return lambda: session.next_state(batches, lr=lr, seed=0, cycle=1)


def _memory(before_mb: float | None) -> Memory | None:
    after_mb = machine.peak_memory_mb()
    return None if before_mb is None or after_mb is None else Memory(before_mb, after_mb)
