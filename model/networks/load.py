"""Load a pretrained backbone by name, from any source."""

from __future__ import annotations

from dataclasses import replace

import torch

from model.networks import efficientnet
from model.networks.backbone import TORCHVISION, Backbone, Features, resized
from tod.errors import UsageError
from tod.system.names import near_names


def load_backbone(
    name: str = efficientnet.DEFAULT,
    *,
    weights: str = "auto",
    features: Features = "pooled",
    size_px: int | None = None,
) -> Backbone:
    """Build a backbone and load its weights.

    Args:
        name: one of `efficientnet.NAMES`, or "torchvision:" and the name of one of its
            classification models.
        weights: "auto" (from the installed package, or downloaded on first use), a file with a
            state dict, or "none" for random weights; for torchvision also the name of weights that
            it lists.
        features: the input of the head: "pooled" (before the classifier) or "logits" (the 1000
            ImageNet classes).
        size_px: side of the pictures, if not the size that the weights were made for.

    Raises:
        UsageError: an unknown name, or weights that do not fit or are not available.
        DataError: the weights file cannot be read.
    """
    if size_px is not None and not 32 <= size_px <= 2048:
        raise UsageError(f"--size is {size_px}, wanted 32 to 2048 pixels")
    torch.manual_seed(0)  # makes random weights (--weights none) the same every time
    if name.startswith(TORCHVISION):
        # Importing torchvision takes seconds.
        from model.networks import torchvision

        base = torchvision.load(name, weights=weights, features=features, size_px=size_px)
    elif name in efficientnet.NAMES:
        base = efficientnet.load(name, weights=weights, features=features)
    else:
        raise UsageError(
            f"there is no backbone '{name}'",
            hint=f"{near_names(name, efficientnet.NAMES)}; or torchvision:NAME, such as "
            "torchvision:resnet18",
        )
    return base if size_px is None else replace(base, input=resized(base.input, size_px))
