"""TrainState: every array that training changes. State in, state out; nothing hidden.

Knows arrays and the manifest's table of tensors; knows no files and no runtime.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.format.arrays import BEST, Arrays
from tod.format.manifest import CLASSES_AXIS, Manifest, Run
from tod.runtime.new_tensors import by_rule, new_tensors


@dataclass(frozen=True)
class TrainState:
    """The state that a training run carries from one cycle to the next.

    Attributes:
        tensors: everything that a step changes, by name, as the manifest lists it.
        best: the parameters and statistics to fall back on: the ones with the best accuracy on the
            test split or, before the first evaluation, the initial ones; None outside a run.
        run: settings and position of the run; None outside a run. The random state is the pair
            (run.seed, run.cycle): batches are drawn by counter, see `tod.runtime.draws`.
    """

    tensors: Arrays
    best: Arrays | None = None
    run: Run | None = None

    def parameters(self, manifest: Manifest) -> dict[str, NDArray[Any]]:
        """The tensors that `predict.onnx` takes: parameters and statistics."""
        return {tensor.name: self.tensors[tensor.name] for tensor in manifest.model}

    def keep_best(self, manifest: Manifest) -> TrainState:
        """Return a state that keeps the present parameters as the best ones."""
        return replace(self, best=self.parameters(manifest))

    def restore_best(self) -> TrainState:
        """Return a state with the best parameters; the same state if none was evaluated."""
        if self.run is None or self.run.best_accuracy is None:
            return self
        return self.restore_fallback()

    def restore_fallback(self) -> TrainState:
        """Return a state with the parameters to fall back on."""
        return replace(self, tensors={**self.tensors, **(self.best or {})})

    def with_zeros(self, manifest: Manifest) -> TrainState:
        """Return a state with slots and accumulators of zero, as in a model that was just
        loaded."""
        slots = _zeros(manifest, self.tensors, "slot")
        accumulators = _zeros(manifest, self.tensors, "accumulator")
        return replace(self, tensors={**self.tensors, **slots, **accumulators})

    def without_run(self, manifest: Manifest) -> TrainState:
        """Return a state with the model only: no run, no best parameters, slots of zero."""
        return TrainState(self.with_zeros(manifest).tensors)


def initial(manifest: Manifest, stored: Arrays, *, seed: int) -> TrainState:
    """The state before the first cycle, see `tod.runtime.new_tensors`; slots start at zero."""
    return TrainState(new_tensors(manifest, stored, seed=seed))


def add_classes(
    manifest: Manifest, state: TrainState, *, before: int, added: int, seed: int
) -> TrainState:
    """Return the state extended to more classes.

    Old rows and their slots stay as they are; new rows are made as in `initial`, new slots are
    zero. The best parameters are dropped, because their accuracy was measured on fewer classes.

    Args:
        manifest: the table of tensors.
        state: the state for the classes so far.
        before: the number of classes so far.
        added: the number of new classes; their rows come last.
        seed: for the random numbers of new rows.
    """
    streams = np.random.SeedSequence(seed).spawn(len(manifest.tensors))
    tensors: dict[str, NDArray[Any]] = {}
    for tensor, stream in zip(manifest.tensors, streams, strict=True):
        value = state.tensors[tensor.name]
        if CLASSES_AXIS in tensor.shape:
            axis = tensor.shape.index(CLASSES_AXIS)
            shape = list(tensor.resolve(before))
            shape[axis] = added
            new = by_rule(tensor, tuple(shape), stream)
            value = np.concatenate([value, new], axis=axis)
        tensors[tensor.name] = value
    return TrainState(tensors)


def _zeros(manifest: Manifest, like: Arrays, role: str) -> dict[str, NDArray[Any]]:
    wanted = [tensor.name for tensor in manifest.tensors if tensor.role == role]
    return {name: np.zeros_like(like[name]) for name in wanted}


def to_arrays(manifest: Manifest, state: TrainState) -> dict[str, NDArray[Any]]:
    """The arrays of a state in one flat table, for a checkpoint."""
    best = {} if state.best is None else {BEST + k: v for k, v in state.best.items()}
    kept = [tensor.name for tensor in manifest.tensors if tensor.role != "accumulator"]
    return {**{name: state.tensors[name] for name in kept}, **best}


def from_arrays(manifest: Manifest, arrays: Arrays) -> TrainState:
    """The inverse of `to_arrays`. Accumulators are zero because a checkpoint is written between
    cycles."""
    best = {k[len(BEST) :]: v for k, v in arrays.items() if k.startswith(BEST)}
    tensors = {k: v for k, v in arrays.items() if not k.startswith(BEST)}
    for tensor in manifest.tensors:
        if tensor.role == "accumulator":
            shape = tensor.resolve(manifest.class_count or 0)
            tensors[tensor.name] = np.zeros(shape, tensor.dtype)
    return TrainState(tensors, best or None, manifest.run)
