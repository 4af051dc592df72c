"""The command `tod check`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import astuple, is_dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tod.cli import options
from tod.cli.frame import cache_choice, listed_names, stop_requests
from tod.errors import DataError, Interrupted

if TYPE_CHECKING:
    from tod.data.check import Doubt, Finding, Look
    from tod.data.dataset import Dataset
    from tod.data.rows import Columns
    from tod.runtime.model import Model

_SHOWN = 5
_DOUBTS_SHOWN = 10
_GROUPS = ("contradiction", "leak", "duplicate")


def check(
    data: Annotated[Path, typer.Argument(help="A prepared dataset, or a folder of class folders.")],
    model: Annotated[
        Path | None,
        typer.Option("-f", "--model", help="A trained model: it also names doubtful labels."),
    ] = None,
    splits: options.Splits = False,
    inputs: options.Inputs = None,
    target: options.Target = None,
    threads: options.Threads = None,
    seed: options.Seed = None,
    cache_dir: options.CacheDir = None,
    no_cache: options.NoCache = False,
    require_signature: options.RequireSignature = None,
    as_json: options.AsOneJson = False,
    quiet: options.Quiet = False,
) -> None:
    """What is wrong with pictures and labels, before training shows it; the worst first.

    Exit code 3 where training could not work, 0 otherwise.

    Example: tod check dataset -f transfer_learning_trained.tod
    """
    with stop_requests() as should_stop, ExitStack() as stack:
        import msgspec

        from tod.data.check import examine, gather
        from tod.data.left_out import rows
        from tod.report.progress import progress_bar
        from tod.runtime.cache_folder import choose_folder
        from tod.runtime.model import Model, split_seed

        cache = cache_choice(cache_dir, no_cache)
        session = None
        if model is not None:
            session = Model.load(
                model, threads=threads, cache=cache, require_signature=require_signature
            )
        chosen = split_seed(seed, *([] if session is None else [session]))
        folder = choose_folder(data, model or Path("none.tod"), cache)
        chosen_columns = _columns(session, inputs, target)
        bar = partial(progress_bar, stack, quiet=quiet)
        dataset, refused = gather(
            data,
            seed=chosen,
            cache=folder or False,
            splits=splits,
            columns=chosen_columns,
            progress=bar("read"),
        )
        looks = _looks(dataset, bar("looked at"), should_stop)
        doubts: list[Doubt] | None = None
        if session is not None and not refused:
            doubts = _doubts(session, dataset, bar("features"), should_stop)
        stack.close()
        for notice in dataset.notices:
            print(f"notice: {notice}", file=sys.stderr)
        spec = None if session is None else session.manifest.input
        size_px = None if spec is None else spec.size_px
        findings = examine(dataset, looks, refused=refused, size_px=size_px, doubts=doubts or ())
        if as_json:
            print(msgspec.json.encode({
                "dataset": str(data), "pictures": len(dataset.samples),
                "classes": dataset.classes, "findings": findings,
                "left_out": rows(dataset.left_out),
                "labels_compared": doubts is not None,
            }).decode())  # fmt: skip
        else:
            _print(dataset, findings, compared=model is None or doubts is not None)
        if wrong := [finding for finding in findings if finding.severity == "wrong"]:
            raise DataError(f"{data}: {wrong[0].text}", hint=wrong[0].hint)


def _columns(model: Model | None, inputs: str | None, target: str | None) -> Columns:
    from tod.data.rows import Columns

    known = Columns() if model is None else model.columns
    given = (listed_names(inputs), listed_names(target))
    return Columns(given[0] or known.inputs, given[1] or known.target, known.numbers)


def _looks(
    dataset: Dataset, progress: Callable[[int, int], None], should_stop: Callable[[], bool]
) -> dict[str, Look]:
    from tod.data.check import look_at

    total = len({sample.sha256 for sample in dataset.samples})
    looks: dict[str, Look] = {}
    for content, look in look_at(dataset):
        looks[content] = look
        progress(len(looks), total)
        if should_stop():
            raise Interrupted(f"stopped after looking at {len(looks)} of {total} pictures")
    return looks


def _doubts(
    session: Model,
    dataset: Dataset,
    progress: Callable[[int, int], None],
    should_stop: Callable[[], bool],
) -> list[Doubt] | None:
    """Find the labels that a trained model doubts; None if it cannot judge them."""
    from tod.data.check import doubtful

    if session.classes is None or session.manifest.loss.task != "single-label":
        why = "was never trained" if session.classes is None else "has other answers than one class"
        _say_not_compared(f"{session.artifact.path} {why}")
        return None
    try:
        dataset = session.match(dataset)
    except DataError as error:
        _say_not_compared(error.problem)
        return None
    for done, total in session.store.filling(dataset, dataset.samples):
        progress(done, total)
        if should_stop():
            raise Interrupted(f"stopped after {done} of {total} features")
    readable = session.store.readable(dataset, dataset.samples)
    if not readable:
        return []
    features, _ = session.store.rows(dataset, readable)
    return doubtful(readable, dataset.classes, session.predict_features(features))


def _say_not_compared(why: str) -> None:
    print(f"notice: labels were not compared with the model: {why}", file=sys.stderr)


def _print(dataset: Dataset, findings: list[Finding], *, compared: bool) -> None:
    """
    Args:
        compared: the labels were compared with a model, if one was given.
    """
    from tod.report.tables import print_findings

    rows: list[tuple[str, str, str, str]] = []
    for finding in findings:
        shown = _DOUBTS_SHOWN if finding.kind == "doubtful" else _SHOWN
        rows.append((finding.kind, finding.severity, finding.text, finding.hint))
        between = " = " if finding.kind.endswith(_GROUPS) else ": "
        rows += [("", "", _item(item, between), "") for item in finding.items[:shown]]
        if (more := len(finding.items) - shown) > 0:
            rows.append(("", "", f"... and {more} more (--json has all)", ""))
    if not findings:
        fine = "nothing is wrong with pictures and labels"
        rest = "" if compared else "; the labels were not compared with the model"
        rows.append(("all", "ok", fine + rest, ""))
    counts = ", ".join(f"{count} {split}" for split, count in dataset.counts().items())
    title = f"{dataset.root}: {len(dataset.classes)} classes, {len(dataset.samples)} pictures"
    print_findings(f"{title} ({counts})", rows)


def _item(item: Any, between: str) -> str:
    if is_dataclass(item) and not isinstance(item, type):
        path, label, own, says, probability = astuple(item)
        return f"{path}: {label} {own:.3f}, the model says {says} {probability:.3f}"
    return between.join(map(str, item)) if isinstance(item, tuple) else str(item)
