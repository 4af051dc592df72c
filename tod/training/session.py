"""TrainSession: one artifact, its state and its features; what a program on the device uses.

Axes: N pictures, B batch, C classes, S side in pixels, F features where they are one row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.dataset import Dataset
from tod.data.splits import Split
from tod.errors import ArtifactError, DataError, TrainingError, UsageError
from tod.format import artifact as artifacts
from tod.format.artifact import Artifact
from tod.format.graph import join_inference
from tod.format.manifest import Manifest, Run
from tod.runtime.draws import uniform_noise
from tod.runtime.engine import Engine, Observer, check_runtime, runtime_version
from tod.runtime.feature_cache import choose_folder
from tod.runtime.features import Features, FeatureStore, Pictures, picture_features
from tod.runtime.scoring import Answers, Evaluation, answers_of, score
from tod.system.files import write_whole
from tod.system.machine import available_cores
from tod.training.closed_form import imprint, ridge
from tod.training.settings import InitName, history_entry
from tod.training.state import TrainState, add_classes, from_arrays, initial, to_arrays

# A prediction takes so many rows at once that their features stay below this.
_PREDICT_BYTES = 1 << 20


class TrainSession:
    """Train, evaluate and use one .tod file. Make it with `TrainSession.load`.

    Attributes:
        state: parameters, slots and position of the run (`tod.training.state.TrainState`,
            immutable); each step puts a new one in its place.
        store: the features of the pictures seen so far.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        threads: int,
        observe: Observer | None,
        cache: str | os.PathLike[str] | bool,
    ) -> None:
        self.artifact = artifact
        self.manifest: Manifest = artifact.manifest
        self.threads = threads
        # Features with more than one axis mean convolutions, or the like, in the step.
        deep = len(self.manifest.backbone.feature_shape) > 1
        self.engine = Engine(artifact.graphs, threads=threads if deep else 1, observe=observe)
        # Printed in order, an observed run is one picture batch after the other.
        workers = 1 if observe else threads
        self.store = FeatureStore(
            self.engine,
            artifact.manifest,
            workers=workers,
            folder_for=lambda dataset: choose_folder(dataset.root, artifact.path, cache),
        )
        self._state: TrainState | None = None
        self._head_is_new = False
        self._class_weights: NDArray[np.float32] | None = None
        if self.manifest.kind == "checkpoint":
            self._state = from_arrays(self.manifest, artifact.state)
        elif self.manifest.class_names is not None:
            self.bind(self.manifest.class_names)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        threads: int | None = None,
        observe: Observer | None = None,
        cache: str | os.PathLike[str] | bool = True,
        require_signature: str | Path | None = None,
        continues: Path | None = None,
    ) -> TrainSession:
        """Open and verify a .tod file: a fresh export, a checkpoint or a trained model.

        Args:
            path: the file.
            threads: pictures looked at side by side; as many as there are cores by default.
            observe: called with name, inputs and outputs after each run of a graph.
            cache: the folder that keeps the features of pictures; True chooses it as
                `tod.runtime.feature_cache.choose_folder` says, False keeps them in memory.
            require_signature: a file with a public key; a .tod file that its holder has not
                signed is refused.
            continues: `path` is a checkpoint that was written here in training this model; the
                model is signed in its place.

        Raises:
            ArtifactError: it is missing, damaged, not a .tod file or not signed as required.
            DeviceError: onnxruntime here is too old for it, or no signature can be checked.
        """
        if threads is not None and threads < 1:
            raise UsageError(f"threads is {threads}, at least 1 is wanted")
        key = None if require_signature is None else Path(require_signature)
        artifact = artifacts.read(path, require_signature=key, continues=continues)
        check_runtime(artifact.manifest.min_onnxruntime)
        return cls(artifact, threads=threads or available_cores(), observe=observe, cache=cache)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names, None as long as they are open."""
        return self.manifest.class_names

    @property
    def split_seed(self) -> int | None:
        """The seed that the data of the last run was split with; None if there was no run. With
        it a plain tree is split as it was then, and nothing trained on is used to validate."""
        if self.manifest.run is not None:
            return self.manifest.run.split_seed
        return self.manifest.history[-1].split_seed if self.manifest.history else None

    @property
    def state(self) -> TrainState:
        if self._state is None:
            raise UsageError(
                "the classes of this model are still open",
                hint="train it first: tod train; in Python, session.bind([...]) chooses them",
            )
        return self._state

    @state.setter
    def state(self, state: TrainState) -> None:
        self._state = state
        self._head_is_new = False

    @property
    def run(self) -> Run:
        """Settings and position of the run that is under way."""
        if self.state.run is None:
            raise UsageError("no training run is under way", hint="use tod.train(session, dataset)")
        return self.state.run

    def bind(self, class_names: Sequence[str], *, seed: int = 0) -> None:
        """Choose the classes and make the head for them, where the artifact left that open.

        Args:
            class_names: in the order of the labels.
            seed: of the new head's random weights.

        Raises:
            DataError: the model was exported for another number of classes.
            UsageError: other classes are bound already.
        """
        if seed < 0:
            raise UsageError(f"seed is {seed}, at least 0 is wanted")
        names = tuple(class_names)
        count = self.manifest.class_count
        if self.manifest.class_names is not None and self.manifest.class_names != names:
            raise UsageError(
                f"the model's classes are bound: {', '.join(self.manifest.class_names)}"
            )
        if count is not None and count != len(names):
            raise DataError(
                f"{self.artifact.path} was exported for {count} classes, "
                f"the data has {len(names)}: {', '.join(names)}",
                hint="use data with that many class folders, or export without --classes",
            )
        self.manifest = replace(self.manifest, class_names=names, class_count=len(names))
        self._state = initial(self.manifest, self.artifact.state, classes=len(names), seed=seed)

    def match(self, dataset: Dataset, *, seed: int | None = None) -> Dataset:
        """The dataset with labels as the model numbers them; binds open classes to the data's.

        Args:
            dataset: its classes are matched by name.
            seed: of the head that is made for open classes (0). A head that was made here and
                has not been used since is made again when a seed is given.
        """
        dataset = self._as_wanted(dataset)
        names = self.manifest.class_names
        if names is None or (self._head_is_new and seed is not None):
            self.bind(names or dataset.classes, seed=seed or 0)
            self._head_is_new = True
        return dataset.matched(self.manifest.class_names or ())

    def _as_wanted(self, dataset: Dataset) -> Dataset:
        """The dataset with the kind of answers that the loss takes."""
        loss = self.manifest.loss.name
        if loss == "binary_cross_entropy":
            return dataset.with_targets()
        if dataset.has_targets != (loss == "mean_squared_error"):
            found = "numbers (targets.csv)" if dataset.has_targets else "classes"
            raise DataError(
                f"{dataset.root}: its answers are {found}; this model trains with {loss}",
                hint="export with --loss mse for numbers, bce for several classes per picture, "
                "cross-entropy for one",
            )
        return dataset

    def add_classes(self, names: Sequence[str], *, seed: int = 0) -> None:
        """Add classes behind those that the model has.

        What the model knows stays as it is, slots included; rows for the new classes are made as
        the head's rule says.

        Args:
            names: new class names.
            seed: of the new rows.

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
            UsageError: the head is not linear on the cached features, or answers are not classes.
        """
        count = len(self.classes or ())
        shapes = {t.name: t.resolve(count) for t in self.manifest.parameters}
        width = self.manifest.backbone.feature_shape
        wanted = {"head.weight": (count, *width), "head.bias": (count,)}
        if shapes != wanted or self.manifest.loss.name != "softmax_cross_entropy":
            raise UsageError(
                f"--init {kind} needs a linear head on cached features and one class per picture",
                hint="export with the defaults: --head linear --trainable head",
            )
        weight, bias = {"imprint": imprint, "ridge": ridge}[kind](features, labels, count)
        tensors = {**self.state.tensors, "head.weight": weight, "head.bias": bias}
        self.state = replace(self.state, tensors=tensors)

    def weigh_classes(self, labels: NDArray[np.int64]) -> None:
        """Settle the weights of the classes, where the loss has them: "auto" makes each class count
        the same, weight = N / (C * pictures of the class)."""
        asked = self.manifest.loss.class_weights
        if asked == "auto":
            counts = np.bincount(labels, minlength=len(self.classes or ()))
            weights = len(labels) / (len(counts) * np.maximum(counts, 1))
            self._class_weights = weights.astype(np.float32)
        elif asked is not None:
            self._class_weights = np.array(asked, np.float32)

    def step(
        self, pictures: Pictures, labels: Sequence[Any] | Answers, *, lr: float | None = None
    ) -> float:
        """One training step; `state` is the next one afterwards.

        Args:
            pictures: uint8 [B, S, S, 3], or B picture files.
            labels: [B], indices into `classes`; or [B, C] numbers, as the loss takes them.
            lr: learning rate; the artifact's by default.

        Returns:
            The loss before the step.
        """
        rate = self.manifest.optimizer.lr if lr is None else lr
        features = picture_features(self.engine, self.manifest.input, pictures)
        steps = int(self.state.tensors["optimizer.step"])
        whole = self.manifest.loss.name == "softmax_cross_entropy"
        answers = np.asarray(labels, np.int64 if whole else np.float32)
        self.state, loss = self.next_state([(features, answers)], lr=rate, seed=0, cycle=steps + 1)
        return loss

    def next_state(
        self,
        batches: Sequence[tuple[NDArray[np.float32], Answers]],
        *,
        lr: float,
        seed: int,
        cycle: int,
    ) -> tuple[TrainState, float]:
        """The state after one update from the mean gradient of all batches; changes nothing.

        Args:
            batches: features [B, ...] and answers [B] or [B, C] of each.
            lr: learning rate.
            seed: of the noise for dropout.
            cycle: of the run; another cycle, other noise.

        Returns:
            The next state, and the mean loss before the update.
        """
        state = self.state
        if len(batches) > 1 and self.manifest.accumulate is None:
            raise UsageError(
                "this model cannot add up batches", hint="export it with --accumulate N"
            )
        tensors, losses = state.tensors, []
        for index, (features, answers) in enumerate(batches):
            inputs = self._inputs(features, answers, lr)
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
        self, features: NDArray[np.float32], answers: Answers, lr: float
    ) -> dict[str, NDArray[Any]]:
        count = len(self.classes or ())
        if self.manifest.loss.name != "softmax_cross_entropy":
            if answers.shape != (len(features), count):
                raise UsageError(f"wanted answers [{len(features)}, {count}], one per class")
        elif answers.shape != features.shape[:1] or answers.min() < 0 or answers.max() >= count:
            raise UsageError(f"wanted {len(features)} labels, each a class index below {count}")
        inputs = {"features": features, "labels": answers, "lr": np.array(lr, np.float32)}
        if self.manifest.loss.class_weights is not None:
            weights = self._class_weights
            inputs["class_weights"] = np.ones(count, np.float32) if weights is None else weights
        return inputs

    def predict(self, pictures: Pictures) -> NDArray[np.float32]:  # [N, C]
        """Class probabilities, or the quantities themselves where the model was trained on
        numbers, of pixels uint8 [N, S, S, 3] or of picture files."""
        self.state  # noqa: B018 - open classes are an error before any picture is looked at
        return self.answers(picture_features(self.engine, self.manifest.input, pictures))

    def answers(self, features: NDArray[np.float32] | Features) -> NDArray[np.float32]:  # [N, C]
        """What `predict` gives, of features [N, ...]."""
        return answers_of(self.manifest.loss.name, self._logits(features))

    def evaluate(self, dataset: Dataset, split: Split = "validation") -> Evaluation:
        """Accuracy on one split of a dataset; every readable picture counts, and
        `store.unreadable` names the others.

        Raises:
            DataError: its classes are not the model's, or no picture of the split is readable.
        """
        dataset = self.match(dataset)
        samples = dataset.split(split)
        for _ in self.store.fill(dataset, samples):
            pass
        return self.score(*self.store.rows(dataset, samples), split)

    def score(
        self, features: NDArray[np.float32] | Features, answers: Answers, split: Split
    ) -> Evaluation:
        """How good the present parameters are on features [N, ...] with answers."""
        name = self.manifest.loss.name
        if len(answers) == 0:
            raise DataError(f"no picture of the {split} split can be read")
        return score(name, self._logits(features), answers, split, self.classes or ())

    def end_run(self, stopped: str, validation_accuracy: float | None = None) -> None:
        """Add the run that is under way to the history. Only the parameters stay: slots are zero
        again, as in a model that was just loaded.

        Args:
            stopped: why it ended.
            validation_accuracy: of the parameters that stay.
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
        under way stays so, but is not in the file: `save_checkpoint` keeps it."""
        manifest = replace(self.manifest, kind="model", base=None, run=None)
        state = self.state.parameters(self.manifest)
        artifacts.write(replace(self.artifact, path=Path(path), manifest=manifest, state=state))

    def save_checkpoint(self, path: str | Path) -> None:
        """Write a checkpoint that a run continues from: slim when the model that it was trained
        from is in the same folder, whole otherwise."""
        path, source = Path(path), self.artifact.source
        base = source.name if source else self.manifest.base
        manifest = replace(self.manifest, kind="checkpoint", base=base, run=self.run)
        slim = source is not None and source.parent.resolve() == path.parent.resolve()
        arrays = to_arrays(manifest, self.state)
        copy = replace(self.artifact, path=path, manifest=manifest, state=arrays)
        artifacts.write(copy, slim=slim)

    def save_inference(self, path: str | Path) -> None:
        """Write one ordinary ONNX file: pixels in, answers out, classes in its metadata. Its output
        is `probabilities`, or `values` of a model that was trained on numbers."""
        last = {"mean_squared_error": None, "binary_cross_entropy": "Sigmoid"}
        data = join_inference(
            self.artifact.graphs["features.onnx"],
            self.artifact.graphs["predict.onnx"],
            self.state.parameters(self.manifest),
            {
                "classes": json.dumps(self.classes, ensure_ascii=False),
                "input": json.dumps(asdict(self.manifest.input)),
            },
            activation=last.get(self.manifest.loss.name, "Softmax"),
        )
        try:
            write_whole(Path(path), data)
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be written: {error.strerror or error}") from error

    def _logits(self, features: NDArray[np.float32] | Features) -> NDArray[np.float32]:
        parameters = self.state.parameters(self.manifest)
        row_bytes = 4 * int(np.prod(self.manifest.backbone.feature_shape))
        count = max(1, min(1024, _PREDICT_BYTES // row_bytes))
        starts = range(0, len(features), count)
        logits = np.concatenate(
            [self.engine.predict(parameters, features[i : i + count]) for i in starts]
        )
        # The largest of such numbers is an answer like any other, and may even be right.
        if not np.isfinite(logits).all():
            raise TrainingError(
                f"{self.artifact.path}: what the model computes for a picture is not finite",
                hint="train it again with a smaller learning rate",
            )
        return logits
