"""The frozen part in int8 or float16: quantized, repaired where it hurts, and measured.

Below `TARGET` the layers that do most harm stay in float; below `REFUSED` nothing is written.
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

# Mean cosine of features to float32's on held-out pictures. Measured with EfficientNet-Lite0 made
# worse by steps (docs/performance.md): at 0.979 a head trained on such features loses half a point
# on scenes and on places, at 0.915 one and three, at 0.85 two and five.
TARGET = 0.985
REFUSED = 0.90
# With more layers in float the file is hardly smaller and the network no faster.
_MOST_FLOAT = 0.5
# Pixels as integers save more than half of the time of a small network: worth this much cosine,
# which is below the noise of these pictures.
_PIXELS_MAY_COST = 0.001
# Enough to tell a layer that hurts from one that does not.
_RANKING_PICTURES = 8


@dataclass(frozen=True)
class Precision:
    """What `--quantize` asks for.

    Attributes:
        kind: of the weights, and of the arithmetic with "int8".
        dataset: pictures to calibrate on and to measure with; None: made by rule.
        force: write what is below `REFUSED` as well.
        progress: of the search for sensitive layers, layers done and to do.
    """

    kind: Literal["int8", "float16"]
    dataset: Dataset | None = None
    force: bool = False
    progress: Progress = lambda done, total: None


@dataclass(frozen=True)
class Reduced:
    """The graph in fewer bits, what it lost, and milliseconds a picture before and after."""

    model: onnx.ModelProto
    parity: Parity
    before_ms: float
    after_ms: float


def check_something_is_frozen(model: onnx.ModelProto, asked: Precision) -> None:
    """Refuse to quantize a graph that holds no weights.

    Raises:
        UsageError: saying so.
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
    """Bring the frozen graph to fewer bits and measure what that costs.

    Args:
        model: `features.onnx` in float32.
        spec: how pictures are brought to size, and their normalisation.
        feature_shape: of one picture.
        asked: what to make.
        say: called with a short text before each long part.

    Raises:
        UsageError: nothing is frozen.
        DataError: too few pictures to calibrate on.
        TrainingError: the features are too far from float32's, and force was not asked for.
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
    """What every measurement needs: graph, pictures, and their features in float32."""

    model: onnx.ModelProto
    before: bytes
    pictures: Pictures
    rows: parity.Rows

    @classmethod
    def start(cls, model: onnx.ModelProto, pictures: Pictures) -> _Trial:
        before = _bytes(model)
        return cls(model, before, pictures, parity.features(before, pictures.pixels))

    def cosine(self, reduced: onnx.ModelProto, which: slice) -> float:
        """Mean over some of the pictures."""
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
    """The graph in int8, and what it keeps in float."""
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
    # Four digits: another processor's float32 may differ in the last ones.
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
