"""Options that several commands share, with one meaning and one text, and options of settings
tables.

A command takes a whole table as one parameter, and `expand` makes options from it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from tod.cli.frame import KEY_VARIABLE
from tod.system.settings import Setting, rows
from tod.training.settings import Settings

Model = Annotated[
    Path, typer.Option("-f", "--model", help="A .tod file: exported, checkpoint or trained.")
]
Data = Annotated[
    Path,
    typer.Option(
        "-d", "--data",
        help="A prepared dataset, a folder of class folders, or samples (.csv, .npz, .npy).",
    ),
]  # fmt: skip
Splits = Annotated[
    bool,
    typer.Option(
        "--splits", help="The data lies in ready-made splits (train/cat, test/cat ...): take them."
    ),
]
Inputs = Annotated[
    str | None,
    typer.Option(
        metavar="<names>",
        help="Columns of a table, or the array, that are the samples; commas between.",
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="<names>",
        help="The column of the classes, or those of the numbers; or the array of labels.",
    ),
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
Threads = Annotated[
    int | None,
    typer.Option(
        "-t", "--threads", help="Pictures read in parallel (default: one per usable core)."
    ),
]
Seed = Annotated[int | None, typer.Option(help=rows(Settings)["seed"].text)]
Output = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Trained model (default: <model>_trained.tod beside it)."),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace an earlier trained model for good; without it, it stays as a generation "
        "(tod history, tod rollback).",
    ),
]
Inference = Annotated[
    Path | None,
    typer.Option("-i", "--inference", help="Also write one ONNX file: pixels to probabilities."),
]
Nice = Annotated[bool, typer.Option("--nice", help="Let other programs go first (nice 10).")]
Engine = Annotated[
    str | None,
    typer.Option(
        "--engine",
        metavar="<name>",
        help="Who computes the frozen part: cpu, openvino ... (tod doctor lists them). Of several, "
        "with commas between, the first that is here and can load it.",
    ),
]
Precision = Annotated[
    Literal["float32", "bf16"] | None,
    typer.Option("--precision", metavar="<name>", help="bf16: the frozen part faster, less exact."),
]
CacheDir = Annotated[
    Path | None,
    typer.Option(help="Keep the pictures' features here (default: .tod-cache in the data folder)."),
]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Compute the features of all pictures; keep none.")
]
RequireSignature = Annotated[
    Path | None,
    typer.Option(
        envvar=KEY_VARIABLE,
        help="Refuse a model that the holder of this Ed25519 key (its public part) has not signed.",
    ),
]
Log = Annotated[Path | None, typer.Option(help="Also write every record as a JSON line here.")]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report", help="At the end, write a page about the model here: one .html file, see tod "
        "report.",
    ),
]  # fmt: skip
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")]
AsArray = Annotated[bool, typer.Option("--json", help="One JSON array on stdout.")]
AsOneJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Quiet = Annotated[
    bool,
    typer.Option("-q", "--quiet", help="Only the result; what goes wrong is still said."),
]


def expand(command: Callable[..., None]) -> Callable[..., None]:
    """Make a parameter whose type is a dataclass into one option for each of its fields.

    Fields of `tod.system.settings` take option, help and default from their row. If a table has
    such rows, its other fields are not options, and its `panel` is the heading above the options.
    Fields of other dataclasses are annotated like typer's parameters.
    """
    signature = inspect.signature(command, eval_str=True)
    parameters: list[inspect.Parameter] = []
    tables: dict[str, tuple[type, list[str]]] = {}
    for parameter in signature.parameters.values():
        if isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation):
            made = _parameters(parameter.annotation)
            tables[parameter.name] = (parameter.annotation, [p.name for p in made])
        else:
            made = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        parameters += made

    def call(**given: Any) -> None:
        filled = {
            parameter: table(**{name: given.pop(name) for name in names})
            for parameter, (table, names) in tables.items()
        }
        command(**filled, **given)

    call.__name__, call.__doc__ = command.__name__, command.__doc__
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {}
    return call


def _parameters(table: type) -> list[inspect.Parameter]:
    unset = {field.name: field.default for field in fields(table)}
    if settings := rows(table):
        panel = vars(table).get("panel")
        return [_parameter(row, unset[name], panel) for name, row in settings.items()]
    hints = get_type_hints(table, include_extras=True)
    return [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, annotation=hints[name],
            default=inspect.Parameter.empty if default is MISSING else default,
        )
        for name, default in unset.items()
    ]  # fmt: skip


def _parameter(row: Setting, unset: Any, panel: str | None) -> inspect.Parameter:
    """Make the option of one setting. Its range is checked later with the whole table, which finds
    all problems at once."""
    kind: Any = row.kind
    names = [*row.short, row.option]
    if kind is bool:
        names = [f" /{row.option}"] if unset else names
    else:
        kind = (Literal[row.choices] if row.choices else kind) | None
    # In the help, the choices would leave no room for the options' names.
    metavar = "<name>" if row.choices else None
    option = typer.Option(
        *names, help=row.text, show_default=False, metavar=metavar, rich_help_panel=panel
    )
    return inspect.Parameter(
        row.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[kind, option], default=unset
    )
