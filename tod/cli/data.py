"""The commands `tod data info` and `tod data convert`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tod.cli import options
from tod.cli.frame import EPILOG, listed_names
from tod.errors import DataError, UsageError
from tod.report.tables import print_pairs

if TYPE_CHECKING:
    from tod.data.dataset import Dataset

app = typer.Typer(
    no_args_is_help=True,
    epilog=EPILOG,
    help="""What data hold, and the same data in another form.

    Example: tod data info mnist.json
    """,
)
_Source = Annotated[
    Path,
    typer.Argument(
        help="A folder of class folders, a data repository (.json), .npz, .npy, .csv, or .tsv."
    ),
]
_Numbers = Annotated[
    bool, typer.Option("--numbers", help="The target is numbers, not the name of a class.")
]


class Form(str, Enum):
    static = "static"
    flexible = "flexible"
    sparse = "sparse"


@app.command("info", epilog=EPILOG)
def data_info(
    source: _Source,
    inputs: options.Inputs = None,
    target: options.Target = None,
    numbers: _Numbers = False,
    as_json: options.AsOneJson = False,
) -> None:
    """Samples, classes and splits; of a repository also its tensors.

    Example: tod data info mnist.json

    Example: tod data info fruit.csv --target price --numbers
    """
    import msgspec

    dataset = _open(source, inputs, target, numbers)
    told: dict[str, Any] = {
        "path": str(source), "samples": len(dataset.samples), "splits": dataset.counts(),
        "classes": dataset.classes, "digest": dataset.digest(), "left_out": len(dataset.left_out),
    }  # fmt: skip
    if dataset.rows is not None:
        told["sample"] = {"dtype": str(dataset.rows.dtype), "shape": dataset.rows.shape[1:]}
    if source.suffix.lower() == ".json":
        from tod.data.repository import open_repository

        caps = open_repository(source).caps
        told["format"] = caps.format
        told["tensors"] = [{"dtype": one.dtype, "shape": one.shape} for one in caps.tensors]
    if as_json:
        print(msgspec.json.encode(told).decode())
        return
    rows = [(name.replace("_", " "), _shown(told[name])) for name in told if name != "path"]
    print_pairs(str(source), rows)


@app.command("convert", epilog=EPILOG)
def data_convert(
    source: _Source,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="The form follows from its name: DATA.json is a repository, DATA.npz arrays, "
            "anything else a folder of class folders.",
        ),
    ],
    size: Annotated[
        int | None,
        typer.Option(help="Side in pixels of pictures, which become squares.", min=1, max=4096),
    ] = None,
    grey: Annotated[bool, typer.Option("--grey", help="Pictures become grey.")] = False,
    form: Annotated[
        Form,
        typer.Option("--form", metavar="<name>", help="Of a repository: static, flexible, sparse."),
    ] = Form.static,
    train: Annotated[
        int | None, typer.Option(help="The first samples are the train split (.npz).", min=1)
    ] = None,
    validation: Annotated[
        int | None, typer.Option(help="The next ones are the validation split.", min=1)
    ] = None,
    inputs: options.Inputs = None,
    target: options.Target = None,
    numbers: _Numbers = False,
    as_json: options.AsOneJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the same samples in another form.

    Example: tod data convert mnist.json -o mnist.npz --train 500 --validation 500

    Example: tod data convert pictures -o pictures.json --size 64 --grey

    Example: tod data convert mnist.json -o digits
    """
    import msgspec

    from tod.data import convert_data
    from tod.report.progress import progress_bar
    from tod.system import outputs

    suffix = output.suffix.lower()
    parts = _parts(train, validation)
    if parts and suffix != ".npz":
        raise UsageError("--train and --validation name the arrays of an .npz file")
    if form is not Form.static and suffix != ".json":
        raise UsageError("--form belongs to a repository, -o DATA.json")
    files = [output, output.with_suffix(".data")] if suffix == ".json" else [output]
    if suffix in (".json", ".npz"):
        wanted = [outputs.Output("-o", file, file.suffix) for file in files]
        outputs.check(wanted, {"the source": source, "its data": source.with_suffix(".data")})
    else:
        outputs.check_folder(output)
        if output.is_dir() and any(output.iterdir()):
            raise UsageError(f"{output} is not empty", hint="give a folder that is not there yet")
    dataset = _open(source, inputs, target, numbers)
    with ExitStack() as stack:
        bar = progress_bar(stack, "samples", quiet=quiet)
        data = convert_data.read(dataset, size_px=size, grey=grey, progress=bar)
    for text in data.left_out:
        print(f"notice: {text} was passed over", file=sys.stderr)
    if parts and parts[-1][1].stop > len(data.labels):
        raise UsageError(f"{source} has {len(data.labels)} samples, {parts[-1][1].stop} are wanted")
    try:
        if suffix == ".npz":
            convert_data.write_arrays(output, data, parts)
        elif suffix == ".json":
            convert_data.write_tensors(output, data, form.value)
        else:
            convert_data.write_folders(output, data)
    except OSError as error:
        raise DataError(f"{output}: cannot be written: {error.strerror or error}") from error
    if as_json:
        told = {"path": str(output), "samples": len(data.labels), "classes": data.classes,
                "left_out": data.left_out}  # fmt: skip
        print(msgspec.json.encode(told).decode())
    elif not quiet:
        print(f"{output}: {len(data.labels)} samples of {len(data.classes)} classes")


def _open(source: Path, inputs: str | None, target: str | None, numbers: bool) -> Dataset:
    from tod.data.dataset import Dataset

    dataset = Dataset.open(
        source, cache=False, inputs=listed_names(inputs), target=listed_names(target),
        numbers=numbers,
    )  # fmt: skip
    for notice in dataset.notices:
        print(f"notice: {notice}", file=sys.stderr)
    return dataset


def _parts(train: int | None, validation: int | None) -> list[tuple[str, range]]:
    if train is None and validation is None:
        return []
    if train is None or validation is None:
        raise UsageError("--train and --validation go together")
    return [("train", range(train)), ("validation", range(train, train + validation))]


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "dtype" in value:
        return f"{value['dtype']} {' x '.join(map(str, value['shape']))}"
    if isinstance(value, dict):
        return ", ".join(f"{_shown(item)} {name}" for name, item in value.items())
    if isinstance(value, list | tuple):
        some = [_shown(item) for item in value[:12]]
        return ", ".join(some) + (f" and {len(value) - 12} more" if len(value) > 12 else "")
    return str(value)
