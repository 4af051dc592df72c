"""`tod compare`: several models on the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from tod.data.dataset import Dataset
from tod.errors import UsageError
from tod.report.tables import percent, print_table
from tod.runtime.feature_cache import choose_folder
from tod.runtime.scoring import Evaluation
from tod.training.session import TrainSession


def compare_models(
    paths: Sequence[Path],
    data: Path,
    *,
    threads: int | None,
    seed: int | None,
    cache: Path | bool,
    require_signature: Path | None = None,
    as_json: bool,
) -> None:
    """Evaluate every model on the validation split and print a table, class by class.

    The seed of a plain folder's split is that of the first model that knows one: of what a model
    was trained on, nothing counts.

    Raises:
        UsageError: fewer than two models, or models that were split differently.
    """
    if len(paths) < 2:
        raise UsageError(
            "wanted two models or more", hint="tod compare BEFORE.tod AFTER.tod -d DATA"
        )
    sessions = [
        TrainSession.load(path, threads=threads, cache=cache, require_signature=require_signature)
        for path in paths
    ]
    seeds = {s.split_seed for s in sessions if s.split_seed is not None}
    prepared = (data / "dataset.json").is_file()
    if len(seeds) > 1 and seed is None and not prepared:
        raise UsageError(
            f"these models have seen different splits (seeds {sorted(seeds)}) of a plain folder",
            hint="prepare the data with 'tod prepare-dataset', which fixes the split",
        )
    chosen = seed if seed is not None else min(seeds, default=0)
    folder = choose_folder(data, paths[0], cache)
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
            for p, r in zip(paths, results, strict=True)
        ]
        print(msgspec.json.encode(rows).decode())
        return
    _print(paths, results)


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
