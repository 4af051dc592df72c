"""The command `tod report`: one HTML page about a model, its training and its data."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tod.cli import options
from tod.cli.frame import cache_choice, stop_requests
from tod.errors import ArtifactError, UsageError
from tod.system import file_kind, outputs

if TYPE_CHECKING:
    from tod.report.contents import Contents
    from tod.report.course import Course
    from tod.runtime.model import Model


def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|MODEL",
            help="The log of a training (--log), whose trained model is looked at; or a .tod file.",
        ),
    ],
    data: options.Data,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The page to write, a .html file.")
    ] = Path("report.html"),
    model: Annotated[
        Path | None,
        typer.Option("-f", "--model", help="The model to look at (default: the one RUN saved)."),
    ] = None,
    before: Annotated[
        Path | None,
        typer.Option(help="The model to compare with (default: the one RUN started from)."),
    ] = None,
    splits: options.Splits = False,
    threads: options.Threads = None,
    seed: options.Seed = None,
    cache_dir: options.CacheDir = None,
    no_cache: options.NoCache = False,
    require_signature: options.RequireSignature = None,
    as_json: options.AsOneJson = False,
    quiet: options.Quiet = False,
) -> None:
    """One HTML page about a model: curves, scores by class, confusion, the worst pictures,
    calibration, findings in the data.

    It needs nothing beside it: no network, no script. A phone shows it, too.
    Curves come from RUN; a page about a .tod file alone has all but them.

    Example: tod report run.jsonl -d dataset -o report.html

    Example: tod report transfer_learning_trained.tod -d dataset --before transfer_learning.tod
    """
    with stop_requests() as should_stop:
        import msgspec

        from tod.format.artifact import read_manifest
        from tod.report.course import is_log, read_log
        from tod.runtime.model import Model

        _check_kind(run)
        course = read_log(run) if is_log(run) else None
        if course is None and model is not None:
            raise UsageError(
                f"-f {model} names a model, and {run} is no log of a run",
                hint="give a log of --log together with -f, or a .tod file alone",
            )
        chosen = run if course is None else model or _saved(run, course)
        if before is None and course is not None and course.started is not None:
            before = _found(run, course.started.model)
        outputs.check(
            [outputs.Output("-o", output, ".html")],
            {"the log or model": run, "-f": chosen, "--before": before},
        )
        cache = cache_choice(cache_dir, no_cache)
        if before is not None:
            read_manifest(before)  # now, not after all pictures were looked at
        loaded = Model.load(
            chosen, threads=threads, cache=cache, require_signature=require_signature
        )
        found, size_bytes = write(
            loaded, data, output, name=str(chosen), seed=seed, splits=splits, before=before,
            course=course, quiet=quiet or as_json, should_stop=should_stop, key=require_signature,
        )  # fmt: skip
        if as_json:
            said = found.evaluation
            print(msgspec.json.encode({
                "report": str(output), "bytes": size_bytes, "model": str(chosen),
                "pictures": said.pictures, said.metric: said.accuracy,
            }).decode())  # fmt: skip
        elif quiet:
            print(output)


def write(
    model: Model,
    data: Path,
    output: Path,
    *,
    name: str,
    quiet: bool,
    should_stop: Callable[[], bool],
    seed: int | None = None,
    splits: bool = False,
    before: Path | None = None,
    course: Course | None = None,
    key: Path | None = None,
) -> tuple[Contents, int]:
    """Look at a model and its data, and write the page.

    Returns:
        What the page shows, and its size in bytes.

    Raises:
        ArtifactError: it cannot be written.
    """
    from tod.report.examination import Work, look
    from tod.report.page import page
    from tod.report.progress import progress_bar
    from tod.system.files import write_whole

    with ExitStack() as stack:
        bars: dict[str, Callable[[int, int], None]] = {}

        def bar(label: str) -> Callable[[int, int], None]:
            if label not in bars:
                bars[label] = progress_bar(stack, label, quiet=quiet)
            return bars[label]

        found = look(
            model, data, name=name, work=Work(bar, should_stop), seed=seed, splits=splits,
            before=before, course=course, key=key,
        )  # fmt: skip
    written = page(found).encode()
    try:
        write_whole(output, written)
    except OSError as error:
        raise ArtifactError(
            f"{output}: the report cannot be written: {error.strerror or error}",
            hint=f"make room, then: tod report {name} -d {data} -o FILE.html",
        ) from error
    if not quiet:
        print(f"wrote the report: {output} ({len(written) / 1e3:,.0f} kB)", file=sys.stderr)
    return found, len(written)


def _check_kind(run: Path) -> None:
    """Refuse what is neither a log nor a model; a foreign model is told by who reads it.

    Raises:
        ArtifactError: there is no such file, or it is a text.
    """
    from tod.report.course import is_log

    is_text = file_kind.look(run) in (file_kind.TEXT, file_kind.EMPTY) and not is_log(run)
    if is_text or not run.exists():
        raise ArtifactError(
            f"{run}: {'it holds no record of a run' if is_text else 'no such file'}",
            hint="give the log of a training, which net_runner --log FILE writes, or a .tod file",
        )


def _saved(run: Path, course: Course) -> Path:
    """The model that a run saved.

    Raises:
        UsageError: it saved none, or it is not where it was.
    """
    if course.model is None:
        raise UsageError(
            f"{run}: this run has saved no trained model yet",
            hint="name a checkpoint or a model with -f",
        )
    found = _found(run, course.model)
    if found is None:
        raise UsageError(
            f"{run}: the model that it saved, {course.model}, is not there",
            hint="go to the folder that the training was started in, or name the model with -f",
        )
    return found


def _found(run: Path, named: str) -> Path | None:
    """A file as a log names it: from here, or beside the log."""
    places = (Path(named), run.parent / named, run.parent / Path(named).name)
    return next((place for place in places if place.is_file()), None)
