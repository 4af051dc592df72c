"""The device's command: evaluate, train, save; `tod train` and `tod eval` are the same job."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tod.cli import options
from tod.cli.frame import (
    EPILOG,
    cache_choice,
    engine_choice,
    guarded,
    hangup_is_ignored,
    listed_names,
    stop_requests,
)
from tod.errors import ArtifactError, Interrupted, TodError, UsageError
from tod.system import machine, outputs, streams
from tod.system.settings import rows
from tod.training.conditions import Conditions
from tod.training.settings import Settings

if TYPE_CHECKING:
    from tod.report.course import Course
    from tod.training.records import Evaluated, Record
    from tod.training.session import TrainSession

_NICE = 10

app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)


@dataclass(frozen=True, kw_only=True)
class Job:
    """The options of a job that are not training settings."""

    model: options.Model
    data: options.Data
    splits: options.Splits = False
    inputs: options.Inputs = None
    target: options.Target = None
    verbose: options.Verbose = False
    threads: options.Threads = None
    inference: options.Inference = None
    engine: options.Engine = None
    precision: options.Precision = None
    nice: options.Nice = False
    cache_dir: options.CacheDir = None
    no_cache: options.NoCache = False
    require_signature: options.RequireSignature = None
    log: options.Log = None
    report: options.ReportFile = None
    as_json: options.AsJson = False
    quiet: options.Quiet = False


@app.command(epilog=EPILOG)
@options.expand
def net_runner(
    job: Job,
    settings: Settings,
    conditions: Conditions,
    resume: options.Resume = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Evaluate a model on this device, or train it with -c or --init.

    Example: net_runner -f transfer_learning.tod -d dataset -c 60 -s 20

    Example: net_runner -f transfer_learning.tod -d dataset -c 60 -s 20 --resume

    Example: net_runner -f transfer_learning.tod -d dataset -c 60 --report report.html

    Example: net_runner -f transfer_learning.tod -d dataset -c 60 --resume --only-on-power

    Example: net_runner -f transfer_learning.tod -d dataset --init ridge

    Example: net_runner -f my_trained.tod -d more_classes -c 60 --add-classes
    """
    given = replace(settings, cycles=settings.cycles or 0)
    run(job, given, conditions, resume=resume, output=output, overwrite=overwrite)


def run(
    job: Job,
    settings: Settings,
    conditions: Conditions,
    *,
    resume: bool = False,
    output: Path | None = None,
    overwrite: bool = False,
    by_class: bool = False,
) -> None:
    """Run the whole job of `net_runner`, `tod train` and `tod eval`.

    Args:
        job: the files to work on, and how to show the progress.
        settings: with `cycles` 0 it only evaluates, unless `init` sets the head; None takes the
            number of cycles from the checkpoint or the default.
        conditions: when the job may work.
        resume: the newest good checkpoint takes the place of the model, if there is one.
        output: where the trained model is written.
        overwrite: do not keep an earlier model at that path.
        by_class: print more of the score than its one line, where text is printed.
    """
    with stop_requests() as should_stop:
        # numpy, Pillow and onnxruntime load here, so that --help need not wait for them.
        from tod.report.course import Course
        from tod.report.terminal import Report, print_tensors
        from tod.system.files import remove_unfinished
        from tod.training import checkpoints
        from tod.training.evaluation import evaluate
        from tod.training.loop import train
        from tod.training.records import Notice
        from tod.training.session import TrainSession

        if job.as_json and job.quiet:
            raise UsageError("--json and --quiet exclude each other")
        conditions = replace(conditions, sensors=machine.sensors_root())
        if job.nice and hasattr(os, "nice"):
            os.nice(_NICE)  # before any thread starts, which would keep the old priority
        observe = print_tensors(sys.stderr if job.as_json else sys.stdout) if job.verbose else None
        # With -v the cache is off, so that the pictures pass through the graphs again.
        cache = cache_choice(job.cache_dir, job.no_cache or job.verbose)
        only_evaluate = settings.cycles == 0 and settings.init is None
        found, told = None, tuple[str, ...]()
        if resume and not only_evaluate:
            found, told = checkpoints.newest(job.model, output)
        session = TrainSession.load(
            found or job.model, threads=job.threads, observe=observe, cache=cache,
            require_signature=job.require_signature, continues=None if found is None else job.model,
            engine=engine_choice(job.engine, job.precision),
        )  # fmt: skip
        session.choose_columns(listed_names(job.inputs), listed_names(job.target))
        output = output or checkpoints.default_output(found or job.model, session.manifest)
        _check_outputs(job, None if only_evaluate else output, session)
        if job.inference is not None:
            remove_unfinished(job.inference.parent, job.inference.name.__eq__)
        if job.inference is not None and only_evaluate and session.classes is None:
            raise UsageError("-i: this model was never trained", hint="train it with -c")
        continues = session.manifest.kind == "checkpoint" and not only_evaluate
        course = _earlier(job, continues=continues) if job.report is not None else Course()
        with Report(as_json=job.as_json, quiet=job.quiet, log=job.log, append=continues) as report:
            show = _Careful(report.show, course if job.report is not None else None)
            records: Iterator[Record]
            if only_evaluate:
                if unused := _unused(settings, resume=resume, overwrite=overwrite):
                    show(Notice(f"nothing is trained without -c: {', '.join(unused)} not used"))
                records = evaluate(
                    session, job.data, seed=settings.seed, splits=job.splits,
                    should_stop=should_stop, conditions=conditions,
                )  # fmt: skip
            else:
                for text in told:
                    show(Notice(text))
                if found is not None:
                    # A checkpoint holds the head that was set before the first cycle.
                    settings = replace(settings, init=None)
                if session.artifact.signature is not None:
                    show(Notice(f"{job.model} is signed; what is trained from it here is not"))
                records = train(
                    session, job.data, output=output, overwrite=overwrite, splits=job.splits,
                    should_stop=lambda: should_stop() or show.error is not None,
                    conditions=conditions, **asdict(settings),
                )  # fmt: skip
            score, interrupted = None, None
            try:
                score = _follow(records, show, should_stop, session, job.inference)
            except Interrupted as error:
                if job.report is None or course.stopped is None:
                    raise  # no report is wanted, or no cycle was run
                interrupted = error
        if by_class and score is not None and not (job.as_json or job.quiet):
            from tod.report.scores import print_scores

            one_class = session.manifest.loss.task == "single-label"
            print_scores(score.scores, score.confusion, one_class=one_class)
        if job.report is not None:
            _write_report(
                job, job.report, session, settings.seed, None if only_evaluate else course,
                show.saved or str(job.model), should_stop,
            )  # fmt: skip
        if interrupted is not None:
            raise interrupted


