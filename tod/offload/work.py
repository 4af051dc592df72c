"""Train a job from what the spool holds, and pack what training changed.

Axes: N samples, F features.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tod.data.dataset import Dataset
from tod.data.rows import Columns
from tod.data.samples import Sample
from tod.errors import ArtifactError, DataError
from tod.format import artifact as artifacts
from tod.format.manifest import SampleSpec
from tod.offload.allowed import settings_of
from tod.offload.job import SPLITS, Index, Offer, Result, Status, Trained
from tod.offload.spool import Spool
from tod.runtime.scoring import mean_loss
from tod.training import checkpoints
from tod.training.conditions import Conditions
from tod.training.loop import train
from tod.training.records import CycleDone, Evaluated
from tod.training.session import TrainSession

_OUTPUT = "trained.tod"


class SpoolRows:
    """The samples of a job as `tod.data.dataset.Dataset.rows`: numbers, or a picture's file."""

    def __init__(self, spool: Spool, index: Index, payload: str, shape: tuple[int, ...]) -> None:
        self._spool, self._index, self._payload = spool, index, payload
        self.shape = (len(index.parts), *shape)

    def __len__(self) -> int:
        return len(self._index.parts)

    def __getitem__(self, part: int) -> Any:
        return unpacked(self._spool.part(part), self._index, self._payload)


def unpacked(data: bytes, index: Index, payload: str) -> Any:
    """The numbers of a part, or the bytes of a picture's file.

    Raises:
        DataError: it has another size than its shape.
    """
    if payload == "samples" and not index.dtype:
        return data
    count = int(np.prod(index.shape))
    try:
        if payload == "int8":
            scale = np.frombuffer(data, "<f4", 1)[0]
            steps = np.frombuffer(data, np.int8, offset=4)
            return (steps.astype(np.float32) * scale).reshape(index.shape)
        kind = np.dtype("<f4" if payload == "features" else index.dtype).newbyteorder("<")
        if len(data) != count * kind.itemsize or kind.kind not in "fiu":
            raise ValueError(f"{len(data)} bytes for {list(index.shape)} of {kind}")
        return np.frombuffer(data, kind).reshape(index.shape)
    except (ValueError, TypeError) as error:
        raise DataError(f"a sample is not what its list says: {error}") from error


def quantized(features: NDArray[np.float32]) -> bytes:
    """Features [F] in int8: their scale as float32, then one byte each, rounded to nearest."""
    scale = np.float32(np.abs(features).max() / 127) or np.float32(1)
    steps = np.clip(np.rint(features / scale), -127, 127).astype(np.int8)
    return bytes(scale.astype("<f4").tobytes() + steps.tobytes())


def dataset_of(spool: Spool, offer: Offer, index: Index, spec: SampleSpec) -> Dataset:
    """The job's samples as a dataset, in the splits that the sender has them in.

    Args:
        spool, offer, index: of the job.
        spec: what the model takes; pictures are read to it, and features stand for it.
    """
    samples = tuple(
        Sample(
            path=f"sample {number}",
            label=0 if isinstance(item.label, tuple) else item.label,
            split=SPLITS[item.split],  # type: ignore[arg-type]
            sha256=index.parts[item.part].sha256.hex(),
            pixels=item.mark.hex(),
            targets=item.label if isinstance(item.label, tuple) else None,
            row=item.part,
        )
        for number, item in enumerate(index.items)
    )
    columns = Columns(*index.columns, index.numbers) if any(index.columns) else None
    whole = offer.payload == "samples" and bool(index.dtype)
    rows: Any = SpoolRows(spool, index, offer.payload, index.shape if whole else spec.shape)
    return Dataset(spool.folder, index.classes, samples, rows=rows, columns=columns)


