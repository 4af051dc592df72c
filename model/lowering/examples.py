"""Make fixed example pictures and inputs, to test graphs with.

Axes: N pictures, B batch, S side in pixels, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from model.lowering import lowering
from model.step.losses import Loss
from model.train_wrap import TrainWrap
from tod.data.tensors import random_samples
from tod.format.manifest import TASKS, InputSpec, SampleSpec

# The learning rate is an input of the graph, so any value tests it. With a large rate, training
# oscillates on these pictures.
LEARNING_RATE = 0.001


def smooth_pictures(count: int, side_px: int) -> NDArray[np.uint8]:
    """Make seeded pictures of coloured clouds, uint8 [N, S, S, 3]. White noise would leave most of
    a network's filters inactive."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    fine = functional.interpolate(coarse, size=(side_px, side_px), mode="bicubic")
    pixels = (fine.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    return np.ascontiguousarray(pixels.numpy())


def example_samples(spec: SampleSpec, count: int) -> NDArray[Any]:
    """Make seeded samples: pictures as above, or numbers."""
    if isinstance(spec, InputSpec):
        return smooth_pictures(count, spec.size_px)
    return random_samples(spec, count)


def step_inputs(wrap: TrainWrap, rows: int, classes: int) -> dict[str, NDArray[Any]]:
    """Make the inputs of `train.onnx` beside the tensors, with seeded noise and unequal class
    weights."""
    example = lowering.example_inputs(wrap, rows, classes)
    generator = torch.Generator().manual_seed(2)
    for name, shape in wrap.split.noise.items():
        example[name] = torch.rand((rows, *shape), generator=generator)
    inputs = {name: value.numpy() for name, value in example.items()}
    inputs["lr"] = np.array(LEARNING_RATE, np.float32)
    if wrap.class_weights:
        inputs["class_weights"] = np.linspace(0.5, 1.5, classes, dtype=np.float32)
    return inputs


def targets(loss: Loss, rows: int, classes: int) -> NDArray[Any]:
    """Make labels of each class in turn: int64 [N], or float32 [N, C]."""
    labels = np.arange(rows, dtype=np.int64) % classes
    if TASKS[loss.name] == "single-label":
        return labels
    return np.eye(classes, dtype=np.float32)[labels]
