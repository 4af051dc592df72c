"""The `tod` command: workstation and device in one. Parse, one call, report.

What a command needs is imported inside it: the device has neither torch nor `model` nor
`dataset_tools`, and `--help` waits for nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated

import typer

from tod.cli import net_runner, options
from tod.cli.check import check
from tod.cli.doctor import doctor
from tod.cli.export import export
from tod.cli.frame import EPILOG, cache_choice, check_writable, guarded, stop_requests
from tod.cli.package import package
from tod.cli.prepare_dataset import prepare_dataset
from tod.cli.promote import history, promote, rollback
from tod.cli.sign import sign
from tod.errors import DataError, UsageError

app = typer.Typer(
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Fine-tune a vision model on the device that will use it.",
    epilog=f"{EPILOG} --debug shows the traceback of an error.",
)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Show versions and stop.")] = False,
) -> None:
    if show:
        from tod import __version__
        from tod.runtime.engine import runtime_version

        print(
            f"tod {__version__}, onnxruntime {runtime_version()}, Python {sys.version.split()[0]}"
        )
        raise typer.Exit


app.command("prepare-dataset", epilog=EPILOG)(prepare_dataset)
app.command("export", epilog=EPILOG)(export)
app.command("package", epilog=EPILOG)(package)
app.command("sign", epilog=EPILOG)(sign)
app.command("doctor", epilog=EPILOG)(doctor)
app.command("promote", epilog=EPILOG)(promote)
app.command("rollback", epilog=EPILOG)(rollback)
app.command("history", epilog=EPILOG)(history)
app.command("check", epilog=EPILOG)(check)


# The options of net_runner, one by one the same; only without -c this one trains.
_train: Callable[..., None] = wraps(net_runner.net_runner)(lambda **given: net_runner.run(**given))
app.command(
    "train",
    epilog=EPILOG,
    help="""Train a model on pictures, or continue a checkpoint; the same as net_runner -c 60.

    Example: tod train -f transfer_learning.tod -d dataset -c 60 -s 20
    """,
)(_train)


@app.command("eval", epilog=EPILOG)
def evaluate(
    model: options.Model,
    data: options.Data,
    verbose: options.Verbose = False,
    threads: options.Threads = None,
    inference: options.Inference = None,
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
    """Accuracy of a model on the validation split; the same as net_runner without -c.

    Example: tod eval -f transfer_learning_trained.tod -d dataset
    """
    given = locals()
    net_runner.run(**given, cycles=0)


@app.command(epilog=EPILOG)
def predict(
    pictures: Annotated[list[Path], typer.Argument(help="Picture files.")],
    model: options.Model,
    top: Annotated[int, typer.Option(help="Classes to show for each picture.", min=1)] = 1,
    verbose: options.Verbose = False,
    require_signature: options.RequireSignature = None,
    as_json: options.AsJson = False,
) -> None:
    """Class, probability and milliseconds of each picture.

    Example: tod predict -f transfer_learning_trained.tod photo.jpg
    """
    from tod.cli.predict import predict_files
    from tod.report.terminal import print_tensors
    from tod.training.session import TrainSession

    observe = print_tensors(sys.stderr if as_json else sys.stdout) if verbose else None
    session = TrainSession.load(model, observe=observe, require_signature=require_signature)
    predict_files(session, pictures, top=top, as_json=as_json)


@app.command(epilog=EPILOG)
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
    from tod.cli.compare import compare_models

    cache = cache_choice(cache_dir, no_cache)
    compare_models(
        models, data, threads=threads, seed=seed, cache=cache,
        require_signature=require_signature, as_json=as_json,
    )  # fmt: skip


@app.command(epilog=EPILOG)
def benchmark(
    models: Annotated[list[Path], typer.Argument(help="A .tod file, or two to compare.")],
    data: Annotated[
        Path | None, typer.Option("-d", "--data", help="Also the whole job on these pictures.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes of the backbone.")] = "1,2,4,8",
    threads: Annotated[
        str | None, typer.Option("-t", "--threads", help="Numbers of threads (default: 1,cores).")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Of each measurement.")] = 1.0,
    sustained: Annotated[
        float | None, typer.Option(help="Seconds without a pause: does it get slower?")
    ] = None,
    cycles: Annotated[int, typer.Option("-c", "--cycles", help="Of the whole job.")] = 60,
    profile: Annotated[bool, typer.Option("--profile", help="Also time by operator.")] = False,
    require_signature: options.RequireSignature = None,
    as_json: options.AsOneJson = False,
) -> None:
    """What a model costs here: loading, backbone, head cycle, whole job, memory.

    Example: tod benchmark transfer_learning.tod -d dataset

    Example: tod benchmark transfer_learning.tod --batch 4,8 --threads 2 --sustained 60 --profile

    Example: tod benchmark before.tod after.tod --json
    """
    with stop_requests() as should_stop:
        from tod.benchmark.plan import Plan
        from tod.cli.benchmark import benchmark_files

        plan = Plan(
            batches=_numbers("--batch", batch),
            threads=() if threads is None else _numbers("--threads", threads),
            seconds=seconds,
            sustained_seconds=sustained,
            cycles=cycles,
            profile=profile,
        )
        benchmark_files(
            models, plan, data=data, require_signature=require_signature, as_json=as_json,
            should_stop=should_stop,
        )  # fmt: skip


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise UsageError(
            f"{option} is {text!r}, whole numbers with commas between them are wanted",
            hint=f"e.g. {option} 1,2",
        ) from None


@app.command(epilog=EPILOG)
def info(
    file: Annotated[Path, typer.Argument(help="A .tod file.")],
    require_signature: options.RequireSignature = None,
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as JSON.")] = False,
) -> None:
    """What a .tod file is: network, classes, tensors, sizes, optimizer, history.

    Example: tod info transfer_learning.tod
    """
    from tod.cli.describe import describe
    from tod.format import artifact

    describe(artifact.read(file, require_signature=require_signature), as_json=as_json)


cache_app = typer.Typer(
    no_args_is_help=True,
    epilog=EPILOG,
    help="""The features of pictures that were looked at, kept on disk.

    Example: tod cache info dataset
    """,
)
app.add_typer(cache_app, name="cache")
CacheFolder = Annotated[
    Path, typer.Argument(help="A dataset, the folder of a model, or what --cache-dir named.")
]


@cache_app.command("info", epilog=EPILOG)
def cache_info(
    folder: CacheFolder,
    as_json: options.AsJson = False,
) -> None:
    """Which features are kept, and what room they take.

    Example: tod cache info dataset
    """
    from tod.cli.describe import describe_cache

    describe_cache(folder, as_json=as_json)


@cache_app.command("clear", epilog=EPILOG)
def cache_clear(folder: CacheFolder) -> None:
    """Remove the features that are kept; the next run looks at the pictures anew.

    Example: tod cache clear dataset
    """
    from tod.runtime.feature_cache import cache_folder, clear

    place = cache_folder(folder)
    try:
        print(f"{place}: {clear(place):,} bytes removed")
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be removed: {error.strerror}") from error


@app.command(epilog=EPILOG)
def verify(
    file: Annotated[Path, typer.Argument(help="A .tod file.")],
    require_signature: options.RequireSignature = None,
    as_json: options.AsJson = False,
) -> None:
    """Check hashes, structure and operators, and run the file's test vectors on this machine.

    Example: tod verify transfer_learning.tod
    """
    from tod.cli.verify import verify as verify_file
    from tod.format import artifact

    verify_file(
        artifact.read(file, require_signature=require_signature), as_json=as_json,
        signature_checked=require_signature is not None,
    )  # fmt: skip


@app.command(epilog=EPILOG)
def merge(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, with its base beside it.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The whole model to make.")],
    require_signature: options.RequireSignature = None,
) -> None:
    """Make a whole model of a checkpoint, with its best state.

    Example: tod merge transfer_learning_trained_20.tod -o model.tod
    """
    from tod.training.session import TrainSession

    session = TrainSession.load(checkpoint, require_signature=require_signature)
    if session.manifest.run is None:
        raise UsageError(f"{checkpoint} is no checkpoint: it is a whole model already")
    check_writable(output)
    session.state = session.state.restore_best()
    session.end_run("merged")
    session.save(output)
    print(f"saved model: {output}")


def main() -> None:
    """Entry point of the `tod` command."""
    guarded(app)
