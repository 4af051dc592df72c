"""Guarded promotion: a new model replaces the served one only if it is better.

Both are evaluated on this device on the validation split of the same data, with the same runtime.
State on disk in, state on disk out; `tod.format.generations` says how it survives an interruption.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from tod.data.dataset import Dataset
from tod.errors import ArtifactError, NotPromoted, UsageError
from tod.format import artifact
from tod.format.generations import (
    Event,
    Scores,
    Shelf,
    bytes_of,
    content,
    locked,
    look,
    now,
    present,
    put_in_place,
    remove_left,
    remove_old,
)
from tod.training.evaluation import evaluate, opened
from tod.training.records import Evaluated, Notice, Promoted, Record, RolledBack
from tod.training.session import TrainSession
from tod.training.watch import Watch

KEEP = 3


def promote(
    new: Path,
    served: Path,
    data: Path,
    *,
    margin: float = 0.0,
    keep: int = KEEP,
    threads: int | None = None,
    seed: int | None = None,
    splits: bool = False,
    cache: Path | bool = True,
    require_signature: Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[Record]:
    """Replace `served` by `new` if it is better on the validation split of `data`.

    Args:
        new: a whole model whose classes are those of the served one.
        served: the file to replace; the first promotion creates it at any accuracy.
        data: a prepared dataset, or a folder of class folders.
        margin: the new score must be higher by more than this.
        keep: number of generations that stay beside the served one.
        threads: pictures read in parallel.
        seed: split seed of a plain folder; by default the new model's, else the served model's.
        splits: as for `Dataset.open`.
        cache: as for `TrainSession.load`.
        require_signature: a public key; both models must be signed with it.
        should_stop: called while pictures are read.

    Yields:
        Progress and notices, and `Promoted` at the end.

    Raises:
        NotPromoted: the new model is not better; nothing was changed.
        ArtifactError: a file is damaged, is not a whole model, has other classes, cannot be
            written, was changed by another process meanwhile, or is not signed as required.
        DataError: the data does not fit the models.
    """
    if not 0 <= margin < 1:
        raise UsageError(f"margin is {margin:g}, wanted 0 to below 1")
    if keep < 1:
        raise UsageError(f"keep is {keep}, wanted at least 1")
    remove_left(served)
    shelf = look(served)
    yield from map(Notice, shelf.notices)
    bytes_new, session = _load(new, threads, cache, require_signature)
    sessions = [session]
    bytes_served = None
    if shelf.sha256 is not None:
        bytes_served, other = _load_served(shelf, threads, cache, require_signature)
        _check_alike(session, other)
        if other.artifact.graphs == session.artifact.graphs:
            other.store = session.store  # same frozen part, same features: compute them once
        sessions.append(other)
    paths = [new, shelf.served]
    dataset = yield from opened(
        sessions[0], data, seed, should_stop, Watch(), sessions[1:], splits=splits
    )
    if len({one.classes for one in sessions}) > 1:
        yield Notice("the classes of the two models are in another order; answers go by name")
    results: list[Evaluated] = []
    said: set[Record] = set()
    for one in sessions:
        results.append((yield from _score(one, dataset, should_stop, said)))
    _check_same_pictures(results, paths)
    scores = _scores(results, margin, dataset.digest())
    _check_better(new, served, scores)
    with locked(served):
        event = _settle(served, shelf.sha256, bytes_served, bytes_new, new, scores, keep)
    yield Promoted(
        str(new), str(served), event.generation, scores.accuracy, scores.served_accuracy,
        scores.total, scores.metric,
    )  # fmt: skip


def rollback(
    served: Path, *, to: int | None = None, require_signature: Path | None = None
) -> Iterator[Record]:
    """Put an earlier generation back; the next call puts back the generation before that.

    Args:
        served: the served file; a file that was overwritten by hand is kept as a generation.
        to: the number of any generation, even if it was rolled back.
        require_signature: a public key; the generation must be signed with it.

    Raises:
        ArtifactError: there is no such generation, it is damaged, no .tod file or not signed as
            required, or a file cannot be written.
    """
    remove_left(served)
    if not look(served).events:
        raise ArtifactError(
            f"{served}: there is no earlier generation",
            hint="'tod promote' keeps the one that it replaces",
        )
    with locked(served):
        shelf = look(served)
        yield from map(Notice, shelf.notices)
        target, data = _target(shelf, to)
        if target == shelf.generation:
            raise UsageError(f"{served}: generation {target} is what is served already")
        # Check the kept file: it may be an incomplete file that was found at the served path.
        artifact.read(shelf.kept[target], require_signature=require_signature)
        events, new = present(shelf, bytes_of(shelf.served) if shelf.sha256 else None)
        back = Event(
            what="rolled back", when=now(), generation=target, sha256=sha256(data).hexdigest()
        )
        put_in_place(shelf, (*events, back), data, new)
        was = events[0].generation if events else shelf.generation
    yield RolledBack(str(served), target, was)


def _load(
    path: Path, threads: int | None, cache: Path | bool, require_signature: Path | None
) -> tuple[bytes, TrainSession]:
    """Return the bytes of a whole model, and a session from exactly these bytes."""
    data = bytes_of(path) if path.is_file() else b""
    session = TrainSession.load(
        path, threads=threads, cache=cache, require_signature=require_signature
    )
    if session.manifest.kind == "checkpoint":
        raise ArtifactError(
            f"{path} is a checkpoint, a whole model is wanted",
            hint=f"tod merge {path} -o model.tod makes one of it",
        )
    if session.classes is None:
        raise ArtifactError(
            f"{path} was never trained: its classes are open", hint="train it: tod train"
        )
    if bytes_of(path) != data:
        raise ArtifactError(f"{path} was changed while it was read", hint="try again")
    return data, session


def _load_served(
    shelf: Shelf, threads: int | None, cache: Path | bool, require_signature: Path | None
) -> tuple[bytes, TrainSession]:
    try:
        return _load(shelf.served, threads, cache, require_signature)
    except ArtifactError as error:
        if not shelf.events:
            raise
        hint = f"'tod rollback {shelf.served}' puts a whole one in its place"
        raise ArtifactError(error.problem, hint=hint) from error


def _check_alike(new: TrainSession, served: TrainSession) -> None:
    """Check that programs which use the served model get the same kind of predictions."""
    if set(new.classes or ()) != set(served.classes or ()):
        raise ArtifactError(
            f"{new.artifact.path} knows the classes {', '.join(new.classes or ())}; "
            f"{served.artifact.path} those: {', '.join(served.classes or ())}",
            hint="serve a model of other classes under a name of its own",
        )
    losses = new.manifest.loss.name, served.manifest.loss.name
    if losses[0] != losses[1]:
        raise ArtifactError(
            f"{new.artifact.path} answers as {losses[0]} wants it, {served.artifact.path} as "
            f"{losses[1]}",
            hint="serve it under a name of its own",
        )


def _score(
    session: TrainSession, dataset: Dataset, should_stop: Callable[[], bool], said: set[Record]
) -> Generator[Record, None, Evaluated]:
    """Score a model; a notice that was shown for another model is not repeated."""
    result = None
    for record in evaluate(session, dataset, should_stop=should_stop):
        if isinstance(record, Evaluated):
            result = record
        elif not isinstance(record, Notice) or record not in said:
            if isinstance(record, Notice):
                said.add(record)
            yield record
    assert result is not None  # `evaluate` ends with it, or raises
    return result


def _scores(results: Sequence[Evaluated], margin: float, data_sha256: str) -> Scores:
    new, served = results[0], results[1] if len(results) > 1 else None
    return Scores(
        accuracy=new.accuracy,
        served_accuracy=served.accuracy if served else None,
        correct=new.correct,
        served_correct=served.correct if served else None,
        total=new.total,
        metric=new.metric,
        margin=margin,
        data_sha256=data_sha256,
    )


def _check_same_pictures(results: Sequence[Evaluated], paths: Sequence[Path]) -> None:
    """Refuse scores on different pictures: a model that skips hard pictures would look better."""
    if len({result.total for result in results}) > 1:
        counts = ", ".join(
            f"{path} {result.total}" for path, result in zip(paths, results, strict=True)
        )
        raise NotPromoted(
            f"not promoted: the models did not answer for the same validation pictures: {counts}",
            hint="the notices say which pictures were passed over, and why",
        )


def _check_better(new: Path, served: Path, scores: Scores) -> None:
    if not math.isfinite(scores.accuracy):
        raise NotPromoted(f"{new} has no finite {scores.metric} on this data")
    least = scores.served_accuracy
    if least is None or not math.isfinite(least) or scores.accuracy > least + scores.margin:
        return
    counted = scores.metric == "accuracy"
    parts = [
        f"{path} has {accuracy:.6g}" + (f" ({right} of {scores.total})" if counted else "")
        for path, accuracy, right in (
            (new, scores.accuracy, scores.correct),
            (served, least, scores.served_correct),
        )
    ]
    wanted = f"more than that and {scores.margin:g}" if scores.margin else "more than that"
    raise NotPromoted(
        f"not promoted: {scores.metric} on validation data: {parts[0]}, {parts[1]}; {wanted} is "
        "wanted",
        hint=f"{served} stays as it is; train on, or on more pictures",
    )


def _settle(
    served: Path,
    evaluated: str | None,
    bytes_served: bytes | None,
    bytes_new: bytes,
    source: Path,
    scores: Scores,
    keep: int,
) -> Event:
    """Under the lock, put the new model in place, if the model it was compared with is still
    served."""
    shelf = look(served)
    if shelf.sha256 != evaluated:
        raise ArtifactError(
            f"{served} was changed while the models were compared", hint="try again"
        )
    events, files = present(shelf, bytes_served)
    last = (*shelf.events, *events)
    before = shelf.generation if not events else events[0].generation
    if before is None and last:
        before = last[-1].generation
    number = shelf.next_number + len(events)
    event = Event(
        what="promoted", when=now(), generation=number, before=before,
        sha256=sha256(bytes_new).hexdigest(), source=str(source.resolve()), scores=scores,
    )  # fmt: skip
    put_in_place(shelf, (*events, event), bytes_new, {**files, number: bytes_new})
    remove_old(look(served), keep)
    return event


def _target(shelf: Shelf, to: int | None) -> tuple[int, bytes]:
    """Choose the generation to put back; by default the latest kept one before the served."""
    if to is not None:
        return to, content(shelf, to)
    for number in shelf.earlier():
        if number in shelf.kept:
            return number, content(shelf, number)
    raise ArtifactError(
        f"{shelf.served}: there is no earlier generation",
        hint=f"'tod history {shelf.served}' lists what is kept; --to takes one of them",
    )
