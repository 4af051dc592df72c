"""Networks that `tod export` knows by name with the same kinds of blocks, but few and narrow ones.

In the place of the whole ones they export in seconds, by the same way: our loader, the head
removed, the blocks counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import efficientnet as efficientnet_settings
from torch import nn

from model.networks import efficientnet
from model.networks.backbone import TORCHVISION
from model.networks.torchvision import _import


def small(monkeypatch: Any, name: str, blocks: int = 3) -> None:
    """Put a small network in the place of the one with this name.

    Args:
        monkeypatch: pytest's.
        name: as `tod export --backbone` takes it.
        blocks: how many of an EfficientNet.
    """
    if name.startswith(TORCHVISION):
        models = _import().models
        original = models.get_model_builder(name.removeprefix(TORCHVISION))
        # What the loader reads in the source of the builder is still the original's.
        builder = functools.wraps(original)(BUILDERS[name.removeprefix(TORCHVISION)])
        monkeypatch.setattr(models, "get_model_builder", lambda _: builder)
    else:
        monkeypatch.setattr(efficientnet.EfficientNet, "from_name", lambda _: _b0(blocks))


def _b0(count: int) -> EfficientNet:
    """Depthwise 3 x 3 and 5 x 5, squeeze-and-excitation, swish, a residual block."""
    blocks, settings = efficientnet_settings(
        width_coefficient=0.25, depth_coefficient=1.0, image_size=224, num_classes=1000
    )
    kept = [blocks[0], blocks[1], blocks[2]._replace(num_repeat=1)]
    return EfficientNet(kept[:count], settings)


def _mobilenet_v2(weights: None = None) -> nn.Module:
    return _import().models.MobileNetV2(
        width_mult=0.25, inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 2]]
    )


def _mobilenet_v3_small(weights: None = None) -> nn.Module:
    """Both activations, with squeeze-and-excitation and without it."""
    models = _import().models
    block = models.mobilenetv3.InvertedResidualConfig
    settings = [
        block(8, 3, 8, 8, True, "RE", 2, 1, 1.0),
        block(8, 3, 16, 8, False, "RE", 1, 1, 1.0),
        block(8, 5, 16, 16, True, "HS", 2, 1, 1.0),
    ]
    return models.MobileNetV3(settings, last_channel=32)


def _shufflenet_v2_x1_0(weights: None = None) -> nn.Module:
    return _import().models.ShuffleNetV2([1, 2, 1], [8, 16, 32, 64, 64])


def _convnext_tiny(weights: None = None) -> nn.Module:
    models = _import().models
    block = models.convnext.CNBlockConfig
    return models.ConvNeXt([block(12, 24, 1), block(24, None, 1)])


def _vit_b_16(weights: None = None, image_size: int = 224) -> nn.Module:
    return _import().models.VisionTransformer(image_size, 16, 2, 4, 32, 64)


BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": _mobilenet_v2,
    "mobilenet_v3_small": _mobilenet_v3_small,
    "shufflenet_v2_x1_0": _shufflenet_v2_x1_0,
    "convnext_tiny": _convnext_tiny,
    "vit_b_16": _vit_b_16,
}
