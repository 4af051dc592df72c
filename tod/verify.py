"""`tod verify`: does this machine compute what the workstation computed?"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from tod import graph, manifest
from tod.artifact import Artifact
from tod.engine import Engine, check_runtime, runtime_version
from tod.errors import DeviceError
from tod.report import print_table

# Sums in another order, on another processor, differ in the last digits: 2e-6 was seen between
# torch and onnxruntime. A wrong operator is off by far more than this.
TOLERANCE = 1e-3


@dataclass(frozen=True)
class Verdict:
    """Largest difference of a graph's outputs from its test vectors, relative to their largest."""

    graph: str
    operators: int
    difference: float


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
