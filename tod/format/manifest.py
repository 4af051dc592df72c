"""Everything that a .tod file declares about itself, as frozen records.

Knows JSON and nothing else: no files, no arrays, no runtime. docs/format.md explains the fields.
Axes in tensor shapes: an int is fixed; the text "classes" is the number of classes, or of
outputs where the answers are numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from tod.errors import ArtifactError
from tod.format.schedule import Schedule
from tod.system.text import record_problems

SCHEMA = 1
GRAPHS = ("features.onnx", "train.onnx", "predict.onnx")
CLASSES_AXIS = "classes"
LossName = Literal["softmax_cross_entropy", "binary_cross_entropy", "mean_squared_error"]
# 20 times the manifest of 365 classes; a history of ten years of nights, or 50,000 classes.
_MAX_JSON_BYTES = 4 << 20
_SHOWN = 8  # of many problems
_MAX_TENSORS = 20_000
_MAX_STATE_BYTES = 1 << 30  # as many as a member may have
_COUNTS = (
    "cycles", "cycle", "best_cycle", "eval_every", "patience", "save_every", "stale", "seed",
    "split_seed",
)  # fmt: skip
_MAX_RUN = 1_000_000_000  # cycles and the like
_MAX_STEP = 1 << 20  # pictures in a step: it is drawn and computed as a whole


@dataclass(frozen=True)
class InputSpec:
    """How a picture becomes the array that `features.onnx` takes: uint8 [N, size_px, size_px, 3].

    With the crop "center" the shorter side is resized to `resize_px`, then the centre `size_px` x
    `size_px` is cut out; with "none" the whole picture is brought to `size_px` x `size_px`. Pixels
    are always RGB. What follows tells what the graph itself does: `colour` is the channel order
    that the network was trained with, `mean` and `std` (in that order, of values 0..1) are its
    normalisation.
    """

    size_px: int
    resize_px: int
    interpolation: Literal["bicubic", "bilinear"]
    crop: Literal["center", "none"]
    colour: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class Weights:
    """Where the frozen weights came from."""

    source: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class Parity:
    """How far features of fewer bits are from those of float32, measured at export.

    `pictures` were held out from calibration; they come from the dataset with `data_sha256`, or
    were made by rule where it is None. `cosine` is the mean over them, `least_cosine` that of the
    worst. `agreement` is the share of them to which one head gives the same class from both kinds
    of features; the accuracies are those of a head trained and used on each; None where no class
    was known. `float_layers` are those of the `layers` that stayed in float.
    """

    pictures: int
    data_sha256: str | None
    cosine: float
    least_cosine: float
    agreement: float | None
    accuracy_before: float | None
    accuracy_after: float | None
    bytes_before: int
    bytes_after: int
    layers: int
    float_layers: tuple[str, ...]


@dataclass(frozen=True)
class Backbone:
    """`boundary` is the layer whose output, of `feature_shape` for a picture, is kept: all up to
    it is frozen. `parameters` counts the numbers that do not train. `precision` is that of the
    frozen weights; with "int8" the frozen part computes in integers, too."""

    name: str
    boundary: str
    feature_shape: tuple[int, ...]
    parameters: int
    weights: Weights
    precision: Literal["float32", "float16", "int8"] = "float32"
    parity: Parity | None = None


@dataclass(frozen=True)
class Init:
    """How new rows along a class axis are made on the device: N(mean, std)."""

    std: float = 0.0
    mean: float = 0.0


@dataclass(frozen=True)
class Tensor:
    """A tensor that a training step changes, an input of `train.onnx` by this name.

    The graph's output `next.<name>` is its value after the step. Roles: "parameter" and
    "statistic" (BatchNorm's, where they are brought up to date) make the model; "slot" is what the
    optimizer remembers; "accumulator" adds up gradients within a cycle and is never stored.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: Literal["float32", "int64"]
    role: Literal["parameter", "statistic", "slot", "accumulator"]
    init: Init

    def resolve(self, classes: int) -> tuple[int, ...]:
        """The shape with the class axis filled in."""
        return tuple(classes if axis == CLASSES_AXIS else int(axis) for axis in self.shape)


@dataclass(frozen=True)
class Noise:
    """The uniform noise, 0 <= x < 1, of one dropout: an input of `train.onnx`, [B, *shape]."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Loss:
    """`class_weights`: None, "auto" (from the train split), or one for each class."""

    name: LossName
    label_smoothing: float = 0.0
    class_weights: Literal["auto"] | tuple[float, ...] | None = None


@dataclass(frozen=True)
class Optimizer:
    """`backbone_lr` is the learning rate of the backbone's parameters as a share of `lr`;
    `clip_norm` the largest global norm of the gradients; with `decay_all` weight decay works on
    biases and norms as well."""

    name: str
    lr: float
    hyperparameters: dict[str, float | bool]
    schedule: Schedule = Schedule()
    backbone_lr: float = 1.0
    clip_norm: float | None = None
    decay_all: bool = False


@dataclass(frozen=True)
class Member:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Run:
    """The settings and the position of one training run: all that a resumed run needs.

    A cycle takes `accumulate` batches. `best_accuracy` is None until the test split was evaluated;
    `best_cycle` is the one whose parameters the run falls back on. `stale` counts evaluations since
    the accuracy last rose. `halvings` counts how often the run fell back and halved its learning
    rate; `lr` stays as it was given. `pictures` counts those that could be read, by split.
    """

    cycles: int
    batch_size: int
    lr: float
    eval_every: int
    target_accuracy: float
    patience: int
    save_every: int
    seed: int
    split_seed: int
    pictures: dict[str, int]
    data_sha256: str
    schedule: Schedule = Schedule()
    accumulate: int = 1
    cycle: int = 0
    min_loss: float | None = None
    best_accuracy: float | None = None
    best_cycle: int = 0
    stale: int = 0
    halvings: int = 0

    @property
    def kept_cycle(self) -> int:
        """The cycle whose parameters are kept: the best one, or the last if none was tested."""
        return self.cycle if self.best_accuracy is None else self.best_cycle


@dataclass(frozen=True)
class HistoryEntry:
    """One finished training run, written into the saved model. `lr` was halved `halvings` times."""

    cycles: int
    kept_cycle: int
    batch_size: int
    lr: float
    seed: int
    split_seed: int
    stopped: str
    pictures: dict[str, int]
    data_sha256: str
    test_accuracy: float | None
    validation_accuracy: float | None
    runtime: str
    schedule: str = "constant"
    accumulate: int = 1
    halvings: int = 0


@dataclass(frozen=True)
class Manifest:
    format: Literal["tod"]
    schema: int
    kind: Literal["model", "checkpoint"]
    built_with: dict[str, str]
    backbone: Backbone
    head: str
    trainable: str
    input: InputSpec
    loss: Loss
    optimizer: Optimizer
    batch_size: int
    accumulate: int | None
    step_bytes: int
    tensors: tuple[Tensor, ...]
    noise: tuple[Noise, ...]
    opset: int
    ir_version: int
    min_onnxruntime: str
    members: dict[str, Member]
    class_count: int | None = None
    class_names: tuple[str, ...] | None = None
    base: str | None = None
    run: Run | None = None
    history: tuple[HistoryEntry, ...] = field(default=())

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What the gradient moves."""
        return tuple(tensor for tensor in self.tensors if tensor.role == "parameter")

    @property
    def model(self) -> tuple[Tensor, ...]:
        """What `predict.onnx` takes: parameters and statistics."""
        return tuple(t for t in self.tensors if t.role in ("parameter", "statistic"))

    def train_inputs(self) -> tuple[str, ...]:
        """The inputs of `train.onnx` besides the tensors."""
        names = ["features", "labels", "lr"]
        names += ["class_weights"] if self.loss.class_weights is not None else []
        names += ["apply"] if self.accumulate is not None else []
        return (*names, *(noise.name for noise in self.noise))


def with_classes(manifest: Manifest, names: tuple[str, ...]) -> Manifest:
    """The same with bound classes."""
    return replace(manifest, class_names=names, class_count=len(names))


def encode(manifest: Manifest) -> bytes:
    """The manifest as indented JSON; equal manifests give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode(data: bytes, *, where: str) -> Manifest:
    """Parse and check a manifest.

    Args:
        data: JSON bytes.
        where: the file's name, for error messages.

    Raises:
        ArtifactError: not a manifest, a newer schema, or contradictory values.
    """
    check_size(len(data), where=where)
    try:
        # Only what is declared is made of the JSON, so that the rest takes no memory.
        header = msgspec.json.decode(data, type=_Header)
        if header.format != "tod":
            raise ArtifactError(f"{where}: the manifest does not declare the format 'tod'")
        if header.schema != SCHEMA:
            raise ArtifactError(
                f"{where}: it has schema {header.schema}, this program reads {SCHEMA}",
                hint="upgrade tod on this machine, or export again with this version",
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{where}: the manifest is not valid: {error}") from error
    found = problems(manifest)
    if found:
        text = "; ".join(found[:_SHOWN])
        raise ArtifactError(f"{where}: the manifest contradicts itself: {text}")
    return manifest


def check_size(json_bytes: int, *, where: str) -> None:
    """Refuse a manifest that is too long before it is read."""
    if json_bytes > _MAX_JSON_BYTES:
        raise ArtifactError(
            f"{where}: the manifest has {json_bytes:,} bytes, at most {_MAX_JSON_BYTES:,} are read"
        )


@dataclass(frozen=True)
class _Header:
    format: str = ""
    schema: int = 0


def problems(manifest: Manifest) -> list[str]:
    """Every contradiction inside a well-formed manifest."""
    # What exceeds a limit would make nonsense, or too much work, of the rest.
    if found := list(record_problems(manifest)):
        return found
    if len(manifest.tensors) > _MAX_TENSORS:
        return [f"{len(manifest.tensors):,} tensors"]
    if found := _size_problems(manifest):
        return found
    found = _run_problems(manifest)
    names = [tensor.name for tensor in manifest.tensors]
    if len(set(names)) != len(names):
        found.append("two tensors have the same name")
    if not manifest.parameters:
        found.append("no tensor is trainable")
    if set(manifest.members) != {*GRAPHS, "state.safetensors", "vectors.safetensors"}:
        found.append(f"it lists the members {sorted(manifest.members)}")
    if manifest.class_names is not None:
        if manifest.class_count != len(manifest.class_names):
            found.append("class_count differs from the number of class_names")
        if len(set(manifest.class_names)) != len(manifest.class_names):
            found.append("two classes have the same name")
    least = 2 if manifest.loss.name == "softmax_cross_entropy" else 1
    if manifest.class_count is not None and manifest.class_count < least:
        found.append(f"{manifest.class_count} classes; at least {least} are needed")
    if not 1 <= manifest.input.size_px <= manifest.input.resize_px <= 4096:
        found.append(f"input {manifest.input.size_px} px of {manifest.input.resize_px} px")
    weights = manifest.loss.class_weights
    if isinstance(weights, tuple) and len(weights) != manifest.class_count:
        found.append(f"{len(weights)} class weights for {manifest.class_count} classes")
    if (manifest.backbone.precision == "float32") != (manifest.backbone.parity is None):
        found.append("precision and parity of the frozen part do not fit together")
    if manifest.base is not None and (
        manifest.base in (".", "..") or set(manifest.base) & set("/\\")
    ):
        found.append(f"its base {manifest.base!r} is not a file name")
    if manifest.run is not None and not 0 <= manifest.run.halvings <= 64:
        found.append(f"its learning rate was halved {manifest.run.halvings} times")
    if manifest.kind == "checkpoint" and (manifest.run is None or manifest.class_names is None):
        found.append("a checkpoint without its run or its classes")
    return found


def _size_problems(manifest: Manifest) -> list[str]:
    """Arrays that no file of this format could hold, and no device make."""
    found, total_bytes = [], 0
    for tensor in manifest.tensors:
        axes = [axis for axis in tensor.shape if isinstance(axis, int)]
        if any(axis != CLASSES_AXIS and axis not in axes for axis in tensor.shape) or any(
            not 0 < axis <= 1 << 28 for axis in axes
        ):
            found.append(f"{tensor.name} has the shape {tensor.shape[:_SHOWN]}")
        elif len(tensor.shape) > _SHOWN:
            found.append(f"{tensor.name} has {len(tensor.shape)} axes")
        else:
            count = math.prod(tensor.resolve(manifest.class_count or 1))
            total_bytes += count * (8 if tensor.dtype == "int64" else 4)
    if total_bytes > _MAX_STATE_BYTES:
        found.append(f"its tensors have {total_bytes:,} bytes")
    inputs = {"features": manifest.backbone.feature_shape} | {
        n.name: n.shape for n in manifest.noise
    }
    for name, shape in inputs.items():
        if len(shape) > _SHOWN or not all(0 < axis <= 1 << 28 for axis in shape):
            found.append(f"{name} has the shape {shape[:_SHOWN]}")
        elif math.prod(shape) > 1 << 28:
            found.append(f"{name} has {math.prod(shape):,} numbers")
    return found


def _run_problems(manifest: Manifest) -> list[str]:
    """Settings with which nothing can be trained."""
    found = []
    numbers = {"step_bytes": manifest.step_bytes + 1}
    steps = {"batch_size": (manifest.batch_size, manifest.accumulate or 1)}
    schedules = [manifest.optimizer.schedule]
    if (run := manifest.run) is not None:
        steps["run.batch_size"] = run.batch_size, run.accumulate
        numbers |= {f"run.{name}": getattr(run, name) + 1 for name in _COUNTS}
        schedules.append(run.schedule)
    for name, number in numbers.items():
        if number < 1 or (number > _MAX_RUN and not name.endswith(("seed", "step_bytes"))):
            found.append(f"{name} is out of range")
    for name, (size, count) in steps.items():
        if size < 1 or count < 1 or size * count > _MAX_STEP:
            found.append(f"{name} is {size} (x {count}), wanted 1 to {_MAX_STEP:,} in all")
    if manifest.optimizer.lr < 0 or (run is not None and run.lr < 0):
        found.append("a learning rate is below zero")
    found += [f"the schedule {s} has {wrong}" for s in schedules if (wrong := s.problem)]
    return found
