"""The manifest of an export: what its file says about itself."""

from __future__ import annotations

import platform
from dataclasses import fields
from typing import Any

import numpy as np
import onnx
import torch

import tod
from model.lowering import lowering, memory
from model.networks import trainable
from model.networks.network import Network
from model.settings import Settings
from model.train_wrap import TrainWrap
from tod.format import manifest
from tod.format.arrays import Arrays


def describe(
    network: Network,
    settings: Settings,
    chosen: str,
    probe: TrainWrap,
    axes: lowering.Axes,
    train: onnx.ModelProto,
    class_count: int | None,
) -> manifest.Manifest:
    optimizer = settings.optimizer
    rule: dict[str, Any] = {f.name: getattr(optimizer, f.name) for f in fields(optimizer)}  # type: ignore[arg-type]
    lr = rule.pop("learning_rate")
    tensor = network.input if isinstance(network.input, manifest.TensorSpec) else None
    every = sum(parameter.numel() for parameter in probe.net.parameters())
    return manifest.Manifest(
        format="tod",
        schema=2 if tensor else 1,
        kind="model",
        built_with={
            "tod": tod.__version__,
            "torch": str(torch.__version__),
            "onnx": onnx.__version__,
            "python": platform.python_version(),
        },
        backbone=manifest.BackboneSpec(
            name=network.name,
            boundary=probe.split.boundary.removeprefix(trainable.BACKBONE) or "pixels",
            feature_shape=probe.split.feature_shape,
            parameters=every - sum(value.numel() for value in probe.parameters().values()),
            weights=network.weights,
        ),
        head=network.head,
        trainable=chosen,
        input=network.input if isinstance(network.input, manifest.InputSpec) else None,
        tensor=tensor,
        loss=manifest.LossSpec(
            settings.loss.name,
            getattr(settings.loss, "label_smoothing", 0.0),
            settings.class_weights,
        ),
        optimizer=manifest.OptimizerSpec(
            optimizer.name,
            lr,
            rule,
            settings.schedule,
            settings.backbone_lr,
            settings.clip_norm,
            settings.decay_all,
        ),
        batch_size=settings.batch_size,
        accumulate=settings.accumulate,
        step_bytes=memory.step_bytes(train, settings.batch_size, class_count or 10),
        tensors=_tensor_table(probe, axes),
        noise=tuple(manifest.Noise(n, shape) for n, shape in probe.split.noise.items()),
        opset=lowering.OPSET,
        ir_version=lowering.IR_VERSION,
        min_onnxruntime=lowering.MIN_ONNXRUNTIME,
        members={},
        class_count=class_count,
    )


def _tensor_table(probe: TrainWrap, axes: lowering.Axes) -> tuple[manifest.Tensor, ...]:
    groups: dict[str, Arrays] = {
        "parameter": probe.parameters(),
        "statistic": probe.statistics(),
        "slot": probe.slots(),
        "accumulator": probe.accumulators(),
    }
    table = []
    for role, tensors in groups.items():
        for name, tensor in tensors.items():
            named = lowering.tensor_axes(axes, name)
            table.append(
                manifest.Tensor(
                    name=name,
                    shape=tuple(named.get(i, size) for i, size in enumerate(tensor.shape)),
                    dtype=str(tensor.dtype).removeprefix("torch."),  # type: ignore[arg-type]
                    role=role,  # type: ignore[arg-type]
                    init=_init(tensor) if named and role == "parameter" else manifest.Init(),
                )
            )
    return tuple(table)


def _init(tensor: torch.Tensor) -> manifest.Init:
    """Return the rule for new rows: a normal distribution like that of the existing rows."""
    values = tensor.numpy().astype(np.float64)
    mean, std = float(values.mean()), float(values.std())
    if abs(mean) < 3 * std / values.size**0.5:
        mean = 0.0
    # Keep three digits, because the spread of a sample is not more exact.
    return manifest.Init(std=float(f"{std:.3g}"), mean=float(f"{mean:.3g}"))