def _earlier(job: Job, *, continues: bool) -> Course:
    """What the log tells of a run that goes on; it began before this program did. One that cannot
    be read is no reason not to train."""
    from tod.report.course import Course, is_log, read_log

    if continues and job.log is not None and is_log(job.log):
        with suppress(TodError):
            return read_log(job.log)
    return Course()


def _check_outputs(job: Job, output: Path | None, session: TrainSession) -> None:
    read = session.artifact
    size_bytes = 0 if read.source is None else read.source.stat().st_size
    outputs.check(
        [
            outputs.Output("-o", output, least_bytes=size_bytes),
            outputs.Output("-i", job.inference, ".onnx"),
            outputs.Output("--report", job.report, ".html"),
            outputs.log(job.log),
        ],
        {"-f": job.model, "the checkpoint": read.path, "its base": read.source},
    )


def _write_report(
    job: Job,
    page: Path,
    session: TrainSession,
    seed: int | None,
    course: Course | None,
    shown: str,
    should_stop: Callable[[], bool],
) -> None:
    """Write the page of --report.

    Args:
        job, session: what was done.
        page: the file.
        seed: that was given for the split, for an evaluation.
        course: of the training; None: it was an evaluation.
        shown: the model's file, as the page names it.
        should_stop: a request to stop. One that has ended the training does not end this, too: the
            next one ends the program at once.
    """
    from tod.cli.report import write

    interrupted = course is not None and course.stopped is not None and (
        course.stopped.reason == "interrupted"
    )  # fmt: skip
    if interrupted:
        seed = session.run.split_seed
        print("the report shows what was done until the interruption", file=sys.stderr)
    elif course is not None:
        seed = None
    write(
        session, job.data, page, name=shown, seed=seed, splits=job.splits,
        before=None if course is None else job.model, course=course, quiet=job.quiet,
        should_stop=(lambda: False) if interrupted else should_stop, key=job.require_signature,
    )  # fmt: skip


def _unused(settings: Settings, **flags: bool) -> list[str]:
    """Return the given options that have no meaning without training."""
    given = {row.option: getattr(settings, name) for name, row in rows(Settings).items()}
    given |= {f"--{name}": value for name, value in flags.items()}
    for also_without in ("--cycles", "--seed"):
        del given[also_without]
    return [option for option, value in given.items() if value not in (None, False)]


def _follow(
    records: Iterator[Record],
    show: _Careful,
    should_stop: Callable[[], bool],
    session: TrainSession,
    inference: Path | None,
) -> Evaluated | None:
    """Show records as they come, and write the one-file model at the end.

    Returns:
        The last score that is no test on the way.

    Raises:
        ArtifactError: not all records could be shown; it says what is saved.
    """
    from tod.training.records import Evaluated, Saved

    saved, score = "", None
    try:
        for record in records:
            show(record)
            if isinstance(record, Evaluated) and record.scores:
                score = record
            if isinstance(record, Saved):
                saved = f"the {record.kind} of cycle {record.cycle} is saved in {record.path}"
        if inference is not None:
            session.save_inference(inference)
            show(Saved("inference model", str(inference), session.manifest.kept_cycle))
    except Interrupted:
        if show.error is None or should_stop():
            raise
    if show.error is not None:
        raise ArtifactError(f"the output cannot be written: {show.error.strerror}", hint=saved)
    return score


class _Careful:
    """Shows records. A full disk or a closed pipe does not end the training at once: the error is
    kept, the training saves what it has, and the log gets the rest of the records. Under nohup, a
    closed terminal ends nothing."""

    def __init__(self, show: Callable[[Any], None], course: Course | None) -> None:
        self._show = show
        self._course = course
        self._start = time.monotonic()
        self._outlives = hangup_is_ignored() and streams.on_terminal()
        self.error: OSError | None = None
        self.saved: str | None = None  # the file of the newest checkpoint or model

    def __call__(self, record: Any) -> None:
        from tod.training.records import Saved

        if isinstance(record, Saved) and record.kind != "inference model":
            self.saved = record.path
        if self._course is not None:
            self._course.add(record, time.monotonic() - self._start)
        try:
            self._show(record)
        except OSError as error:
            streams.give_up_broken()
            if not (self._outlives and error.errno == errno.EIO):
                self.error = self.error or error


def main() -> None:
    """Entry point of the `net_runner` command."""
    guarded(app)
