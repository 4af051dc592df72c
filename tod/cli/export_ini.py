"""`tod export network.ini`: nntrainer's INI file says all but what goes around it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from tod.errors import UsageError

# The parameters of `tod export` that an INI file leaves open.
_OPEN = {
    "network", "output", "weights", "classes_from", "class_weights", "accumulate", "seed",
    "as_json", "quiet",
}  # fmt: skip


def is_ini(network: Path | None) -> bool:
    return network is not None and network.suffix.lower() == ".ini"


def read(
    context: typer.Context, path: Path, weights: str | None, seed: int, **more: Any
) -> tuple[Any, Any, int]:
    """The network, the settings and the number of classes of an INI file.

    Args:
        context: of the command, which knows the options that were given.
        path: the file.
        weights: a .bin file of nntrainer; None: random ones.
        seed: for those.
        more: settings that the file does not have.
    """
    from model import ini

    refuse_said(context)
    made = ini.open_ini(path, weights_file=None if weights is None else Path(weights), seed=seed)
    for notice in made.recipe.notices:
        print(f"notice: {path}: {notice}", file=sys.stderr)
    return made.network, ini.settings(made, **more), made.classes


def refuse_said(context: typer.Context) -> None:
    """Refuse options that the file answers itself."""
    names = {parameter.name: parameter.opts[-1] for parameter in context.command.params}
    given = [
        option for name, option in names.items()
        if name not in _OPEN and _was_given(context, str(name))
    ]  # fmt: skip
    if given:
        raise UsageError(
            f"{', '.join(given)}: the INI file says this itself",
            hint="change it there; --weights, --classes-from, --class-weights, --accumulate and "
            "--seed go with an INI file",
        )


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def check_classes(path: Path, classes: int, found: int) -> None:
    """Refuse a dataset with another number of classes than the file has units."""
    if found != classes:
        raise UsageError(
            f"--classes-from has {found} classes, the last layer of {path} has {classes} units",
            hint="change its unit, and train from its initialisers or take weights that fit",
        )
