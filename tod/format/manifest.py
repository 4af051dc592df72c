"""Everything that a .tod file declares about itself, as frozen records.

Knows JSON and nothing else: no files, no arrays, no runtime. docs/format.md explains the fields.
The range in a field's type is checked when JSON is read, see `tod.format.manifest_checks`; rules
between several fields are checked there, too.
Axes in tensor shapes: an int is fixed; the text "classes" is the number of classes, or of outputs
if the labels are numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, TypeAlias

import msgspec

from tod.format.schedule import Schedule

# Schema 2 is that of models whose samples are no pictures; older programs refuse it.
SCHEMAS = (1, 2)
GRAPHS = ("features.onnx", "train.onnx", "predict.onnx")
CLASSES_AXIS = "classes"
MAX_TENSORS = 20_000
LossName = Literal["softmax_cross_entropy", "binary_cross_entropy", "mean_squared_error"]
Task = Literal["single-label", "multi-label", "regression"]
# The task of each loss. The task decides about targets, scores and predictions, so code on the
# device asks for the task, not for the loss.
TASKS: dict[LossName, Task] = {
    "softmax_cross_entropy": "single-label",
    "binary_cross_entropy": "multi-label",
    "mean_squared_error": "regression",
}
Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]  # cycles and the like
Rate = Annotated[float, msgspec.Meta(ge=0)]
# A learning rate divided by 2^64 changes nothing any more.
Halvings = Annotated[int, msgspec.Meta(ge=0, le=64)]
Side = Annotated[int, msgspec.Meta(ge=1, le=4096)]  # of a picture, px
Axis = Annotated[int, msgspec.Meta(ge=1, le=1 << 28)]  # of a tensor


@dataclass(frozen=True)
class InputSpec:
    """How a picture becomes the array that `features.onnx` takes: `pixels`, uint8 [N, size_px,
    size_px, 3].

    With the crop "center" the shorter side is resized to `resize_px`, then the centre `size_px` x
    `size_px` is cut out; with "none" the whole picture is resized to `size_px` x `size_px`. Pixels
    are always RGB. The graph itself does the rest: `colour` is the channel order that the network
    was trained with, `mean` and `std` (in that order, of values 0..1) are its normalisation.
    """

    size_px: Side
    resize_px: Side
    interpolation: Literal["bicubic", "bilinear"]
    crop: Literal["center", "none"]
    colour: Literal["rgb", "bgr"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return (self.size_px, self.size_px, 3)

    @property
    def dtype(self) -> Literal["uint8"]:
        return "uint8"

    @property
    def name(self) -> str:
        """The name of the graph's input."""
        return "pixels"


@dataclass(frozen=True)
class TensorSpec:
    """A sample that is no picture: `features.onnx` takes `inputs`, [N, *shape].

    The graph itself does the rest, (x - mean) / std: one number for all, or one for each index of
    the first axis of a sample. `inputs` and `target` are the columns of a table, or the arrays of a
    file, from which samples and labels were read; none as long as they are not chosen.
    """

    shape: Annotated[tuple[Axis, ...], msgspec.Meta(min_length=1, max_length=8)]
    dtype: Literal["float32", "uint8"] = "float32"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    inputs: tuple[str, ...] = ()
    target: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the graph's input."""
        return "inputs"


SampleSpec: TypeAlias = InputSpec | TensorSpec


@dataclass(frozen=True)
class Weights:
    """Where the frozen weights came from."""

    source: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class Parity:
    """How far features of a reduced precision are from float32 features, measured at export.

    The `pictures` were not used for calibration; they come from the dataset with `data_sha256`, or
    were made by rule if that is None. `cosine` is the mean similarity over them, `least_cosine` the
    worst. `agreement` is the share of pictures for which one head predicts the same class from both
    kinds of features. The accuracies are those of a head trained and tested on each kind; they are
    None if no class was known. `float_layers` are the ones of the `layers` that stayed in float.
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
class BackboneSpec:
    """The frozen part ends at the layer `boundary`; its output has `feature_shape` for one picture.
    `parameters` counts the frozen numbers. `precision` is that of the frozen weights; with "int8"
    the frozen part computes in integers, too."""

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

    The graph's output `next.<name>` is its value after the step. Roles: "parameter" and "statistic"
    (BatchNorm's, if training updates them) make the model; "slot" is optimizer state; "accumulator"
    adds up gradients within a cycle and is never stored.
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
    """Uniform noise, 0 <= x < 1, of one dropout layer: an input of `train.onnx`, [B, *shape]."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class LossSpec:
    """`class_weights`: None, "auto" (from the train split), or one for each class."""

    name: LossName
    label_smoothing: float = 0.0
    class_weights: Literal["auto"] | tuple[float, ...] | None = None

    @property
    def task(self) -> Task:
        return TASKS[self.name]


