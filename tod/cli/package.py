"""The command `tod package`, for the workstation.

`package_tools` is imported inside the command, because a device does not have it.
"""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from tod.cli import options
from tod.errors import UsageError
from tod.system import outputs


class TargetName(str, Enum):
    arm64 = "arm64"
    x86_64 = "x86_64"


class RuntimeKind(str, Enum):
    bundled = "bundled"
    system = "system"


def package(
    model: Annotated[Path, typer.Argument(help="A .tod file: exported or trained.")],
    dataset: Annotated[
        Path | None, typer.Argument(help="A prepared dataset, or a folder of class folders.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", help="The folder (default: package-TARGET).")
    ] = None,
    target: Annotated[
        TargetName, typer.Option("--target", "-t", help="The device's processor.")
    ] = TargetName.arm64,
    runtime: Annotated[
        RuntimeKind | None,
        typer.Option(
            "--runtime",
            help="bundled brings Python and the C library (default), system uses the device's.",
        ),
    ] = None,
    python_archive: Annotated[
        Path | None,
        typer.Option(
            help="Bundle this python-build-standalone archive, where the workstation has no apt."
        ),
    ] = None,
    python_version: Annotated[
        str | None, typer.Option(help="The device's Python, for --runtime system, e.g. 3.11.")
    ] = None,
    no_dataset: Annotated[
        bool, typer.Option("--no-dataset", help="The device has its own pictures.")
    ] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Download anew what is kept from earlier packages.")
    ] = False,
    require_signature: options.RequireSignature = None,
    as_json: options.AsOneJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Make a folder that trains on a device where nothing is installed.

    Example: tod package transfer_learning.tod dataset -o package-arm64 --target arm64

    Example: tod package model.tod --no-dataset --runtime system --python-version 3.11
    """
    from tod.report.tables import print_table
    from tod.system.machine import require

    require("elftools", "workstation")
    from package_tools import package as packages
    from package_tools import runtime as runtimes
    from package_tools.target import TARGETS
    from package_tools.wheels import VERSIONS

    if dataset is None and not no_dataset:
        raise UsageError(
            "no dataset is given",
            hint="give one behind the model, or --no-dataset where the device has its own pictures",
        )
    if dataset is not None and no_dataset:
        raise UsageError(f"{dataset} and --no-dataset exclude each other", hint="give one of them")
    if runtime is RuntimeKind.system:
        if python_archive is not None:
            raise UsageError("--python-archive is bundled; --runtime system uses the device's own")
        if python_version not in VERSIONS:
            found = f"is {python_version}" if python_version else "is missing"
            raise UsageError(
                f"--python-version {found}, wanted one of {', '.join(VERSIONS)}",
                hint="ask the device: python3 --version",
            )
        kind = runtimes.SYSTEM
    else:
        if python_version is not None:
            raise UsageError("--python-version goes with --runtime system")
        kind = runtimes.BUNDLED if python_archive is None else runtimes.ARCHIVE
    out = out or Path(f"package-{target.value}")
    for folder in (out, out.parent):  # it is made beside its place, and moved there
        outputs.check_folder(folder)
    recipe = runtimes.Recipe(TARGETS[target.value], kind, python_archive, python_version)
    made = packages.make(
        model, dataset, out, recipe,
        require_signature=require_signature, refresh=refresh,
        progress=lambda step: None if quiet else print(f"{step} ...", file=sys.stderr, flush=True),
    )  # fmt: skip
    total = sum(made.sizes.values())
    if as_json:
        print(json.dumps({
            "package": str(made.folder), "files": made.files, "bytes": total, "parts": made.sizes,
        }))  # fmt: skip
        return
    rest = {"lib/site-packages": "lib/site-packages, the rest"}
    rows = [
        (rest.get(name, name), f"{size / 1e6:.1f}")
        for name, size in [*made.sizes.items(), ("total", total)]
    ]
    print_table(f"{made.folder}: {made.files} files", ("part", "MB"), rows)
