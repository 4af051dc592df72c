"""The small models of tests/files: what each is, and how they are made anew.

    python -m tests.support.tiny_models

The tests of what runs on devices take the files and never load torch. tests/model/test_files.py
compares them with what the exporter makes, so a change of the exporter needs the command above.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.export import export_backbone
from model.networks.backbone import Backbone
from model.step.losses import BinaryCrossEntropy, MeanSquaredError
from model.step.optimizers import SGD, Adam
from tests.conftest import FILES, TINY_SPEC
from tod.format.manifest import TensorSpec, Weights


class Contrast(nn.Module):
    """Brings every picture to the same contrast, and forgot those that have none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean((1, 2, 3), keepdim=True)
        return x / x.square().mean((1, 2, 3), keepdim=True).sqrt()


def backbone(name: str, *layers: nn.Module) -> Backbone:
    """8 features of 16 x 16 pixels."""
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    weights = Weights("random numbers of a test", "", "")
    return Backbone(name, module.eval(), 8, TINY_SPEC, weights)


def tiny_backbone() -> Backbone:
    """Random weights: exports in a second, trains in milliseconds."""
    torch.manual_seed(0)
    return backbone("tiny", nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU())


def contrast_backbone() -> Backbone:
    """Gives NaN for a picture of one colour."""
    torch.manual_seed(0)
    return backbone("contrast", Contrast(), nn.Conv2d(3, 8, 4, stride=4))


def samples_backbone() -> Backbone:
    """Samples that are no pictures: 4 x 4 bytes."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU())
    weights = Weights("random numbers of a test", "", "")
    return Backbone("samples", module.eval(), 8, TensorSpec((4, 4), "uint8", std=(255.0,)), weights)


# File -> settings of export; the backbone is the tiny one where none is named.
MODELS: dict[str, dict[str, Any]] = {
    "tiny": {"optimizer": SGD(0.1, dampening=0.01)},
    # With a head and class names of its own; also what the fuzzers begin with.
    "bound": {"optimizer": SGD(0.1), "class_names": ("a", "b", "c")},
    # Whatever a state can hold: dropout, BatchNorm in training, accumulators, Adam's slots.
    "deep": {
        "head": "mlp:12,silu,dropout=0.3", "trainable": "all", "train_batch_norm": True,
        "accumulate": 2, "class_weights": "auto", "backbone_lr": 0.5, "clip_norm": 1.0,
        "optimizer": Adam(0.01),
    },
    "dropout": {"head": "mlp:12,silu,dropout=0.3", "accumulate": 2, "optimizer": Adam(0.001)},
    "numbers": {"loss": MeanSquaredError(), "optimizer": SGD(0.1, momentum=0.0)},
    "numbers_momentum": {"loss": MeanSquaredError(), "optimizer": SGD(0.1), "accumulate": 2},
    "numbers_adam": {"loss": MeanSquaredError(), "optimizer": Adam(0.01)},
    "several_classes": {"loss": BinaryCrossEntropy(), "optimizer": Adam(0.05)},
    "samples": {"base": samples_backbone, "optimizer": Adam(0.01)},
    "contrast": {"base": contrast_backbone, "optimizer": SGD(0.1)},
}  # fmt: skip


def make(name: str, folder: Path) -> Path:
    """Export one of them into a folder."""
    settings = {"base": tiny_backbone, "batch_size": 8, **MODELS[name]}
    base = settings.pop("base")()
    return export_backbone(folder / f"{name}.tod", base, **settings).path


if __name__ == "__main__":
    for name in MODELS:
        print(f"{make(name, FILES)}: {(FILES / f'{name}.tod').stat().st_size:,} bytes")
