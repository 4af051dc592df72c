"""Tables, findings and pairs of names and values on stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:  # the commands import this file before NumPy is needed
    from numpy.typing import NDArray

# Two spaces between columns.
_DENSE: dict[str, Any] = {
    "box": box.SIMPLE_HEAD,
    "show_edge": False,
    "pad_edge": False,
    "padding": (0, 1, 0, 0),
}


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, dense: bool = False
) -> None:
    """Print a table on stdout; columns after the first are aligned to the right. A dense table has
    no lines between columns, so that ten columns fit a terminal, and a blank line above it."""
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
    """Print one line for each finding: name, verdict ("ok", "remark", "warn" or "wrong"), value,
    what to do. A line without a name belongs to the finding before."""
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
    """Print names and values below a title."""
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


def percent(part: NDArray[Any] | float) -> str:
    """Write a ratio as "92.7 %"."""
    return f"{100 * float(part):.1f} %"


def ratio(value: float | None) -> str:
    """Write a ratio as "0.9270", or "-" if there is none."""
    return "-" if value is None else f"{value:.4f}"
