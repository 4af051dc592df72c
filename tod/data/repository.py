"""Data repositories of NNStreamer's datareposrc and datareposink: a JSON file beside a data file.

The JSON describes the tensors of a sample and says where each sample lies; every number in it is
checked against the file before anything is read. Sources: NNStreamer,
gst/datarepo/gstdatareposrc.c and gstdatareposink.c. Axes: N samples.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tod.data import flexible_tensor, tensor_caps
from tod.data.index import read_limited
from tod.data.tensor_caps import MAX_TENSORS, Caps, Format
from tod.errors import DataError
from tod.system.files import write_whole

SUFFIX = ".data"
_HINT = "write it again with datareposink, or with 'tod data convert'"


class _Json(msgspec.Struct, omit_defaults=True):
    """The members that datareposink writes; `classes` is ours, and read by nobody else."""

    gst_caps: str
    total_samples: int
    sample_size: int = 0
    sample_offset: tuple[int, ...] = ()
    tensor_size: tuple[int, ...] = ()
    tensor_count: tuple[int, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Repository:
    """An open repository. Numbers stay on disk until a sample is read.

    Attributes:
        path: of the JSON file.
        caps: what a sample holds.
        total: N.
        classes: names of the labels, if the file has them.
    """

    path: Path
    caps: Caps
    total: int
    classes: tuple[str, ...]
    _data: NDArray[Any]
    _tensors: tuple[tuple[tuple[int, int], ...], ...] = ()  # of each sample: begin and end

    def sample(self, index: int) -> tuple[NDArray[Any], ...]:
        """The tensors of one sample.

        Raises:
            DataError: its bytes are no tensors.
        """
        if self.caps.format == "static":
            row = self._data[index]
            return tuple(row[name] for name in self._data.dtype.names or ())
        try:
            return tuple(
                flexible_tensor.decode(self._data[begin:end].tobytes())
                for begin, end in self._tensors[index]
            )
        except ValueError as error:
            raise DataError(f"{self.path}: sample {index}: {error}", hint=_HINT) from error

    def column(self, place: int) -> NDArray[Any]:
        """One tensor of all samples, [N, ...]; on disk, if all have one shape by description.

        Raises:
            DataError: there is none, or the samples differ in type or shape.
        """
        if self.caps.format == "static":
            names = self._data.dtype.names or ()
            if place >= len(names):
                raise self._no_tensor(place, len(names))
            column: NDArray[Any] = self._data[names[place]]
            return column
        found = []
        for index in range(self.total):
            tensors = self.sample(index)
            if place >= len(tensors):
                raise self._no_tensor(place, len(tensors))
            found.append(tensors[place])
        kinds = {(one.dtype, one.shape) for one in found}
        if len(kinds) > 1:
            some = ", ".join(
                f"{dtype} {list(shape)}" for dtype, shape in sorted(kinds, key=str)[:3]
            )
            raise DataError(f"{self.path}: its samples differ in tensor {place}: {some}")
        return np.stack(found)

    def _no_tensor(self, place: int, tensors: int) -> DataError:
        return DataError(f"{self.path}: a sample has {tensors} tensors, there is no tensor {place}")


def open_repository(path: Path) -> Repository:
    """Open a repository; the data file has the same name with another suffix.

    Raises:
        DataError: a file is missing, or their numbers do not fit together.
    """
    try:
        said = msgspec.json.decode(read_limited(path), type=_Json)
        caps = tensor_caps.parse(said.gst_caps)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: it describes no data repository: {error}", hint=_HINT) from error
    if caps.media != "other/tensors":
        raise DataError(
            f"{path}: it holds {caps.media}, not tensors with labels",
            hint="put pictures into a folder for each class",
        )
    data = _data_file(path)
    size = data.stat().st_size
    try:
        if caps.format == "static":
            rows = _static(said, caps, size)
            array: NDArray[Any] = np.memmap(data, rows, "r", shape=(said.total_samples,))
            return Repository(path, caps, said.total_samples, said.classes, array)
        tensors = _tensors(said, size)
    except ValueError as error:
        raise DataError(f"{path}: {error}", hint=_HINT) from error
    array = np.memmap(data, np.uint8, "r")
    return Repository(path, caps, said.total_samples, said.classes, array, tensors)


def is_repository(path: Path) -> bool:
    """Tell whether a JSON file is the description of a repository."""
    try:
        return b'"gst_caps"' in read_limited(path)[: 1 << 16]
    except (OSError, DataError):
        return False


def _data_file(path: Path) -> Path:
    named = path.with_suffix(SUFFIX)
    others = sorted(p for p in path.parent.glob(f"{path.stem}.*") if p.suffix in (".dat", ".bin"))
    for file in (named, *others):
        if file.is_file():
            return file
    raise DataError(f"{path}: its data file {named.name} is missing", hint="put it beside")


def _static(said: _Json, caps: Caps, size: int) -> np.dtype[Any]:
    each = sum(one.bytes for one in caps.tensors)
    if said.sample_size not in (0, each):
        raise ValueError(f"sample_size is {said.sample_size}, its tensors have {each} bytes")
    if said.total_samples < 1 or said.total_samples * each != size:
        raise ValueError(
            f"{said.total_samples} samples of {each} bytes do not make the {size} bytes of its "
            "data file"
        )
    return np.dtype([
        (str(place), np.dtype(one.dtype).newbyteorder("<"), one.shape)
        for place, one in enumerate(caps.tensors)
    ])  # fmt: skip


def _tensors(said: _Json, size: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Where the tensors of each sample begin and end.

    `tensor_count` counts the tensors before each sample; the last sample has the rest.
    """
    total = said.total_samples
    if total < 1 or not len(said.sample_offset) == len(said.tensor_count) == total:
        raise ValueError(
            f"{total} samples with {len(said.sample_offset)} offsets and {len(said.tensor_count)} "
            "counts of tensors"
        )
    ends = [*said.sample_offset[1:], size]
    counts = [*said.tensor_count[1:], len(said.tensor_size)]
    found = []
    for index in range(total):
        first, last = said.tensor_count[index], counts[index]
        if not 0 <= first < last <= len(said.tensor_size) or last - first > MAX_TENSORS:
            raise ValueError(f"sample {index} has the tensors {first} to {last}")
        at, places = said.sample_offset[index], []
        for bytes_ in said.tensor_size[first:last]:
            if bytes_ < flexible_tensor.HEADER_BYTES or at < 0:
                raise ValueError(f"a tensor of sample {index} has {bytes_} bytes")
            places.append((at, at + bytes_))
            at += bytes_
        if at != ends[index] or at > size:
            raise ValueError(f"sample {index} ends at byte {at}, wanted {ends[index]}")
        found.append(tuple(places))
    if said.sample_offset[0] != 0 or said.tensor_count[0] != 0:
        raise ValueError("its first sample does not begin at 0")
    return tuple(found)


