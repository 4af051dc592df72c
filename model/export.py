"""Export: backbone + head + loss + optimizer -> one verified .tod file."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

import tod
from model import backbones, heads, lowering, verify
from model.backbones import Backbone, Features
from model.optimizers import Optimizer
from model.train_wrap import TrainWrap
from model.transfer_net import PixelsToFeatures, TransferNet
from tod import artifact as artifacts
from tod import graph, manifest
from tod.errors import TrainingError, UsageError
from tod.state import Arrays


@dataclass(frozen=True)
class Exported:
    """What an export made, and how far it is from torch."""

    path: Path
    manifest: manifest.Manifest
    differences: verify.Differences
    file_bytes: int


def export(
    path: Path,
    *,
    backbone: str = backbones.DEFAULT,
    weights: str = "auto",
    features: Features = "pooled",
    progress: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> Exported:
    """Make a .tod file from a backbone by name.

    Args:
        path: the file to make or replace.
        backbone, weights, features: see `model.backbones.load`.
        progress: called with a short text before each long part.
        settings: those of `export_backbone`.

    Raises:
        UsageError: an unknown backbone, or weights that cannot be had; also see
            `export_backbone`.
    """
    progress(f"loading {backbone}")
    base = backbones.load(backbone, weights=weights, features=features)
    return export_backbone(path, base, progress=progress, **settings)


def export_backbone(
    path: Path,
    base: Backbone,
    *,
    optimizer: Optimizer,
    class_names: Sequence[str] | None = None,
    class_count: int | None = None,
    batch_size: int = 32,
    head_std: float = 0.01,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Make a .tod file from a backbone and a linear head.

    Args:
        path: the file to make or replace.
        base: the frozen part.
        optimizer: its learning rate becomes the artifact's.
        class_names: bound class names, or None to choose them on the device.
        class_count: number of classes where the names stay open; None leaves both open.
        batch_size: default of the device.
        head_std: standard deviation of the head's weights.
        seed: of the head's weights.
        progress: called with a short text before each long part.

    Raises:
        UsageError: settings that cannot be meant.
        TrainingError: torch and onnxruntime disagree; nothing is written.
        ArtifactError: the file cannot be written.
    """
    count = len(class_names) if class_names is not None else class_count
    if count is not None and count < 2:
        raise UsageError(f"{count} class; at least 2 are needed")
    if batch_size < 1:
        raise UsageError(f"batch size is {batch_size}, at least 1 is wanted")
    to_features = PixelsToFeatures(base.module, base.input.mean, base.input.std).eval()

    def wrap_for(classes: int) -> TrainWrap:
        head = heads.linear(base.feature_count, classes, std=head_std, seed=seed)
        return TrainWrap(TransferNet(base.module, head), optimizer=optimizer)

    probe = wrap_for(lowering.PROBE_CLASSES)
    if base.feature_count == lowering.PROBE_CLASSES:
        raise UsageError(f"a backbone with {base.feature_count} features cannot be exported")
    progress("lowering the three graphs")
    graphs = _graphs(probe, to_features, base)
    wrap = wrap_for(count or 10)
    progress(f"comparing {verify.STEPS} training steps with torch")
    differences = verify.compare(wrap, to_features, graphs, base.input.size_px)
    if not differences.largest <= verify.TOLERANCE:
        raise TrainingError(
            f"torch and onnxruntime disagree by {differences.largest:.2g} (relative; features "
            f"{differences.features:.2g}, loss {differences.loss:.2g}, parameters "
            f"{differences.parameters:.2g}, logits {differences.logits:.2g}), at most "
            f"{verify.TOLERANCE:g} is allowed; nothing was written",
            hint="this combination of torch, onnxscript and onnxruntime is broken; install the "
            "versions of constraints.txt",
        )
    state: Arrays = {}
    if count is not None:
        state = {name: value.numpy() for name, value in wrap.parameters().items()}
    described = _describe(
        base,
        probe,
        head_std,
        batch_size,
        count,
        None if class_names is None else tuple(class_names),
    )
    vectors = artifacts.arrays_to_bytes(verify.test_vectors(graphs, wrap, base.input.size_px))
    progress(f"writing {path}")
    written = artifacts.write(artifacts.Artifact(path, described, graphs, state, vectors))
    artifacts.read(path)
    return Exported(path, written, differences, path.stat().st_size)


def _graphs(probe: TrainWrap, to_features: torch.nn.Module, base: Backbone) -> dict[str, bytes]:
    models = {
        "features.onnx": lowering.features_graph(to_features, base.input.size_px),
        "train.onnx": lowering.train_graph(probe, base.feature_count),
        "predict.onnx": lowering.predict_graph(probe, base.feature_count),
    }
    graphs = {name: model.SerializeToString(deterministic=True) for name, model in models.items()}
    for name, data in graphs.items():
        graph.inspect(data, where=name)
    return graphs


def _describe(
    base: Backbone,
    probe: TrainWrap,
    head_std: float,
    batch_size: int,
    class_count: int | None,
    class_names: tuple[str, ...] | None,
) -> manifest.Manifest:
    optimizer = probe.optimizer
    settings: dict[str, Any] = {f.name: getattr(optimizer, f.name) for f in fields(optimizer)}  # type: ignore[arg-type]
    lr = settings.pop("learning_rate")
    return manifest.Manifest(
        format="tod",
        schema=manifest.SCHEMA,
        kind="model",
        built_with={
            "tod": tod.__version__,
            "torch": str(torch.__version__),
            "onnx": onnx.__version__,
            "python": platform.python_version(),
        },
        backbone=manifest.Backbone(
            name=base.name,
            features=base.features,
            feature_shape=(base.feature_count,),
            parameters=sum(parameter.numel() for parameter in base.module.parameters()),
            weights=base.weights,
        ),
        input=base.input,
        loss="softmax_cross_entropy",
        optimizer=manifest.Optimizer(optimizer.name, lr, settings),
        batch_size=batch_size,
        tensors=_tensor_table(probe, head_std),
        opset=lowering.OPSET,
        ir_version=lowering.IR_VERSION,
        min_onnxruntime=lowering.MIN_ONNXRUNTIME,
        members={},
        class_count=class_count,
        class_names=class_names,
    )


def _tensor_table(probe: TrainWrap, head_std: float) -> tuple[manifest.Tensor, ...]:
    parameters = probe.parameters()
    tensors = {**parameters, **probe.optimizer.init(parameters)}
    table = []
    for (name, tensor), axes in zip(tensors.items(), lowering.tensor_axes(probe), strict=True):
        array: NDArray[Any] = tensor.numpy()
        role = "parameter" if name in parameters else "slot"
        random = role == "parameter" and bool(np.any(array))
        table.append(
            manifest.Tensor(
                name=name,
                shape=tuple(axes.get(i, size) for i, size in enumerate(array.shape)),
                dtype=str(array.dtype),  # type: ignore[arg-type]
                role=role,  # type: ignore[arg-type]
                init=manifest.Init(head_std if random else 0.0),
            )
        )
    return tuple(table)
