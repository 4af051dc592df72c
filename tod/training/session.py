"""TrainSession: a model with its training state, for use by a program on the device.

Axes: N pictures, B batch, C classes, S side in pixels, F features, if they have one axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.pictures import Pictures
from tod.errors import UsageError
from tod.format import artifact as artifacts
from tod.format.arrays import Arrays
from tod.format.manifest import Run
from tod.runtime.draws import uniform_noise
from tod.runtime.engine import runtime_version
from tod.runtime.features import picture_features
from tod.runtime.model import Model
from tod.runtime.scoring import Labels
from tod.training.closed_form import imprint, ridge
from tod.training.settings import InitName, history_entry
from tod.training.state import TrainState, add_classes, from_arrays, initial, to_arrays


class TrainSession(Model):
    """Train, evaluate and use one .tod file. Make it with `TrainSession.load`.

    Attributes:
        state: parameters, slots and position of the run (`tod.training.state.TrainState`,
            immutable); each step replaces it.
    """

    _state: TrainState
    _class_weights: NDArray[np.float32] | None = None

    @property
    def state(self) -> TrainState:
        self._check_bound()
        return self._state

    @state.setter
    def state(self, state: TrainState) -> None:
        self._state = state
        self._head_is_new = False

    @property
    def parameters(self) -> Arrays:
        return self.state.parameters(self.manifest)

    def _begin(self, *, seed: int) -> None:
        if self.manifest.kind == "checkpoint":
            self._state = from_arrays(self.manifest, self.artifact.state)
        else:
            self._state = initial(self.manifest, self.artifact.state, seed=seed)

    @property
    def run(self) -> Run:
        """Settings and position of the run that is under way."""
        if self.state.run is None:
            raise UsageError("no training run is under way", hint="use tod.train(session, dataset)")
        return self.state.run

    def add_classes(self, names: Sequence[str], *, seed: int = 0) -> None:
        """Add classes after the existing ones.

        The rows of existing classes and their slots do not change; rows for new classes are made by
        the rule in the manifest.

        Args:
            names: new class names.
            seed: for the random numbers of the new rows.

        Raises:
            UsageError: a name is known already, or the head has no rows for classes.
        """
        known = self.classes or ()
        if taken := set(names) & set(known):
            raise UsageError(f"the model knows these classes already: {', '.join(sorted(taken))}")
        if isinstance(self.manifest.loss.class_weights, tuple):
            raise UsageError("this model was exported with a fixed weight for each class")
        state = add_classes(
            self.manifest, self.state, before=len(known), added=len(names), seed=seed
        )
        together = (*known, *names)
        self.manifest = replace(
            self.manifest, class_names=together, class_count=len(together), kind="model", run=None
        )
        self.state = state

    def init_head(
        self, kind: InitName, features: NDArray[np.float32], labels: NDArray[np.int64]
    ) -> None:
        """Set a linear head in closed form, see `tod.training.closed_form`.

        Args:
            kind: "imprint" or "ridge".
            features: [N, F].
            labels: [N].

        Raises:
            UsageError: the head is not linear on the cached features, or labels are not classes.
        """
        count = len(self.classes or ())
        shapes = {t.name: t.resolve(count) for t in self.manifest.parameters}
        width = self.manifest.backbone.feature_shape
        wanted = {"head.weight": (count, *width), "head.bias": (count,)}
        if shapes != wanted or self.manifest.loss.task != "single-label":
            raise UsageError(
                f"--init {kind} needs a linear head on cached features and one class per picture",
                hint="export with the defaults: --head linear --trainable head",
            )
        weight, bias = {"imprint": imprint, "ridge": ridge}[kind](features, labels, count)
        tensors = {**self.state.tensors, "head.weight": weight, "head.bias": bias}
        self.state = replace(self.state, tensors=tensors)

    def weigh_classes(self, labels: NDArray[np.int64]) -> None:
        """Set the class weights, if the loss has them. "auto" makes each class count the same:
        weight = N / (C * pictures of the class)."""
        asked = self.manifest.loss.class_weights
        if asked == "auto":
            counts = np.bincount(labels, minlength=len(self.classes or ()))
            weights = len(labels) / (len(counts) * np.maximum(counts, 1))
            self._class_weights = weights.astype(np.float32)
        elif asked is not None:
            self._class_weights = np.array(asked, np.float32)

    def step(
        self, pictures: Pictures, labels: Sequence[Any] | Labels, *, lr: float | None = None
    ) -> float:
        """Do one training step and replace `state` with the next state.

        Args:
            pictures: B pictures, as for `predict`.
            labels: [B], indices into `classes`; or [B, C] numbers, as the loss takes them.
            lr: learning rate; the artifact's by default.

        Returns:
            The loss before the step.
        """
        rate = self.manifest.optimizer.lr if lr is None else lr
        features = picture_features(self.engine, self.manifest.samples, pictures)
        steps = int(self.state.tensors["optimizer.step"])
        whole = self.manifest.loss.task == "single-label"
        labels = np.asarray(labels, np.int64 if whole else np.float32)
        self.state, loss = self.next_state([(features, labels)], lr=rate, seed=0, cycle=steps + 1)
        return loss

    def next_state(
        self,
        batches: Sequence[tuple[NDArray[np.float32], Labels]],
        *,
        lr: float,
        seed: int,
        cycle: int,
    ) -> tuple[TrainState, float]:
        """Return the state after one update from the mean gradient of all batches; the session
        keeps its state.

        Args:
            batches: features [B, ...] and labels [B] or [B, C] of each batch.
            lr: learning rate.
            seed: for the dropout noise.
            cycle: the cycle of the run; each cycle has its own noise.

        Returns:
            The next state, and the mean loss before the update.
        """
        state = self.state
        if len(batches) > 1 and self.manifest.accumulate is None:
            raise UsageError(
                "this model cannot add up batches", hint="export it with --accumulate N"
            )
        tensors, losses = state.tensors, []
        for index, (features, labels) in enumerate(batches):
            inputs = self._inputs(features, labels, lr)
            if self.manifest.accumulate is not None:
                inputs["apply"] = np.array(index == len(batches) - 1, np.float32)
            for place, noise in enumerate(self.manifest.noise):
                shape = (len(features), *noise.shape)
                inputs[noise.name] = uniform_noise(
                    seed=seed, cycle=cycle, batch=index, index=place, shape=shape
                )
            tensors, loss, _ = self.engine.step(tensors, inputs)
            losses.append(loss)
        return replace(state, tensors=tensors), float(np.mean(losses))

    def _inputs(
        self, features: NDArray[np.float32], labels: Labels, lr: float
    ) -> dict[str, NDArray[Any]]:
        count = len(self.classes or ())
        if self.manifest.loss.task != "single-label":
            if labels.shape != (len(features), count):
                raise UsageError(f"wanted labels [{len(features)}, {count}], one per class")
        elif labels.shape != features.shape[:1] or labels.min() < 0 or labels.max() >= count:
            raise UsageError(f"wanted {len(features)} labels, each a class index below {count}")
        inputs = {"features": features, "labels": labels, "lr": np.array(lr, np.float32)}
        if self.manifest.loss.class_weights is not None:
            weights = self._class_weights
            inputs["class_weights"] = np.ones(count, np.float32) if weights is None else weights
        return inputs

    def end_run(self, stopped: str, validation_accuracy: float | None = None) -> None:
        """Add the run that is under way to the history. Only the parameters stay; slots are zero
        again, as in a model that was just loaded.

        Args:
            stopped: why the run ended.
            validation_accuracy: accuracy of the parameters that stay.
        """
        entry = history_entry(
            self.run,
            stopped=stopped,
            validation_accuracy=validation_accuracy,
            runtime=f"onnxruntime {runtime_version()}",
        )
        history = (*self.manifest.history, entry)
        self.manifest = replace(self.manifest, history=history, run=None)
        self.state = self.state.without_run(self.manifest)

    def save(self, path: str | Path) -> None:
        """Write a whole model with the present parameters and the bound classes. A run that is
        under way can continue, but is not in the file; `save_checkpoint` writes it."""
        artifacts.write_bytes(Path(path), self.packed(path))

    def packed(self, path: str | Path) -> bytes:
        """Return the bytes that `save` writes to `path`."""
        manifest = replace(self.manifest, kind="model", base=None, run=None)
        state = self.state.parameters(self.manifest)
        made = replace(
            self.artifact, path=Path(path), manifest=manifest, state=state,
            trained_on=self.trained_on,
        )  # fmt: skip
        return artifacts.packed(made)[1]

    def save_checkpoint(self, path: str | Path) -> None:
        """Write a checkpoint from which a run can continue. It is slim if the model that training
        started from is in the same folder, whole otherwise."""
        path, source = Path(path), self.artifact.source
        base = source.name if source else self.manifest.base
        manifest = replace(self.manifest, kind="checkpoint", base=base, run=self.run)
        slim = source is not None and source.parent.resolve() == path.parent.resolve()
        arrays = to_arrays(manifest, self.state)
        copy = replace(
            self.artifact, path=path, manifest=manifest, state=arrays, trained_on=self.trained_on
        )
        artifacts.write(copy, slim=slim)
