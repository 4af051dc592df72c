"""Show records as a live terminal view, plain lines, or JSON lines.

Results go to stdout, notices to stderr.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import msgspec
import numpy as np
from rich.console import Console
from rich.markup import escape

from tod.report.course import REASONS
from tod.report.progress import _progress
from tod.system.text import shown
from tod.training.records import (
    CycleDone,
    Evaluated,
    FeaturesDone,
    Notice,
    OldClasses,
    Paused,
    PicturesRead,
    Promoted,
    Record,
    Resumed,
    RolledBack,
    Saved,
    Started,
    Stopped,
)

# Most tools use "test" and "validation" the other way round.
_ROLES: dict[str, str] = {
    "train": "", "test": " (best cycle, early stopping)", "validation": " (final score)",
}  # fmt: skip


class Show(Protocol):
    """Shows one record."""

    def __call__(self, record: Record) -> None: ...


class Report:
    """Shows records in every requested way; use it in a `with` statement.

    Args:
        as_json: JSON lines on stdout instead of text.
        quiet: show only the final accuracy, notices and pauses. Pauses are shown because a run that
            waits for the night must not look as if it hangs.
        log: also write JSON lines to this file.
        append: continue the log file instead of starting it again.
    """

    def __init__(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        log: Path | None = None,
        append: bool = False,
    ) -> None:
        self._stack = ExitStack()
        self._shows: list[Show] = []
        self._start = time.monotonic()
        self._seconds = 0.0
        if log is not None:
            file = open(log, "a" if append else "w", encoding="utf-8")  # noqa: SIM115
            self._shows.append(self._json_lines(file))
            self._stack.callback(file.close)
        if as_json:
            self._shows.append(self._json_lines(sys.stdout))
        elif quiet:
            self._shows.append(_quiet)
        elif sys.stdout.isatty() and sys.stderr.isatty():
            self._shows.append(_live(self._stack))
        else:
            self._shows.append(_plain)

    def show(self, record: Record) -> None:
        self._seconds = round(time.monotonic() - self._start, 3)
        for show in self._shows:
            show(record)

    def _json_lines(self, file: IO[str]) -> Show:
        def show(record: Record) -> None:
            file.write(to_json(record, self._seconds).decode() + "\n")
            file.flush()

        return show

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Every record was flushed, so an error here has happened and was reported before.
        with suppress(OSError):
            self._stack.close()


def to_json(record: Record, seconds: float | None = None) -> bytes:
    """Encode one record as a JSON object: `record` names its kind, the other keys are its fields.

    Numbers that are not finite become null.

    Args:
        seconds: since the work began, where that is known.
    """
    name = type(record).__name__
    kind = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    fields = {"record": kind, **asdict(record)}
    if seconds is not None:
        fields["seconds"] = seconds
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError:  # a path that is not UTF-8
        return json.dumps(fields).encode()


def result_line(record: Evaluated | CycleDone) -> str:
    """Return the line that MindSpore Lite's net_runner prints, with numbers as C++ streams print
    them."""
    if isinstance(record, CycleDone):
        return f"{record.cycle}: Loss is {record.loss:.6g} [min={record.min_loss:.6g}]"
    name = record.metric
    line = f"{name} on {record.split} data = {record.accuracy:.6g}"
    return f"{line} max {name} = {record.max_accuracy:.6g}" if record.split == "test" else line


def print_tensors(file: IO[str]) -> Callable[[str, Any, Any], None]:
    """Return an engine observer that writes name, shape and first 10 elements of each input and
    output."""

    def observe(graph: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        lines = [f"{graph}:"]
        for kind, arrays in (("in ", inputs), ("out", outputs)):
            for name, array in arrays.items():
                first = " ".join(f"{value:.6g}" for value in np.ravel(array)[:10])
                lines.append(f"  {kind} {name} {list(array.shape)}: {first}")
        file.write("\n".join(lines) + "\n")

    return observe


def _plain(record: Record) -> None:
    if isinstance(record, CycleDone | Evaluated):
        print(result_line(record), flush=True)
    elif isinstance(record, OldClasses | Promoted | RolledBack):
        print(_sentence(record), flush=True)
    elif not isinstance(record, PicturesRead | FeaturesDone) or record.done == record.total:
        print(_sentence(record), file=sys.stderr, flush=True)


def _quiet(record: Record) -> None:
    if isinstance(record, Evaluated) and record.split != "test":
        print(result_line(record), flush=True)
    elif isinstance(record, Promoted):
        print(f"{record.metric} on validation data = {record.accuracy:.6g}", flush=True)
    elif isinstance(record, Notice | Paused):
        print(_sentence(record), file=sys.stderr, flush=True)


def _live(stack: ExitStack) -> Show:
    """Show a bar for the pictures and a bar for the cycles; accuracies and notices scroll above
    them."""
    console = Console(highlight=False)
    bar = stack.enter_context(_progress(console, "{task.fields[figures]}"))
    tasks: dict[str, Any] = {}
    figures: dict[str, str] = {}

    def update(label: str, done: int, total: int, text: str = "") -> None:
        if label not in tasks:
            tasks[label] = bar.add_task(label, total=total, figures="")
        bar.update(tasks[label], completed=done, total=total, figures=text)

    def show(record: Record) -> None:
        if isinstance(record, PicturesRead):
            update("read    ", record.done, record.total)
        elif isinstance(record, FeaturesDone):
            update("pictures", record.done, record.total)
        elif isinstance(record, CycleDone):
            figures["loss"] = f"loss {record.loss:.4f} min {record.min_loss:.4f}"
            update("cycles  ", record.cycle, record.cycles, "  ".join(figures.values()))
        elif isinstance(record, Evaluated):
            if record.split == "test":
                figures["test"] = f"test {record.accuracy:.3f} best {record.max_accuracy:.3f}"
            console.print(f"[green]{result_line(record)}[/green]")
        else:
            colour = "yellow" if isinstance(record, Notice | Paused) else "dim"
            console.print(f"[{colour}]{escape(_sentence(record))}[/{colour}]")

    return show


def _sentence(record: Record) -> str:
    """Describe a record that is not a result, in words."""
    if isinstance(record, Started):
        pictures = ", ".join(f"{n} {split}{_ROLES[split]}" for split, n in record.pictures.items())
        run = record.run
        times = f" x {run.accumulate}" if run.accumulate > 1 else ""
        start = f", continuing at cycle {record.first_cycle}" if record.first_cycle > 1 else ""
        return (
            f"{record.model}: {record.backbone}, {len(record.classes)} classes, "
            f"{record.trainable_parameters} trainable parameters, "
            f"{record.optimizer} lr {run.lr:g} {run.schedule}, "
            f"batch {run.batch_size}{times}, {run.cycles} cycles{start}, seed {run.seed}, "
            f"{record.threads} threads; pictures: {pictures}"
        )
    if isinstance(record, Notice):
        return f"notice: {shown(record.text)}"
    if isinstance(record, Paused):
        return f"paused: {record.text}"
    if isinstance(record, Resumed):
        return f"it suits again after {record.waited_seconds:g} s: going on"
    if isinstance(record, PicturesRead):
        return f"read {record.done} of {record.total} pictures"
    if isinstance(record, FeaturesDone):
        return f"looked at {record.done} of {record.total} pictures"
    if isinstance(record, OldClasses):
        return (
            f"accuracy on the {record.pictures} validation pictures of the old classes: "
            f"{record.before:.6g} before, {record.after:.6g} after"
        )
    if isinstance(record, Saved):
        of = "" if record.cycle is None else f" of cycle {record.cycle}"
        return f"saved {record.kind}{of}: {record.path}"
    if isinstance(record, Promoted):
        return _promoted(record)
    if isinstance(record, RolledBack):
        back = "" if record.was is None else f"; --to {record.was} undoes it"
        return f"{record.served} is generation {record.generation} again{back}"
    if isinstance(record, Stopped):
        kept = f", cycle {record.kept_cycle} is kept" if record.kept_cycle != record.cycle else ""
        return f"training ended after cycle {record.cycle}: {REASONS[record.reason]}{kept}"
    return result_line(record)


def _promoted(record: Promoted) -> str:
    of = f"{record.metric} on {record.total} validation answers = {record.accuracy:.6g}"
    before = "" if record.served_accuracy is None else f", was {record.served_accuracy:.6g}"
    return (
        f"{record.path} serves as generation {record.generation} of {record.served}: {of}{before}"
    )
