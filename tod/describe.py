"""`tod info` and `tod verify`: what a .tod file is, and whether this machine computes it right."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from tod import graph, manifest
from tod.artifact import Artifact
from tod.engine import Engine, check_runtime, runtime_version
from tod.errors import DeviceError
from tod.report import print_pairs, print_table

# Sums in another order, on another processor, differ in the last digits: 2e-6 was seen between
# torch and onnxruntime. A wrong operator is off by far more than this.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verdict:
    """Largest difference of a graph's outputs from its test vectors, relative to their largest."""

    graph: str
    operators: int
    difference: float


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


def verify(artifact: Artifact, *, as_json: bool) -> None:
    """Run the test vectors here and print how far the results are off.

    Raises:
        DeviceError: the runtime is too old, or a result differs by more than `TOLERANCE`.
    """
    check_runtime(artifact.manifest.min_onnxruntime)
    verdicts = run_vectors(artifact)
    if as_json:
        print(msgspec.json.encode(verdicts).decode())
    else:
        rows = [(v.graph, str(v.operators), f"{v.difference:.1e}") for v in verdicts]
        print_table(
            f"{artifact.path}: hashes, structure and operators are right; "
            f"test vectors in onnxruntime {runtime_version()}:",
            ("graph", "operators", "difference"),
            rows,
        )
    wrong = [v for v in verdicts if not v.difference <= TOLERANCE]
    if wrong:
        found = ", ".join(f"{v.graph} by {v.difference:.2g}" for v in wrong)
        raise DeviceError(
            f"this machine computes something else than the workstation: {found} "
            f"(relative, at most {TOLERANCE:g} is right)",
            hint="try another version of onnxruntime",
        )


def run_vectors(artifact: Artifact) -> list[Verdict]:
    """Run every graph on its test inputs and compare with the expected outputs."""
    engine = Engine(artifact.graphs)
    verdicts = []
    test_vectors = artifact.test_vectors()
    for name in manifest.GRAPHS:
        vectors = test_vectors[name]
        inputs = {n.removeprefix("in."): a for n, a in vectors.items() if n.startswith("in.")}
        wanted = {n.removeprefix("out."): a for n, a in vectors.items() if n.startswith("out.")}
        found = engine.run(name, inputs)
        differences = []
        for tensor, expected in wanted.items():
            scale = float(np.abs(expected).max()) or 1.0
            differences.append(float(np.abs(found[tensor] - expected).max()) / scale)
        operators = graph.inspect(artifact.graphs[name], where=name).operators
        verdicts.append(Verdict(name, sum(operators.values()), float(np.max(differences))))
    return verdicts


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
