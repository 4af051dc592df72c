"""The commands `tod promote`, `tod rollback` and `tod history`. Parse, one call, report."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tod.cli import options
from tod.cli.frame import cache_choice, stop_requests
from tod.report.tables import print_table, ratio
from tod.system import outputs

if TYPE_CHECKING:
    from tod.format.generations import Event, Shelf
    from tod.training.records import Record

Served = Annotated[Path, typer.Argument(help="The .tod file that serves.")]


def promote(
    new: Annotated[Path, typer.Argument(help="The model that wants its place.")],
    served: Served,
    data: options.Data,
    splits: options.Splits = False,
    margin: Annotated[
        float, typer.Option(help="Required accuracy gain; 0 still means strictly better.")
    ] = 0.0,
    keep: Annotated[
        int, typer.Option(help="Number of generations that stay beside the served one.")
    ] = 3,
    threads: options.Threads = None,
    seed: options.Seed = None,
    cache_dir: options.CacheDir = None,
    no_cache: options.NoCache = False,
    require_signature: options.RequireSignature = None,
    log: options.Log = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Replace the served model by a new one, if that is better on the validation pictures.

    Exit code 9 says that it is not, and that nothing was changed.

    Example: tod promote transfer_learning_trained.tod served.tod -d dataset --margin 0.01
    """
    with stop_requests() as should_stop:
        from tod.promotion import promote as promotion

        cache = cache_choice(cache_dir, no_cache)
        place = outputs.Output("SERVED", served, "", least_bytes=_size(new))
        outputs.check([place, outputs.log(log)], {"NEW": new})
        records = promotion.promote(
            new, served, data, splits=splits, margin=margin, keep=keep, threads=threads, seed=seed,
            cache=cache, require_signature=require_signature, should_stop=should_stop,
        )  # fmt: skip
        _show(records, as_json, quiet, log)


def rollback(
    served: Served,
    to: Annotated[
        int | None, typer.Option(help="Number of the generation, as 'tod history' shows it.")
    ] = None,
    require_signature: options.RequireSignature = None,
    as_json: options.AsJson = False,
) -> None:
    """Put the generation before the served one back; again and again, further back.

    What was rolled back stays: --to NUMBER puts it in place once more.

    Example: tod rollback served.tod
    """
    from tod.promotion import promote as promotion

    _show(promotion.rollback(served, to=to, require_signature=require_signature), as_json)


def history(served: Served, as_json: options.AsOneJson = False) -> None:
    """Which generations a served model had, which are kept, and which serves now.

    Example: tod history served.tod
    """
    describe_generations(served, as_json=as_json)


def _show(
    records: Iterator[Record], as_json: bool, quiet: bool = False, log: Path | None = None
) -> None:
    from tod.report.terminal import Report

    with Report(as_json=as_json, quiet=quiet, log=log) as report:
        for record in records:
            report.show(record)


def describe_generations(served: Path, *, as_json: bool) -> None:
    """Print the generations of a served file; as JSON, every change with its scores.

    Raises:
        ArtifactError: there is neither the file nor a generation of it; or the served file is
            damaged and not a generation. The second error comes after the list of generations that
            can replace it.
    """
    import msgspec

    from tod.format import artifact as artifacts
    from tod.format.generations import look

    shelf = look(served)
    if not shelf.events:
        artifacts.read(served)
    for notice in shelf.notices:
        print(f"notice: {notice}", file=sys.stderr)
    if as_json:
        found = {
            "served": str(shelf.served), "sha256": shelf.sha256, "generation": shelf.generation,
            "kept": {number: str(path) for number, path in shelf.kept.items()},
            "events": shelf.events,
        }  # fmt: skip
        print(msgspec.json.encode(found).decode())
    elif shelf.events:
        _print_generations(shelf)
    else:
        print(f"{served}: nothing was promoted yet")
    if shelf.generation is None and shelf.sha256 is not None:
        artifacts.read(served)


def _print_generations(shelf: Shelf) -> None:
    rows = [
        (
            str(number), _minute(event.when), event.what, *_scores(event), event.sha256[:8],
            "serves" if number == shelf.generation
            else "kept" if number in shelf.kept else "removed",
        )
        for number, event in sorted(shelf.introduced.items())
    ]  # fmt: skip
    columns = ("no.", "since", "how", "accuracy", "before", "answers", "SHA-256", "state")
    print_table(str(shelf.served), columns, rows, dense=True)  # so that it fits 80 columns


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _minute(when: str) -> str:
    """Convert a time of the log to local time; "-" if the log has none."""
    try:
        return f"{datetime.fromisoformat(when).astimezone():%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError):
        return "-"


def _scores(event: Event) -> tuple[str, str, str]:
    s = event.scores
    return ("-",) * 3 if s is None else (ratio(s.accuracy), ratio(s.served_accuracy), str(s.total))
