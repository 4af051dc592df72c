"""Check that this machine computes what the workstation computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.errors import ArtifactError
from tod.format import graph, manifest
from tod.format.artifact import Artifact
from tod.runtime.draws import uniform_noise
from tod.runtime.engine import Engine

# Another processor adds in another order, so the last digits differ: 2e-6 was measured between
# torch and onnxruntime. A wrong operator is off by far more than the tolerance.
TOLERANCE = 1e-3
# Features of an int8 graph change by a whole step if a sum is rounded the other way: 0.04 was
# measured between integer kernels and the same graph in float, 0.5 if sums overflow.
INT8_TOLERANCE = 0.1
_KEPT = 4096


@dataclass(frozen=True)
class Verdict:
    """Largest difference of a graph's outputs from its test vectors, relative to their largest
    value, and the largest difference that is allowed."""

    graph: str
    operators: int
    difference: float
    allowed: float


def run_vectors(artifact: Artifact) -> list[Verdict]:
    """Run every graph on its test inputs and compare with the expected outputs.

    Raises:
        ArtifactError: vectors are missing, or a vector and the output have different shapes.
        DeviceError: onnxruntime cannot run a graph.
    """
    engine = Engine(artifact.graphs)
    verdicts = []
    infos = {n: graph.inspect(artifact.graphs[n], where=n) for n in manifest.GRAPHS}
    test_vectors, classes = _vectors(artifact, infos)
    tensors = test_tensors(artifact.manifest, classes)
    for name in manifest.GRAPHS:
        vectors = test_vectors[name]
        given = {n.removeprefix("in."): a for n, a in vectors.items() if n.startswith("in.")}
        wanted = {n.removeprefix("out."): a for n, a in vectors.items() if n.startswith("out.")}
        found = engine.run(name, given | graph_tensors(artifact.manifest, name, tensors))
        differences = []
        for tensor, expected in wanted.items():
            differences.append(
                _difference(artifact, f"{name} gives {tensor}", found[tensor], expected)
            )
        operators = infos[name].operators
        in_int8 = name == "features.onnx" and artifact.manifest.backbone.precision == "int8"
        allowed = INT8_TOLERANCE if in_int8 else TOLERANCE
        difference = float(np.max(differences))
        verdicts.append(Verdict(name, sum(operators.values()), difference, allowed))
    return verdicts


def _vectors(
    artifact: Artifact, infos: dict[str, graph.GraphInfo]
) -> tuple[dict[str, dict[str, NDArray[Any]]], int]:
    """Return the test vectors and their number of classes. Every output, and every input that is
    not drawn by rule, must have a vector; otherwise a part of the graph is not tested."""
    vectors = artifact.test_vectors()
    drawn = {tensor.name for tensor in artifact.manifest.tensors}
    wanted = set()
    for name, info in infos.items():
        wanted |= {f"{name}/in.{tensor}" for tensor in info.inputs if tensor not in drawn}
        wanted |= {f"{name}/out.{tensor}" for tensor in info.outputs}
    found = {f"{name}/{key}" for name, arrays in vectors.items() for key in arrays}
    if missing := sorted(wanted - found):
        raise _damaged(artifact, f"test vectors are missing: {', '.join(missing[:8])}")
    if found - wanted:
        raise _damaged(artifact, f"it has {len(found - wanted)} test vectors of no tensor")
    logits = vectors["predict.onnx"]["out.logits"]
    if logits.ndim != 2 or not 1 <= logits.shape[1] <= _KEPT:
        raise _damaged(artifact, "the test vector of the logits is not of the shape [B, C]")
    return vectors, logits.shape[1]


def _difference(
    artifact: Artifact, what: str, found: NDArray[Any], expected: NDArray[Any]
) -> float:
    """Return the largest difference, relative to the largest expected value; NaN if an array has
    one."""
    given = sample(found)
    # NumPy may broadcast arrays of different shapes, and the difference would mean nothing.
    if given.shape != expected.shape or expected.dtype.kind not in "fi":
        raise _damaged(
            artifact, f"{what} {list(given.shape)}, its test vector is {list(expected.shape)}"
        )
    with np.errstate(all="ignore"):
        scale = float(np.abs(expected).max(initial=0)) or 1.0
        return float(np.abs(given - expected).max(initial=0)) / scale


def _damaged(artifact: Artifact, problem: str) -> ArtifactError:
    return ArtifactError(f"{artifact.path}: {problem}", hint="export the model again")


def test_tensors(described: manifest.Manifest, classes: int) -> dict[str, NDArray[Any]]:
    """Make values for every tensor that a step changes. They are the same on every machine, so a
    file need not hold them. None is zero, because an optimizer that ignores its slots would pass
    then.

    Args:
        described: the table of tensors.
        classes: length of the class axes.
    """
    made: dict[str, NDArray[Any]] = {}
    for index, tensor in enumerate(described.tensors):
        shape = tensor.resolve(classes)
        if tensor.dtype == "int64":
            made[tensor.name] = np.ones(shape, np.int64)
            continue
        noise: NDArray[Any] = uniform_noise(seed=0, cycle=0, batch=0, index=index, shape=shape)
        if tensor.role in ("slot", "accumulator"):
            noise = np.float32(0.01) * noise
        elif len(shape) > 1:
            # This range keeps the size of the activations through the layer.
            noise = np.float32((3 / np.prod(shape[1:])) ** 0.5) * (2 * noise - 1)
        else:
            noise = np.float32(0.5) + noise / 2
        # Arithmetic turns a 0-d array into a scalar, which onnxruntime does not take.
        made[tensor.name] = np.asarray(noise)
    return made


def graph_tensors(
    described: manifest.Manifest, graph_name: str, tensors: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return the tensors that one graph takes."""
    taken = {
        "features.onnx": (),
        "train.onnx": described.tensors,
        "predict.onnx": described.model,
    }[graph_name]
    return {tensor.name: tensors[tensor.name] for tensor in taken}


def sample(array: NDArray[Any]) -> NDArray[Any]:
    """Return what a file keeps of an expected output: all of it, or some numbers of a large
    output."""
    step = -(-array.size // _KEPT)
    return array if step <= 1 else array.ravel()[::step]
