"""The course of a training run, taken from its records: as they come, or out of a log."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import msgspec

from tod.errors import ArtifactError, UsageError
from tod.system.files import read_start
from tod.system.text import MAX_NUMBER
from tod.training.records import (
    CycleDone,
    Evaluated,
    FeaturesDone,
    Notice,
    OldClasses,
    Record,
    Resumed,
    Saved,
    Started,
    Stopped,
)

REASONS = {
    "cycles": "all cycles are done",
    "target": "the test accuracy is above the target",
    "patience": "the test accuracy has not risen for too long",
    "interrupted": "interrupted",
    "time": "its time is used up (--max-minutes)",
    "merged": "merged from a checkpoint",
}
"""Why a run ended, in words."""
_MAX_LINE_BYTES = 1 << 26
_MOST_NOTICES = 50


@dataclass(frozen=True)
class Cycle:
    """One step: its loss, and the learning rate where the record tells it."""

    number: int
    loss: float
    lr: float | None


@dataclass
class Course:
    """What happened, the newest run last; `add` takes record after record.

    Attributes:
        started: how the run began; of a resumed one, how it first did.
        resumed_at: the cycles that it was resumed at.
        cycles: by number: what was done again after a resume counts once.
        tests: accuracy on the test split by cycle.
        final: the score on the validation split.
        model: the file of the trained model.
        looking_seconds, pictures_looked_at: of the pass over the pictures.
        training_seconds, timed_cycles: from cycle to cycle, with tests and without pauses.
    """

    started: Started | None = None
    resumed_at: list[int] = field(default_factory=list)
    cycles: dict[int, Cycle] = field(default_factory=dict)
    tests: dict[int, float] = field(default_factory=dict)
    metric: str = "accuracy"
    stopped: Stopped | None = None
    final: Evaluated | None = None
    old_classes: OldClasses | None = None
    model: str | None = None
    notices: list[str] = field(default_factory=list)
    looking_seconds: float = 0.0
    pictures_looked_at: int = 0
    training_seconds: float = 0.0
    timed_cycles: int = 0
    waited_seconds: float = 0.0
    _now: float | None = None
    _last_cycle: float | None = None

    def add(self, record: Record, seconds: float | None = None) -> None:
        """
        Args:
            seconds: since the work began, where that is known.
        """
        if isinstance(record, Started):
            self._start(record)
        elif isinstance(record, CycleDone):
            self.cycles[record.cycle] = Cycle(record.cycle, record.loss, record.lr)
            if seconds is not None and self._last_cycle is not None:
                self.training_seconds += max(0.0, seconds - self._last_cycle)
                self.timed_cycles += 1
            self._last_cycle = seconds
        elif isinstance(record, FeaturesDone):
            if seconds is not None and self._now is not None:
                self.looking_seconds += max(0.0, seconds - self._now)
            self.pictures_looked_at = record.done
        elif isinstance(record, Resumed):
            self.waited_seconds += record.waited_seconds
            if self._last_cycle is not None:
                self._last_cycle += record.waited_seconds
        elif isinstance(record, Notice):
            if len(self.notices) < _MOST_NOTICES and record.text not in self.notices:
                self.notices.append(record.text)
        else:
            self._end(record)
        self._now = seconds

    def _start(self, record: Started) -> None:
        if record.first_cycle > 1 and self.started is not None:
            self.resumed_at.append(record.first_cycle)
            # What came after the checkpoint was lost, and is done again.
            self.cycles = {n: c for n, c in self.cycles.items() if n < record.first_cycle}
            self.tests = {n: a for n, a in self.tests.items() if n < record.first_cycle}
            self.stopped, self._last_cycle = None, None
            return
        fresh = Course(started=record)
        self.__dict__.update(fresh.__dict__)

    def _end(self, record: Record) -> None:
        if isinstance(record, Evaluated):
            self.metric = record.metric
            if record.split == "test":
                self.tests[record.cycle] = record.accuracy
            else:
                self.final = record
        elif isinstance(record, Stopped):
            self.stopped = record
        elif isinstance(record, OldClasses):
            self.old_classes = record
        elif isinstance(record, Saved) and record.kind == "model":
            self.model = record.path


def is_log(path: Path) -> bool:
    """Whether a file begins as a log of records does."""
    try:
        return read_start(path, 64).lstrip().startswith(b'{"record"')
    except OSError:
        return False


def read_log(path: Path) -> Course:
    """The newest run in the file of --log. A line that was cut off, that a later TOD wrote or that
    holds what no run can is passed over.

    Raises:
        ArtifactError: it cannot be read.
        UsageError: no record of a run is in it.
    """
    course, found = Course(), 0
    try:
        read_start(path, 1)  # a pipe or a device might never end
        with open(path, "rb") as file:
            while line := file.readline(_MAX_LINE_BYTES):
                record, seconds = _record(line)
                if record is not None:
                    course.add(record, seconds)
                    found += 1
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not found:
        raise UsageError(
            f"{path}: no record of a run is in it", hint="net_runner --log FILE writes one"
        )
    return course


def _kind(name: str) -> type[Any] | None:
    words = name.split("_")
    wanted = "".join(word.capitalize() for word in words)
    return next((kind for kind in get_args(Record) if kind.__name__ == wanted), None)


def _number(written: str) -> int:
    """A number that a run can count to; "NaN" and the like are none."""
    if abs(value := int(written)) > MAX_NUMBER:
        raise ValueError(f"{written} is too large")
    return value


def _record(line: bytes) -> tuple[Record | None, float | None]:
    try:
        fields = json.loads(line, parse_int=_number, parse_constant=_number)
        kind = _kind(fields.pop("record"))
        seconds = fields.pop("seconds", None)
        if kind is None:
            return None, None
        record = msgspec.convert(fields, kind)
        return record, float(seconds) if isinstance(seconds, int | float) else None
    except (msgspec.MsgspecError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None, None
