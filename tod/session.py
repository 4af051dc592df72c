"""TrainSession: one artifact, its state and its features; what a program on the device uses.

Axes: N pictures, B batch, C classes, S side in pixels, F features.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tod import artifact as artifacts
from tod.artifact import Artifact
from tod.dataset import Dataset
from tod.engine import Engine, Observer, check_runtime, runtime_version
from tod.errors import ArtifactError, DataError, UsageError
from tod.features import FeatureStore, Pictures, picture_features
from tod.files import write_whole
from tod.graph import join_inference
from tod.machine import available_cores
from tod.manifest import HistoryEntry, Manifest, Run
from tod.sampling import Split
from tod.state import TrainState, from_arrays, initial, to_arrays

_ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Evaluation:
    """How many pictures of a split the model names rightly.

    `by_class` holds, for each class name, the pictures named rightly and all of them.
    """

    split: Split
    correct: int
    total: int
    by_class: dict[str, tuple[int, int]]

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0 to 1."""
        return self.correct / self.total


class TrainSession:
    """Train, evaluate and use one .tod file. Make it with `TrainSession.load`.

    Attributes:
        state: parameters, slots and position of the run (`tod.state.TrainState`, immutable);
            each step puts a new one in its place.
        store: the features of the pictures seen so far.
    """

    def __init__(self, artifact: Artifact, *, threads: int, observe: Observer | None) -> None:
        self.artifact = artifact
        self.manifest: Manifest = artifact.manifest
        self.threads = threads
        self.engine = Engine(artifact.graphs, observe=observe)
        # Printed in order, an observed run is one picture batch after the other.
        workers = 1 if observe else threads
        self.store = FeatureStore(self.engine, artifact.manifest.input, workers=workers)
        self._state: TrainState | None = None
        self._training = False
        self._head_is_new = False
        if self.manifest.kind == "checkpoint":
            self._state = from_arrays(self.manifest, artifact.state)
        elif self.manifest.class_names is not None:
            self.bind(self.manifest.class_names)

    @classmethod
    def load(
        cls, path: str | Path, *, threads: int | None = None, observe: Observer | None = None
    ) -> TrainSession:
        """Open and verify a .tod file: a fresh export, a checkpoint or a trained model.

        Args:
            path: the file.
            threads: pictures looked at side by side; as many as there are cores by default.
            observe: called with name, inputs and outputs after each run of a graph.

        Raises:
            ArtifactError: it is missing, damaged or not a .tod file.
            DeviceError: onnxruntime here is too old for it.
        """
        if threads is not None and threads < 1:
            raise UsageError(f"threads is {threads}, at least 1 is wanted")
        artifact = artifacts.read(path)
        check_runtime(artifact.manifest.min_onnxruntime)
        return cls(artifact, threads=threads or available_cores(), observe=observe)

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
        names = self.manifest.class_names
        if names is None or (self._head_is_new and seed is not None):
            self.bind(names or dataset.classes, seed=seed or 0)
            self._head_is_new = True
        return dataset.matched(self.manifest.class_names or ())

    def train(self) -> TrainSession:
        """Switch to training: `step` is allowed."""
        self._training = True
        return self

    def eval(self) -> TrainSession:
        """Switch to evaluation: `step` is refused. A session starts like this."""
        self._training = False
        return self

    def step(
        self,
        pictures: Pictures,
        labels: Sequence[int] | NDArray[np.int64],
        *,
        lr: float | None = None,
    ) -> float:
        """One training step; `state` is the next one afterwards.

        Args:
            pictures: uint8 [B, S, S, 3], or B picture files.
            labels: [B], indices into `classes`.
            lr: learning rate; the artifact's by default.

        Returns:
            The loss before the step.
        """
        if not self._training:
            raise UsageError("the session is in evaluation mode", hint="call session.train() first")
        rate = self.manifest.optimizer.lr if lr is None else lr
        features = picture_features(self.engine, self.manifest.input, pictures)
        self.state, loss = self.next_state(features, np.asarray(labels, np.int64), lr=rate)
        return loss

    def next_state(
        self, features: NDArray[np.float32], labels: NDArray[np.int64], *, lr: float
    ) -> tuple[TrainState, float]:
        """The state after one step on features [B, F], and the loss before it; changes nothing."""
        state = self.state
        count = len(self.classes or ())
        if labels.shape != features.shape[:1] or labels.min() < 0 or labels.max() >= count:
            raise UsageError(f"wanted {len(features)} labels, each a class index below {count}")
        tensors, loss, _ = self.engine.step(state.tensors, features, labels, lr)
        return replace(state, tensors=tensors), loss

    def predict(self, pictures: Pictures) -> NDArray[np.float32]:  # [N, C]
        """Class probabilities of pixels uint8 [N, S, S, 3] or of picture files."""
        self.state  # noqa: B018 - open classes are an error before any picture is looked at
        return softmax(self._logits(picture_features(self.engine, self.manifest.input, pictures)))

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
        self, features: NDArray[np.float32], labels: NDArray[np.int64], split: Split
    ) -> Evaluation:
        """Accuracy on features [N, F] with labels [N]."""
        if len(labels) == 0:
            raise DataError(f"no picture of the {split} split can be read")
        right = self._logits(features).argmax(axis=1) == labels
        by_class = {
            name: (int(right[labels == label].sum()), int((labels == label).sum()))
            for label, name in enumerate(self.classes or ())
        }
        return Evaluation(split, int(right.sum()), len(labels), by_class)

    def end_run(self, stopped: str, validation_accuracy: float | None = None) -> None:
        """Add the run that is under way to the history. Only the parameters stay: slots are zero
        again, as in a model that was just loaded.

        Args:
            stopped: why it ended.
            validation_accuracy: of the parameters that stay.
        """
        run = self.run
        entry = HistoryEntry(
            cycles=run.cycle,
            kept_cycle=run.kept_cycle,
            batch_size=run.batch_size,
            lr=run.lr,
            seed=run.seed,
            split_seed=run.split_seed,
            stopped=stopped,
            pictures=run.pictures,
            data_sha256=run.data_sha256,
            test_accuracy=run.best_accuracy,
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
        copy = replace(self.artifact, path=path, manifest=manifest, state=to_arrays(self.state))
        artifacts.write(copy, slim=slim)

    def save_inference(self, path: str | Path) -> None:
        """Write one ordinary ONNX file: pixels in, probabilities out, classes in its metadata."""
        data = join_inference(
            self.artifact.graphs["features.onnx"],
            self.artifact.graphs["predict.onnx"],
            self.state.parameters(self.manifest),
            {
                "classes": json.dumps(self.classes, ensure_ascii=False),
                "input": json.dumps(asdict(self.manifest.input)),
            },
        )
        try:
            write_whole(Path(path), data)
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be written: {error.strerror or error}") from error

    def _logits(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        parameters = self.state.parameters(self.manifest)
        starts = range(0, len(features), _ROWS_AT_ONCE)
        return np.concatenate(
            [self.engine.predict(parameters, features[i : i + _ROWS_AT_ONCE]) for i in starts]
        )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:  # [N, C] -> [N, C]
    """Probabilities; the maximum is taken off first so that nothing overflows."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float32] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities
