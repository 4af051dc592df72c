"""The device's command: evaluate, train, save. Parse, one call, report."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tod.cli import options
from tod.cli.frame import EPILOG, cache_choice, check_writable, guarded, stop_requests
from tod.errors import ArtifactError, Interrupted, UsageError
from tod.system import machine

if TYPE_CHECKING:
    from tod.training.conditions import Conditions
    from tod.training.records import Record
    from tod.training.session import TrainSession

_NICE = 10

app = typer.Typer(add_completion=True, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(epilog=EPILOG)
def net_runner(
    model: options.Model,
    data: options.Data,
    cycles: options.Cycles = None,
    save_every: options.SaveEvery = None,
    keep: options.Keep = None,
    resume: options.Resume = False,
    verbose: options.Verbose = False,
    batch_size: options.Batch = None,
    threads: options.Threads = None,
    output: options.Output = None,
    inference: options.Inference = None,
    eval_every: options.EvalEvery = None,
    target_accuracy: options.Target = None,
    patience: options.Patience = None,
    lr: options.Lr = None,
    schedule: options.LrSchedule = None,
    accumulate: options.Accumulate = None,
    init: options.Init = None,
    add_classes: options.AddClasses = False,
    seed: options.Seed = None,
    only_on_power: options.OnlyOnPower = False,
    min_battery: options.MinBattery = None,
    max_temperature: options.MaxTemperature = None,
    between: options.Between = None,
    max_minutes: options.MaxMinutes = None,
    max_memory: options.MaxMemory = None,
    no_wait: options.NoWait = False,
    nice: options.Nice = False,
    cache_dir: options.CacheDir = None,
    no_cache: options.NoCache = False,
    require_signature: options.RequireSignature = None,
    log: options.Log = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate a model on this device, or train it with -c or --init.

    Example: net_runner -f transfer_learning.tod -d dataset -c 60 -s 20

    Example: net_runner -f transfer_learning.tod -d dataset -c 60 -s 20 --resume

    Example: net_runner -f transfer_learning.tod -d dataset -c 60 --resume --only-on-power

    Example: net_runner -f transfer_learning.tod -d dataset --init ridge

    Example: net_runner -f my_trained.tod -d more_classes -c 60 --add-classes
    """
    given = locals()
    run(**given | {"cycles": cycles or 0})


