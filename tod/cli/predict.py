"""The command `tod predict`: the classes and probabilities of pictures."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from tod.cli import options
from tod.cli.frame import engine_choice
from tod.errors import DataError, PictureError, UsageError
from tod.system.text import shown

# A bar that is gone in a moment only flickers.
_BAR_FROM = 50


def predict(
    pictures: Annotated[
        list[str],
        typer.Argument(
            help="Picture files, folders, patterns ('a/**/*.jpg'), arrays (.npy, .npz); "
            "- reads a list of paths from stdin."
        ),
    ],
    model: Annotated[
        Path,
        typer.Option("-f", "--model", help="A trained .tod file, or .onnx, .ort, .tflite."),
    ],
    top: Annotated[
        int, typer.Option(metavar="<int>", help="Classes to show for each picture.", min=1)
    ] = 1,
    threshold: Annotated[
        float,
        typer.Option(
            help='Call a picture "unknown" below this probability.', min=0, max=1, metavar="<share>"
        ),
    ] = 0,
    sort_into: Annotated[
        Path | None,
        typer.Option(help="Copy each picture into a folder of its class below this one."),
    ] = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    threads: options.Threads = None,
    verbose: options.Verbose = False,
    require_signature: options.RequireSignature = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated lines on stdout.")] = False,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Class, probability and milliseconds of each picture.

    The milliseconds are those from file to answer, the mean of the few pictures that are computed
    together. The first ones are slower; tod compare measures speed.

    Example: tod predict -f transfer_learning_trained.tod photo.jpg

    Example: tod predict -f transfer_learning_trained.tod photos --threshold 0.8 --sort-into sorted

    Example: find . -name '*.jpg' | tod predict -f transfer_learning_trained.tod - --csv > found.csv
    """
    if as_csv and as_json:
        raise UsageError("--csv and --json exclude each other")
    from tod.data.given import Given, NotGiven, collect
    from tod.data.sort_into import copy_to_class
    from tod.report.predictions import printer, read_prediction
    from tod.report.progress import progress_bar
    from tod.report.terminal import print_tensors
    from tod.runtime.predictor import answers, open_predictor
    from tod.system import outputs

    if sort_into is not None:
        outputs.check_folder(sort_into)
    lines = as_csv or as_json
    observe = print_tensors(sys.stderr if lines else sys.stdout) if verbose else None
    predictor = open_predictor(
        model, threads=threads, engine=engine_choice(engine, precision),
        require_signature=require_signature, observe=observe,
    )  # fmt: skip
    if threshold and predictor.task == "regression":
        raise UsageError("--threshold: this model gives numbers, no probabilities")
    found = list(collect(pictures, sys.stdin, predictor.spec))
    given = [one for one in found if isinstance(one, Given)]
    others = [one for one in found if isinstance(one, NotGiven)]
    unreadable = [f"{one.name}: {one.reason}" for one in others if one.meant]
    total = len(given) + len(unreadable)
    for other in others:
        if not other.meant:
            print(f"notice: {shown(f'{other.name}: {other.reason}')}", file=sys.stderr)
    with ExitStack() as stack:
        hidden = quiet or verbose or len(given) < _BAR_FROM or (lines and sys.stdout.isatty())
        bar = progress_bar(stack, "pictures", quiet=hidden)
        show = stack.enter_context(printer(predictor, top, as_csv=as_csv, as_json=as_json))
        every = answers(predictor, (one.picture for one in given))
        for done, (one, answer) in enumerate(zip(given, every, strict=True), 1):
            if answer.values is None:
                unreadable.append(f"{one.name}: {answer.problem}")
            else:
                prediction = read_prediction(predictor, one.name, answer, top, threshold)
                show(prediction)
                if sort_into is not None and isinstance(one.picture, str):
                    copy_to_class(Path(one.name), prediction.label, sort_into)
            bar(done, len(given))
    if len(unreadable) > 1:
        for text in unreadable:
            print(f"notice: {shown(text)}", file=sys.stderr)
        raise PictureError(
            f"{len(unreadable)} of {total} pictures cannot be read",
            hint="the notices above name them",
        )
    if unreadable:
        raise PictureError(unreadable[0])
    if not given:
        raise DataError("no picture was found", hint="give files, or a folder that holds some")
