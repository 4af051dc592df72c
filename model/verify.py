"""Prove that the graphs compute what torch computes, before anything is written.

The reference is torch's own autograd, `nn.CrossEntropyLoss` and `torch.optim`, not the functions
that the graphs were made from.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from model.optimizers import SGD, Adam, Optimizer
from model.train_wrap import TrainWrap
from tod.engine import Engine

STEPS = 20
# The learning rate is an input of the graph, so any value proves it; with a large one training
# oscillates on these pictures and blows rounding errors up to any size.
LEARNING_RATE = 0.01
TOLERANCE = 1e-4
_PICTURES = 32


@dataclass(frozen=True)
class Differences:
    """Largest difference between torch and onnxruntime, divided by the largest value there is."""

    features: float
    loss: float
    parameters: float
    logits: float

    @property
    def largest(self) -> float:
        # np.max and not max: a NaN anywhere must win.
        return float(np.max([self.features, self.loss, self.parameters, self.logits]))


def compare(
    wrap: TrainWrap, to_features: nn.Module, graphs: Mapping[str, bytes], side_px: int
) -> Differences:
    """Run 20 training steps and one evaluation through torch and through onnxruntime.

    Args:
        wrap: network, loss and optimizer.
        to_features: the `PixelsToFeatures` that `features.onnx` was made from.
        graphs: the three graphs by name.
        side_px: side of the pictures.
    """
    engine = Engine(graphs)
    pixels = smooth_pictures(_PICTURES, side_px)
    with torch.no_grad():
        parts = [to_features(torch.from_numpy(part)) for part in np.split(pixels, _PICTURES // 4)]
    reference_features = torch.cat(parts).numpy()
    ours = np.concatenate([engine.features(part) for part in np.split(pixels, _PICTURES // 4)])
    # Both train on the same features: Adam divides by the gradient's size, and would blow the
    # last digit of a feature that is almost always zero up to a difference of 1e-3.
    theirs = torch.from_numpy(ours)
    parameters = wrap.parameters()
    classes = wrap.logits(parameters, theirs[:1]).shape[1]
    labels = np.arange(_PICTURES, dtype=np.int64) % classes

    head = copy.deepcopy(wrap.net.head).requires_grad_(True).train()
    reference = torch_optimizer(wrap.optimizer, head.parameters(), lr=LEARNING_RATE)
    criterion = nn.CrossEntropyLoss()
    slots = wrap.optimizer.init(parameters)
    tensors = {name: value.numpy() for name, value in {**parameters, **slots}.items()}
    losses = []
    for step in range(STEPS):
        rows = (np.arange(16) + 5 * step) % _PICTURES
        reference.zero_grad()
        loss = criterion(head(theirs[rows]), torch.from_numpy(labels[rows]))
        loss.backward()
        reference.step()
        tensors, loss_here, _ = engine.step(tensors, ours[rows], labels[rows], LEARNING_RATE)
        losses.append((loss_here, float(loss.detach())))
    head.eval()
    after = {f"head.{name}": value.detach().numpy() for name, value in head.named_parameters()}
    logits = engine.predict({name: tensors[name] for name in parameters}, ours)
    with torch.no_grad():
        reference_logits = head(theirs).numpy()
    return Differences(
        features=relative(ours, reference_features),
        loss=relative(*map(np.array, zip(*losses, strict=True))),
        parameters=max(relative(tensors[name], after[name]) for name in parameters),
        logits=relative(logits, reference_logits),
    )


def test_vectors(
    graphs: Mapping[str, bytes], wrap: TrainWrap, side_px: int
) -> dict[str, NDArray[Any]]:
    """Inputs and outputs of every graph, as `<graph>/in.<tensor>` and `<graph>/out.<tensor>`.

    Any machine can run the inputs again and compare (`tod verify`).
    """
    engine = Engine(graphs)
    generator = torch.Generator().manual_seed(1)
    features = engine.features(smooth_pictures(4, side_px))
    parameters = wrap.parameters()
    slots = wrap.optimizer.init(parameters)
    # A few random values, not the initial zeros: an optimizer that ignores its slots would pass.
    tensors = {
        name: value if value.dtype == torch.int64 else value + 0.01 * _noise(value, generator).abs()
        for name, value in {**parameters, **slots}.items()
    }
    classes = wrap.logits(parameters, torch.from_numpy(features[:1])).shape[1]
    feeds: dict[str, dict[str, NDArray[Any]]] = {
        "features.onnx": {"pixels": smooth_pictures(1, side_px)},
        "train.onnx": {
            **{name: value.numpy() for name, value in tensors.items()},
            "features": features,
            "labels": np.arange(len(features), dtype=np.int64) % classes,
            "lr": np.array(wrap.optimizer.learning_rate, np.float32),
        },
        "predict.onnx": {
            **{name: tensors[name].numpy() for name in parameters},
            "features": features,
        },
    }
    vectors: dict[str, NDArray[Any]] = {}
    for graph, inputs in feeds.items():
        vectors |= {f"{graph}/in.{name}": value for name, value in inputs.items()}
        outputs = engine.run(graph, inputs)
        vectors |= {f"{graph}/out.{name}": value for name, value in outputs.items()}
    return vectors


def smooth_pictures(count: int, side_px: int) -> NDArray[np.uint8]:
    """Seeded pictures of coloured clouds, uint8 [N, S, S, 3]: white noise would leave most of a
    network's filters silent."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    fine = functional.interpolate(coarse, size=(side_px, side_px), mode="bicubic")
    pixels = (fine.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return np.ascontiguousarray(pixels.numpy())


def torch_optimizer(
    optimizer: Optimizer, parameters: Any, *, lr: float | None = None
) -> torch.optim.Optimizer:
    """The optimizer of `torch.optim` that ours has to equal."""
    lr = optimizer.learning_rate if lr is None else lr
    if isinstance(optimizer, SGD):
        return torch.optim.SGD(
            parameters,
            lr=lr,
            momentum=optimizer.momentum,
            dampening=optimizer.dampening,
            weight_decay=optimizer.weight_decay,
            nesterov=optimizer.nesterov,
        )
    assert isinstance(optimizer, Adam)
    return torch.optim.Adam(
        parameters,
        lr=lr,
        betas=(optimizer.beta1, optimizer.beta2),
        eps=optimizer.eps,
        weight_decay=optimizer.weight_decay,
    )


def relative(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Largest absolute difference divided by the largest absolute value wanted."""
    scale = float(np.abs(wanted).max()) or 1.0
    return float(np.abs(found - wanted).max()) / scale


def _noise(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(like.shape, generator=generator)
