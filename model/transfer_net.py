"""A network in two parts, a backbone and a head, and the modules that turn samples into its input.

Axes: N pictures, S side in pixels, F features, C classes.
"""

from __future__ import annotations

import torch
from torch import nn

from tod.format.manifest import InputSpec, SampleSpec, TensorSpec


class TransferNet(nn.Module):
    """`head(backbone(x))`. Dropout and the like are active in the head only: the backbone stays in
    evaluation mode, even if parts of it train.

    Args:
        backbone: float32 [N, 3, S, S], or other samples, normalised -> features [N, F].
        head: features [N, F] -> logits [N, C].
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.eval()
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))

    def train(self, mode: bool = True) -> TransferNet:
        """Switch the mode of the head; the backbone stays in evaluation mode."""
        super().train(mode)
        self.backbone.eval()
        return self


class PixelsToFeatures(nn.Module):
    """The computation of `features.onnx`: uint8 pixels [N, S, S, 3], RGB -> features [N, ...].

    The normalisation is inside, so that every runtime and language gets the same numbers.

    Args:
        frozen: float32 [N, 3, S, S], normalised -> features.
        spec: gives mean and std, and the channel order of both.
    """

    def __init__(self, frozen: nn.Module, spec: InputSpec) -> None:
        super().__init__()
        self.frozen = frozen
        self.swap = spec.colour == "bgr"
        mean, std = torch.tensor(spec.mean).double(), torch.tensor(spec.std).double()
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (-mean / std).float())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = pixels.flip(3) if self.swap else pixels
        x = x.to(torch.float32) * self.scale + self.shift
        return self.frozen(x.permute(0, 3, 1, 2))


class TensorsToFeatures(nn.Module):
    """The computation of `features.onnx` for samples that are no pictures: [N, *shape] -> features.

    Args:
        frozen: float32 [N, *shape] -> features.
        spec: gives mean and std, of all numbers or of each index of the first axis of a sample.
    """

    def __init__(self, frozen: nn.Module, spec: TensorSpec) -> None:
        super().__init__()
        self.frozen = frozen
        mean, std = torch.tensor(spec.mean).double(), torch.tensor(spec.std).double()
        axes = (-1, *(1 for _ in spec.shape[1:]))
        self.register_buffer("scale", (1 / std).float().reshape(axes))
        self.register_buffer("shift", (-mean / std).float().reshape(axes))
        self.as_they_are = set(spec.mean) == {0} and set(spec.std) == {1}

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        x = samples.to(torch.float32)
        return self.frozen(x if self.as_they_are else x * self.scale + self.shift)


def to_features(frozen: nn.Module, spec: SampleSpec) -> nn.Module:
    """The computation of `features.onnx`, from samples as they are read."""
    if isinstance(spec, TensorSpec):
        return TensorsToFeatures(frozen, spec)
    return PixelsToFeatures(frozen, spec)
