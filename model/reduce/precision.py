"""Reduce the frozen part to int8 or float16, keep sensitive layers in float, and measure the loss.

If the cosine is below `TARGET`, the most harmful layers stay in float; below `REFUSED` nothing is
written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

import onnx

from model.reduce import calibration, parity, pixel_input, quantize, sensitivity
from model.reduce.calibration import Pictures
from model.reduce.sensitivity import Progress
from tod.data.dataset import Dataset
from tod.errors import TrainingError, UsageError
from tod.format.manifest import InputSpec, Parity

# Limits for the mean cosine between reduced and float32 features on held-out pictures. Measured
# with a gradually degraded EfficientNet-Lite0 (docs/performance.md): at 0.979 a head trained on
# such features loses 0.5 points of accuracy on scenes and on places, at 0.915 1 and 3 points, at
# 0.85 2 and 5 points.
TARGET = 0.985
REFUSED = 0.90
# With more layers in float, the file is hardly smaller and the network is not faster.
_MOST_FLOAT = 0.5
# Integer pixels save more than half of a small network's time. This loss of cosine is acceptable
# for that; it is below the noise of these pictures.
_PIXELS_MAY_COST = 0.001
# Enough pictures to find the layers that do harm.
_RANKING_PICTURES = 8


@dataclass(frozen=True)
class Precision:
    """The request of `--quantize`.

    Attributes:
        kind: type of the weights and, with "int8", of the arithmetic.
        dataset: pictures to calibrate on and to measure with; None: pictures made by rule.
        force: write a result below `REFUSED`, too.
        progress: called during the search for sensitive layers, with layers done and to do.
    """

    kind: Literal["int8", "float16"]
    dataset: Dataset | None = None
    force: bool = False
    progress: Progress = lambda done, total: None


@dataclass(frozen=True)
class Reduced:
    """The reduced graph, its loss, and milliseconds a picture before and after."""

    model: onnx.ModelProto
    parity: Parity
    before_ms: float
    after_ms: float


def check_something_is_frozen(model: onnx.ModelProto, asked: Precision) -> None:
    """Refuse to quantize a graph that holds no weights.

    Raises:
        UsageError: it holds none.
    """
    if not quantize.layers(model):
        raise UsageError(
            f"--quantize {_OPTION[asked.kind]}: nothing is frozen, so there is nothing to quantize",
            hint="train less of the network, e.g. --trainable head",
        )


def reduce(
    model: onnx.ModelProto,
    spec: InputSpec,
    feature_shape: tuple[int, ...],
    asked: Precision,
    say: Callable[[str], None] = lambda _: None,
) -> Reduced:
    """Reduce the precision of the frozen graph and measure the loss.

    Args:
        model: `features.onnx` in float32.
        spec: how pictures are resized and normalised.
        feature_shape: the shape of one picture's features.
        asked: what to make.
        say: called with a short text before each long part.

    Raises:
        UsageError: nothing is frozen.
        DataError: too few pictures to calibrate on.
        TrainingError: the features are too far from the float32 features, and `force` is not set.
    """
    check_something_is_frozen(model, asked)
    float_layers: tuple[str, ...] = ()
    trial = _Trial.start(model, _pictures(spec, feature_shape, asked))
    if asked.kind == "float16":
        reduced = quantize.float16(model)
    else:
        say(f"quantizing, with {trial.pictures.calibrating} pictures")
        reduced, float_layers = _int8(trial, spec, asked.progress, say)
    measured = _measure(trial, reduced, asked, float_layers)
    _refuse(measured, asked)
    before_ms, after_ms = parity.speeds((trial.before, _bytes(reduced)), trial.pictures.pixels)
    return Reduced(reduced, measured, before_ms, after_ms)


_OPTION = {"int8": "int8", "float16": "fp16"}


@dataclass(frozen=True)
class _Trial:
    """The input of every measurement: graph, pictures, and their float32 features."""

    model: onnx.ModelProto
    before: bytes
    pictures: Pictures
    rows: parity.Rows

    @classmethod
    def start(cls, model: onnx.ModelProto, pictures: Pictures) -> _Trial:
        before = _bytes(model)
        return cls(model, before, pictures, parity.features(before, pictures.pixels))

    def cosine(self, reduced: onnx.ModelProto, which: slice) -> float:
        """Mean cosine over some of the pictures."""
        after = parity.features(_bytes(reduced), self.pictures.pixels[which])
        return float(parity.cosines(self.rows[which], after).mean())

    @property
    def held_out(self) -> slice:
        return slice(self.pictures.calibrating, None)


def _pictures(spec: InputSpec, feature_shape: tuple[int, ...], asked: Precision) -> Pictures:
    count = calibration.count_for(
        feature_shape, calibration.REAL if asked.dataset else calibration.MADE
    )
    if asked.dataset is None:
        return calibration.made_by_rule(spec, count)
    return calibration.from_dataset(asked.dataset, spec, count)


def _int8(
    trial: _Trial, spec: InputSpec, progress: Progress, say: Callable[[str], None]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Make the int8 graph; return it and the layers that stay in float."""
    model, held_out = trial.model, trial.held_out
    ranges = quantize.ranges(model, trial.pictures.pixels[: trial.pictures.calibrating])
    pixels = pixel_input.find(model, spec)

    def quantized(float_layers: Collection[str] = ()) -> onnx.ModelProto:
        return quantize.int8(model, ranges, float_layers=float_layers, pixels=pixels)

    reached = trial.cosine(quantized(), held_out)
    if pixels is not None:
        without = trial.cosine(quantize.int8(model, ranges), held_out)
        if reached < without - _PIXELS_MAY_COST:
            pixels, reached = None, without
    if reached >= TARGET:
        return quantized(), ()
    names = quantize.layers(model)
    say(f"cosine {reached:.4f}: looking for the layers that lose it")
    ranked = sensitivity.rank(
        list(names), lambda kept: trial.cosine(quantized(kept), slice(_RANKING_PICTURES)), progress
    )
    kept = sensitivity.fewest(
        ranked,
        lambda kept: trial.cosine(quantized(kept), held_out),
        target=TARGET,
        most=int(_MOST_FLOAT * len(names)),
    )
    return quantized(kept), tuple(text for name, text in names.items() if name in kept)


