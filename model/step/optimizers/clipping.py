"""Limit the norm of the gradients."""

from __future__ import annotations

import torch

from model.step.optimizers.optimizer import Tensors


def clip(gradients: Tensors, most: float) -> Tensors:
    """Scale all gradients down together so that their global norm is at most `most`.

    Source: `torch.nn.utils.clip_grad_norm_`, its 1e-6 included.
    """
    square = torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum()
    factor = torch.clamp(most / (torch.sqrt(square) + 1e-6), max=1.0)
    return {name: gradient * factor for name, gradient in gradients.items()}
