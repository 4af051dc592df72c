"""`tod predict`: class, probability and time of single pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from tod.errors import PictureError
from tod.report.tables import percent, print_table
from tod.training.session import TrainSession


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of one picture, best first, and the time from file to answer.

    Of a model that was trained on numbers: all of them, in `values`, and no probabilities.
    """

    picture: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    time_ms: float
    values: tuple[float, ...] = ()


def predict_file(session: TrainSession, path: Path, *, top: int = 1) -> Prediction:
    """Name the `top` likeliest classes of one picture file.

    Raises:
        PictureError: it cannot be read.
    """
    start = time.perf_counter()
    probabilities = session.predict([path])[0]
    time_ms = (time.perf_counter() - start) * 1e3
    names = session.classes or ()
    if session.manifest.loss.name == "mean_squared_error":
        return Prediction(str(path), names, (), time_ms, tuple(map(float, probabilities)))
    best = probabilities.argsort()[::-1][:top]
    return Prediction(
        str(path),
        tuple(names[i] for i in best),
        tuple(float(probabilities[i]) for i in best),
        time_ms,
    )


def predict_files(session: TrainSession, paths: Sequence[Path], *, top: int, as_json: bool) -> None:
    """Predict and print; pictures that cannot be read are named together at the end.

    Raises:
        PictureError: at least one picture could not be read.
    """
    session.state  # noqa: B018 - open classes are one error, not one for each picture
    found: list[Prediction] = []
    unreadable: list[str] = []
    for path in paths:
        try:
            found.append(predict_file(session, path, top=top))
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
            for i, (name, shown) in enumerate(_answers(p))
        ]
        kind = "value" if found[0].values else "probability"
        print_table("", ("picture", "class", kind, "ms"), rows)
    if unreadable:
        raise PictureError("; ".join(unreadable))


def _answers(prediction: Prediction) -> list[tuple[str, str]]:
    """Each name with what is to be shown for it."""
    shown = [percent(share) for share in prediction.probabilities]
    shown += [f"{value:.6g}" for value in prediction.values]
    return list(zip(prediction.classes, shown, strict=True))
