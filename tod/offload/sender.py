"""The sender: offers a job, gives the parts that are asked for, takes the trained model.

It keeps no state of its own: the same data, model and settings make the same job, so a sender that
was killed starts again and the receiver goes on where it was.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tod.data.dataset import Dataset
from tod.data.samples import Sample
from tod.errors import ArtifactError, DataError, DeviceError, Interrupted, UsageError
from tod.offload import frames
from tod.offload.frames import MAX_PAYLOAD_BYTES, Frame, FrameError, Kind
from tod.offload.job import (
    PART_BYTES,
    SPLITS,
    Index,
    Item,
    Need,
    Offer,
    Part,
    Payload,
    Result,
    Status,
    from_json,
    job_of,
    pieces,
    ranges,
    to_json,
)
from tod.offload.link import Link
from tod.offload.work import quantized, unpacked_result
from tod.runtime.model import Model
from tod.system.files import read_regular, sha256
from tod.system.settings import check
from tod.training.settings import Settings

_OFFER_AGAIN_SECONDS = 3.0
_ASK_AGAIN_SECONDS = 2.0
_MAX_MODEL_BYTES = 4 << 30
_WINDOW = 16  # parts of the model on their way


@dataclass(frozen=True)
class Job:
    """A job ready to be sent.

    Attributes:
        offer, name: what it is.
        index: the list of samples, encoded.
        part: the bytes of a part by its number.
        left_out: what gives no sample, and why.
    """

    offer: Offer
    name: bytes
    index: bytes
    part: Callable[[int], bytes]
    left_out: tuple[str, ...] = ()


def make_job(
    model: Model,
    dataset: Dataset,
    settings: Settings,
    payload: Payload,
    *,
    seconds: float | None = None,
    description: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Job:
    """Prepare a job. Samples stay where they are until they are asked for; features are computed.

    Args:
        model: the file that the receiver has, too.
        dataset: opened for the model.
        settings: how to train; checkpoints are the receiver's.
        payload: what is sent of each sample.
        seconds: of training, at most.
        description: for people.
        progress: called with the samples done and to do.

    Raises:
        DataError: nothing can be read.
        UsageError: features of a network that trains whole.
    """
    dataset = model.match(dataset)
    samples = dataset.samples
    if payload == "samples":
        parts, read, dtype, shape, left_out = _as_they_are(dataset, samples, progress)
    else:
        parts, read, shape, left_out = _features(model, dataset, samples, payload, progress)
        dtype = "float32"
    sizes = dict(parts.values())
    numbers = {digest: place for place, digest in enumerate(sizes)}
    columns = dataset.columns
    index = Index(
        classes=dataset.classes,
        numbers=dataset.has_targets,
        dtype=dtype,
        shape=shape,
        columns=((), ()) if columns is None else (columns.inputs, columns.target),
        parts=tuple(Part(digest, sizes[digest]) for digest in numbers),
        items=tuple(
            Item(
                numbers[parts[sample.sha256][0]],
                sample.label if sample.targets is None else sample.targets,
                SPLITS.index(sample.split), bytes.fromhex(sample.pixels[:16]),
            )
            for sample in samples if sample.sha256 in parts
        ),
    )  # fmt: skip
    data = msgspec.msgpack.encode(index)
    given = {name: value for name, value in check(settings).items() if value is not False}
    offer = Offer(
        1, sha256(model.artifact.path, limit_bytes=_MAX_MODEL_BYTES),
        hashlib.sha256(data).hexdigest(), len(data), len(index.parts),
        sum(part.bytes for part in index.parts), payload, given, seconds, description,
    )  # fmt: skip
    order = list(numbers)
    return Job(offer, job_of(offer), data, lambda number: read(order[number]), left_out)


_Parts = dict[str, tuple[bytes, int]]  # hash of a sample -> that of what is sent, and its size


def _as_they_are(
    dataset: Dataset, samples: Sequence[Sample], progress: Callable[[int, int], None]
) -> tuple[_Parts, Callable[[bytes], bytes], str, tuple[int, ...], tuple[str, ...]]:
    rows = dataset.rows
    by_digest: dict[bytes, Sample] = {}
    parts: _Parts = {}
    left_out = []
    for done, sample in enumerate(samples, 1):
        if sample.sha256 not in parts:
            try:
                data = _bytes_of(dataset, sample)
            except OSError as error:
                left_out.append(f"{sample.path}: cannot be read: {error.strerror or error}")
                continue
            digest = hashlib.sha256(data).digest()
            parts[sample.sha256] = digest, len(data)
            by_digest[digest] = sample
        progress(done, len(samples))
    if not parts:
        raise DataError(f"{dataset.root}: nothing in it can be sent", hint="; ".join(left_out[:3]))

    def read(digest: bytes) -> bytes:
        return _bytes_of(dataset, by_digest[digest])

    dtype = "" if rows is None else rows.dtype.name
    return parts, read, dtype, () if rows is None else tuple(rows.shape[1:]), tuple(left_out)


def _bytes_of(dataset: Dataset, sample: Sample) -> bytes:
    """A sample as it is sent: the file, or the numbers little-endian."""
    source = dataset.source(sample)
    if isinstance(source, Path):
        return read_regular(source, limit_bytes=MAX_PAYLOAD_BYTES)[0]
    return np.ascontiguousarray(source, source.dtype.newbyteorder("<")).tobytes()


def _features(
    model: Model,
    dataset: Dataset,
    samples: Sequence[Sample],
    payload: Payload,
    progress: Callable[[int, int], None],
) -> tuple[_Parts, Callable[[bytes], bytes], tuple[int, ...], tuple[str, ...]]:
    if not model.manifest.backbone.parameters:
        raise UsageError(
            f"--send {payload}: nothing of this model is frozen, so it has no features",
            hint="--send samples",
        )
    model.store.fill(dataset, samples, progress)
    left_out = tuple(f"{path}: {why}" for path, why in sorted(model.store.unreadable.items()))
    known = model.store.readable(dataset, samples)
    features, _ = model.store.rows(dataset, known)
    parts: _Parts = {}
    places: dict[bytes, int] = {}

    def data(place: int) -> bytes:
        row: NDArray[np.float32] = features[place : place + 1][0]
        return quantized(row.reshape(-1)) if payload == "int8" else row.astype("<f4").tobytes()

    for place, sample in enumerate(known):
        made = data(place)
        digest = hashlib.sha256(made).digest()
        parts[sample.sha256] = digest, len(made)
        places[digest] = place
    if not parts:
        raise DataError(f"{dataset.root}: nothing in it can be sent", hint="; ".join(left_out[:3]))
    shape = model.manifest.backbone.feature_shape
    return parts, lambda digest: data(places[digest]), shape, left_out


class Sender:
    """Send one job and wait for its model.

    Args:
        link: to the receiver.
        job: see `make_job`.
        model: the file that was sent out, whose graphs the result must have.
        show: called with each new status.
        should_stop: called several times a second.
        silent_seconds: give up when nothing is heard for so long; None waits for ever.
    """

    def __init__(
        self,
        link: Link,
        job: Job,
        model: Path,
        *,
        show: Callable[[Status], None],
        should_stop: Callable[[], bool] = lambda: False,
        silent_seconds: float | None = None,
    ) -> None:
        self._link, self._job, self._model = link, job, model
        self._show, self._should_stop, self._silent = show, should_stop, silent_seconds
        self._status: Status | None = None
        self._result: Result | None = None
        self._chunks: dict[int, bytes] = {}
        self.sent_bytes = 0

    def run(self) -> bytes:
        """The trained .tod file, whole.

        Raises:
            DataError: the receiver refused the job, or it failed there.
            DeviceError: nothing was heard for too long.
            ArtifactError: what came is not the model that was sent out, trained.
            Interrupted: it was asked to stop; the job goes on at the receiver.
        """
        start, heard = time.monotonic(), 0.0
        offered = asked = 0.0
        while True:
            now = time.monotonic()
            if self._should_stop():
                raise Interrupted("stopped; the same command goes on with this job")
            if self._silent is not None and now - max(start, heard) > self._silent:
                raise DeviceError(
                    f"nothing was heard of the receiver for {self._silent:g} seconds",
                    hint="look whether it runs; the same command goes on with this job",
                )
            if self._result is None and now - max(offered, heard) > _OFFER_AGAIN_SECONDS:
                offered = now
                self._send(Kind.OFFER, 0, to_json(self._job.offer))
            if self._result is not None and now - asked > _ASK_AGAIN_SECONDS:
                asked = now
                self._ask()
            arrived = self._link.receive(0.1)
            if arrived is not None and self._take(arrived[1]):
                heard = time.monotonic()
                if self._result is not None and self._complete():
                    return self._finish()
                if self._result is not None and len(self._chunks) % _WINDOW == 0:
                    asked = 0.0

    def _take(self, data: bytes) -> bool:
        """Do what a frame wants; tell whether it was one of this job."""
        try:
            frame = frames.decode(data)
            if frame.job != self._job.name:
                return False
            if frame.kind is Kind.NEED:
                self._give(from_json(frame.payload, Need))
            elif frame.kind is Kind.STATUS:
                self._told(from_json(frame.payload, Status))
            elif frame.kind is Kind.RESULT and self._result is None:
                self._result = from_json(frame.payload, Result)
                # It has no graphs, so it is smaller than the file that was sent out; but which
                # samples it was trained on are in it, too.
                most = 2 * self._model.stat().st_size + 8 * len(self._job.index)
                if self._result.bytes > most:
                    raise DataError(
                        f"the model that is announced has {self._result.bytes:,} bytes, that of "
                        f"this job has at most {most:,}"
                    )
            elif frame.kind is Kind.MODEL and self._result is not None:
                if frame.number < self._count and len(frame.payload) <= PART_BYTES:
                    self._chunks[frame.number] = frame.payload
            elif frame.kind is Kind.REFUSED:
                why = frame.payload[:500].decode(errors="replace")
                raise DataError(
                    f"the receiver refused the job: {why if why.isprintable() else 'no reason'}",
                    hint="ask its owner; tod offload receive --help lists the limits",
                )
        except (FrameError, ValueError):
            return False
        return True

    def _told(self, status: Status) -> None:
        if status != self._status:
            self._status = status
            self._show(status)
        if status.state == "failed":
            raise DataError(f"the receiver could not train: {status.text or 'no reason is given'}")

    def _give(self, need: Need) -> None:
        if need.what == "index":
            parts = pieces(self._job.index)
            for number in need.numbers(len(parts)):
                self._send(Kind.INDEX, number, parts[number])
        elif need.what == "sample":
            for number in need.numbers(self._job.offer.parts):
                try:
                    data = self._job.part(number)
                except OSError as error:
                    raise DataError(f"a sample cannot be read any more: {error}") from error
                self._send(Kind.SAMPLE, number, data)

    @property
    def _count(self) -> int:
        return 0 if self._result is None else -(-self._result.bytes // PART_BYTES)

    def _complete(self) -> bool:
        return len(self._chunks) == self._count

    def _ask(self) -> None:
        missing = [number for number in range(self._count) if number not in self._chunks]
        need = Need("model", ranges(missing[:_WINDOW]))
        self._send(Kind.NEED, 0, to_json(need))

    def _finish(self) -> bytes:
        assert self._result is not None
        data = b"".join(self._chunks[number] for number in range(self._count))
        if hashlib.sha256(data).hexdigest() != self._result.sha256:
            raise ArtifactError(
                "the model that came is damaged", hint="the same command asks for it again"
            )
        made = unpacked_result(data, self._model, self._result.model_sha256)
        for _ in range(3):  # it may get lost, and nothing answers it
            self._send(Kind.DONE, 0, b"")
        return made

    def _send(self, kind: Kind, number: int, payload: bytes) -> None:
        frame = frames.encode(Frame(kind, self._job.name, number, payload))
        self.sent_bytes += len(frame)
        self._link.send("", frame)


def as_row(status: Status) -> dict[str, Any]:
    """A status as a JSON line."""
    row: dict[str, Any] = msgspec.to_builtins(status)
    return row
