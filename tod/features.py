"""The frozen part of the network, once per picture.

A picture file is read, decoded, resized and run through `features.onnx` the first time that it is
asked for; after that its feature row is remembered by the hash of its content.
Axes: N pictures, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.dataset import Dataset, Sample
from tod.engine import Engine
from tod.errors import PictureError, UsageError
from tod.image import load
from tod.manifest import InputSpec

# Measured: 4 to 8 pictures at once are as fast per picture as 32 and need a third of the memory.
BATCH = 8
Pictures = NDArray[np.uint8] | Sequence[str | Path] | str | Path  # uint8 [N, S, S, 3], or files
_Rows = dict[tuple[str, bool], NDArray[np.float32]]


class FeatureStore:
    """Feature rows of pictures, computed when needed and kept.

    One worker thread per core, each decoding its pictures and running them on one core: reading
    and decoding overlap with arithmetic by themselves.

    Args:
        engine: runs `features.onnx`.
        spec: how pictures are brought to size.
        workers: how many threads.
    """

    def __init__(self, engine: Engine, spec: InputSpec, *, workers: int) -> None:
        self._engine = engine
        self._spec = spec
        self._workers = workers
        self._rows: _Rows = {}
        self.unreadable: dict[Path, str] = {}
        """File -> reason, of the pictures that the last `fill` could not read."""

    def fill(self, dataset: Dataset, samples: Sequence[Sample]) -> Iterator[tuple[int, int]]:
        """Compute the rows that are missing.

        Yields:
            Pictures done and pictures to do, after each batch; nothing if none is missing.
            Whoever stops iterating stops the work, and what was computed is kept.
        """
        self.unreadable = {}
        done = 0
        # Once more where a picture cannot be read but has a twin with the same content.
        while missing := self._missing(dataset, samples):
            batches = [missing[i : i + BATCH] for i in range(0, len(missing), BATCH)]
            total = done + len(missing)
            with ThreadPoolExecutor(self._workers) as pool:
                futures = [pool.submit(self._batch, dataset, batch) for batch in batches]
                try:
                    for batch, future in zip(batches, futures, strict=True):
                        self._rows.update(future.result())
                        done += len(batch)
                        yield done, total
                finally:
                    pool.shutdown(cancel_futures=True)

    def rows(
        self, dataset: Dataset, samples: Sequence[Sample]
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Features [N, ...] of samples that `fill` has seen and could read, and their answers:
        labels int64 [N], or targets float32 [N, C]."""
        readable = [s for s in samples if (s.sha256, dataset.cropped) in self._rows]
        if not readable:
            return np.empty((0, 1), np.float32), np.empty(0, np.int64)
        features = np.stack([self._rows[s.sha256, dataset.cropped] for s in readable])
        if readable[0].targets is not None:
            return features, np.array([s.targets for s in readable], np.float32)
        return features, np.array([s.label for s in readable], np.int64)

    def _missing(self, dataset: Dataset, samples: Sequence[Sample]) -> list[Sample]:
        """One sample for each content that has no row yet and may still be read."""
        by_content = {
            s.sha256: s
            for s in samples
            if (s.sha256, dataset.cropped) not in self._rows
            and dataset.root / s.path not in self.unreadable
        }
        return list(by_content.values())

    def _batch(self, dataset: Dataset, samples: Sequence[Sample]) -> _Rows:
        pixels, readable = [], []
        for sample in samples:
            try:
                pixels.append(_pixels(dataset, sample, self._spec))
                readable.append(sample)
            except PictureError as error:
                self.unreadable[dataset.root / sample.path] = error.problem
        if not readable:
            return {}
        features = self._engine.features(np.stack(pixels))
        return {(s.sha256, dataset.cropped): row for s, row in zip(readable, features, strict=True)}


def picture_features(engine: Engine, spec: InputSpec, pictures: Pictures) -> NDArray[np.float32]:
    """Features [N, ...] of pixels or of picture files, without remembering them.

    Raises:
        UsageError: an array that is not uint8 [N, S, S, 3], or no picture at all.
        PictureError: naming the file and the reason.
    """
    if isinstance(pictures, str | Path):
        pictures = [pictures]
    if len(pictures) == 0:
        raise UsageError("no picture was given")
    if not isinstance(pictures, np.ndarray):
        pictures = np.stack([_file_pixels(Path(path), spec) for path in pictures])
    shape = (spec.size_px, spec.size_px, 3)
    if pictures.shape[1:] != shape or pictures.dtype != np.uint8:
        raise UsageError(
            f"wanted uint8 pixels [N, {spec.size_px}, {spec.size_px}, 3], found {pictures.dtype} "
            f"{list(pictures.shape)}",
            hint="give picture files instead; they are brought to size",
        )
    parts = [engine.features(pictures[i : i + BATCH]) for i in range(0, len(pictures), BATCH)]
    return np.concatenate(parts)


def _file_pixels(path: Path, spec: InputSpec) -> NDArray[np.uint8]:
    try:
        return load(path.read_bytes(), spec)
    except OSError as error:
        raise PictureError(f"{path}: cannot be read: {error.strerror}") from error
    except PictureError as error:
        raise PictureError(f"{path}: {error.problem}") from error


def _pixels(dataset: Dataset, sample: Sample, spec: InputSpec) -> NDArray[np.uint8]:
    try:
        data = (dataset.root / sample.path).read_bytes()
    except OSError as error:
        raise PictureError(f"cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != sample.sha256:
        raise PictureError("its content has changed since the dataset was opened or prepared")
    return load(data, spec, cropped=dataset.cropped)
