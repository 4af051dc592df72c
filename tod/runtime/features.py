"""Run the frozen part of the network once per picture.

When its features are needed for the first time, a picture file is read, decoded, resized and run
through `features.onnx`; after that its feature row is found in the cache by the hash of its
content.
Axes: N pictures, C classes.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import sha256
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.dataset import Dataset
from tod.data.file_hashes import FOLDER, Contents
from tod.data.image import decoder_version
from tod.data.pictures import Pictures, array_of, batches
from tod.data.samples import Sample
from tod.errors import ArtifactError, DataError, PictureError
from tod.format.manifest import InputSpec, Manifest, SampleSpec, TensorSpec
from tod.runtime.engine import Engine
from tod.runtime.feature_cache import FeatureCache
from tod.system.machine import instructions, processor

# The fastest size per picture, with a third of the memory of size 8 (docs/performance.md).
BATCH = 2
# Small samples come many at a time, or calls would take longer than arithmetic.
_BATCH_BYTES, _MOST_ROWS = 1 << 18, 256


def batch_for(spec: SampleSpec) -> int:
    """How many samples pass through the frozen part at a time."""
    if isinstance(spec, InputSpec):
        return BATCH
    each_bytes = math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
    return max(BATCH, min(_MOST_ROWS, _BATCH_BYTES // each_bytes))


class Features:
    """Feature rows [N, ...] that are read on demand: rows[numbers], rows[a:b]."""

    def __init__(self, cache: FeatureCache, places: NDArray[np.int64]) -> None:
        self._cache = cache
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, which: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        return self._cache.take(self._places[which])


@dataclass(frozen=True)
class _Shelf:
    """The pictures of one folder: their rows, their hashes, and which contents could be read in
    this run."""

    cache: FeatureCache
    contents: Contents
    readable: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Batch:
    readable: list[str]  # hashes of files whose content has not changed
    computed: list[str]  # hashes of the rows below
    rows: NDArray[np.float32] | None


class FeatureStore:
    """Feature rows of pictures, computed when needed and kept.

    Each worker thread decodes its pictures and runs the graph on one core, so reading and decoding
    overlap with arithmetic.

    Args:
        engine: runs `features.onnx`.
        manifest: the artifact's manifest.
        workers: the number of threads.
        folder_for: the folder that keeps the features of a dataset; None keeps them in memory.
    """

    def __init__(
        self,
        engine: Engine,
        manifest: Manifest,
        *,
        workers: int,
        folder_for: Callable[[Dataset], Path | None] = lambda _: None,
    ) -> None:
        self._engine = engine
        self._manifest = manifest
        self._workers = workers
        self._folder_for = folder_for
        self._shelves: dict[tuple[str, bool], _Shelf] = {}
        self._caches: dict[tuple[Path | None, bool], FeatureCache] = {}
        self.unreadable: dict[Path, str] = {}
        """File -> reason, of the pictures that the last `fill` could not read."""
        self.notices: list[str] = []
        """Messages for the user about the cache that the last `fill` used."""

    def fill(
        self,
        dataset: Dataset,
        samples: Sequence[Sample],
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Compute all rows that are missing.

        Args:
            progress: called with the pictures that are done and the pictures to do.

        Raises:
            DataError: see `filling`.
        """
        for done, total in self.filling(dataset, samples):
            progress(done, total)

    def filling(self, dataset: Dataset, samples: Sequence[Sample]) -> Iterator[tuple[int, int]]:
        """Do `fill` step by step, for callers that wait or stop in between.

        Yields:
            Pictures done and pictures to do, after each batch; nothing if none is missing.
            To stop the work, stop iterating; computed rows are kept.

        Raises:
            DataError: the dataset's folder has vanished, so no single picture is to blame.
        """
        self.unreadable = {}
        shelf = self._shelf(dataset)
        done = failed = 0
        # Repeat, because an unreadable picture may have a copy with the same content.
        while missing := self._missing(dataset, shelf, samples):
            total = done + len(missing)
            count = batch_for(self._manifest.samples)
            batches = (missing[i : i + count] for i in range(0, len(missing), count))
            with ThreadPoolExecutor(self._workers) as pool:
                look_at = partial(self._look_at, dataset, shelf)
                start = partial(pool.submit, look_at)
                # Queue a few batches per worker, not all: waiting batches take memory too.
                running = deque(map(start, islice(batches, 8 * self._workers)))
                try:
                    while running:
                        _keep(shelf, running.popleft())
                        running.extend(map(start, islice(batches, 1)))
                        done = min(done + count, total)
                        if failed < (failed := len(self.unreadable)) and dataset.rows is None:
                            _check_there(dataset.root)
                        yield done, total
                finally:
                    pool.shutdown(cancel_futures=True)
                    for batch in running:
                        if not batch.cancelled():
                            _keep(shelf, batch)
                    shelf.contents.save()
        self.notices = [*shelf.cache.notices, *shelf.contents.notices]
        shelf.cache.notices.clear()
        shelf.contents.notices.clear()

    def give(self, dataset: Dataset, samples: Sequence[Sample]) -> None:
        """Take features that were computed elsewhere, instead of those of samples: `dataset.rows`
        holds them."""
        shelf = self._shelf(dataset)
        assert dataset.rows is not None  # they have no files
        for sample in {one.sha256: one for one in samples}.values():
            row = np.asarray(dataset.rows[sample.row], np.float32)
            if not np.isfinite(row).all():
                self.unreadable[Path(sample.path)] = "its features are not finite numbers"
                continue
            shelf.cache.add([sample.sha256], row[None])
            shelf.readable.add(sample.sha256)

    def keeps(self, dataset: Dataset) -> bool:
        """Tell whether the dataset's features are kept for the next run."""
        return self._shelf(dataset).cache.on_disk

    def readable(self, dataset: Dataset, samples: Sequence[Sample]) -> list[Sample]:
        """Return the samples that `fill` has seen and could read; `rows` gives their rows."""
        contents = self._shelf(dataset).readable
        return [sample for sample in samples if sample.sha256 in contents]

    def rows(self, dataset: Dataset, samples: Sequence[Sample]) -> tuple[Features, NDArray[Any]]:
        """Return features [N, ...] of the samples that `fill` has seen and could read, and their
        labels int64 [N] or targets float32 [N, C]."""
        shelf, readable = self._shelf(dataset), self.readable(dataset, samples)
        features = Features(shelf.cache, shelf.cache.places([s.sha256 for s in readable]))
        if readable and readable[0].targets is not None:
            return features, np.array([s.targets for s in readable], np.float32)
        return features, np.array([s.label for s in readable], np.int64)

    def _shelf(self, dataset: Dataset) -> _Shelf:
        key = (os.path.abspath(dataset.root), dataset.cropped)
        if key not in self._shelves:
            # Choose the folder once, so that a run goes on if the folder vanishes later.
            folder = self._folder_for(dataset)
            cache = self._cache(folder, dataset.cropped)
            self._shelves[key] = _Shelf(cache, Contents(dataset.root, folder))
        return self._shelves[key]

    def _cache(self, folder: Path | None, cropped: bool) -> FeatureCache:
        shape = self._manifest.backbone.feature_shape
        if (folder, cropped) not in self._caches:
            origin = {
                "graph": self._manifest.members["features.onnx"].sha256,
                "input": _as_origin(self._manifest.samples),
                "cropped": cropped,
                "shape": shape,
                "runtime": self._engine.frozen_library,
                "processor": processor(),
                "instructions": sha256(" ".join(instructions()).encode()).hexdigest()[:16],
                "decoder": decoder_version(),
            }
            cache = FeatureCache(shape, folder=folder, origin=origin)
            self._caches[folder, cropped] = cache
        return self._caches[folder, cropped]

    def _missing(self, dataset: Dataset, shelf: _Shelf, samples: Sequence[Sample]) -> list[Sample]:
        """Return one sample for each content that was not read in this run and may still be
        readable. A sample whose file has not changed since its row was computed counts as read."""
        by_content = {
            s.sha256: s
            for s in samples
            if s.sha256 not in shelf.readable
            and not (self.unreadable and dataset.root / s.path in self.unreadable)
        }
        missing = []
        for sample in by_content.values():
            if sample.sha256 in shelf.cache and (
                sample.row is not None or _unchanged(shelf, sample)
            ):
                shelf.readable.add(sample.sha256)
            else:
                missing.append(sample)
        return missing

    def _look_at(self, dataset: Dataset, shelf: _Shelf, samples: Sequence[Sample]) -> _Batch:
        """Read some pictures and compute the rows that are not in the cache."""
        spec = self._manifest.samples
        arrays = np.empty((len(samples), *spec.shape), spec.dtype)
        readable: list[str] = []
        computed: list[Sample] = []
        for sample in samples:
            try:
                data = _read(shelf.contents, dataset, sample)
                if sample.sha256 not in shelf.cache:
                    arrays[len(computed)] = array_of(data, spec, cropped=dataset.cropped)
                    computed.append(sample)
                else:
                    readable.append(sample.sha256)
            except PictureError as error:
                self.unreadable[dataset.root / sample.path] = error.problem
        if not computed:
            return _Batch(readable, [], None)
        rows = self._engine.features(arrays[: len(computed)])
        wanted = (len(computed), *self._manifest.backbone.feature_shape)
        if rows.shape != wanted:
            raise ArtifactError(
                f"features.onnx gives {list(rows.shape)} numbers, the manifest says {list(wanted)}",
                hint="export the model again",
            )
        # A row with NaN or Inf would ruin every parameter; the other rows can be used.
        good = np.array([np.isfinite(row).all() for row in rows])
        for sample in compress(computed, ~good):
            self.unreadable[dataset.root / sample.path] = "its features are not finite numbers"
        kept = [sample.sha256 for sample in compress(computed, good)]
        return _Batch([*readable, *kept], kept, rows[good])


