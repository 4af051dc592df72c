"""`tod info`: what a .tod file is."""

from __future__ import annotations

import numpy as np

from tod import manifest
from tod.artifact import Artifact
from tod.report import print_pairs, print_table


def describe(artifact: Artifact, *, as_json: bool) -> None:
    """Print what a file declares; as JSON, the manifest itself."""
    if as_json:
        print(manifest.encode(artifact.manifest).decode(), end="")
        return
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
            _ratio(e.test_accuracy), _ratio(e.validation_accuracy),
        )
        for e in artifact.manifest.history
    ]  # fmt: skip
    if history:
        columns = ("cycles", "kept", "lr", "seed", "ended by", "test", "validation")
        print_table("history", columns, history)


def _pairs(artifact: Artifact) -> list[tuple[str, str]]:
    m = artifact.manifest
    trainable = sum(int(np.prod([a for a in t.shape if isinstance(a, int)])) for t in m.parameters)
    per_class = any(manifest.CLASSES_AXIS in t.shape for t in m.parameters)
    if per_class and m.class_count is not None:
        trainable = sum(int(np.prod(t.resolve(m.class_count))) for t in m.parameters)
    counted = f"{trainable:,}" + (" per class" if per_class and m.class_count is None else "")
    names = ", ".join(m.class_names) if m.class_names else "chosen on the device"
    hyper = ", ".join(f"{k} {v:g}" for k, v in m.optimizer.hyperparameters.items())
    pairs = [
        ("kind", m.kind + (f" of {m.base}" if m.base else "")),
        ("classes", f"{m.class_count}: {names}" if m.class_count else names),
        ("backbone", f"{m.backbone.name}, {m.backbone.features} {m.backbone.feature_shape}"),
        (
            "weights",
            f"{m.backbone.weights.source}; licence: {m.backbone.weights.licence or 'none'}",
        ),
        ("parameters", f"{counted} trainable, {m.backbone.parameters:,} frozen"),
        (
            "input",
            f"{m.input.size_px} px, centre of {m.input.resize_px} px, {m.input.interpolation}",
        ),
        ("loss", m.loss),
        ("optimizer", f"{m.optimizer.name}, lr {m.optimizer.lr:g}, {hyper}"),
        ("batch size", str(m.batch_size)),
        (
            "runs on",
            f"onnxruntime {m.min_onnxruntime} or newer (opset {m.opset}, IR {m.ir_version})",
        ),
        ("built with", ", ".join(f"{k} {v}" for k, v in m.built_with.items())),
    ]
    if m.run is not None:
        best = f", best test accuracy {_ratio(m.run.best_accuracy)} at cycle {m.run.best_cycle}"
        pairs.append(("run", f"cycle {m.run.cycle} of {m.run.cycles}, seed {m.run.seed}{best}"))
    return pairs


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