def _measure(
    trial: _Trial, reduced: onnx.ModelProto, asked: Precision, float_layers: tuple[str, ...]
) -> Parity:
    pictures, after = trial.pictures, _bytes(reduced)
    rows = parity.features(after, pictures.pixels)
    found = parity.cosines(trial.rows[trial.held_out], rows[trial.held_out])
    heads = parity.heads(trial.rows, rows, pictures)
    # Round to four digits, because on another processor the last digits may differ.
    return Parity(
        pictures=len(found),
        data_sha256=pictures.data_sha256,
        cosine=round(float(found.mean()), 4),
        least_cosine=round(float(found.min()), 4),
        agreement=round(heads.agreement, 4) if heads else None,
        accuracy_before=round(heads.before, 4) if heads else None,
        accuracy_after=round(heads.after, 4) if heads else None,
        bytes_before=len(trial.before),
        bytes_after=len(after),
        layers=len(quantize.layers(trial.model)),
        float_layers=float_layers,
    )


def _refuse(measured: Parity, asked: Precision) -> None:
    if measured.cosine >= REFUSED or asked.force:
        return
    kept = len(measured.float_layers)
    raise TrainingError(
        f"--quantize {_OPTION[asked.kind]}: the features' cosine to float32's is "
        f"{measured.cosine:.4f} on {measured.pictures} pictures, with {kept} of "
        f"{measured.layers} layers in float; at least {REFUSED:g} is wanted; nothing was written",
        hint="calibrate on pictures like those of the device (--calibrate DIR), leave the frozen "
        "part in float32, or add --force",
    )


def _bytes(model: onnx.ModelProto) -> bytes:
    return model.SerializeToString(deterministic=True)
