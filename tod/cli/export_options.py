"""The options of `tod export`, in the order in which its help shows them."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from tod.format import schedule

_NETWORK, _TRAINING, _OPTIMIZER = "The network", "What trains and how", "Optimizer"
_SMALLER = "A smaller and faster frozen part"


class FeatureKind(str, Enum):
    pooled = "pooled"
    logits = "logits"


class OptimizerName(str, Enum):
    """The optimizers with their default learning rates (measured on scenes and places, see
    docs/performance.md). A test compares the names with `model.step.optimizers.OPTIMIZERS`."""

    lr: float

    def __new__(cls, name: str, lr: float) -> OptimizerName:
        member = str.__new__(cls, name)
        member._value_, member.lr = name, lr
        return member

    sgd = "sgd", 0.02
    adam = "adam", 0.003
    adamw = "adamw", 0.003
    rmsprop = "rmsprop", 0.001
    keras_adam = "keras-adam", 0.003


class LossKind(str, Enum):
    """The losses and their tasks; a test compares them with `model.step.losses.LOSSES`."""

    answers: str

    def __new__(cls, name: str, answers: str) -> LossKind:
        member = str.__new__(cls, name)
        member._value_, member.answers = name, answers
        return member

    cross_entropy = "cross-entropy", "one class per picture"
    bce = "bce", "several"
    mse = "mse", "numbers (targets.csv)"


class BatchNormKind(str, Enum):
    keep = "keep"
    train = "train"


class PrecisionName(str, Enum):
    int8 = "int8"
    fp16 = "fp16"


class RecipeName(str, Enum):
    mindspore = "mindspore"


Network = Annotated[
    Path | None,
    typer.Argument(
        help="Your own network: a Python file with build(classes), or an INI file of nntrainer."
    ),
]
Output = Annotated[Path, typer.Option("-o", "--output", help="The .tod file to make.")]
Own = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="FILE.py:NAME, if the function is not called build.",
        rich_help_panel=_NETWORK,
    ),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="efficientnet-lite0 (default), efficientnet-b0 to -b7, or torchvision:NAME.",
        rich_help_panel=_NETWORK,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="auto (package or download; default), FILE, or none for random ones; .bin for an INI.",
        rich_help_panel=_NETWORK,
    ),
]
Features = Annotated[
    FeatureKind | None,
    typer.Option(
        metavar="<name>",
        help="Input of the head: pooled features (default), or logits, those of ImageNet.",
        rich_help_panel=_NETWORK,
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        help="Side of the pictures in pixels, if not that of the weights.",
        rich_help_panel=_NETWORK,
    ),
]
Head = Annotated[
    str | None,
    typer.Option(
        help="linear (default), mlp:N, or mlp:N,silu,dropout=0.2.", rich_help_panel=_NETWORK
    ),
]
HeadStd = Annotated[
    float | None,
    typer.Option(
        help="Standard deviation of the head's last weights (default: 0.01).",
        rich_help_panel=_NETWORK,
    ),
]
Classes = Annotated[
    int | None,
    typer.Option(
        help="Number of classes (default: chosen on the device).", rich_help_panel=_NETWORK
    ),
]
ClassesFrom = Annotated[
    Path | None,
    typer.Option(help="Bind the class names of this dataset.", rich_help_panel=_NETWORK),
]
Trainable = Annotated[
    str | None,
    typer.Option(
        help="head (default), last:K blocks, all, or patterns: 'features.17.*,classifier.*'.",
        rich_help_panel=_TRAINING,
    ),
]
BatchNorm = Annotated[
    BatchNormKind,
    typer.Option(
        metavar="<name>",
        help="keep, or train: BatchNorm that trains brings its statistics up to date as well.",
        rich_help_panel=_TRAINING,
    ),
]
Loss = Annotated[
    LossKind,
    typer.Option(
        metavar="<name>",
        help=f"{'; '.join(f'{loss.value}: {loss.answers}' for loss in LossKind)}.",
        rich_help_panel=_TRAINING,
    ),
]
LabelSmoothing = Annotated[
    float,
    typer.Option(help="Share of a label spread over all classes.", rich_help_panel=_TRAINING),
]
ClassWeights = Annotated[
    str | None,
    typer.Option(
        help="auto (each class counts the same), or a number for each class: 1,2,1.",
        rich_help_panel=_TRAINING,
    ),
]
BatchSize = Annotated[int, typer.Option(help="Default of the device.", rich_help_panel=_TRAINING)]
Accumulate = Annotated[
    int | None,
    typer.Option(
        help="Batches in a cycle; their mean gradient makes a step (the device may change it)",
        rich_help_panel=_TRAINING,
    ),
]
Recipe = Annotated[
    RecipeName | None,
    typer.Option(
        metavar="<name>",
        help="mindspore: the settings of MindSpore Lite's example.",
        rich_help_panel=_TRAINING,
    ),
]
Seed = Annotated[
    int, typer.Option(help="Random seed for the head's weights.", rich_help_panel=_TRAINING)
]
Optimizer = Annotated[
    OptimizerName | None,
    typer.Option(
        metavar="<name>",
        help=f"The update rule: {', '.join(o.value for o in OptimizerName)} (default: sgd).",
        rich_help_panel=_OPTIMIZER,
    ),
]
Lr = Annotated[
    float | None,
    typer.Option(
        help=f"Learning rate (default: {', '.join(f'{o.value} {o.lr:g}' for o in OptimizerName)}).",
        rich_help_panel=_OPTIMIZER,
    ),
]
BackboneLr = Annotated[
    float,
    typer.Option(
        help="That of the backbone's parameters as a share of it.", rich_help_panel=_OPTIMIZER
    ),
]
LrSchedule = Annotated[
    str,
    typer.Option(
        "--schedule",
        help=f"Learning-rate schedule: constant, {schedule.EXAMPLES}.",
        rich_help_panel=_OPTIMIZER,
    ),
]
Momentum = Annotated[
    float | None,
    typer.Option(help="Momentum of sgd (default: 0.9), rmsprop (0).", rich_help_panel=_OPTIMIZER),
]
Dampening = Annotated[
    float | None,
    typer.Option(help="Dampening of sgd's momentum (default: 0.01).", rich_help_panel=_OPTIMIZER),
]
Nesterov = Annotated[
    bool, typer.Option(help="Nesterov momentum for sgd.", rich_help_panel=_OPTIMIZER)
]
WeightDecay = Annotated[
    float | None,
    typer.Option(
        help="Added to the gradient; of adamw, shrinks the weight (default: 0, adamw 0.01).",
        rich_help_panel=_OPTIMIZER,
    ),
]
DecayAll = Annotated[
    bool,
    typer.Option(help="Decay biases and norms as well.", rich_help_panel=_OPTIMIZER),
]
ClipNorm = Annotated[
    float | None,
    typer.Option(help="Largest global norm of the gradients.", rich_help_panel=_OPTIMIZER),
]
Quantize = Annotated[
    PrecisionName | None,
    typer.Option(
        metavar="<name>",
        help="int8: integers, about a quarter of the size; fp16: weights of half the size.",
        rich_help_panel=_SMALLER,
    ),
]
Calibrate = Annotated[
    Path | None,
    typer.Option(
        help="Class folders with pictures like those of the device, for int8.",
        rich_help_panel=_SMALLER,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        help="Write it even if the features differ too much from float32's.",
        rich_help_panel=_SMALLER,
    ),
]