def run(
    model: Path,
    data: Path,
    *,
    cycles: int | None,
    resume: bool = False,
    verbose: bool = False,
    threads: int | None = None,
    output: Path | None = None,
    inference: Path | None = None,
    seed: int | None = None,
    init: options.InitKind | None = None,
    add_classes: bool = False,
    nice: bool = False,
    cache_dir: Path | None = None,
    no_cache: bool = False,
    require_signature: Path | None = None,
    log: Path | None = None,
    as_json: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> None:
    """The whole job of `net_runner`, `tod train` and `tod eval`.

    Args:
        cycles: 0 only evaluates, unless `init` sets the head; None trains as long as the checkpoint
            or the default says.
        resume: the newest good checkpoint takes the place of `model`, if there is one.
        settings: those of `tod.train`, and when the run may work.
    """
    with stop_requests() as should_stop:
        # numpy, Pillow and onnxruntime load here, so that --help need not wait for them.
        from tod.data.dataset import Dataset
        from tod.report.terminal import Report, print_tensors
        from tod.runtime.feature_cache import choose_folder
        from tod.system.files import remove_unfinished
        from tod.training import checkpoints
        from tod.training.loop import evaluate, train
        from tod.training.records import Notice
        from tod.training.session import TrainSession

        if as_json and quiet:
            raise UsageError("--json and --quiet exclude each other")
        conditions = _conditions(settings)
        if nice and hasattr(os, "nice"):
            os.nice(_NICE)  # before any thread is there, which would keep the old one
        observe = print_tensors(sys.stderr if as_json else sys.stdout) if verbose else None
        # Whoever wants to see what goes through the graphs wants to see the pictures go through.
        cache = cache_choice(cache_dir, no_cache or verbose)
        only_evaluate = cycles == 0 and init is None
        found, told = None, tuple[str, ...]()
        if resume and not only_evaluate:
            found, told = checkpoints.newest(model, output)
        session = TrainSession.load(
            found or model, threads=threads, observe=observe, cache=cache,
            require_signature=require_signature, continues=None if found is None else model,
        )  # fmt: skip
        output = output or checkpoints.default_output(found or model, session.manifest)
        check_writable(log, inference, None if only_evaluate else output)
        if inference is not None:
            remove_unfinished(inference.parent, inference.name.__eq__)
        if inference is not None and only_evaluate and session.classes is None:
            raise UsageError("-i: this model was never trained", hint="train it with -c")
        split_seed = next(s for s in (seed, session.split_seed, 0) if s is not None)
        folder = choose_folder(data, model, cache)
        dataset = Dataset.open(data, seed=split_seed, cache=folder or False)
        continues = session.manifest.kind == "checkpoint" and not only_evaluate
        with Report(as_json=as_json, quiet=quiet, log=log, append=continues) as report:
            show = _Careful(report.show)
            if only_evaluate:
                unused = [name for name, value in settings.items() if value is not None]
                unused += ["add_classes"] if add_classes else []
                unused += ["resume"] if resume else []
                if unused:
                    show(Notice(f"nothing is trained without -c: {', '.join(unused)} not used"))
                records = evaluate(
                    session, dataset, seed=seed, should_stop=should_stop, conditions=conditions
                )
            else:
                for text in told:
                    show(Notice(text))
                if found is not None:
                    init = None  # a checkpoint holds the head that was set before the first cycle
                if session.artifact.signature is not None:
                    show(Notice(f"{model} is signed; what is trained from it here is not"))
                records = train(
                    session, dataset, cycles=cycles, seed=seed, output=output,
                    init=None if init is None else init.value, with_new_classes=add_classes,
                    should_stop=lambda: should_stop() or show.error is not None,
                    conditions=conditions, **settings,
                )  # fmt: skip
            _follow(records, show, session, inference)


def _follow(
    records: Iterator[Record], show: _Careful, session: TrainSession, inference: Path | None
) -> None:
    """Show records as they come, and write the one-file model at the end.

    Raises:
        ArtifactError: they could not be shown to the end; it says what is saved.
    """
    from tod.training.records import Saved

    saved = ""
    try:
        for record in records:
            show(record)
            if isinstance(record, Saved):
                saved = f"the {record.kind} of cycle {record.cycle} is saved in {record.path}"
        if inference is not None:
            session.save_inference(inference)
            show(Saved("inference model", str(inference), 0))
    except Interrupted:
        if show.error is None:
            raise
    if show.error is not None:
        raise ArtifactError(f"the output cannot be written: {show.error.strerror}", hint=saved)


def _conditions(settings: dict[str, Any]) -> Conditions:
    """When the run may work; these options are taken out of the settings."""
    from tod.training.conditions import Conditions, Window

    between = settings.pop("between", None)
    return Conditions(
        only_on_power=settings.pop("only_on_power", False),
        min_battery_percent=settings.pop("min_battery", None),
        max_temperature_celsius=settings.pop("max_temperature", None),
        between=None if between is None else Window.parse(between),
        max_minutes=settings.pop("max_minutes", None),
        max_memory_mb=settings.pop("max_memory", None),
        wait=not settings.pop("no_wait", False),
        sensors=machine.sensors_root(),
    )


class _Careful:
    """Shows records; a full disk or a closed pipe is remembered instead of ending the training,
    which can then save what it has."""

    def __init__(self, show: Callable[[Any], None]) -> None:
        self._show = show
        self.error: OSError | None = None

    def __call__(self, record: Any) -> None:
        if self.error is None:
            try:
                self._show(record)
            except OSError as error:
                self.error = error
                # What is still in Python's buffer would fail once more at the exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Entry point of the `net_runner` command."""
    guarded(app)
