"""The command `tod info`: what a .tod file is."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tod.cli import options
from tod.report.tables import print_pairs, print_table, ratio

if TYPE_CHECKING:
    from tod.format.artifact import Artifact
    from tod.format.manifest import BackboneSpec, LossSpec, Manifest, OptimizerSpec, SampleSpec


def info(
    file: Annotated[Path, typer.Argument(help="A .tod file.")],
    require_signature: options.RequireSignature = None,
    as_json: Annotated[bool, typer.Option("--json", help="The manifest as JSON.")] = False,
) -> None:
    """What a .tod file is: network, classes, tensors, sizes, optimizer, history.

    Example: tod info transfer_learning.tod
    """
    from tod.format import artifact, manifest

    found = artifact.read(file, require_signature=require_signature)
    if as_json:
        print(manifest.encode(found.manifest).decode(), end="")
    else:
        _print(found)


def _print(artifact: Artifact) -> None:
    print_pairs(str(artifact.path), _pairs(artifact))
    tensors = artifact.manifest.tensors
    rows = [(t.name, " x ".join(map(str, t.shape)) or "scalar", t.dtype, t.role) for t in tensors]
    print_table("tensors", ("name", "shape", "dtype", "role"), rows)
    members = artifact.manifest.members.items()
    sizes = [(n, f"{m.bytes:,}", m.sha256[:16]) for n, m in members]
    print_table("members", ("name", "bytes", "SHA-256"), sizes)
    history = [
        (
            str(e.cycles), str(e.kept_cycle), f"{e.lr:g}", str(e.seed), e.stopped,
            ratio(e.test_accuracy), ratio(e.validation_accuracy),
        )
        for e in artifact.manifest.history
    ]  # fmt: skip
    if history:
        columns = ("cycles", "kept", "lr", "seed", "ended by", "test", "validation")
        print_table("history", columns, history)


def _pairs(artifact: Artifact) -> list[tuple[str, str]]:
    m = artifact.manifest
    names = ", ".join(m.class_names) if m.class_names else "chosen on the device"
    hyper = ", ".join(f"{k} {v:g}" for k, v in m.optimizer.hyperparameters.items())
    pairs = [
        ("kind", m.kind + (f" of {m.base}" if m.base else "")),
        ("classes", f"{m.class_count}: {names}" if m.class_count else names),
        ("backbone", m.backbone.name),
        ("head", m.head),
        (
            "weights",
            f"{m.backbone.weights.source}; licence: {m.backbone.weights.licence or 'none'}",
        ),
        *boundary_pairs(m),
        ("precision", _precision(m.backbone)),
        ("input", _input(m.samples)),
        ("loss", _loss(m.loss)),
        ("optimizer", f"{m.optimizer.name}, lr {m.optimizer.lr:g}, {hyper}{_more(m.optimizer)}"),
        ("schedule", str(m.optimizer.schedule)),
        ("batch size", f"{m.batch_size}" + (f" x {m.accumulate}" if m.accumulate else "")),
        (
            "runs on",
            f"onnxruntime {m.min_onnxruntime} or newer (opset {m.opset}, IR {m.ir_version})",
        ),
        ("signed by", "nobody" if artifact.signature is None else artifact.signature.key),
        ("built with", ", ".join(f"{k} {v}" for k, v in m.built_with.items())),
    ]
    if m.run is not None:
        best = f", best test accuracy {ratio(m.run.best_accuracy)} at cycle {m.run.best_cycle}"
        pairs.append(("run", f"cycle {m.run.cycle} of {m.run.cycles}, seed {m.run.seed}{best}"))
    return pairs


def boundary_pairs(m: Manifest) -> list[tuple[str, str]]:
    """Describe where the frozen part ends and what that costs."""
    from tod.format.manifest import CLASSES_AXIS

    shape = m.backbone.feature_shape
    kib = 4 * prod(shape) / 1024
    fixed = [t for t in m.parameters if CLASSES_AXIS not in t.shape]
    trainable = sum(prod(t.resolve(1)) for t in fixed)
    rows = [t for t in m.parameters if CLASSES_AXIS in t.shape]
    if m.class_count is not None:
        trainable += sum(prod(t.resolve(m.class_count)) for t in rows)
        counted = f"{trainable:,}"
    else:
        each = sum(prod(t.resolve(1)) for t in rows)
        counted = " and ".join(
            [f"{trainable:,}"] * bool(trainable) + [f"{each:,} per class"] * bool(each)
        )
    return [
        ("trainable", f"{m.trainable}: {counted} parameters; {m.backbone.parameters:,} frozen"),
        (
            "boundary",
            f"after {m.backbone.boundary}: {' x '.join(map(str, shape))} numbers, {kib:,.1f} KiB "
            "for a picture",
        ),
        ("memory", f"about {m.step_bytes / 1e6:,.1f} MB for a step of {m.batch_size} pictures"),
    ]


def _precision(backbone: BackboneSpec) -> str:
    """Describe the precision of the frozen part, and its loss."""
    parity = backbone.parity
    if parity is None:
        return f"{backbone.precision} frozen part"
    kept = f", {len(parity.float_layers)} of {parity.layers} layers in float"
    return (
        f"{backbone.precision} frozen part{kept if backbone.precision == 'int8' else ''}; cosine "
        f"of its features to float32 {parity.cosine:.4f}, at least {parity.least_cosine:.4f}"
    )


def _input(spec: SampleSpec) -> str:
    from tod.format.manifest import TensorSpec

    if isinstance(spec, TensorSpec):
        shape = " x ".join(map(str, spec.shape))
        columns = f", of {', '.join(spec.inputs)}" if spec.inputs else ""
        return f"{spec.dtype} {shape}{columns}"
    crop = f", centre of {spec.resize_px} px" if spec.crop == "center" else ", the whole picture"
    return f"{spec.size_px} px{crop}, {spec.interpolation}, {spec.colour}"


def _loss(loss: LossSpec) -> str:
    smoothing = f", label smoothing {loss.label_smoothing:g}" if loss.label_smoothing else ""
    weights = loss.class_weights
    if isinstance(weights, tuple):
        weights = " ".join(f"{weight:g}" for weight in weights)  # type: ignore[assignment]
    return loss.name + smoothing + (f", class weights {weights}" if weights else "")


def _more(optimizer: OptimizerSpec) -> str:
    share = optimizer.backbone_lr
    below = f", backbone {optimizer.lr * share:g}" if share != 1 else ""
    clip = f", gradients clipped to {optimizer.clip_norm:g}" if optimizer.clip_norm else ""
    return below + clip + (", decay of biases and norms" if optimizer.decay_all else "")
