"""How long a model file takes to load and to answer one picture, and how much memory."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tod.benchmark.timing import Timing, measure
from tod.data.tensors import random_samples
from tod.errors import TodWarning
from tod.runtime.delegates.table import Choice
from tod.runtime.predictor import open_predictor
from tod.system import machine


@dataclass(frozen=True)
class Answering:
    """What one model file costs, in a process of its own.

    Attributes:
        file_mb: of the file, in units of 10^6 bytes.
        load_ms: from the file to the first answer.
        timing: one picture after the other, from pixels to the answer, after a warm-up.
        peak_mb: peak memory of the process; None if the system does not report it.
    """

    file_mb: float
    load_ms: float
    timing: Timing
    peak_mb: float | None


def time_answers(
    path: Path, engine: Choice, require_signature: Path | None, seconds: float
) -> Iterator[Answering]:
    """Load a model and answer one picture again and again, in one thread.

    Args:
        path: a .tod, .onnx or .tflite file.
        engine: who computes.
        require_signature: see `open_predictor`.
        seconds: for how long.
    """
    warnings.simplefilter("ignore", TodWarning)  # the program that shows this loads the model, too
    start = time.perf_counter()
    predictor = open_predictor(path, threads=1, engine=engine, require_signature=require_signature)
    sample = random_samples(predictor.spec, 1)
    predictor.run(sample)
    load_ms = (time.perf_counter() - start) * 1e3
    timing = measure(lambda: predictor.run(sample), seconds=seconds)
    yield Answering(path.stat().st_size / 1e6, load_ms, timing, machine.peak_memory_mb())
