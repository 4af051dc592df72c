"""Tables, findings and pairs of names and values on stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:  # the commands import this file before NumPy is needed
    from numpy.typing import NDArray

# Columns of text that is folded: the least width of the first, and the longest word of a head that
# stays whole; file names are longer.
_FIRST, _WORD = 20, 12
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
    no lines between columns, so that ten columns fit a terminal, and a blank line above it. Where
    a number would be broken, each row is a list instead."""
    console = _console()
    if dense:
        console.print()
    if title:
        console.print(f"[bold]{escape(title)}[/bold]", soft_wrap=True)
    frame = 2 * len(columns) if dense else 3 * len(columns) + 1
    widths = _widths(columns, rows, console.width - frame)
    if widths is None:
        if not title and columns[0]:
            console.print(f"[bold]{escape(columns[0])}[/bold]")
        for first, *rest in rows:
            if first:
                console.print(f"[bold]{escape(first)}[/bold]", soft_wrap=True)
            console.print(_grid(list(zip(columns[1:], rest, strict=True))))
        return
    table = Table(**_DENSE) if dense else Table()
    for index, (column, width) in enumerate(zip(columns, widths, strict=True)):
        table.add_column(
            escape(column), justify="right" if index else "left", overflow="fold", width=width
        )
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
    console.print(_grid(pairs))


def _grid(pairs: Sequence[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(f"  {escape(name)}", escape(value))
    return grid


def _widths(columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """The width of each column, all of them at most `room`; None if that would break a number.

    The names in the first column may be folded, and the heads of all columns, but no short word of
    them.
    """
    cells = [max([0, *(cell_len(row[i]) for row in rows)]) for i in range(len(columns))]
    wanted = [max(cell_len(head), cell) for head, cell in zip(columns, cells, strict=True)]
    if sum(wanted) <= room:
        return wanted
    words = [max(map(cell_len, head.split()), default=0) for head in columns]
    found = [max(c, min(w, _WORD)) for c, w in zip(cells, words, strict=True)]
    found[0] = min(wanted[0], _FIRST)
    left = room - sum(found)
    if left < 0:
        return None
    for i, most in enumerate(wanted):
        more = min(left, most - found[i])
        found[i], left = found[i] + more, left - more
    return found


def _console() -> Console:
    # A file or a pipe has no width; rich would fold its lines at 80 columns.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def percent(part: NDArray[Any] | float) -> str:
    """Write a ratio as "92.7 %"."""
    return f"{100 * float(part):.1f} %"


def ratio(value: float | None) -> str:
    """Write a ratio as "0.9270", or "-" if there is none."""
    return "-" if value is None else f"{value:.4f}"
