"""The command `tod predict`: class, probability and time of single pictures."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tod.cli import options
from tod.errors import PictureError
from tod.report.tables import percent, print_table

if TYPE_CHECKING:
    from tod.runtime.model import Model


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
    from tod.report.terminal import print_tensors
    from tod.runtime.model import Model

    observe = print_tensors(sys.stderr if as_json else sys.stdout) if verbose else None
    loaded = Model.load(model, observe=observe, require_signature=require_signature)
    _predict_files(loaded, pictures, top=top, as_json=as_json)


@dataclass(frozen=True)
class Prediction:
    """The most likely classes of one picture, best first, and the time from file to prediction.

    If the model was trained on numbers, `values` holds all of them, and there are no probabilities.
    """

    picture: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    time_ms: float
    values: tuple[float, ...] = ()


def _predict_file(model: Model, path: Path, *, top: int = 1) -> Prediction:
    """Return the `top` most likely classes of one picture file.

    Raises:
        PictureError: it cannot be read.
    """
    start = time.perf_counter()
    probabilities = model.predict([path])[0]
    time_ms = (time.perf_counter() - start) * 1e3
    names = model.classes or ()
    if model.manifest.loss.task == "regression":
        return Prediction(str(path), names, (), time_ms, tuple(map(float, probabilities)))
    best = probabilities.argsort()[::-1][:top]
    return Prediction(
        str(path),
        tuple(names[i] for i in best),
        tuple(float(probabilities[i]) for i in best),
        time_ms,
    )


def _predict_files(model: Model, paths: Sequence[Path], *, top: int, as_json: bool) -> None:
    """Predict and print; pictures that cannot be read are named together at the end.

    Raises:
        PictureError: at least one picture could not be read.
    """
    import msgspec

    model.parameters  # noqa: B018 - open classes are one error, not one for each picture
    found: list[Prediction] = []
    unreadable: list[str] = []
    for path in paths:
        try:
            found.append(_predict_file(model, path, top=top))
        except PictureError as error:
            unreadable.append(error.problem)
            continue
        if as_json:
            print(msgspec.json.encode(asdict(found[-1])).decode(), flush=True)
    if found and not as_json:
        rows = [
            (
                p.picture if i == 0 else "",
                name,
                shown,
                f"{p.time_ms:.1f}" if i == 0 else "",
            )
            for p in found
            for i, (name, shown) in enumerate(_shown(p))
        ]
        kind = "value" if found[0].values else "probability"
        print_table("", ("picture", "class", kind, "ms"), rows)
    if unreadable:
        raise PictureError("; ".join(unreadable))


def _shown(prediction: Prediction) -> list[tuple[str, str]]:
    """Return each name with its text."""
    shown = [percent(share) for share in prediction.probabilities]
    shown += [f"{value:.6g}" for value in prediction.values]
    return list(zip(prediction.classes, shown, strict=True))
