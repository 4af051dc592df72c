"""Evaluate a session's model on a split, after the one pass over the pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from tod.data.dataset import Dataset
from tod.data.samples import MIN_PICTURES, LeftOut, Sample, reasons_of, too_small
from tod.data.splits import Split
from tod.errors import DataError, Interrupted, NotNow, TodError
from tod.runtime.model import opening_dataset
from tod.runtime.scoring import nothing_to_score
from tod.system.names import listed
from tod.training.conditions import Conditions, Obstacle
from tod.training.record_stream import RecordStream
from tod.training.records import Evaluated, FeaturesDone, Notice, PicturesRead, Record
from tod.training.session import TrainSession
from tod.training.watch import Watch

SPLITS: tuple[Split, ...] = ("train", "test", "validation")


def evaluate(
    session: TrainSession,
    dataset: Dataset | str | Path,
    split: Split = "validation",
    *,
    seed: int | None = None,
    splits: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    conditions: Conditions | Callable[[], str | None] | None = None,
) -> RecordStream:
    """Score the session's model on one split, as records; `.run()` gives the score alone.

    Args:
        session: does not change, except for a new head if its classes are still open.
        dataset: a dataset or its folder; its classes are matched by name with the model's.
        split: "validation" was never used to train or to choose a model.
        seed: for the random weights of a new head.
        splits: for a folder, as for `Dataset.open`.
        should_stop: as for `train`.
        conditions: as for `train`.

    Raises:
        DataError: the dataset does not fit the model, or no picture of the split can be read.
        Interrupted, NotNow: as for `train`.
    """

    def work() -> Generator[Record, None, Evaluated]:
        watch = Watch(conditions)
        pictures = yield from opened(session, dataset, seed, should_stop, watch, splits=splits)
        matched = session.match(pictures, seed=seed)
        yield from map(Notice, matched.notices)
        yield from fill_features(session, matched, (split,), should_stop, watch)
        score = evaluated(session, matched, split)
        yield score
        return score

    return RecordStream(work(), "tod.evaluate(...)")


def opened(
    session: TrainSession,
    dataset: Dataset | str | Path,
    seed: int | None,
    should_stop: Callable[[], bool],
    watch: Watch,
    others: Sequence[TrainSession] = (),
    *,
    splits: bool = False,
) -> Generator[Record, None, Dataset]:
    """Return the dataset; a folder is opened first, with a record for each hundredth of the
    pictures that must be read.

    Args:
        others: models that are evaluated on the same pictures.
        splits: as for `Dataset.open`.
    """
    if isinstance(dataset, Dataset):
        return dataset
    said = 0
    obstacle = yield from watch.pause(tuple, should_stop)
    if obstacle is not None:
        is_kept = session.cache is not False
        raise _ended(is_kept, "before the first picture", obstacle, should_stop)
    steps = opening_dataset(dataset, session, *others, seed=seed, splits=splits)
    while True:
        try:
            done, total = next(steps)
        except StopIteration as end:
            result: Dataset = end.value
            return result
        if done == total or 100 * (done - said) >= total:
            yield PicturesRead(said := done, total)
        obstacle = yield from watch.pause(tuple, should_stop)
        if obstacle is not None or should_stop():
            steps.close()
            where = f"after reading {done} of {total} pictures"
            raise _ended(session.cache is not False, where, obstacle, should_stop)


def fill_features(
    session: TrainSession,
    dataset: Dataset,
    splits: tuple[Split, ...],
    should_stop: Callable[[], bool],
    watch: Watch,
) -> Iterator[Record]:
    """Make the one pass over the pictures of some splits, with a record for each hundredth of them.
    Unreadable pictures become notices."""
    samples = [sample for split in splits for sample in dataset.split(split)]
    said = 0
    obstacle = yield from watch.pause(tuple, should_stop)
    if obstacle is not None:
        raise _ended(
            session.store.keeps(dataset), "before the first picture", obstacle, should_stop
        )
    for done, total in session.store.filling(dataset, samples):
        if done == total or 100 * (done - said) >= total:
            yield FeaturesDone(said := done, total)
        obstacle = yield from watch.pause(tuple, should_stop)
        if obstacle is not None or should_stop():
            where = f"after looking at {done} of {total} pictures"
            raise _ended(session.store.keeps(dataset), where, obstacle, should_stop)
    yield from map(Notice, session.store.notices)
    for path, reason in sorted(session.store.unreadable.items()):
        yield Notice(f"{path} was passed over: {reason}")


def evaluated(
    session: TrainSession, dataset: Dataset, split: Split, best: float | None = None
) -> Evaluated:
    """Score the present parameters on the features of a split.

    Args:
        best: the best accuracy on this split so far, if there is one.
    """
    result = session.score(*session.store.rows(dataset, dataset.split(split)), split)
    accuracy = result.accuracy
    cycle = session.state.run.cycle if session.state.run else 0
    most = accuracy if best is None else max(accuracy, best)
    return Evaluated(
        split, cycle, accuracy, most, result.correct, result.total, result.metric,
        result.scores, result.confusion,
    )  # fmt: skip


def readable_counts(session: TrainSession, dataset: Dataset) -> dict[str, int]:
    """Count the readable pictures of each split, after the one pass.

    A picture can vanish or change after the dataset was opened, and the pictures of a prepared
    dataset were not read before.

    Raises:
        DataError: a split has no readable picture, or a class has too few, or none to train with.
    """
    store = session.store
    readable = {split: store.readable(dataset, dataset.split(split)) for split in SPLITS}
    for split, samples in readable.items():
        if not samples:
            raise nothing_to_score(split)
    seen = [sample for samples in readable.values() for sample in samples]
    if len(seen) < len(dataset.samples) and not dataset.has_targets:
        _check_classes(session, dataset, seen, {sample.label for sample in readable["train"]})
    return {split: len(samples) for split, samples in readable.items()}


def _check_classes(
    session: TrainSession, dataset: Dataset, seen: Sequence[Sample], trained: set[int]
) -> None:
    """Refuse to continue if a class lost too many of its pictures.

    Args:
        session: knows which pictures could not be read.
        dataset: all pictures.
        seen: the pictures that could be read.
        trained: the labels of readable train pictures.

    Raises:
        DataError: names the classes, and says what happened to their pictures.
    """
    root, unreadable = dataset.root, session.store.unreadable
    pictures = [(s, unreadable.get(root / s.path)) for s in dataset.samples]
    left_out = [LeftOut(s.path, dataset.classes[s.label], why) for s, why in pictures if why]
    before, after = (
        Counter(label for label, _ in {(s.label, s.pixels) for s in samples})
        for samples in (dataset.samples, seen)
    )
    labels = dict(enumerate(dataset.classes))
    few = {name: after[i] for i, name in labels.items() if after[i] < MIN_PICTURES <= before[i]}
    if few:
        raise too_small(root, few, left_out)
    had = {sample.label for sample in dataset.split("train")}
    if lost := [name for i, name in labels.items() if i in had - trained]:
        raise DataError(
            f"{root}: no picture of {listed(lost)} is left to train with; "
            f"{reasons_of(left_out, lost)}",
            hint="repair what was left out, or add pictures to these classes",
        )


def _ended(
    is_kept: bool, where: str, obstacle: Obstacle | None, should_stop: Callable[[], bool]
) -> TodError:
    """Return the error that ends a pass over the pictures; if its results are kept, the hint says
    so."""
    hint = "the same command goes on from there" if is_kept else ""
    if obstacle is None or should_stop():
        return Interrupted(f"stopped {where}; no cycle was run", hint=hint)
    return NotNow(f"stopped {where}: {obstacle.text}", hint=obstacle.hint or hint)
