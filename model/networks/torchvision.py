"""torchvision's classification networks as backbones. The only user of torchvision.

Axes: N pictures, S side in pixels, F features.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.networks.backbone import RANDOM, TORCHVISION, Backbone, Features, load_file, sha256
from tod.errors import UsageError, first_line
from tod.format.manifest import InputSpec, Weights
from tod.system.names import near_names

# The normalisation of torchvision's ImageNet weights, unless they state another.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load(name: str, *, weights: str, features: Features, size_px: int | None) -> Backbone:
    """Build one of torchvision's networks, without its last linear layer for pooled features.

    Args:
        name: "torchvision:" and a name of `torchvision.models.list_models`.
        weights: "auto" (torchvision's default for it, downloaded on first use), one of the names
            that torchvision lists for it, a file with a state dict, or "none".
        features: "pooled" or "logits".
        size_px: side of the pictures, for networks that are built for one size.

    Raises:
        UsageError: an unknown name, or weights that do not fit or are not available.
    """
    models = _import().models
    short = name.removeprefix(TORCHVISION)
    known = models.list_models(module=models)
    if short not in known:
        raise UsageError(f"there is no backbone '{name}'", hint=near_names(short, known))
    listed = list(models.get_model_weights(short))
    # A vision transformer's position embedding counts the patches of one size.
    builder = models.get_model_builder(short)
    settings: dict[str, Any] = {"weights": None}
    if size_px is not None and "image_size" in _settings(builder):
        settings["image_size"] = size_px
    net = builder(**settings)
    entry = _listed(listed, weights, short)
    record = _load(net, entry, weights, short)
    spec = _input_spec(entry or (listed[0] if listed else None))
    head_name, head = _last_linear(net, name)
    if features == "pooled":
        _replace(net, head_name, nn.Identity())
        return Backbone(name, net.eval(), head.in_features, spec, record, head_name)
    return Backbone(name, net.eval(), head.out_features, spec, record)


def _import() -> Any:
    try:
        # A torchvision wheel beside a torch of another kind (CUDA, CPU) has compiled operators
        # that do not load, and the import fails at the schemas of these two. Networks need neither
        # operator.
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in (
            "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
            "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
        ):
            if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
                library.define(schema)
        import torchvision

        torchvision._keep_schemas = library  # the schemas vanish with the object that defined them
    except Exception as error:  # whatever a broken pair of wheels raises
        raise UsageError(
            f"torchvision cannot be loaded: {first_line(error)}",
            hint="install the versions of torch and torchvision in constraints.txt",
        ) from error
    return torchvision


def _settings(builder: Any) -> set[str]:
    """Find the settings of a builder, or of the function to which it passes its settings."""
    source = inspect.getsource(inspect.unwrap(builder))
    return {"image_size"} if "_vision_transformer(" in source else set()


def _listed(listed: list[Any], weights: str, short: str) -> Any:
    """Find the entry in torchvision's list, or None for random weights."""
    by_name = {entry.name: entry for entry in listed}
    if weights == "none":
        return None
    if weights == "auto":
        if not listed:
            raise UsageError(f"torchvision has no weights for {short}", hint="--weights FILE")
        return type(listed[0]).DEFAULT
    if weights in by_name:
        return by_name[weights]
    path = Path(weights)
    if not path.is_file():
        raise UsageError(
            f"--weights {weights}: no such file, and none of torchvision's for {short}",
            hint=f"give a file, auto, none, or one of: {', '.join(by_name) or 'none listed'}",
        )
    digest = sha256(path)
    # torchvision's files carry the start of their hash in their name.
    return next((e for e in listed if Path(e.url).stem.endswith(digest[:8])), None)


def _load(net: nn.Module, entry: Any, weights: str, short: str) -> Weights:
    if weights == "none":
        return RANDOM
    if Path(weights).is_file():
        return load_file(net, Path(weights))
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    try:
        net.load_state_dict(entry.get_state_dict(progress=False, check_hash=True))
    except Exception as error:  # no network, an incomplete file, or an HTML page in its place
        raise UsageError(
            f"the weights {cached.name} of {short} could not be downloaded or read: "
            f"{first_line(error)}",
            hint=f"get {entry.url} on a machine with internet and put it at {cached}, or give it "
            "with --weights FILE",
        ) from error
    return Weights(entry.url, sha256(cached), str(entry.meta.get("license", "BSD-3-Clause")))


def _input_spec(entry: Any) -> InputSpec:
    """Return the input that torchvision states for these weights."""
    if entry is None:
        return InputSpec(224, 256, "bilinear", "center", "rgb", _MEAN, _STD)
    stated = entry.transforms()
    return InputSpec(
        size_px=stated.crop_size[0],
        resize_px=max(stated.resize_size[0], stated.crop_size[0]),
        interpolation="bicubic" if stated.interpolation.value == "bicubic" else "bilinear",
        crop="center",
        colour="rgb",
        mean=tuple(stated.mean),
        std=tuple(stated.std),
    )


def _last_linear(net: nn.Module, name: str) -> tuple[str, nn.Linear]:
    linear = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear)]
    # A network may end in a convolution, as SqueezeNet does.
    if not linear or linear[-1][1].out_features != 1000:
        raise UsageError(f"{name} does not end in a linear layer", hint="choose another backbone")
    return linear[-1]


def _replace(net: nn.Module, name: str, module: nn.Module) -> None:
    path, _, last = name.rpartition(".")
    setattr(net.get_submodule(path), last, module)
