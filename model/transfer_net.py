"""A network in two parts: a frozen backbone and a trainable head.

Axes: N pictures, S side in pixels, F features, C classes.
"""

from __future__ import annotations

import torch
from torch import nn


class TransferNet(nn.Module):
    """`head(backbone(x))`. The backbone is frozen: evaluation mode, no gradients.

    Args:
        backbone: float32 [N, 3, S, S], normalised -> features [N, F].
        head: features [N, F] -> logits [N, C].
    """

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.eval().requires_grad_(False)
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))

    def train(self, mode: bool = True) -> TransferNet:
        """Switch the head; the backbone's BatchNorm keeps its statistics in either mode."""
        super().train(mode)
        self.backbone.eval()
        return self


class PixelsToFeatures(nn.Module):
    """What `features.onnx` computes: uint8 pixels [N, S, S, 3] -> features [N, F].

    The normalisation lies inside, so that every runtime and language sees the same numbers.

    Args:
        backbone: as for `TransferNet`.
        mean, std: per channel, of values 0..1.
    """

    def __init__(
        self, backbone: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        mean64, std64 = torch.tensor(mean).double(), torch.tensor(std).double()
        self.register_buffer("scale", (1 / (255 * std64)).float())
        self.register_buffer("shift", (-mean64 / std64).float())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = pixels.to(torch.float32) * self.scale + self.shift
        return self.backbone(x.permute(0, 3, 1, 2))
