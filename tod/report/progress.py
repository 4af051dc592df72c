"""Progress of long work on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(
    stack: ExitStack, label: str, *, quiet: bool = False
) -> Callable[[int, int], None]:
    """Progress of long work on stderr: a bar on a terminal, a line every tenth elsewhere; nothing
    if there is no work.

    Args:
        stack: the bar is removed when the stack closes.
        label: name of the counted things.
        quiet: show nothing.

    Returns:
        A function to call with the number done and the number to do.
    """
    if quiet:
        return lambda done, total: None
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        return _tenths(label)
    bar: Progress | None = None

    def update(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = stack.enter_context(_progress(console))
            bar.add_task(label, total=total)
        bar.update(bar.task_ids[0], completed=done, total=total)

    return update


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
