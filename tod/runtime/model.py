"""Model: one .tod file, ready to use: predict probabilities for pictures, and evaluate them.

Knows nothing of training; `tod.training.session.TrainSession` is a Model whose parameters change.
Axes: N pictures, C classes, S side in pixels, F features, if they have one axis.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from tod.data.dataset import Dataset
from tod.data.opening import finish
from tod.data.pictures import Pictures
from tod.data.rows import Columns
from tod.data.splits import Split
from tod.data.trained_on import Trained, without_trained
from tod.errors import ArtifactError, DataError, TrainingError, UsageError
from tod.format import artifact as artifacts
from tod.format.arrays import Arrays
from tod.format.artifact import Artifact
from tod.format.graph import join_inference
from tod.format.inference_texts import inference_texts
from tod.format.manifest import Manifest
from tod.runtime import matching
from tod.runtime.cache_folder import choose_folder
from tod.runtime.delegates.runner import Graph
from tod.runtime.delegates.table import DEFAULT, Choice, open_runner
from tod.runtime.engine import Engine, Observer, check_runtime
from tod.runtime.features import Features, FeatureStore, picture_features
from tod.runtime.new_tensors import new_tensors
from tod.runtime.scoring import Evaluation, Labels, nothing_to_score, predictions, score
from tod.system.files import write_whole
from tod.system.machine import available_cores

# Largest size of the features in one batch of predictions.
_PREDICT_BYTES = 1 << 20
_Loaded = TypeVar("_Loaded", bound="Model")


class Model:
    """Use and evaluate one .tod file. Make it with `Model.load`.

    Attributes:
        artifact: the file as it was read.
        manifest: what it declares, with the classes once they are bound.
        store: the features of the pictures seen so far.
        cache: where features and hashes are kept, as given to `load`.
        trained_on: which pictures it was trained on, see `tod.data.trained_on`.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        threads: int,
        observe: Observer | None,
        cache: str | os.PathLike[str] | bool,
        engine: Choice = DEFAULT,
    ) -> None:
        self.artifact = artifact
        self.manifest: Manifest = artifact.manifest
        self.trained_on: Trained = artifact.trained_on
        self.cache = cache
        self.threads = threads
        # Features with more than one axis mean convolutions, or the like, in the step.
        deep = len(self.manifest.backbone.feature_shape) > 1
        # An observed run prints batches in order, so it computes one batch after the other.
        workers = 1 if observe else threads
        frozen = None
        if engine != DEFAULT:
            graph = Graph(artifact.graphs["features.onnx"], "features.onnx")
            frozen = open_runner(graph, engine, threads=1, parallel=workers)
        self.engine = Engine(
            artifact.graphs,
            threads=threads if deep else 1,
            frozen=frozen,
            observe=observe,
        )
        self.store = FeatureStore(
            self.engine,
            artifact.manifest,
            workers=workers,
            folder_for=lambda dataset: choose_folder(dataset.root, artifact.path, cache),
        )
        self._parameters: Arrays = {}
        self._head_is_new = False
        if self.manifest.class_names is not None:
            self._begin(seed=0)

    @classmethod
    def load(
        cls: type[_Loaded],
        path: str | Path,
        *,
        threads: int | None = None,
        observe: Observer | None = None,
        cache: str | os.PathLike[str] | bool = True,
        require_signature: str | Path | None = None,
        continues: Path | None = None,
        engine: Choice = DEFAULT,
    ) -> _Loaded:
        """Open and verify a .tod file: a fresh export, a checkpoint or a trained model.

        Args:
            path: the file.
            threads: number of pictures read in parallel; by default, the number of cores that this
                process or its container may use.
            observe: called with name, inputs and outputs after each run of a graph.
            cache: the folder that keeps the features of pictures; True chooses it as
                `tod.runtime.cache_folder.choose_folder` says, False keeps them in memory.
            require_signature: a file with a public key; a .tod file that was not signed with this
                key is refused.
            continues: the model that this checkpoint was trained from, on this machine; the
                signature of that model is checked instead.
            engine: who computes the frozen part.

        Raises:
            ArtifactError: it is missing, damaged, not a .tod file or not signed as required.
            DeviceError: onnxruntime here is too old for it, or no signature can be checked; the
                engine is not installed.
        """
        if threads is not None and threads < 1:
            raise UsageError(f"threads is {threads}, at least 1 is wanted")
        key = None if require_signature is None else Path(require_signature)
        artifact = artifacts.read(path, require_signature=key, continues=continues)
        check_runtime(artifact.manifest.min_onnxruntime)
        return cls(
            artifact,
            threads=threads or available_cores(),
            observe=observe,
            cache=cache,
            engine=engine,
        )

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The class names, None as long as they are open."""
        return self.manifest.class_names

    @property
    def split_seed(self) -> int | None:
        """The split seed of the last run; None if there was no run. It splits a plain folder in the
        same way as then, so that no picture that was trained on is used to validate."""
        return self.manifest.split_seed

    @property
    def parameters(self) -> Arrays:
        """The tensors that `predict.onnx` takes: parameters and statistics."""
        self._check_bound()
        return self._parameters

    def _begin(self, *, seed: int) -> None:
        """Take the file's tensors, and make the tensors for classes that were open.

        Args:
            seed: for the new tensors.
        """
        made = new_tensors(self.manifest, self.artifact.state, seed=seed)
        self._parameters = {tensor.name: made[tensor.name] for tensor in self.manifest.model}

    @property
    def columns(self) -> Columns:
        """Which parts of a file this model's samples and labels are, as far as it is chosen."""
        return matching.columns_of(self.manifest)

    def choose_columns(self, inputs: Sequence[str] = (), target: Sequence[str] = ()) -> None:
        """Say which parts of a file are samples and labels, see `tod.data.rows.Columns`. What is
        empty stays as it is.

        Raises:
            UsageError: the model takes pictures.
        """
        self.manifest = matching.with_columns(self.manifest, Columns(tuple(inputs), tuple(target)))

    def _check_bound(self) -> None:
        if self.manifest.class_names is None:
            raise UsageError(
                f"{self.artifact.path}: it is not trained yet: its classes are open",
                hint="train it first: tod train; in Python, session.bind([...]) chooses them",
            )

    def bind(self, class_names: Sequence[str], *, seed: int = 0) -> None:
        """Choose the classes and make the head for them, if the artifact left them open.

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
        self._begin(seed=seed)

    def match(self, dataset: Dataset, *, seed: int | None = None) -> Dataset:
        """Return the dataset with the model's label numbers, without the test and validation
        pictures that the model was trained on. Open classes are bound to the classes of the
        dataset.

        Args:
            dataset: its classes are matched by name.
            seed: for the head that is made for open classes; default 0. With a seed, a head that
                was made here and not used since is made again.
        """
        dataset = matching.labelled_for(self.manifest.loss.task, dataset)
        matching.check_samples(self.manifest, dataset)
        if dataset.columns is not None:
            self.choose_columns(dataset.columns.inputs, dataset.columns.target)
        names = self.manifest.class_names
        if names is None or (self._head_is_new and seed is not None):
            self.bind(names or dataset.classes, seed=seed or 0)
            self._head_is_new = True
        dataset = without_trained(dataset, [(str(self.artifact.path), self.trained_on)])
        return dataset.matched(self.manifest.class_names or ())

    def predict(self, pictures: Pictures) -> NDArray[np.float32]:  # [N, C]
        """Predict class probabilities, or the quantities themselves if the model was trained on
        numbers.

        Args:
            pictures: one or several: paths, bytes of picture files, Pillow images, or arrays uint8
                [H, W, 3] of any size in RGB; or uint8 [N, H, W, 3]. Pictures that are not S x S are
                resized as in training.

        Raises:
            UsageError: an input is not a picture, or the classes are still open.
            PictureError: a picture cannot be read; it names the picture.
        """
        self._check_bound()  # before any picture is read
        return self.predict_features(picture_features(self.engine, self.manifest.samples, pictures))

    def predict_features(
        self, features: NDArray[np.float32] | Features
    ) -> NDArray[np.float32]:  # [N, C]
        """Predict as `predict` does, from features [N, ...]."""
        return predictions(self.manifest.loss.task, self.logits(features))

    def evaluate(
        self,
        dataset: Dataset | str | Path,
        split: Split = "validation",
        *,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Evaluation:
        """Measure the accuracy on one split of a dataset. Every readable picture counts that the
        model was not trained on; `store.unreadable` names the unreadable pictures.

        Args:
            dataset: a dataset or its folder, which is split as for `open_dataset`.
            split: "train", "test" or "validation".
            progress: called with the pictures that are done and the pictures to do.

        Raises:
            DataError: its classes are not the model's, or no picture of the split is readable.
            UsageError: an unknown split, or `dataset` is no dataset.
        """
        if split not in get_args(Split):
            raise UsageError(f"split is {split!r}, wanted one of {', '.join(get_args(Split))}")
        if not isinstance(dataset, Dataset):
            dataset = open_dataset(dataset, self)
        dataset = self.match(dataset)
        samples = dataset.split(split)
        self.store.fill(dataset, samples, progress)
        return self.score(*self.store.rows(dataset, samples), split)

    def score(
        self, features: NDArray[np.float32] | Features, labels: Labels, split: Split
    ) -> Evaluation:
        """Score the present parameters on features [N, ...] with their labels."""
        if len(labels) == 0:
            raise nothing_to_score(split)
        task = self.manifest.loss.task
        return score(task, self.logits(features), labels, split, self.classes or ())

    def inference_graph(self) -> bytes:
        """One ordinary ONNX file: pixels in, answers out, classes in its metadata. Its output is
        `probabilities`, or `values` of a model that was trained on numbers."""
        last = {"single-label": "Softmax", "multi-label": "Sigmoid", "regression": None}
        return join_inference(
            self.artifact.graphs["features.onnx"],
            self.artifact.graphs["predict.onnx"],
            self.parameters,
            inference_texts(self.classes or (), self.manifest.samples, self.manifest.loss.task),
            activation=last[self.manifest.loss.task],
        )

    def save_inference(self, path: str | Path) -> None:
        """Write `inference_graph` to a file."""
        try:
            write_whole(Path(path), self.inference_graph())
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be written: {error.strerror or error}") from error

    def logits(self, features: NDArray[np.float32] | Features) -> NDArray[np.float32]:  # [N, C]
        """What the network computes from features [N, ...], before the last activation."""
        parameters = self.parameters
        row_bytes = 4 * int(np.prod(self.manifest.backbone.feature_shape))
        count = max(1, min(1024, _PREDICT_BYTES // row_bytes))
        starts = range(0, len(features), count)
        logits = np.concatenate(
            [self.engine.predict(parameters, features[i : i + count]) for i in starts]
        )
        # argmax over NaN or Inf would still give a class, perhaps even the right one.
        if not np.isfinite(logits).all():
            raise TrainingError(
                f"{self.artifact.path}: what the model computes for a picture is not finite",
                hint="train it again with a smaller learning rate",
            )
        return logits


def open_dataset(
    data: str | Path,
    *models: Model,
    seed: int | None = None,
    splits: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Dataset:
    """Open pictures for models, as every command does. Test and validation pictures that any of the
    models was trained on are left out.

    Args:
        data: a prepared dataset, or a folder of class folders.
        models: a plain folder is split with the seed of the first trained model, so that no picture
            it has learned counts in a score. Hashes of the pictures are kept where the first model
            keeps features.
        seed: a split seed to use instead.
        splits, progress: as for `Dataset.open`.
    """
    return finish(opening_dataset(data, *models, seed=seed, splits=splits), progress)


def opening_dataset(
    data: str | Path, *models: Model, seed: int | None = None, splits: bool = False
) -> Generator[tuple[int, int], None, Dataset]:
    """`open_dataset` step by step, see `Dataset.opening`."""
    if not isinstance(data, str | os.PathLike):
        raise UsageError(
            f"the data are of the type {type(data).__name__}, wanted a tod.Dataset or its folder",
            hint="pictures of a program go to session.predict, or with labels to session.step",
        )
    matching.check_kind(models[0].manifest, Path(data))
    folder = choose_folder(Path(data), models[0].artifact.path, models[0].cache)
    chosen = split_seed(seed, *models)
    dataset = yield from Dataset.opening(
        data, seed=chosen, cache=folder or False, splits=splits, columns=models[0].columns
    )
    return without_trained(dataset, [(str(m.artifact.path), m.trained_on) for m in models])


def split_seed(seed: int | None, *models: Model) -> int:
    """Return the split seed of a plain folder: the given one, or the first trained model's, or
    0."""
    return next(s for s in (seed, *(model.split_seed for model in models), 0) if s is not None)
