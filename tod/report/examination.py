"""Look at a model and a dataset for a report: answers, pictures, findings, times.

The work of a report is here; what it looks like is in `tod.report.page`.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from tod.data.check import Doubt, Finding, Look, doubtful, examine, gather, look_at
from tod.data.dataset import Dataset
from tod.data.image import decoder_version, thumbnail
from tod.data.picture_limits import MAX_FILE_BYTES
from tod.data.samples import Sample
from tod.errors import DataError, Interrupted, PictureError
from tod.report import shots
from tod.report.contents import OF_FINDING, Before, Contents, Shot, paths_of
from tod.report.course import Course
from tod.runtime.cache_folder import choose_folder
from tod.runtime.calibration import Calibration, calibration
from tod.runtime.engine import runtime_version
from tod.runtime.model import Model, split_seed
from tod.system.files import read_regular
from tod.system.machine import available_cores, processor

SIDE_PX = 160  # twice what a page shows, for screens with several dots to a px
# All thumbnails together: in base64 they take a third more, and a page stays below 2 MB.
THUMBNAIL_BYTES = 1_000_000
_MOST_POINTS = 400
_TIMED = 5
Bar = Callable[[int, int], None]


@dataclass(frozen=True)
class Work:
    """How the work is watched: a bar for each kind of it, and whether to stop."""

    bar: Callable[[str], Bar]
    should_stop: Callable[[], bool] = lambda: False

    def check(self, where: str) -> None:
        if self.should_stop():
            raise Interrupted(f"stopped {where}; no report was written")


def look(
    model: Model,
    data: Path,
    *,
    name: str,
    work: Work,
    seed: int | None = None,
    splits: bool = False,
    before: Path | None = None,
    course: Course | None = None,
    key: Path | None = None,
) -> Contents:
    """All that a report shows.

    Args:
        model: as it is now; its file may be older.
        data: a prepared dataset, or a folder of class folders.
        name: of the model, as it is shown.
        work: how to show progress.
        seed, splits: of a folder, as for `open_dataset`.
        before: the model to compare with.
        course: of the run that made it.
        key: that the model to compare with has to be signed with.

    Raises:
        DataError: training would refuse the data, or no validation picture can be read.
        Interrupted: it was asked to stop.
    """
    chosen = split_seed(seed, model)
    folder = choose_folder(data, model.artifact.path, model.cache)
    raw, refused = gather(
        data,
        seed=chosen,
        cache=folder or False,
        splits=splits,
        columns=model.columns,
        progress=work.bar("read"),
    )
    if refused is not None:
        raise refused
    # A model that was opened with open classes may have been trained, or bound, since.
    trained = bool(model.manifest.history) or model.artifact.manifest.class_names is not None
    trained = trained or (course is not None and bool(course.cycles))  # a run that did not end
    dataset = model.match(raw)
    looks = _looks(raw, work)
    for done, total in model.store.filling(dataset, dataset.samples):
        work.bar("features")(done, total)
        work.check(f"after {done} of {total} features")
    samples = model.store.readable(dataset, dataset.split("validation"))
    features, labels = model.store.rows(dataset, samples)
    evaluation = model.score(features, labels, "validation")
    said = model.predict_features(features)
    classes, task = model.classes or (), model.manifest.loss.task
    doubts = _doubts(model, dataset) if trained else []
    findings = examine(raw, looks, size_px=_side_px(model), doubts=doubts)
    wrong = shots.worst(task, samples, classes, said)
    unsure = shots.doubtful(task, samples, classes, said)
    small = _Thumbnails(model, raw)
    return Contents(
        model=name, data=str(data), made=time.strftime("%Y-%m-%d %H:%M"),
        manifest=model.manifest, trained=trained, evaluation=evaluation,
        calibration=_calibration(task, said, labels),
        worst=small.of_shots(wrong), doubtful=small.of_shots(unsure), pictures=raw.counts(),
        findings=tuple(findings), thumbnails=small.of_paths(_paths(findings)),
        points=_points(classes, said, labels) if task == "regression" else {},
        before=None if before is None else _before(before, model, raw, course, key),
        course=course, facts=_facts(model, raw, samples, course),
    )  # fmt: skip


def _side_px(model: Model) -> int | None:
    spec = model.manifest.input
    return None if spec is None else spec.size_px


def _looks(dataset: Dataset, work: Work) -> dict[str, Look]:
    total = len({sample.sha256 for sample in dataset.samples})
    looks: dict[str, Look] = {}
    bar = work.bar("looked at")
    for content, seen in look_at(dataset):
        looks[content] = seen
        bar(len(looks), total)
        work.check(f"after looking at {len(looks)} of {total} pictures")
    return looks


def _doubts(model: Model, dataset: Dataset) -> list[Doubt]:
    readable = model.store.readable(dataset, dataset.samples)
    if model.manifest.loss.task != "single-label" or not readable:
        return []
    features, _ = model.store.rows(dataset, readable)
    return doubtful(readable, dataset.classes, model.predict_features(features))


def _calibration(
    task: str, said: NDArray[np.float32], labels: NDArray[np.generic]
) -> Calibration | None:
    if task == "regression":
        return None
    if task == "multi-label":
        yes = said > 0.5
        return calibration(np.where(yes, said, 1 - said).ravel(), (yes == (labels > 0.5)).ravel())  # type: ignore[operator]
    return calibration(said.max(axis=1), said.argmax(axis=1) == labels)


def _points(
    names: Iterable[str], said: NDArray[np.float32], labels: NDArray[np.generic]
) -> Mapping[str, tuple[tuple[float, float], ...]]:
    every = -(-len(said) // _MOST_POINTS)
    true = labels[::every].astype(float)
    return {
        name: tuple(zip(true[:, i].tolist(), said[::every, i].tolist(), strict=True))
        for i, name in enumerate(names)
    }


def _before(
    path: Path, model: Model, raw: Dataset, course: Course | None, key: Path | None
) -> Before:
    """The other model on the same pictures; another kind of model is no reason to fail."""
    other = Model.load(path, threads=model.threads, cache=model.cache, require_signature=key)
    runs = model.manifest.history
    seed = course.started.run.seed if course and course.started else runs[-1].seed if runs else 0
    if other.manifest.loss.task != model.manifest.loss.task:
        return Before(str(path), None, "it gives other answers")
    try:
        dataset = other.match(raw, seed=seed)
        if other.artifact.graphs == model.artifact.graphs:
            other.store = model.store  # the same frozen part: nothing is looked at again
        evaluation = other.evaluate(dataset)
    except DataError as error:
        return Before(str(path), None, error.problem)
    return Before(str(path), evaluation)


class _Thumbnails:
    """Small pictures, each decoded once, as long as there is room on the page."""

    def __init__(self, model: Model, dataset: Dataset) -> None:
        self._model = model
        self._dataset = dataset
        self._samples = {sample.path: sample for sample in dataset.samples}
        self._made: dict[str, bytes | None] = {}
        self._left_bytes = THUMBNAIL_BYTES

    def of_shots(self, chosen: Iterable[Shot]) -> tuple[Shot, ...]:
        return tuple(replace(shot, thumbnail=self._of(shot.path)) for shot in chosen)

    def of_paths(self, paths: Iterable[str]) -> dict[str, bytes]:
        return {path: made for path in paths if (made := self._of(path)) is not None}

    def _of(self, path: str) -> bytes | None:
        sample = self._samples.get(path)
        if sample is None:
            return None
        if sample.sha256 not in self._made:
            self._made[sample.sha256] = self._make(sample)
        made = self._made[sample.sha256]
        # What is shown twice is in the page twice.
        if made is None or len(made) > self._left_bytes:
            return None
        self._left_bytes -= len(made)
        return made

    def _make(self, sample: Sample) -> bytes | None:
        root, spec = self._dataset.root, self._model.manifest.input
        if spec is None or sample.row is not None:
            return None  # it is no picture
        try:
            data, _ = read_regular(root / sample.path, limit_bytes=MAX_FILE_BYTES)
            return thumbnail(data, spec, SIDE_PX, cropped=self._dataset.cropped)
        except (OSError, PictureError):
            return None


def _paths(findings: Iterable[Finding]) -> Iterable[str]:
    for finding in findings:
        for item in finding.items[:OF_FINDING]:
            yield from paths_of(finding, item)


def _facts(
    model: Model, raw: Dataset, samples: list[Sample], course: Course | None
) -> dict[str, tuple[tuple[str, str], ...]]:
    from tod import __version__

    built = ", ".join(f"{name} {version}" for name, version in model.manifest.built_with.items())
    return {
        "Timing": (*_run_times(course), *_answer_time(model, raw, samples)),
        "Versions": (
            ("this report", f"tod {__version__}, onnxruntime {runtime_version()}, {_python()}"),
            ("pictures by", decoder_version()),
            ("model built with", built),
            ("machine", f"{processor()}, {available_cores()} cores, {platform.machine()}"),
            ("system", f"{platform.system()} {platform.release()}"),
        ),
    }


def _python() -> str:
    return f"Python {sys.version.split()[0]}, NumPy {np.__version__}"


def _run_times(course: Course | None) -> Iterable[tuple[str, str]]:
    if course is None:
        return
    if course.looking_seconds:
        each_ms = 1e3 * course.looking_seconds / max(course.pictures_looked_at, 1)
        text = f"{course.pictures_looked_at} pictures in {course.looking_seconds:.1f} s"
        yield "frozen part", f"{text}, {each_ms:.1f} ms each"
    if course.timed_cycles:
        each_ms = 1e3 * course.training_seconds / course.timed_cycles
        text = f"{course.timed_cycles} cycles in {course.training_seconds:.1f} s"
        yield "training", f"{text}, {each_ms:.2f} ms each, with tests on the way"
    if course.waited_seconds:
        yield "waited", f"{course.waited_seconds:.0f} s for a better time"


def _answer_time(model: Model, raw: Dataset, samples: list[Sample]) -> Iterable[tuple[str, str]]:
    """From file to answer, once warmed up."""
    times = []
    for sample in samples[: _TIMED + 1]:
        start = time.perf_counter()
        with suppress(PictureError):
            model.predict([raw.source(sample)])
            times.append(time.perf_counter() - start)
    if len(times) > 1:
        yield "one answer", f"{1e3 * median(times[1:]):.1f} ms from file to answer, on this machine"
