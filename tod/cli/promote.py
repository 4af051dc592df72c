"""The commands `tod promote`, `tod rollback` and `tod history`. Parse, one call, report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tod.cli import options
from tod.cli.frame import cache_choice, check_writable, stop_requests

if TYPE_CHECKING:
    from tod.training.records import Record

Served = Annotated[Path, typer.Argument(help="The .tod file that serves.")]


def promote(
    new: Annotated[Path, typer.Argument(help="The model that wants its place.")],
    served: Served,
    data: options.Data,
    margin: Annotated[
        float, typer.Option(help="So much higher its accuracy has to be; equal is not better.")
    ] = 0.0,
    keep: Annotated[int, typer.Option(help="Generations that stay beside the served one.")] = 3,
    threads: options.Threads = None,
    seed: options.Seed = None,
    cache_dir: options.CacheDir = None,
    no_cache: options.NoCache = False,
    require_signature: options.RequireSignature = None,
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
        check_writable(served.resolve())  # a link stays one: the file that it names is replaced
        records = promotion.promote(
            new, served, data, margin=margin, keep=keep, threads=threads, seed=seed, cache=cache,
            require_signature=require_signature, should_stop=should_stop,
        )  # fmt: skip
        _show(records, as_json, quiet)


def rollback(
    served: Served,
    to: Annotated[
        int | None, typer.Option(help="This generation, as 'tod history' numbers them.")
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


def history(served: Served, as_json: options.AsJson = False) -> None:
    """Which generations a served model had, which are kept, and which serves now.

    Example: tod history served.tod
    """
    from tod.cli.describe import describe_generations

    describe_generations(served, as_json=as_json)


def _show(records: Iterator[Record], as_json: bool, quiet: bool = False) -> None:
    from tod.report.terminal import Report

    with Report(as_json=as_json, quiet=quiet) as report:
        for record in records:
            report.show(record)
