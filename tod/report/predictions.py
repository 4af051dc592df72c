"""Predictions on stdout: a table, JSON lines or comma-separated lines."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import msgspec

from tod.report.tables import percent, print_table
from tod.runtime.predictor import Answer, Predictor

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one picture, best first.

    For a model that gives numbers: all quantities, in `values`, and no probabilities.

    Attributes:
        label: the class; "unknown" if its probability is below the threshold; empty for numbers.
        time_ms: see `Answer`.
    """

    picture: str
    label: str
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    time_ms: float
    values: tuple[float, ...] = ()


def read_prediction(
    predictor: Predictor, name: str, answer: Answer, top: int, threshold: float
) -> Prediction:
    """Name the `top` most probable classes of an answer.

    Args:
        predictor: whose classes they are.
        name: of the picture.
        answer: of a picture that could be read.
        top: how many classes.
        threshold: the least probability of a picture that is not "unknown".
    """
    assert answer.values is not None
    numbers = tuple(map(float, answer.values))
    if predictor.task == "regression":
        return Prediction(name, "", predictor.classes, (), answer.time_ms, numbers)
    best = sorted(range(len(numbers)), key=lambda i: -numbers[i])[:top]
    label = predictor.classes[best[0]] if numbers[best[0]] >= threshold else UNKNOWN
    return Prediction(
        name, label, tuple(predictor.classes[i] for i in best),
        tuple(numbers[i] for i in best), answer.time_ms,
    )  # fmt: skip


@contextmanager
def printer(
    predictor: Predictor, top: int, *, as_csv: bool, as_json: bool
) -> Iterator[Callable[[Prediction], None]]:
    """Give a function that shows a prediction: at once as a line, or in the table at the end."""
    if as_json:
        yield lambda one: print(msgspec.json.encode(asdict(one)).decode(), flush=True)
        return
    if as_csv:
        yield _csv(predictor, top)
        return
    shown: list[Prediction] = []
    try:
        yield shown.append
    finally:
        if shown:
            _print(shown)


def _csv(predictor: Predictor, top: int) -> Callable[[Prediction], None]:
    """Lines of RFC 4180 with a header; of a model that gives numbers, a column for each."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if predictor.task == "regression":
        writer.writerow(["picture", *predictor.classes, "ms"])
    else:
        count = min(top, len(predictor.classes))
        pairs = [(f"class {i}", f"probability {i}") for i in range(1, count + 1)]
        writer.writerow(["picture", "label", *(name for pair in pairs for name in pair), "ms"])

    def show(one: Prediction) -> None:
        if one.values:
            cells = [f"{value:.9g}" for value in one.values]
        else:
            pairs = zip(one.classes, one.probabilities, strict=True)
            cells = [one.label, *(cell for name, p in pairs for cell in (name, f"{p:.6f}"))]
        writer.writerow([one.picture, *cells, f"{one.time_ms:.1f}"])

    return show


def _print(found: list[Prediction]) -> None:
    rows = [
        (one.picture if i == 0 else "", name, shown, f"{one.time_ms:.1f}" if i == 0 else "")
        for one in found
        for i, (name, shown) in enumerate(_shown(one))
    ]
    kind = "value" if found[0].values else "probability"
    print_table("", ("picture", "class", kind, "ms"), rows)


def _shown(one: Prediction) -> list[tuple[str, str]]:
    """Each name with the text to show for it."""
    if one.values:
        return [(name, f"{value:.6g}") for name, value in zip(one.classes, one.values, strict=True)]
    names = list(one.classes)
    if one.label == UNKNOWN:
        names[0] = f"{UNKNOWN} ({names[0]})"
    return list(zip(names, map(percent, one.probabilities), strict=True))