def write_repository(
    path: Path,
    samples: Sequence[Sequence[NDArray[Any]]],
    *,
    format_: Format = "static",
    classes: Sequence[str] = (),
) -> None:
    """Write both files, the data first: a cut between leaves no description of missing data.

    Args:
        path: of the JSON file.
        samples: the tensors of each sample; of one kind, if static.
        format_: static has no headers; the others one for each tensor.
        classes: names of the labels.

    Raises:
        DataError: the samples differ, or have a type that there is not.
        OSError: it cannot be written.
    """
    try:
        kinds = [flexible_tensor.describe(one) for one in samples[0]]
        if format_ == "static":
            if any(
                [flexible_tensor.describe(one) for one in sample] != kinds for sample in samples
            ):
                raise ValueError("its samples differ in type or shape: only flexible can hold them")
            parts = [b"".join(_bytes(one) for one in sample) for sample in samples]
            said = _Json(tensor_caps.text("static", kinds), len(samples), len(parts[0]))
        else:
            sparse = format_ == "sparse"
            tensors = [
                [flexible_tensor.encode(one, sparse=sparse) for one in sample] for sample in samples
            ]
            parts = [b"".join(sample) for sample in tensors]
            said = _Json(
                tensor_caps.text(format_), len(samples),
                sample_offset=_before(map(len, parts)),
                tensor_size=tuple(len(one) for sample in tensors for one in sample),
                tensor_count=_before(map(len, tensors)),
            )  # fmt: skip
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    said.classes = tuple(classes)
    write_whole(path.with_suffix(SUFFIX), b"".join(parts))
    write_whole(path, msgspec.json.format(msgspec.json.encode(said), indent=2) + b"\n")


def _bytes(values: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()


def _before(lengths: Iterator[int]) -> tuple[int, ...]:
    """The sum of all lengths before each one."""
    found, total = [], 0
    for length in lengths:
        found.append(total)
        total += length
    return tuple(found)


def order(
    parts: Sequence[range], *, epochs: int = 1, shuffle: bool = False, seed: int = 0
) -> Iterator[int]:
    """The samples that a stream of epochs takes, one after the other.

    Every epoch takes every sample of each part once: first the training samples, then the
    validation samples. Shuffling stays inside a part and covers the first epoch, too; datareposrc
    shuffles both parts together, so that what validates in one epoch trains in the next.

    Args:
        parts: training and validation samples, or one part.
        epochs: -1 for no end.
        shuffle: in another order in each epoch.
        seed: of the orders.
    """
    for epoch in count() if epochs < 0 else range(epochs):
        for place, part in enumerate(parts):
            if not shuffle:
                yield from part
                continue
            # Sorting by random keys gives every order the same probability, whatever NumPy does.
            stream = np.random.Philox(np.random.SeedSequence([seed, epoch, place]))
            keys = stream.random_raw(len(part))
            yield from (part[int(index)] for index in np.argsort(keys, kind="stable"))


def pattern_files(pattern: str, *, start: int = 0, stop: int | None = None) -> Iterator[Path]:
    """The files of a pattern such as `img_%04d.png`, from index `start` to `stop`, or to the first
    that is missing."""
    for index in islice(count(), start, None if stop is None else stop + 1):
        path = Path(pattern % index)
        if not os.path.exists(path):
            return
        yield path
