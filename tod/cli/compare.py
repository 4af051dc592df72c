"""The command `tod compare`: several models on the same pictures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tod.cli import options
from tod.cli.frame import cache_choice, engine_choice
from tod.errors import UsageError
from tod.report.tables import percent, print_table

if TYPE_CHECKING:
    from tod.runtime.scoring import Evaluation


def compare(
    models: Annotated[list[Path], typer.Argument(help=".tod files; the first is the reference.")],
    data: options.Data,
    splits: options.Splits = False,
    threads: options.Threads = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    seed: options.Seed = None,
    cache_dir: options.CacheDir = None,
    no_cache: options.NoCache = False,
    require_signature: options.RequireSignature = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Accuracy of several models on the same validation pictures, class by class.

    Example: tod compare transfer_learning.tod transfer_learning_trained.tod -d dataset
    """
    import msgspec

    from tod.report.progress import progress_bar
    from tod.runtime.model import Model, open_dataset

    cache = cache_choice(cache_dir, no_cache)
    if len(models) < 2:
        raise UsageError(
            "wanted two models or more", hint="tod compare BEFORE.tod AFTER.tod -d DATA"
        )
    chosen = engine_choice(engine, precision)
    loaded = [
        Model.load(
            path,
            threads=threads,
            cache=cache,
            require_signature=require_signature,
            engine=chosen,
        )
        for path in models
    ]
    # Split a plain folder as for training, so that no picture that was trained on counts.
    seeds = {m.split_seed for m in loaded if m.split_seed is not None}
    prepared = (data / "dataset.json").is_file()
    if len(seeds) > 1 and seed is None and not prepared:
        raise UsageError(
            f"these models have seen different splits (seeds {sorted(seeds)}) of a plain folder",
            hint="prepare the data with 'tod prepare-dataset', which fixes the split",
        )
    results: list[Evaluation] = []
    with ExitStack() as stack:
        reading = progress_bar(stack, "read", quiet=quiet)
        dataset = open_dataset(data, *loaded, seed=seed, splits=splits, progress=reading)
        for notice in dataset.notices:
            print(f"notice: {notice}", file=sys.stderr)
        bar = progress_bar(stack, "pictures", quiet=quiet)
        for model in loaded:
            model.match(dataset, seed=dataset.seed)
            if model.artifact.graphs == loaded[0].artifact.graphs:
                model.store = loaded[0].store  # same frozen part, same features: compute them once
            results.append(model.evaluate(dataset, progress=bar))
    if as_json:
        rows = [
            {"model": str(p), "accuracy": r.accuracy, "by_class": r.by_class}
            for p, r in zip(models, results, strict=True)
        ]
        print(msgspec.json.encode(rows).decode())
        return
    _print(models, results)


def _print(paths: Sequence[Path], results: Sequence[Evaluation]) -> None:
    names = sorted(results[0].by_class)
    rows = []
    for name in names:
        shares = [r.by_class[name] for r in results]
        rows.append([name, *map(percent, shares), _points(shares)])
    total = [r.accuracy for r in results]
    rows.append([f"all {results[0].pictures} pictures", *map(percent, total), _points(total)])
    columns = [f"validation {results[0].metric}", *(path.name for path in paths), "change"]
    print_table("", columns, rows)


def _points(shares: Sequence[float]) -> str:
    return f"{100 * (shares[-1] - shares[0]):+.1f}"