@dataclass(frozen=True)
class OptimizerSpec:
    """`backbone_lr` is the learning rate of the backbone's parameters as a share of `lr`;
    `clip_norm` the largest global norm of the gradients; with `decay_all` weight decay works on
    biases and norms, too."""

    name: str
    lr: Rate
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
    `best_cycle` is the cycle whose parameters the run falls back on. `stale` counts evaluations
    since the accuracy last rose. `halvings` counts how often the run fell back and halved its
    learning rate; `lr` stays as it was given. `pictures` is the number of readable pictures by
    split.
    """

    cycles: Count
    batch_size: Positive
    lr: Rate
    eval_every: Count
    target_accuracy: float
    patience: Count
    save_every: Count
    seed: Natural
    split_seed: Natural
    pictures: dict[str, int]
    data_sha256: str
    schedule: Schedule = Schedule()
    accumulate: Positive = 1
    cycle: Count = 0
    min_loss: float | None = None
    best_accuracy: float | None = None
    best_cycle: Count = 0
    stale: Count = 0
    halvings: Halvings = 0

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
    backbone: BackboneSpec
    head: str
    trainable: str
    input: InputSpec | None
    loss: LossSpec
    optimizer: OptimizerSpec
    batch_size: int
    accumulate: int | None
    step_bytes: Natural
    tensors: Annotated[tuple[Tensor, ...], msgspec.Meta(max_length=MAX_TENSORS)]
    noise: tuple[Noise, ...]
    opset: int
    ir_version: int
    min_onnxruntime: str
    members: dict[str, Member]
    class_count: int | None = None
    class_names: tuple[str, ...] | None = None
    base: str | None = None
    run: Run | None = None
    tensor: TensorSpec | None = None
    history: tuple[HistoryEntry, ...] = field(default=())

    @property
    def samples(self) -> SampleSpec:
        """What one sample is: a picture (`input`) or not (`tensor`)."""
        spec = self.tensor or self.input
        assert spec is not None  # see `tod.format.manifest_checks`
        return spec

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The tensors that the gradient changes."""
        return tuple(tensor for tensor in self.tensors if tensor.role == "parameter")

    @property
    def model(self) -> tuple[Tensor, ...]:
        """The tensors that `predict.onnx` takes: parameters and statistics."""
        return tuple(t for t in self.tensors if t.role in ("parameter", "statistic"))

    @property
    def split_seed(self) -> int | None:
        """The seed that the data of the last run was split with; None if there was no run."""
        if self.run is not None:
            return self.run.split_seed
        return self.history[-1].split_seed if self.history else None

    @property
    def kept_cycle(self) -> int | None:
        """The cycle of the last run from which the parameters come; None if there was no run."""
        if self.run is not None:
            return self.run.cycle
        return self.history[-1].kept_cycle if self.history else None

    def train_inputs(self) -> tuple[str, ...]:
        """The inputs of `train.onnx` besides the tensors."""
        names = ["features", "labels", "lr"]
        names += ["class_weights"] if self.loss.class_weights is not None else []
        names += ["apply"] if self.accumulate is not None else []
        return (*names, *(noise.name for noise in self.noise))


def with_classes(manifest: Manifest, names: tuple[str, ...]) -> Manifest:
    """Return the manifest with bound classes."""
    return replace(manifest, class_names=names, class_count=len(names))


def encode(manifest: Manifest) -> bytes:
    """Write the manifest as indented JSON; equal manifests give equal bytes. A model of pictures
    has no entry `tensor`, and a schedule without pieces none of these, as in files from before
    there were others."""
    record = msgspec.to_builtins(manifest)
    if manifest.tensor is None:
        record.pop("tensor", None)
    for part in (record["optimizer"], record["run"] or {}):
        for name in ("at", "shares"):
            if not part.get("schedule", {}).get(name, True):
                del part["schedule"][name]
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"
