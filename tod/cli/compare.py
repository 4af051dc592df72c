"""The command `tod compare`: several models on the same pictures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from tod.cli import options
from tod.cli.frame import cache_choice, engine_choice, stop_requests
from tod.errors import UsageError
from tod.report.tables import percent, print_table

if TYPE_CHECKING:
    from tod.benchmark.answering import Answering
    from tod.runtime.comparison import Scored
    from tod.runtime.delegates.table import Choice
    from tod.runtime.model import Model
    from tod.runtime.scoring import Evaluation

_SECONDS = 0.5


def compare(
    models: Annotated[
        list[Path],
        typer.Argument(help=".tod, .onnx, .ort, .tflite files; the first is the reference."),
    ],
    data: options.Data,
    splits: options.Splits = False,
    threads: options.Threads = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    seed: options.Seed = None,
    cache_dir: options.CacheDir = None,
    no_cache: options.NoCache = False,
    require_signature: options.RequireSignature = None,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers", help="Which layers lose it: each one beside the reference's, worst first."
        ),
    ] = False,
    as_json: options.AsArray = False,
    quiet: options.Quiet = False,
) -> None:
    """Accuracy, agreement, size and speed of several models on the same validation pictures.

    Example: tod compare transfer_learning.tod transfer_learning_trained.tod -d dataset

    Example: tod compare my_trained.tod my_trained.onnx my_trained.tflite -d dataset

    Example: tod compare my_trained.tod my_trained_int8.tflite -d dataset --layers
    """
    import msgspec

    from tod.data.dataset import Dataset
    from tod.report.progress import progress_bar
    from tod.runtime.comparison import score_file, score_model
    from tod.runtime.model import Model, open_dataset
    from tod.runtime.predictor import open_predictor
    from tod.runtime.read_model import is_tod

    if len(models) < 2:
        raise UsageError(
            "wanted two models or more", hint="tod compare BEFORE.tod AFTER.tod -d DATA"
        )
    cache, chosen = cache_choice(cache_dir, no_cache), engine_choice(engine, precision)
    if layers:
        from tod.cli.compare_layers import compare_layers

        compare_layers(
            models, data, splits=splits, seed=seed, cache=cache, engine=chosen,
            threads=threads or 1, key=require_signature, as_json=as_json, quiet=quiet,
        )  # fmt: skip
        return
    with stop_requests() as should_stop:
        # First, while this process is small: a new one begins with its memory.
        costs = [_cost(path, chosen, require_signature, should_stop) for path in models]
    loaded = [
        Model.load(
            path, threads=threads, cache=cache, require_signature=require_signature, engine=chosen
        )
        if is_tod(path)
        else open_predictor(
            path, threads=threads, engine=chosen, require_signature=require_signature
        )
        for path in models
    ]
    own = [model for model in loaded if isinstance(model, Model)]
    _check_seeds(own, seed, data)
    scores: list[Scored] = []
    with ExitStack() as stack:
        reading = progress_bar(stack, "read", quiet=quiet)
        if own:
            dataset = open_dataset(data, *own, seed=seed, splits=splits, progress=reading)
        else:
            dataset = Dataset.open(
                data, seed=seed or 0, cache=cache, splits=splits, progress=reading
            )
        for notice in dataset.notices:
            print(f"notice: {notice}", file=sys.stderr)
        bar = progress_bar(stack, "pictures", quiet=quiet)
        for model in loaded:
            if not isinstance(model, Model):
                scores.append(score_file(model, dataset, bar))
                continue
            model.match(dataset, seed=dataset.seed)
            if model.artifact.graphs == own[0].artifact.graphs:
                model.store = own[0].store  # same frozen part, same features: compute them once
            scores.append(score_model(model, dataset, bar))
    for path, reason in {p: r for one in scores for p, r in one.unreadable.items()}.items():
        print(f"notice: {path} does not count: {reason}", file=sys.stderr)
    if as_json:
        rows = [
            {
                "model": str(path),
                "accuracy": one.evaluation.accuracy,
                "by_class": one.evaluation.by_class,
                "agreement": one.agreement(scores[0]),
                "cost": cost,
            }
            for path, one, cost in zip(models, scores, costs, strict=True)
        ]
        print(msgspec.json.encode(rows).decode())
        return
    _print(models, [one.evaluation for one in scores])
    _print_costs(models, scores, costs)


def _check_seeds(models: Sequence[Model], seed: int | None, data: Path) -> None:
    """Without a seed, a plain folder is split as in training, so that no trained picture counts."""
    seeds = {m.split_seed for m in models if m.split_seed is not None}
    prepared = (data / "dataset.json").is_file()
    if len(seeds) > 1 and seed is None and not prepared:
        raise UsageError(
            f"these models have seen different splits (seeds {sorted(seeds)}) of a plain folder",
            hint="prepare the data with 'tod prepare-dataset', which fixes the split",
        )


def _cost(
    path: Path, engine: Choice, key: Path | None, should_stop: Callable[[], bool]
) -> Answering | None:
    """Time and memory in a process of its own; None for a model whose classes are still open."""
    from tod.benchmark.answering import time_answers
    from tod.system.processes import isolated

    try:
        for found in isolated(time_answers, path, engine, key, _SECONDS, should_stop=should_stop):
            return cast("Answering", found)
    except UsageError:
        pass
    return None


def _print(paths: Sequence[Path], results: Sequence[Evaluation]) -> None:
    names = sorted(results[0].by_class)
    rows = []
    for name in names:
        shares = [r.by_class[name] for r in results]
        rows.append([name, *map(percent, shares), _points(shares)])
    total = [r.accuracy for r in results]
    rows.append([f"all {results[0].pictures} pictures", *map(percent, total), _points(total)])
    change = "change" if len(paths) == 2 else "last - first"
    columns = [f"validation {results[0].metric}", *(path.name for path in paths), change]
    print_table("", columns, rows)


def _print_costs(
    paths: Sequence[Path], scores: Sequence[Scored], costs: Sequence[Answering | None]
) -> None:
    rows = []
    for path, one, cost in zip(paths, scores, costs, strict=True):
        agreement = one.agreement(scores[0])
        row = [path.name, "-" if agreement is None else percent(agreement)]
        if cost is not None:
            t = cost.timing
            peak = "-" if cost.peak_mb is None else f"{cost.peak_mb:.0f}"
            times = (cost.load_ms, t.median_ms, t.p90_ms, t.p99_ms)
            row += [f"{cost.file_mb:.2f}", *map(_milliseconds, times), peak]
        rows.append(row + ["-"] * (8 - len(row)))
    columns = ("", "agreement", "MB", "load ms", "median ms", "p90", "p99", "peak MB")
    print_table("one picture after the other, one thread", columns, rows, dense=True)


def _milliseconds(ms: float) -> str:
    return f"{ms:,.0f}" if ms >= 100 else f"{ms:.3g}"


def _points(shares: Sequence[float]) -> str:
    return f"{100 * (shares[-1] - shares[0]):+.1f}"
