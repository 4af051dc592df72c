"""Evaluate a session's model on a split, with the one pass over the pictures before it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from tod.data.dataset import Dataset
from tod.data.splits import Split
from tod.errors import Interrupted, NotNow, TodError
from tod.training.conditions import Conditions, Obstacle
from tod.training.record_stream import RecordStream
from tod.training.records import Evaluated, FeaturesDone, Notice, Record
from tod.training.session import TrainSession
from tod.training.watch import Watch


def evaluate(
    session: TrainSession,
    dataset: Dataset,
    split: Split = "validation",
    *,
    seed: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    conditions: Conditions | Callable[[], str | None] | None = None,
) -> RecordStream:
    """Accuracy of the session's model on one split, as records; `.run()` gives it alone.

    Args:
        session: stays as it is, but for a new head where the classes are still open.
        dataset: its classes are matched by name with the model's.
        split: "validation" was never trained on and never chose a model.
        seed: of the new head.
        should_stop: as for `train`.
        conditions: as for `train`.

    Raises:
        DataError: the dataset does not fit the model, or no picture of the split can be read.
        Interrupted, NotNow: as for `train`.
    """

    def work() -> Generator[Record, None, Evaluated]:
        matched = session.match(dataset, seed=seed)
        yield from map(Notice, matched.notices)
        yield from fill_features(session, matched, (split,), should_stop, Watch(conditions))
        score = evaluated(session, matched, split)
        yield score
        return score

    return RecordStream(work(), "tod.evaluate(...)")


def fill_features(
    session: TrainSession,
    dataset: Dataset,
    splits: tuple[Split, ...],
    should_stop: Callable[[], bool],
    watch: Watch,
) -> Iterator[Record]:
    """The one pass over the pictures of some splits, with a record for each hundredth; unreadable
    ones become notices."""
    samples = [sample for split in splits for sample in dataset.split(split)]
    said = 0
    obstacle = yield from watch.pause(tuple, should_stop)
    if obstacle is not None:
        raise _ended(session, dataset, "before the first picture", obstacle, should_stop)
    for done, total in session.store.filling(dataset, samples):
        if done == total or 100 * (done - said) >= total:
            yield FeaturesDone(said := done, total)
        obstacle = yield from watch.pause(tuple, should_stop)
        if obstacle is not None or should_stop():
            where = f"after looking at {done} of {total} pictures"
            raise _ended(session, dataset, where, obstacle, should_stop)
    yield from map(Notice, session.store.notices)
    for path, reason in sorted(session.store.unreadable.items()):
        yield Notice(f"{path} was passed over: {reason}")


def evaluated(
    session: TrainSession, dataset: Dataset, split: Split, best: float | None = None
) -> Evaluated:
    """Score the present parameters on the features of a split.

    Args:
        best: the best accuracy on it so far, if there is one.
    """
    result = session.score(*session.store.rows(dataset, dataset.split(split)), split)
    accuracy = result.accuracy
    cycle = session.state.run.cycle if session.state.run else 0
    most = accuracy if best is None else max(accuracy, best)
    return Evaluated(split, cycle, accuracy, most, result.correct, result.total, result.metric)


def _ended(
    session: TrainSession,
    dataset: Dataset,
    where: str,
    obstacle: Obstacle | None,
    should_stop: Callable[[], bool],
) -> TodError:
    """What a pass over the pictures ends with; what was computed is kept in the cache."""
    hint = "the same command goes on from there" if session.store.keeps(dataset) else ""
    if obstacle is None or should_stop():
        return Interrupted(f"stopped {where}; no cycle was run", hint=hint)
    return NotNow(f"stopped {where}: {obstacle.text}", hint=obstacle.hint or hint)
