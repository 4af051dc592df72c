"""The device's command: evaluate, train, save. Parse, one call, report."""

from __future__ import annotations

import io
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tod.errors import ArtifactError, Interrupted, TodError, UsageError
from tod.limits import shown
from tod.schedule import EXAMPLES as SCHEDULES

EPILOG = (
    "Exit codes: 0 done, 2 usage, 3 data, 4 artifact, 5 this device cannot run it, "
    "6 training failed, 8 not now (conditions), 9 not promoted (not better), 130 interrupted."
)


if TYPE_CHECKING:
    from tod.conditions import Conditions

_NICE = 10


class InitKind(str, Enum):
    imprint = "imprint"
    ridge = "ridge"


Model = Annotated[
    Path, typer.Option("-f", "--model", help="A .tod file: exported, checkpoint or trained.")
]
Data = Annotated[
    Path, typer.Option("-d", "--data", help="A prepared dataset, or a folder of class folders.")
]
Cycles = Annotated[
    int | None,
    typer.Option("-c", "-e", "--cycles", help="Training cycles in total; 0 only evaluates."),
]
SaveEvery = Annotated[
    int | None, typer.Option("-s", "--save-every", help="Save a checkpoint every N cycles.")
]
Keep = Annotated[
    int | None, typer.Option(help="How many checkpoints stay; older ones are removed (default: 3).")
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on from the newest good checkpoint (-s saves them); without one, begin.",
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v", "--verbose", help="Print the first 10 elements of each graph's inputs and outputs."
    ),
]
Batch = Annotated[int | None, typer.Option("-b", "--batch-size", help="Pictures in a batch.")]
Threads = Annotated[
    int | None,
    typer.Option(
        "-t", "--threads", help="Pictures looked at side by side (default: one per core)."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Trained model (default: <model>_trained.tod beside it)."),
]
Inference = Annotated[
    Path | None,
    typer.Option("-i", "--inference", help="Also write one ONNX file: pixels to probabilities."),
]
EvalEvery = Annotated[
    int | None, typer.Option(help="Cycles between evaluations on the test split (default: 20).")
]
Target = Annotated[
    float | None, typer.Option(help="Stop when the test accuracy is above this (default: 0.9).")
]
Patience = Annotated[
    int | None, typer.Option(help="Stop after K evaluations without a rise; 0 never (default: 0).")
]
Lr = Annotated[float | None, typer.Option("--lr", help="Learning rate (default: the model's).")]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Of batches, a new head, a plain folder's split (default: the model's split, else 0)."
    ),
]
Accumulate = Annotated[
    int | None,
    typer.Option(
        help="Batches in a cycle, whose mean gradient makes one step (default: the model's)."
    ),
]
LrSchedule = Annotated[
    str | None,
    typer.Option("--schedule", help=f"Of the learning rate (default: the model's): {SCHEDULES}."),
]
Init = Annotated[
    InitKind | None,
    typer.Option(
        "--init", help="Set the head from the pictures before the first cycle, in closed form."
    ),
]
AddClasses = Annotated[
    bool,
    typer.Option(
        "--add-classes", help="Folders that the model does not know become new classes of it."
    ),
]
OnlyOnPower = Annotated[
    bool, typer.Option("--only-on-power", help="Work only while a socket or a charger feeds it.")
]
MinBattery = Annotated[
    float | None,
    typer.Option("--min-battery", help="Work only with so many percent in the battery."),
]
MaxTemperature = Annotated[
    float | None,
    typer.Option("--max-temperature", help="Work only while no sensor is hotter, in Celsius."),
]
Between = Annotated[
    str | None, typer.Option(help="Work only at this time of the day: 22:00-06:00.")
]
MaxMinutes = Annotated[
    float | None,
    typer.Option(help="End with what was reached after so many minutes of work."),
]
MaxMemory = Annotated[
    float | None,
    typer.Option("--max-memory", help="End when the process holds more MB of memory."),
]
NoWait = Annotated[
    bool,
    typer.Option(
        "--no-wait", help="End with a checkpoint and code 8, instead of waiting until it suits."
    ),
]
Nice = Annotated[bool, typer.Option("--nice", help="Let other programs go first (nice 10).")]
CacheDir = Annotated[
    Path | None,
    typer.Option(help="Keep the pictures' features here (default: .tod-cache in the data folder)."),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Look at every picture anew and keep nothing.")
]
RequireSignature = Annotated[
    Path | None,
    typer.Option(
        envvar="TOD_REQUIRE_SIGNATURE",
        help="Refuse a model that the holder of this Ed25519 key (its public part) has not signed.",
    ),
]
Log = Annotated[Path | None, typer.Option(help="Also write every record as a JSON line here.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only the final accuracy.")]

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(epilog=EPILOG)
def net_runner(
    model: Model,
    data: Data,
    cycles: Cycles = None,
    save_every: SaveEvery = None,
    keep: Keep = None,
    resume: Resume = False,
    verbose: Verbose = False,
    batch_size: Batch = None,
    threads: Threads = None,
    output: Output = None,
    inference: Inference = None,
    eval_every: EvalEvery = None,
    target_accuracy: Target = None,
    patience: Patience = None,
    lr: Lr = None,
    schedule: LrSchedule = None,
    accumulate: Accumulate = None,
    init: Init = None,
    add_classes: AddClasses = False,
    seed: Seed = None,
    only_on_power: OnlyOnPower = False,
    min_battery: MinBattery = None,
    max_temperature: MaxTemperature = None,
    between: Between = None,
    max_minutes: MaxMinutes = None,
    max_memory: MaxMemory = None,
    no_wait: NoWait = False,
    nice: Nice = False,
    cache_dir: CacheDir = None,
    no_cache: NoCache = False,
    require_signature: RequireSignature = None,
    log: Log = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate a model on this device, or train it with -c or --init.

    Example: net_runner -f transfer_learning.tod -d dataset -c 60 -s 20

    Example: net_runner -f transfer_learning.tod -d dataset -c 60 -s 20 --resume

    Example: net_runner -f transfer_learning.tod -d dataset -c 60 --resume --only-on-power

    Example: net_runner -f transfer_learning.tod -d dataset --init ridge

    Example: net_runner -f my_trained.tod -d more_classes -c 60 --add-classes
    """
    options = locals()
    run(**options | {"cycles": cycles or 0})


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
    init: InitKind | None = None,
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
        from tod import checkpoints
        from tod.cache import choose_folder
        from tod.dataset import Dataset
        from tod.records import Notice, Saved
        from tod.report import Report, print_tensors
        from tod.session import TrainSession
        from tod.training import evaluate, train

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
        output = output or model.parent / f"{session.artifact.stem}_trained.tod"
        check_writable(log, inference, None if only_evaluate else output)
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
            saved = ""
            try:
                for record in records:
                    show(record)
                    if isinstance(record, Saved):
                        saved = (
                            f"the {record.kind} of cycle {record.cycle} is saved in {record.path}"
                        )
                if inference is not None:
                    session.save_inference(inference)
                    show(Saved("inference model", str(inference), 0))
            except Interrupted:
                if show.error is None:
                    raise
            if show.error is not None:
                raise ArtifactError(
                    f"the output cannot be written: {show.error.strerror}",
                    hint=saved,
                )


def _conditions(settings: dict[str, Any]) -> Conditions:
    """When the run may work; these options are taken out of the settings."""
    from tod.conditions import Conditions, Window

    between = settings.pop("between", None)
    return Conditions(
        only_on_power=settings.pop("only_on_power", False),
        min_battery_percent=settings.pop("min_battery", None),
        max_temperature_celsius=settings.pop("max_temperature", None),
        between=None if between is None else Window.parse(between),
        max_minutes=settings.pop("max_minutes", None),
        max_memory_mb=settings.pop("max_memory", None),
        wait=not settings.pop("no_wait", False),
        sensors=Path(os.environ.get("TOD_SENSORS_ROOT", "/")),
    )


def cache_choice(cache_dir: Path | None, no_cache: bool) -> Path | bool:
    """What --cache-dir and --no-cache mean for `TrainSession.load`."""
    if cache_dir is not None and no_cache:
        raise UsageError("--cache-dir means nothing with --no-cache or --verbose")
    return cache_dir or not no_cache


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


def check_writable(*files: Path | None) -> None:
    """Find out before the work, not after it, that a result cannot be written."""
    for file in files:
        if file is None:
            continue
        if file.is_dir():
            raise ArtifactError(f"{file}: cannot be written: it is a folder", hint="name a file")
        if not os.access(file.parent, os.W_OK | os.X_OK):
            problem = "is read-only" if file.parent.is_dir() else "does not exist"
            raise ArtifactError(
                f"{file}: cannot be written: the folder {problem}",
                hint="give another place, or make the folder",
            )


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; the second ends the program at once.

    Yields:
        A function that says whether to stop.
    """
    requested = False

    def handle(number: int, _frame: object) -> None:
        nonlocal requested
        if requested:
            os._exit(Interrupted.exit_code)
        requested = True
        os.write(2, b"\nstopping at the next safe moment; once more to stop at once\n")

    earlier = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: requested
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def guarded(command: typer.Typer) -> None:
    """Run a command line; every error ends as one message and its exit code, never a traceback."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # paths that are not UTF-8
    # Pillow's remarks on odd pictures: those that cannot be read are named by us.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        command()
    except TodError as error:
        if debug:
            raise
        _print_error(error.problem, error.hint)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _print_error("interrupted", "")
        sys.exit(Interrupted.exit_code)
    except Exception as error:
        if debug:
            raise
        _print_error(
            f"internal error: {type(error).__name__}: {error}",
            "this is a fault in TOD; run it again with --debug and report what it prints",
        )
        sys.exit(1)


def _print_error(problem: str, hint: str) -> None:
    # Names of files and what a file says may come from anyone: they cannot steer the terminal.
    print(f"error: {shown(problem)}", file=sys.stderr)
    if hint:
        print(f"hint: {shown(hint)}", file=sys.stderr)


def main() -> None:
    """Entry point of the `net_runner` command."""
    guarded(app)
