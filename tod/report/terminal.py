"""Records -> a live terminal view, plain lines, or JSON lines. The only user of rich.

Results go to stdout, notices to stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tod.system.text import shown
from tod.training.records import (
    CycleDone,
    Evaluated,
    FeaturesDone,
    Notice,
    OldClasses,
    Paused,
    Promoted,
    Record,
    Resumed,
    RolledBack,
    Saved,
    Started,
    Stopped,
)

_REASONS = {
    "cycles": "all cycles are done",
    "target": "the test accuracy is above the target",
    "patience": "the test accuracy has not risen for too long",
    "interrupted": "interrupted",
    "time": "its time is used up (--max-minutes)",
}
# Two spaces between columns.
_DENSE: dict[str, Any] = {
    "box": box.SIMPLE_HEAD,
    "show_edge": False,
    "pad_edge": False,
    "padding": (0, 1, 0, 0),
}


class Show(Protocol):
    """Shows one record."""

    def __call__(self, record: Record) -> None: ...


class Report:
    """Shows records in every way that was asked for; use it in a `with` statement.

    Args:
        as_json: JSON lines on stdout instead of text.
        quiet: of results the final accuracy, of all else notices and pauses: a run that waits for
            the night must not look like one that hangs.
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
        if log is not None:
            file = open(log, "a" if append else "w", encoding="utf-8")  # noqa: SIM115
            self._shows.append(_json_lines(file))
            self._stack.callback(_close, file)
        if as_json:
            self._shows.append(_json_lines(sys.stdout))
        elif quiet:
            self._shows.append(_quiet)
        elif sys.stdout.isatty() and sys.stderr.isatty():
            self._shows.append(_live(self._stack))
        else:
            self._shows.append(_plain)

    def show(self, record: Record) -> None:
        for show in self._shows:
            show(record)

    def __enter__(self) -> Report:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


def to_json(record: Record) -> bytes:
    """One record as a JSON object: `record` names its kind, the other keys are its fields.

    Numbers that are not finite become null.
    """
    name = type(record).__name__
    kind = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    fields = {"record": kind, **asdict(record)}
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError:  # a path that is not UTF-8
        return json.dumps(fields).encode()


def result_line(record: Evaluated | CycleDone) -> str:
    """The line that MindSpore Lite's net_runner prints, with numbers as C++ streams print them."""
    if isinstance(record, CycleDone):
        return f"{record.cycle}: Loss is {record.loss:.6g} [min={record.min_loss:.6g}]"
    name = record.metric
    line = f"{name} on {record.split} data = {record.accuracy:.6g}"
    return f"{line} max {name} = {record.max_accuracy:.6g}" if record.split == "test" else line


def print_tensors(file: IO[str]) -> Callable[[str, Any, Any], None]:
    """An engine observer: name, shape and first 10 elements of each input and output."""

    def observe(graph: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> None:
        lines = [f"{graph}:"]
        for kind, arrays in (("in ", inputs), ("out", outputs)):
            for name, array in arrays.items():
                first = " ".join(f"{value:.6g}" for value in np.ravel(array)[:10])
                lines.append(f"  {kind} {name} {list(array.shape)}: {first}")
        file.write("\n".join(lines) + "\n")

    return observe


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, dense: bool = False
) -> None:
    """A table on stdout; columns after the first are aligned to the right. A dense one has no
    lines between columns, so that ten of them fit a terminal, and a blank line above it."""
    console = _console()
    if dense:
        console.print()
    if title:
        console.print(f"[bold]{escape(title)}[/bold]", soft_wrap=True)
    table = Table(**_DENSE) if dense else Table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def print_findings(title: str, findings: Sequence[tuple[str, str, str, str]]) -> None:
    """One line for each finding: name, verdict ("ok", "remark", "warn" or "wrong"), value, what to
    do. One without a name belongs to the one before."""
    console = _console()
    if title:
        console.print(f"[bold]{escape(title)}[/bold]", soft_wrap=True)
    wide = max(len(name) for name, *_ in findings)
    long = any(len(verdict) > 5 for _, verdict, *_ in findings)
    for name, verdict, value, advice in findings:
        colour = {"ok": "green", "warn": "yellow", "wrong": "red"}.get(verdict, "dim")
        if not name:
            console.print(f"    {escape(value)}", soft_wrap=True)
            continue
        text = f"{value}; {advice}" if advice else value
        console.print(
            f"{name:{wide}}  [{colour}]{verdict:{6 if long else 5}}[/{colour}]  {escape(text)}",
            soft_wrap=True,
        )


