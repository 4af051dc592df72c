"""The `tod` command, for workstation and device. It only registers the commands of this folder.

Each command imports what it needs when it runs: the device has neither torch nor `model` nor
`dataset_tools`, and `--help` must be fast.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from tod.cli import cache, data, offload
from tod.cli.benchmark import benchmark
from tod.cli.check import check
from tod.cli.compare import compare
from tod.cli.convert import convert
from tod.cli.doctor import doctor
from tod.cli.evaluate import evaluate
from tod.cli.export import export
from tod.cli.frame import EPILOG, guarded
from tod.cli.info import info
from tod.cli.merge import merge
from tod.cli.package import package
from tod.cli.predict import predict
from tod.cli.prepare_dataset import prepare_dataset
from tod.cli.promote import history, promote, rollback
from tod.cli.report import report
from tod.cli.sign import sign
from tod.cli.train import train
from tod.cli.verify import verify

app = typer.Typer(
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Fine-tune a vision model on the device that will use it.",
    epilog=EPILOG,
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


def _add(name: str, command: Callable[..., Any], panel: str) -> None:
    app.command(name, epilog=EPILOG, rich_help_panel=panel)(command)


_USE, _MODELS, _SERVE, _WORKSTATION = "Train and use", "Models", "Serve", "Workstation"
_SEVERAL = "Several machines"
_add("train", train, _USE)
_add("eval", evaluate, _USE)
_add("predict", predict, _USE)
_add("check", check, _USE)
_add("doctor", doctor, _USE)
app.add_typer(cache.app, name="cache", rich_help_panel=_USE)
app.add_typer(data.app, name="data", rich_help_panel=_USE)
_add("info", info, _MODELS)
_add("verify", verify, _MODELS)
_add("compare", compare, _MODELS)
_add("report", report, _MODELS)
_add("merge", merge, _MODELS)
_add("benchmark", benchmark, _MODELS)
_add("sign", sign, _MODELS)
_add("promote", promote, _SERVE)
_add("rollback", rollback, _SERVE)
_add("history", history, _SERVE)
app.add_typer(offload.app, name="offload", rich_help_panel=_SEVERAL)
_add("prepare-dataset", prepare_dataset, _WORKSTATION)
_add("export", export, _WORKSTATION)
_add("convert", convert, _WORKSTATION)
_add("package", package, _WORKSTATION)


def main() -> None:
    """Entry point of the `tod` command."""
    guarded(app)
