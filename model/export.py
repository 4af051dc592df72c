"""Export: network + loss + optimizer -> one verified .tod file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from model.describe import describe
from model.lowering import lowering, refusal, vectors
from model.lowering import torch_reference as verify
from model.networks import efficientnet, trainable
from model.networks.backbone import Backbone, Features
from model.networks.load import load_backbone
from model.networks.network import Network, with_head
from model.reduce.precision import Precision, Reduced, check_something_is_frozen, reduce
from model.settings import Settings as Settings
from model.train_wrap import TrainWrap
from model.transfer_net import TransferNet
from tod.errors import ArtifactError, TrainingError, UsageError
from tod.format import arrays, graph, manifest
from tod.format import artifact as artifacts


@dataclass(frozen=True)
class Exported:
    """The result of an export: the file, its differences from torch, and the loss by
    quantization."""

    path: Path
    manifest: manifest.Manifest
    differences: verify.Differences
    file_bytes: int
    reduced: Reduced | None


def export(
    path: Path,
    *,
    backbone: str = efficientnet.DEFAULT,
    weights: str = "auto",
    features: Features = "pooled",
    size_px: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> Exported:
    """Make a .tod file from a backbone by name.

    Args:
        path: the file to make or replace.
        backbone, weights, features, size_px: see `model.networks.load.load_backbone`.
        progress: called with a short text before each long part.
        settings: further arguments of `export_backbone`.

    Raises:
        UsageError: an unknown backbone, or weights that are not available; also see
            `export_network`.
    """
    progress(f"loading {backbone}")
    base = load_backbone(backbone, weights=weights, features=features, size_px=size_px)
    return export_backbone(path, base, progress=progress, **settings)


def export_backbone(
    path: Path,
    base: Backbone,
    *,
    head: str = "linear",
    head_std: float = 0.01,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    class_count: int | None = None,
    precision: Precision | None = None,
    progress: Callable[[str], None] = lambda _: None,
    **settings: Any,
) -> Exported:
    """Make a .tod file from a backbone and a new head.

    Args:
        path: the file to make or replace.
        base: the pretrained part.
        head: see `model.networks.heads.parse`.
        head_std: standard deviation of the weights of the head's last layer.
        seed: for the head's weights.
        class_names, class_count, precision, progress: see `export_network`.
        settings: the fields of `Settings`.

    Raises:
        UsageError: see `export_network`.
    """
    return export_network(
        path,
        with_head(base, head, std=head_std, seed=seed),
        Settings(**settings),
        class_names=class_names,
        class_count=class_count,
        precision=precision,
        progress=progress,
    )


def export_network(
    path: Path,
    network: Network,
    settings: Settings,
    *,
    class_names: Sequence[str] | None = None,
    class_count: int | None = None,
    precision: Precision | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Make a .tod file from any network.

    Args:
        path: the file to make or replace.
        network: what to train.
        settings: how the network trains.
        class_names: bound class names, or None to choose them on the device.
        class_count: number of classes if the names stay open; None leaves both open.
        precision: precision of the frozen part; None is float32.
        progress: called with a short text before each long part.

    Raises:
        UsageError: settings without a meaning, a network that cannot be lowered, or a trained model
            at `path`.
        DataError: too few pictures to calibrate on.
        TrainingError: torch and onnxruntime disagree, or quantization changes the features too
            much; nothing is written.
        ArtifactError: the file cannot be written.
    """
    refuse_trained(path)
    count = len(class_names) if class_names is not None else class_count
    _check_settings(settings, count)
    progress("tracing the network")
    probe_net = network.build(lowering.PROBE_CLASSES)
    axes = lowering.class_axes(probe_net, network.build(lowering.OTHER_CLASSES))
    chosen = settings.trainable or network.trainable
    _refuse_frozen_classes(trainable.names(probe_net, chosen, head_name=network.head_name), axes)
    probe = _wrap(network, probe_net, settings, chosen)
    progress("lowering the three graphs")
    try:
        models = lowering.all_graphs(probe, axes, network.input)
        graphs = {n: model.SerializeToString(deterministic=True) for n, model in models.items()}
        for name, data in graphs.items():
            graph.inspect(data, where=name)
    except Exception as error:  # torch's exporters raise many kinds of errors
        progress("looking for what cannot be lowered")
        raise refusal.explain(probe, chosen, error) from error
    if precision is not None:
        _pictures_of(network)
        check_something_is_frozen(models["features.onnx"], precision)
    # Use another number of classes than the graphs were traced with, to prove that it can vary.
    wrap = _wrap(network, network.build(count or 10), settings, chosen)
    progress(f"comparing {verify.STEPS} training steps with torch")
    differences = verify.compare(wrap, graphs, network.input)
    _refuse_difference(differences)
    described = describe(network, settings, chosen, probe, axes, models["train.onnx"], count)
    reduced = None
    if precision is not None:
        shape = probe.split.feature_shape
        pictures = _pictures_of(network)
        reduced = reduce(models["features.onnx"], pictures, shape, precision, progress)
        graphs["features.onnx"] = reduced.model.SerializeToString(deterministic=True)
        frozen = replace(described.backbone, precision=precision.kind, parity=reduced.parity)
        described = replace(described, backbone=frozen)
    if class_names is not None:
        described = manifest.with_classes(described, tuple(class_names))
    state = {name: value.numpy() for name, value in (wrap.parameters() | wrap.statistics()).items()}
    if count is None:
        state = {n: v for n, v in state.items() if not axes.get(n)}
    tests = arrays.arrays_to_bytes(vectors.test_vectors(graphs, wrap, described))
    progress(f"writing {path}")
    written = artifacts.write(artifacts.Artifact(path, described, graphs, state, tests))
    artifacts.read(path)
    return Exported(path, written, differences, path.stat().st_size, reduced)