def print_pairs(title: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Names and values below a title."""
    console = _console()
    console.print(f"[bold]{escape(title)}[/bold]", soft_wrap=True)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(f"  {escape(name)}", escape(value))
    console.print(grid)


def _console() -> Console:
    # A file or a pipe has no width; rich would fold its lines at 80 columns.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def progress_bar(stack: ExitStack, label: str) -> Callable[[int, int], None]:
    """Progress of long work on stderr: a bar on a terminal, a line every tenth elsewhere.

    Returns:
        A function to call with the number done and the number to do.
    """
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        return _tenths(label)
    bar = stack.enter_context(_progress(console))
    task = bar.add_task(label, total=None)
    return lambda done, total: bar.update(task, completed=done, total=total)


def _tenths(label: str) -> Callable[[int, int], None]:
    shown = 0

    def update(done: int, total: int) -> None:
        nonlocal shown
        if (tenth := done * 10 // max(total, 1)) > shown:
            shown = tenth
            print(f"{label}: {done} of {total}", file=sys.stderr, flush=True)

    return update


def _progress(console: Console, *extra: str) -> Progress:
    texts = [TextColumn(column) for column in extra]
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        *texts,
        TimeRemainingColumn(compact=True),
        console=console,
    )


def _plain(record: Record) -> None:
    if isinstance(record, CycleDone | Evaluated):
        print(result_line(record), flush=True)
    elif isinstance(record, OldClasses | Promoted | RolledBack):
        print(_sentence(record), flush=True)
    elif not isinstance(record, FeaturesDone) or record.done == record.total:
        print(_sentence(record), file=sys.stderr, flush=True)


def _quiet(record: Record) -> None:
    if isinstance(record, Evaluated) and record.split != "test":
        print(result_line(record), flush=True)
    elif isinstance(record, Promoted):
        print(f"{record.metric} on validation data = {record.accuracy:.6g}", flush=True)
    elif isinstance(record, Notice | Paused):
        print(_sentence(record), file=sys.stderr, flush=True)


def _close(file: IO[str]) -> None:
    """Every record was flushed: what still fails has failed before, and was reported then."""
    with suppress(OSError):
        file.close()


def _json_lines(file: IO[str]) -> Show:
    def show(record: Record) -> None:
        file.write(to_json(record).decode() + "\n")
        file.flush()

    return show


def _live(stack: ExitStack) -> Show:
    """A bar for the pictures, a bar for the cycles; accuracies and notices scroll above them."""
    console = Console(highlight=False)
    bar = stack.enter_context(_progress(console, "{task.fields[figures]}"))
    tasks: dict[str, Any] = {}
    figures: dict[str, str] = {}

    def update(label: str, done: int, total: int, text: str = "") -> None:
        if label not in tasks:
            tasks[label] = bar.add_task(label, total=total, figures="")
        bar.update(tasks[label], completed=done, total=total, figures=text)

    def show(record: Record) -> None:
        if isinstance(record, FeaturesDone):
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
    """A record that is not a result, in words."""
    if isinstance(record, Started):
        pictures = ", ".join(f"{count} {split}" for split, count in record.pictures.items())
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
    if isinstance(record, FeaturesDone):
        return f"looked at {record.done} of {record.total} pictures"
    if isinstance(record, OldClasses):
        return (
            f"accuracy on the {record.pictures} validation pictures of the old classes: "
            f"{record.before:.6g} before, {record.after:.6g} after"
        )
    if isinstance(record, Saved):
        return f"saved {record.kind} of cycle {record.cycle}: {record.path}"
    if isinstance(record, Promoted):
        return _promoted(record)
    if isinstance(record, RolledBack):
        back = "" if record.was is None else f"; --to {record.was} undoes it"
        return f"{record.served} is generation {record.generation} again{back}"
    if isinstance(record, Stopped):
        kept = f", cycle {record.kept_cycle} is kept" if record.kept_cycle != record.cycle else ""
        return f"training ended after cycle {record.cycle}: {_REASONS[record.reason]}{kept}"
    return result_line(record)


def _promoted(record: Promoted) -> str:
    of = f"{record.metric} on {record.total} validation answers = {record.accuracy:.6g}"
    before = "" if record.served_accuracy is None else f", was {record.served_accuracy:.6g}"
    return (
        f"{record.path} serves as generation {record.generation} of {record.served}: {of}{before}"
    )


def percent(part: NDArray[Any] | float) -> str:
    """A ratio as "92.7 %"."""
    return f"{100 * float(part):.1f} %"
