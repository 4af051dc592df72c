"""Try delegates out on one graph: how many pictures each one computes in a second, how exactly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tod.errors import DeviceError
from tod.runtime.delegates.runner import Graph, Runner
from tod.runtime.delegates.table import CPU_NAME, DELEGATES, LITERT, Choice, available, open_runner


@dataclass(frozen=True)
class Trial:
    """What a delegate did.

    Attributes:
        choice: the delegate and its precision.
        pictures_per_second: with one batch on each core.
        cosine: the least cosine between its rows of features and those of the CPU's float32.
        problem: why it could not compute; empty if it could.
    """

    choice: Choice
    pictures_per_second: float = 0.0
    cosine: float = 0.0
    problem: str = ""

    @property
    def name(self) -> str:
        return self.choice.names[0] + (" bf16" if self.choice.bf16 else "")


def try_all(
    graph: Graph, pixels: NDArray[np.uint8], *, cores: int, seconds: float
) -> Iterator[Trial]:
    """Try every delegate that is installed here and can read ONNX.

    Args:
        graph: `features.onnx`.
        pixels: uint8 [N, S, S, 3], one batch.
        cores: batches that are computed at once.
        seconds: about how long each one computes.
    """
    reference: NDArray[np.float32] | None = None
    names = [name for name, here in available().items() if here and name != LITERT]
    for name in names:
        for bf16 in (False, True):
            if bf16 and "bf16" not in DELEGATES[name].precisions and name != CPU_NAME:
                continue
            choice = Choice((name,), bf16)
            try:
                runner = open_runner(graph, choice, threads=1, parallel=cores)
                rows = _features(runner, pixels)
                rate = _rate(runner, pixels, cores, seconds)
            except DeviceError as error:
                # Most processors have no bf16, which is no fault of theirs.
                if not bf16:
                    yield Trial(choice, problem=error.problem)
                continue
            reference = rows if reference is None else reference
            yield Trial(choice, rate, _least_cosine(rows, reference))


def _features(runner: Runner, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    (name,) = (detail.name for detail in runner.inputs)
    rows: NDArray[np.float32] = runner.run({name: pixels})[runner.outputs[0].name]
    return rows.reshape(len(rows), -1)


def _rate(runner: Runner, pixels: NDArray[np.uint8], cores: int, seconds: float) -> float:
    def work(until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            _features(runner, pixels)
            count += len(pixels)
        return count

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(partial(_features, runner), [pixels] * cores))  # the first one is slow
        start = time.perf_counter()
        done = sum(pool.map(work, [start + seconds] * cores))
        return done / (time.perf_counter() - start)


def _least_cosine(rows: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(reference, axis=1)
    products = (rows * reference).sum(axis=1)
    return float((products / np.where(lengths > 0, lengths, 1)).min())
