"""Answers for many pictures, on all cores, from a model file of any kind.

Axes: N pictures, C classes, S side in pixels.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tod.data.pictures import Picture, array_of
from tod.errors import ArtifactError, PictureError
from tod.format.inference_texts import sample_of_texts
from tod.format.manifest import SampleSpec, Task
from tod.runtime.delegates.runner import Runner
from tod.runtime.delegates.table import DEFAULT, Choice, open_runner
from tod.runtime.engine import Observer
from tod.runtime.features import batch_for
from tod.runtime.model import Model
from tod.runtime.read_model import is_tod, read_model
from tod.system.machine import available_cores


@dataclass(frozen=True)
class Predictor:
    """A model file that answers pictures.

    Attributes:
        classes: the class names, or the names of the quantities.
        task: what the answers are: probabilities of one class, of several, or quantities.
        spec: what a sample is.
        run: samples [N, *spec.shape] -> answers [N, C]; may run in several threads at once.
        workers: how many threads.
    """

    classes: tuple[str, ...]
    task: Task
    spec: SampleSpec
    run: Callable[[NDArray[Any]], NDArray[np.float32]]
    workers: int


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture.

    Attributes:
        values: probabilities [C] or quantities [C]; None if the picture cannot be read.
        time_ms: milliseconds from the file to the answer, on one core: the mean of its batch. The
            first batch of each thread also warms up.
        problem: why the picture cannot be read.
    """

    values: NDArray[np.float32] | None
    time_ms: float
    problem: str = ""


def open_predictor(
    path: Path,
    *,
    threads: int | None = None,
    engine: Choice = DEFAULT,
    require_signature: Path | None = None,
    observe: Observer | None = None,
) -> Predictor:
    """Open a .tod, .onnx or .tflite file.

    Args:
        path: a .tod file, or one that TOD has made of it.
        threads: pictures that are read in parallel; by default one for each core.
        engine: who computes; for a .tod file, its frozen part.
        require_signature, observe: see `Model.load`; only for a .tod file.

    Raises:
        ArtifactError: it cannot be read, or does not say what its inputs and answers are.
        UsageError: the classes of a .tod file are still open.
    """
    workers = 1 if observe else threads or available_cores()
    if is_tod(path):
        model = Model.load(
            path, threads=threads, observe=observe, cache=False, engine=engine,
            require_signature=require_signature,
        )  # fmt: skip
        model.parameters  # noqa: B018 - open classes are an error before any picture is read
        for name in ("features.onnx", "predict.onnx"):
            model.engine.load(name)  # or the first pictures would seem slow
        spec, task = model.manifest.samples, model.manifest.loss.task

        def answer(samples: NDArray[Any]) -> NDArray[np.float32]:
            return model.predict_features(model.engine.features(samples))

        return Predictor(model.classes or (), task, spec, answer, workers)
    graph = read_model(path, require_signature=require_signature)
    runner = open_runner(graph, engine, threads=1, parallel=workers)
    return _of_runner(runner, graph.metadata, path, workers)


def answers(
    predictor: Predictor, pictures: Iterable[Picture], *, cropped: bool = False
) -> Iterator[Answer]:
    """Answer pictures in their order, several at a time, one batch on each core.

    Args:
        predictor: the model.
        pictures: paths, or arrays (`tod.data.pictures.Picture`); taken as they are needed.
        cropped: they are files of a prepared dataset, which are only resized.
    """
    batches = iter(partial(_take, iter(pictures), batch_for(predictor.spec)), [])
    with ThreadPoolExecutor(predictor.workers) as pool:
        answer = partial(_answer, predictor, cropped)
        start = partial(pool.submit, answer)
        running: deque[Future[list[Answer]]] = deque(
            map(start, islice(batches, 4 * predictor.workers))
        )
        try:
            while running:
                yield from running.popleft().result()
                running.extend(map(start, islice(batches, 1)))
        finally:
            pool.shutdown(cancel_futures=True)


def input_spec(texts: Mapping[str, str], path: Path) -> SampleSpec:
    """Which samples a model takes, by the texts in its file.

    Raises:
        ArtifactError: they do not say it, or not what its answers are.
    """
    try:
        if not isinstance(json.loads(texts["classes"]), list):
            raise TypeError
        return sample_of_texts(texts)
    except (KeyError, ValueError, TypeError) as error:
        raise ArtifactError(
            f"{path}: its metadata do not say which samples it takes and what its answers are",
            hint="give the .tod file, or a file that net_runner -i or tod convert made of it",
        ) from error


def _take(pictures: Iterator[Picture], count: int) -> list[Picture]:
    return list(islice(pictures, count))


def _answer(predictor: Predictor, cropped: bool, batch: list[Picture]) -> list[Answer]:
    start = time.perf_counter()
    read: dict[int, NDArray[Any]] = {}
    problems: dict[int, str] = {}
    for index, picture in enumerate(batch):
        try:
            read[index] = array_of(picture, predictor.spec, cropped=cropped)
        except PictureError as error:
            problems[index] = error.problem
    values = dict(zip(read, predictor.run(np.stack([*read.values()])), strict=True)) if read else {}
    time_ms = (time.perf_counter() - start) * 1e3 / len(batch)
    return [Answer(values.get(i), time_ms, problems.get(i, "")) for i in range(len(batch))]


def _of_runner(runner: Runner, texts: Mapping[str, str], path: Path, workers: int) -> Predictor:
    spec = input_spec(texts, path)
    classes = tuple(json.loads(texts["classes"]))
    (inputs,), (outputs,) = runner.inputs, runner.outputs
    several = inputs.shape[0] == -1

    def answer(samples: NDArray[Any]) -> NDArray[np.float32]:
        parts = [samples] if several else np.split(samples, len(samples))
        return np.concatenate([runner.run({inputs.name: part})[outputs.name] for part in parts])

    task: Task = msgspec.convert(texts.get("task", "single-label"), Task)
    return Predictor(classes, task, spec, answer, workers)