def refuse_trained(path: Path) -> None:
    """Refuse to export over a trained model: an export can be made again, a training hardly.

    Raises:
        UsageError: the file was trained.
    """
    try:
        found = artifacts.read_manifest(path)
    except ArtifactError:
        return  # no file, or none that could be used
    if found.history or found.kind == "checkpoint":
        what = "a checkpoint" if found.kind == "checkpoint" else "a trained model"
        raise UsageError(
            f"{path}: {what} is there, which the export would replace for good",
            hint="give another name with -o, or move that file away",
        )


def _check_settings(settings: Settings, count: int | None) -> None:
    least = 2 if manifest.TASKS[settings.loss.name] == "single-label" else 1
    if count is not None and count < least:
        raise UsageError(f"{count} class; at least 2 are needed")
    if settings.batch_size < 1:
        raise UsageError(f"batch size is {settings.batch_size}, at least 1 is wanted")
    weights = settings.class_weights
    if weights is not None and not settings.loss.takes_class_weights:
        raise UsageError("class weights belong to the cross entropy of one class per picture")
    if isinstance(weights, tuple) and len(weights) != count:
        raise UsageError(f"{len(weights)} class weights for {count or 'an open number of'} classes")


def _pictures_of(network: Network) -> manifest.InputSpec:
    if isinstance(network.input, manifest.TensorSpec):
        raise UsageError(
            "--quantize works on networks of pictures; the samples of this one are "
            f"{list(network.input.shape)}",
            hint="train it, then: tod convert --to tflite --quantize int8",
        )
    return network.input


def _refuse_frozen_classes(names: Sequence[str], axes: lowering.Axes) -> None:
    """Refuse frozen parameters with a row for each class, because their classes could not be chosen
    later."""
    if frozen := [name for name, counts in axes.items() if counts and name not in names]:
        raise UsageError(
            f"--trainable leaves out {', '.join(frozen)}, which has a row for each class",
            hint="add 'head.*' to the patterns",
        )


def _wrap(network: Network, net: TransferNet, settings: Settings, chosen: str) -> TrainWrap:
    names = trainable.names(net, chosen, head_name=network.head_name)
    if not names:
        raise UsageError(f"--trainable {chosen}: the network has no such parameter")
    return TrainWrap(
        net,
        settings.loss,
        settings.optimizer,
        names,
        input_shape=_input_shape(network.input),
        train_batch_norm=settings.train_batch_norm,
        backbone_lr=settings.backbone_lr,
        decay_all=settings.decay_all,
        decayed=settings.decayed,
        clip_norm=settings.clip_norm,
        class_weights=settings.class_weights is not None,
        accumulate=settings.accumulate is not None,
    )


def _input_shape(spec: manifest.SampleSpec) -> tuple[int, ...]:
    """The shape of one sample as the network takes it."""
    if isinstance(spec, manifest.TensorSpec):
        return spec.shape
    return (3, spec.size_px, spec.size_px)


def _refuse_difference(differences: verify.Differences) -> None:
    if differences.largest <= verify.TOLERANCE:
        return
    found = ", ".join(f"{f.name} {getattr(differences, f.name):.2g}" for f in fields(differences))
    raise TrainingError(
        f"torch and onnxruntime disagree by {differences.largest:.2g} (relative; {found}), at most "
        f"{verify.TOLERANCE:g} is allowed; nothing was written",
        hint="this combination of torch, onnxscript and onnxruntime is broken; install the "
        "versions of constraints.txt",
    )