def train_job(
    spool: Spool,
    offer: Offer,
    index: Index,
    model: Path,
    *,
    tell: Callable[[Status], None],
    should_stop: Callable[[], bool],
    most_seconds: float,
    threads: int | None,
) -> bytes:
    """Train, from the last checkpoint if there is one.

    Args:
        spool, offer, index: of the job, complete.
        model: the .tod file that the offer names.
        tell: told of each evaluation.
        should_stop: save a checkpoint and end.
        most_seconds: the owner's limit.
        threads: for the session.

    Returns:
        The SHA-256 of the whole trained file, then what it is made of (`Trained`).

    Raises:
        TodError: the data do not fit, training failed, or it was stopped.
    """
    output = spool.folder / _OUTPUT
    found, _ = checkpoints.newest(model, output)
    session = TrainSession.load(
        found or model, threads=threads, cache=False, continues=None if found is None else model
    )
    dataset = dataset_of(spool, offer, index, session.manifest.samples)
    if offer.payload != "samples":
        _give_features(session, dataset, index)
    settings, status = settings_of(offer), Status("training", parts=spool.count)
    seconds = min(offer.seconds or most_seconds, most_seconds)
    records = train(
        session, dataset, output=output, overwrite=True, should_stop=should_stop,
        conditions=Conditions(max_minutes=seconds / 60), **asdict(settings),
    )  # fmt: skip
    batch = settings.batch_size or session.manifest.batch_size
    start = time.monotonic()
    for record in records:
        if isinstance(record, CycleDone):
            epoch = record.cycle * batch / max(len(dataset.split("train")), 1)
            status = msgspec.structs.replace(status, cycle=record.cycle, epoch=round(epoch, 3))
        elif isinstance(record, Evaluated):
            taken = round(time.monotonic() - start, 3)
            scores = _scores(session, dataset)
            status = msgspec.structs.replace(status, seconds=taken, **scores)
            tell(status)
    return packed_result(output)


def _give_features(session: TrainSession, dataset: Dataset, index: Index) -> None:
    """Put features that were sent where those of pictures would be."""
    shape = session.manifest.backbone.feature_shape
    if index.shape != shape:
        raise DataError(f"the features are {list(index.shape)}, the model's are {list(shape)}")
    session.store.give(dataset, dataset.samples)


def _scores(session: TrainSession, dataset: Dataset) -> dict[str, float]:
    """Loss and accuracy of the present parameters on the train and the test split. The test split
    chooses the best cycle; it is what others call validation."""
    found: dict[str, float] = {}
    for split, name in (("train", "train"), ("test", "validation")):
        features, labels = session.store.rows(dataset, dataset.split(split))  # type: ignore[arg-type]
        if not len(labels):
            continue
        outputs = session.logits(features)
        found[f"{name}_accuracy"] = session.score(features, labels, split).accuracy  # type: ignore[arg-type]
        found[f"{name}_loss"] = mean_loss(session.manifest.loss.task, outputs, labels)
    return found


def packed_result(output: Path) -> bytes:
    """What of a trained file the sender does not have."""
    trained = Trained(*artifacts.training_of(output))
    return hashlib.sha256(output.read_bytes()).digest() + msgspec.msgpack.encode(trained)


def opened_result(kept: bytes) -> tuple[Result, bytes]:
    """What is announced of a result that `train_job` gave, and the bytes that are sent."""
    data = kept[32:]
    return Result(hashlib.sha256(data).hexdigest(), len(data), kept[:32].hex()), data


def unpacked_result(data: bytes, model: Path, sha256: str) -> bytes:
    """The whole trained file, from what came and the model that was sent out.

    Raises:
        ArtifactError: it is not that model trained.
    """
    try:
        trained = msgspec.msgpack.decode(data, type=Trained)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ArtifactError(f"what came is no trained model: {error}") from error
    made = artifacts.with_training(model, trained.manifest, trained.state)
    if hashlib.sha256(made).hexdigest() != sha256:
        raise ArtifactError(
            f"what came and {model} do not make the model that was announced",
            hint="the receiver trained another model",
        )
    return made
