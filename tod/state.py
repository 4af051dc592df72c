"""TrainState: every array that training changes. State in, state out; nothing hidden.

Knows arrays and the manifest's table of tensors; knows no files and no runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.errors import ArtifactError
from tod.manifest import CLASSES_AXIS, Manifest, Run

Arrays = Mapping[str, NDArray[Any]]
_BEST = "best."


@dataclass(frozen=True)
class TrainState:
    """What a training run carries from one cycle to the next.

    Attributes:
        tensors: trainable parameters and optimizer slots by name, as the manifest lists them.
        best: the parameters with the best accuracy on the test split; None before the first
            evaluation.
        run: settings and position of the run; None outside a run. The random state is the pair
            (run.seed, run.cycle): batches are drawn by counter, see `tod.sampling`.
    """

    tensors: Arrays
    best: Arrays | None = None
    run: Run | None = None

    def parameters(self, manifest: Manifest) -> dict[str, NDArray[Any]]:
        """The tensors that `predict.onnx` takes."""
        return {tensor.name: self.tensors[tensor.name] for tensor in manifest.parameters}

    def keep_best(self, manifest: Manifest) -> TrainState:
        """Take the present parameters as the best ones."""
        return replace(self, best=self.parameters(manifest))

    def restore_best(self) -> TrainState:
        """The best parameters in the place of the present ones; unchanged if there are none."""
        if self.best is None:
            return self
        return replace(self, tensors={**self.tensors, **self.best})

    def without_run(self, manifest: Manifest) -> TrainState:
        """Only the parameters stay; slots are zero again, as in a model that was just loaded."""
        slots = {
            tensor.name: np.zeros_like(self.tensors[tensor.name])
            for tensor in manifest.tensors
            if tensor.role == "slot"
        }
        return TrainState({**self.tensors, **slots})


def initial(manifest: Manifest, stored: Arrays, *, classes: int, seed: int) -> TrainState:
    """The state before the first cycle.

    What the artifact stores is taken; what depends on a number of classes that was open at
    export is made here by the manifest's rule; slots start at zero.

    Args:
        manifest: the table of tensors.
        stored: tensors that the artifact carries, possibly none.
        classes: the number of classes.
        seed: of the random numbers for new parameters.
    """
    # One stream for each tensor: adding a tensor leaves the others as they were.
    streams = np.random.SeedSequence(seed).spawn(len(manifest.tensors))
    tensors: dict[str, NDArray[Any]] = {}
    for tensor, stream in zip(manifest.tensors, streams, strict=True):
        shape = tensor.resolve(classes)
        if tensor.role == "parameter" and tensor.name in stored:
            tensors[tensor.name] = stored[tensor.name]
        elif tensor.init.std > 0:
            generator = np.random.Generator(np.random.Philox(stream))
            noise = generator.standard_normal(shape) * tensor.init.std
            tensors[tensor.name] = noise.astype(tensor.dtype)
        else:
            tensors[tensor.name] = np.zeros(shape, tensor.dtype)
    return TrainState(tensors)


def to_arrays(state: TrainState) -> dict[str, NDArray[Any]]:
    """All arrays of a state in one flat table, for a checkpoint."""
    best = {} if state.best is None else {_BEST + k: v for k, v in state.best.items()}
    return {**state.tensors, **best}


def from_arrays(manifest: Manifest, arrays: Arrays) -> TrainState:
    """The inverse of `to_arrays`."""
    best = {k[len(_BEST) :]: v for k, v in arrays.items() if k.startswith(_BEST)}
    tensors = {k: v for k, v in arrays.items() if not k.startswith(_BEST)}
    return TrainState(tensors, best or None, manifest.run)


def check_arrays(manifest: Manifest, arrays: Arrays, *, where: str) -> None:
    """Compare the stored arrays with the manifest's table, before any of them is used.

    Raises:
        ArtifactError: a tensor is missing, unknown, or has another shape or dtype. All
            differences are named at once.
    """
    expected = _expected(manifest)
    found = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    problems = [
        f"{name} is {found.get(name, 'missing')}, wanted {expected.get(name, 'no such tensor')}"
        for name in sorted({*expected, *found})
        if expected.get(name) != found.get(name)
    ]
    if problems:
        raise ArtifactError(f"{where}: state.safetensors does not fit: {'; '.join(problems)}")


def _expected(manifest: Manifest) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of each array that this file has to store."""
    resuming = manifest.kind == "checkpoint"
    expected: dict[str, tuple[tuple[int, ...], str]] = {}
    for tensor in manifest.tensors:
        if manifest.class_count is None and CLASSES_AXIS in tensor.shape:
            continue
        wanted = (tensor.resolve(manifest.class_count or 0), tensor.dtype)
        if resuming or tensor.role == "parameter":
            expected[tensor.name] = wanted
        evaluated = manifest.run is not None and manifest.run.best_accuracy is not None
        if resuming and evaluated and tensor.role == "parameter":
            expected[_BEST + tensor.name] = wanted
    return expected