def _keep(shelf: _Shelf, batch: Future[_Batch]) -> None:
    result = batch.result()
    if result.rows is not None:
        shelf.cache.add(result.computed, result.rows)
    shelf.readable.update(result.readable)


def _check_there(root: Path) -> None:
    """Check that the folder is still there, after a picture could not be read.

    Raises:
        DataError: it is gone, or it is empty, like the mount point of an unmounted disk.
    """
    try:
        with os.scandir(root) as entries:
            problem = "" if any(entry.name != FOLDER for entry in entries) else "it is empty now"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise DataError(
            f"{root}: the folder vanished while its pictures were looked at: {problem}",
            hint="mount the disk or restore the folder, then start the same command again",
        )


def _unchanged(shelf: _Shelf, sample: Sample) -> bool:
    try:
        return shelf.contents.known(sample.path) == sample.sha256
    except OSError:
        return False


def _as_origin(spec: SampleSpec) -> dict[str, Any]:
    """What the arrays depend on; not the names of columns, which are chosen later."""
    return asdict(replace(spec, inputs=(), target=()) if isinstance(spec, TensorSpec) else spec)


def _read(contents: Contents, dataset: Dataset, sample: Sample) -> bytes | NDArray[Any]:
    if dataset.rows is not None:
        found: bytes | NDArray[Any] = dataset.rows[sample.row]
        return found
    try:
        data, sha256 = contents.read(sample.path)
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror}") from error
    if sha256 != sample.sha256:
        raise PictureError("its content has changed since the dataset was opened or prepared")
    return data


def picture_features(engine: Engine, spec: SampleSpec, pictures: Pictures) -> NDArray[np.float32]:
    """Compute features [N, ...] of pictures without caching them.

    Raises:
        UsageError: an input is not a picture, or there are no pictures.
        PictureError: a picture cannot be read; it names the file and the reason.
    """
    return np.concatenate(
        [engine.features(part) for part in batches(pictures, spec, batch_for(spec))]
    )
