"""The command `tod compare`: several models on the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tod.cli import options
from tod.cli.frame import cache_choice
from tod.errors import UsageError
from tod.report.tables import percent, print_table

if TYPE_CHECKING:
    from tod.runtime.scoring import Evaluation


def compare(
    models: Annotated[list[Path], typer.Argument(help=".tod files; the first is the reference.")],
    data: options.Data,
    threads: options.Threads = None,
    seed: options.Seed = None,
    cache_dir: options.CacheDir = None,
    no_cache: options.NoCache = False,
    require_signature: options.RequireSignature = None,
    as_json: options.AsJson = False,
) -> None:
    """Accuracy of several models on the same validation pictures, class by class.

    Example: tod compare transfer_learning.tod transfer_learning_trained.tod -d dataset
    """
    import msgspec

    from tod.data.dataset import Dataset
    from tod.runtime.cache_folder import choose_folder
    from tod.training.session import TrainSession

    cache = cache_choice(cache_dir, no_cache)
    if len(models) < 2:
        raise UsageError(
            "wanted two models or more", hint="tod compare BEFORE.tod AFTER.tod -d DATA"
        )
    sessions = [
        TrainSession.load(path, threads=threads, cache=cache, require_signature=require_signature)
        for path in models
    ]
    # Of a plain folder the split of the training is taken, so that no picture of it counts.
    seeds = {s.split_seed for s in sessions if s.split_seed is not None}
    prepared = (data / "dataset.json").is_file()
    if len(seeds) > 1 and seed is None and not prepared:
        raise UsageError(
            f"these models have seen different splits (seeds {sorted(seeds)}) of a plain folder",
            hint="prepare the data with 'tod prepare-dataset', which fixes the split",
        )
    chosen = seed if seed is not None else min(seeds, default=0)
    folder = choose_folder(data, models[0], cache)
    dataset = Dataset.open(data, seed=chosen, cache=folder or False)
    results: list[Evaluation] = []
    for session in sessions:
        session.match(dataset, seed=chosen)
        if session.artifact.graphs == sessions[0].artifact.graphs:
            session.store = sessions[0].store  # same frozen part, same features: look only once
        results.append(session.evaluate(dataset))
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
