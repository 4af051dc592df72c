"""The training loop: a generator of records."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.dataset import Dataset, Sample
from tod.data.splits import Split
from tod.errors import DataError, Interrupted, NotNow, TodError, TrainingError, UsageError
from tod.format.manifest import Run
from tod.format.schedule import parse as parse_schedule
from tod.runtime.draws import batch_rows
from tod.runtime.features import Features
from tod.training import divergence as guard
from tod.training.checkpoints import KEEP, Checkpoints
from tod.training.conditions import Conditions, Obstacle
from tod.training.records import (
    CycleDone,
    Evaluated,
    FeaturesDone,
    Notice,
    OldClasses,
    Record,
    Started,
    Stopped,
)
from tod.training.session import InitName, TrainSession
from tod.training.settings import check, settle
from tod.training.watch import Watch

SPLITS: tuple[Split, ...] = ("train", "test", "validation")


def train(
    session: TrainSession,
    dataset: Dataset,
    *,
    cycles: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    eval_every: int | None = None,
    target_accuracy: float | None = None,
    patience: int | None = None,
    save_every: int | None = None,
    keep: int | None = None,
    seed: int | None = None,
    schedule: str | None = None,
    accumulate: int | None = None,
    init: InitName | None = None,
    with_new_classes: bool = False,
    output: str | Path | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    conditions: Conditions | Callable[[], str | None] | None = None,
) -> Iterator[Record]:
    """Train the session's model; afterwards its state is the best one seen on the test split.

    One cycle is one step on one seeded random batch of the train split, or on several of them. A
    session that was loaded from a checkpoint continues its run with the same batches and numbers;
    a setting that is None is taken from there, else from the artifact, else it is the default in
    brackets.

    Args:
        session: changed as training goes on.
        dataset: its classes are bound to the model, or matched by name with those it has.
        cycles: total number of cycles, those before a checkpoint included (60).
        batch_size: pictures in a batch; the artifact says.
        lr: learning rate; the artifact says.
        eval_every: cycles between evaluations on the test split, 0 for none (20).
        target_accuracy: training ends when the test accuracy is above it (0.9).
        patience: training ends after so many evaluations without a rise, 0 for never (0).
        save_every: cycles between checkpoints, 0 for none (0). One that cannot be written is a
            notice; `tod.training.checkpoints.newest` finds the one to continue from.
        keep: so many checkpoints stay, older ones are removed when a new one is there (3).
        seed: of the batches, the dropout and a new head (0).
        schedule: of the learning rate, see `tod.format.schedule`; the artifact says.
        accumulate: batches in a cycle, whose mean gradient makes one step; the artifact says.
        init: set a linear head in closed form before the first cycle, see
            `tod.training.closed_form`.
        with_new_classes: classes of the dataset that the model does not know are added to it.
        output: where the trained model is written at the end; checkpoints go beside it. None
            writes nothing.
        should_stop: asked between cycles; when it says True, a checkpoint is saved and the
            generator ends with `Interrupted`.
        conditions: when it may work, see `tod.training.conditions`; or a function that says why not
            now, or None. Looked at between cycles and between pictures; while it does not suit, a
            checkpoint is saved and the generator waits.

    Yields:
        Records, in the order in which things happen.

    Raises:
        UsageError: a setting that cannot be meant.
        DataError: the dataset does not fit the model, its folder vanished while it was looked at,
            or a split has no readable picture.
        TrainingError: the loss or what training changes is not finite, after the learning rate was
            halved 3 times; the last good parameters are kept.
        Interrupted: `should_stop` said so.
        NotNow: it does not suit, and the conditions say not to wait, or waiting does not help.
        ArtifactError: the trained model cannot be written; it says where the best state is.
    """
    settings: dict[str, int | float | None] = {
        "cycles": cycles,
        "batch_size": batch_size,
        "lr": lr,
        "eval_every": eval_every,
        "target_accuracy": target_accuracy,
        "patience": patience,
        "save_every": save_every,
        "seed": seed,
        "accumulate": accumulate,
    }
    given: dict[str, Any] = {name: value for name, value in settings.items() if value is not None}
    keep = KEEP if keep is None else keep
    check({**given, "keep": keep})
    if schedule is not None:
        given["schedule"] = parse_schedule(schedule)
    checkpoints = Checkpoints(session, None if output is None else Path(output), keep)
    checkpoints.remove_unfinished()
    watch = Watch(conditions)
    old = None
    if with_new_classes and session.classes is not None:
        old = yield from _add_classes(session, dataset, seed or 0, should_stop, watch)
    dataset = session.match(dataset, seed=seed or 0)
    run, notices = settle(session, dataset, given)
    yield _started(session, dataset, run)
    yield from map(Notice, (*dataset.notices, *notices))
    yield from fill_features(session, dataset, SPLITS, should_stop, watch)
    counts = _counts(session, dataset)
    if run.pictures and counts != run.pictures:
        changes = [f"{split} {run.pictures.get(split)} -> {counts[split]}" for split in SPLITS]
        text = "other pictures can be read than when the checkpoint was written"
        yield Notice(f"{text}: {', '.join(changes)}")
    session.state = replace(session.state, run=replace(run, pictures=counts))
    rows = _train_rows(session, dataset)
    session.weigh_classes(rows[1])
    if session.state.best is None:
        _keep_best(session, run.best_accuracy)
    if init is not None:
        if run.cycle:
            raise UsageError("--init sets the head before the first cycle; this run is under way")
        features, labels = rows
        session.init_head(init, features[:], labels)
        yield from _test(session, dataset, checkpoints)
    session.train()
    yield from _cycles(session, dataset, rows, checkpoints, should_stop, watch)
    session.eval()
    yield from _finish(session, dataset, checkpoints, old)


def evaluate(
    session: TrainSession,
    dataset: Dataset,
    split: Split = "validation",
    *,
    seed: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    conditions: Conditions | Callable[[], str | None] | None = None,
) -> Iterator[Record]:
    """Accuracy of the session's model on one split, as records.

    Args:
        seed: of the new head where the classes are still open.
        should_stop: as for `train`.
        conditions: as for `train`.
    """
    dataset = session.match(dataset, seed=seed)
    yield from map(Notice, dataset.notices)
    yield from fill_features(session, dataset, (split,), should_stop, Watch(conditions))
    yield _evaluated(session, dataset, split, None)


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
    for done, total in session.store.fill(dataset, samples):
        if done == total or 100 * (done - said) >= total:
            yield FeaturesDone(said := done, total)
        obstacle = yield from watch.pause(tuple, should_stop)
        if obstacle is not None or should_stop():
            where = f"after looking at {done} of {total} pictures"
            raise _ended(session, dataset, where, obstacle, should_stop)
    yield from map(Notice, session.store.notices)
    for path, reason in sorted(session.store.unreadable.items()):
        yield Notice(f"{path} was passed over: {reason}")


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


def _add_classes(
    session: TrainSession,
    dataset: Dataset,
    seed: int,
    should_stop: Callable[[], bool],
    watch: Watch,
) -> Generator[Record, None, tuple[Dataset, float] | None]:
    """Make room for the dataset's new classes.

    Returns:
        The pictures of the old classes and the model's accuracy on their validation split; None
        when there is no new class.
    """
    known = session.classes or ()
    new = [name for name in dataset.classes if name not in known]
    if not new:
        yield Notice("the data has no class that the model does not know")
        return None
    if missing := [name for name in known if name not in dataset.classes]:
        raise DataError(
            f"{dataset.root}: pictures of the model's own classes are missing: "
            f"{', '.join(missing)}",
            hint="keep some pictures of each old class beside the new ones; without any the old "
            "ones would be forgotten",
        )
    old = dataset.only(known)
    old = replace(old, classes=known, samples=_relabelled(old, known))
    yield from fill_features(session, old, ("validation",), should_stop, watch)
    before = _evaluated(session, old, "validation", None).accuracy
    session.add_classes(new, seed=seed)
    yield Notice(f"new classes: {', '.join(new)}")
    return old, before


def _relabelled(dataset: Dataset, class_names: Sequence[str]) -> tuple[Sample, ...]:
    place = {name: label for label, name in enumerate(class_names)}
    return tuple(replace(s, label=place[dataset.classes[s.label]]) for s in dataset.samples)


def _train_rows(session: TrainSession, dataset: Dataset) -> tuple[Features, NDArray[Any]]:
    """Features and answers of the train split, ordered by content: other file names make no other
    batches."""
    samples = sorted(dataset.split("train"), key=lambda sample: (sample.label, sample.sha256))
    return session.store.rows(dataset, samples)


def _started(session: TrainSession, dataset: Dataset, run: Run) -> Started:
    manifest = session.manifest
    return Started(
        model=str(session.artifact.path),
        backbone=manifest.backbone.name,
        classes=dataset.classes,
        pictures=dataset.counts(),
        trainable_parameters=sum(
            session.state.tensors[tensor.name].size for tensor in manifest.parameters
        ),
        optimizer=manifest.optimizer.name,
        run=run,
        first_cycle=run.cycle + 1,
        threads=session.threads,
    )


def _cycles(
    session: TrainSession,
    dataset: Dataset,
    rows: tuple[Features, NDArray[Any]],
    checkpoints: Checkpoints,
    should_stop: Callable[[], bool],
    watch: Watch,
) -> Iterator[Record]:
    """Cycle after cycle until `finished` gives a reason, or the time is used up."""
    features, answers = rows
    guard.check(session.run, "")
    while finished(session.run) is None:
        run = session.run
        drawn = batch_rows(
            seed=run.seed,
            cycle=run.cycle + 1,
            batch_size=run.batch_size * run.accumulate,
            rows=len(answers),
        )
        batches = [(features[part], answers[part]) for part in np.split(drawn, run.accumulate)]
        lr = guard.rate(run)
        state, loss = session.next_state(batches, lr=lr, seed=run.seed, cycle=run.cycle + 1)
        run = replace(run, cycle=run.cycle + 1)
        if wrong := guard.not_finite(session.manifest, state, loss):
            # The cycle counts: the next batch is another one, and the run has an end.
            session.state = replace(session.state, run=run)
            yield from _fall_back(session, checkpoints, wrong)
        else:
            least = loss if run.min_loss is None else min(loss, run.min_loss)
            session.state = replace(state, run=replace(run, min_loss=least))
            yield CycleDone(run.cycle, run.cycles, loss, least)
        if run.eval_every and run.cycle % run.eval_every == 0:
            yield from _test(session, dataset, checkpoints)
        run = session.run
        if run.save_every and run.cycle % run.save_every == 0:
            yield from checkpoints.save(session)
        if finished(session.run) is None:
            obstacle = yield from watch.pause(partial(checkpoints.save, session), should_stop)
            if obstacle is not None and not should_stop():
                if obstacle.reason == "time":
                    return
                raise _not_now(session, checkpoints, obstacle)
        if should_stop() and finished(session.run) is None:
            yield from checkpoints.save(session)
            yield Stopped("interrupted", run.cycle, run.cycle)
            raise Interrupted(
                f"stopped after cycle {run.cycle} of {run.cycles}{checkpoints.where(session)}",
                hint="the same command with --resume goes on" if checkpoints.last else "",
            )


def _not_now(session: TrainSession, checkpoints: Checkpoints, obstacle: Obstacle) -> NotNow:
    run = session.run
    where = checkpoints.where(session)
    hints = [obstacle.hint, "the same command with --resume goes on" if checkpoints.last else ""]
    return NotNow(
        f"stopped after cycle {run.cycle} of {run.cycles}{where}: {obstacle.text}",
        hint="; ".join(filter(None, hints)),
    )


def finished(run: Run) -> str | None:
    """Why a run is over, or None. A function of the run alone: a resumed one stops likewise."""
    if run.best_accuracy is not None and run.best_accuracy > run.target_accuracy:
        return "target"
    if run.patience and run.stale >= run.patience:
        return "patience"
    return "cycles" if run.cycle >= run.cycles else None


def _fall_back(session: TrainSession, checkpoints: Checkpoints, wrong: str) -> Iterator[Record]:
    """Go back to the last good parameters; where that was done too often, end the run there."""
    session.state = guard.fall_back(session.manifest, session.state)
    yield Notice(guard.sentence(session.run, wrong))
    if session.run.halvings > guard.MAX_HALVINGS:
        yield from checkpoints.save(session)
        guard.check(session.run, checkpoints.where(session))


def _test(session: TrainSession, dataset: Dataset, checkpoints: Checkpoints) -> Iterator[Record]:
    """Evaluate on the test split and keep the best state (of equal ones the later)."""
    run = session.run
    try:
        record = _evaluated(session, dataset, "test", run.best_accuracy)
    except TrainingError:
        yield from _fall_back(session, checkpoints, "an answer on the test split")
        return
    rose = run.best_accuracy is None or record.accuracy > run.best_accuracy
    run = replace(run, stale=0 if rose else run.stale + 1)
    session.state = replace(session.state, run=run)
    if record.accuracy >= record.max_accuracy:
        _keep_best(session, record.accuracy)
    yield record


def _keep_best(session: TrainSession, accuracy: float | None) -> None:
    """Take the present parameters as those to fall back on."""
    run = replace(session.run, best_accuracy=accuracy, best_cycle=session.run.cycle)
    session.state = replace(session.state.keep_best(session.manifest), run=run)


def _evaluated(
    session: TrainSession, dataset: Dataset, split: Split, best: float | None
) -> Evaluated:
    result = session.score(*session.store.rows(dataset, dataset.split(split)), split)
    accuracy = result.accuracy
    cycle = session.state.run.cycle if session.state.run else 0
    most = accuracy if best is None else max(accuracy, best)
    return Evaluated(split, cycle, accuracy, most, result.correct, result.total, result.metric)


def _finish(
    session: TrainSession,
    dataset: Dataset,
    checkpoints: Checkpoints,
    old: tuple[Dataset, float] | None,
) -> Iterator[Record]:
    """Take the best state, score it on the validation split, write the trained model.

    Args:
        old: pictures of the classes from before new ones were added, and the accuracy then.
    """
    run = session.run
    reason = finished(run) or "time"
    ending = copy(session)
    session.state = session.state.restore_best()
    try:
        score = _evaluated(session, dataset, "validation", None)
    except TrainingError as error:
        # Finite parameters can be useless; those of a run without a test come here untried.
        raise TrainingError(
            f"an answer of the trained model on the validation split is not finite after "
            f"{run.cycle} cycles; it was not saved",
            hint=f"try a smaller learning rate than {guard.rate(run):g} with --lr, or tests on the "
            "way (--eval-every)",
        ) from error
    yield Stopped(reason, run.cycle, run.kept_cycle)
    yield replace(score, cycle=run.kept_cycle)
    if old is not None:
        pictures, before = old
        now = _evaluated(session, pictures, "validation", None)
        yield OldClasses(before, now.accuracy, now.total)
    session.end_run(reason, score.accuracy)
    yield from checkpoints.save_model(session, ending)


def _counts(session: TrainSession, dataset: Dataset) -> dict[str, int]:
    """Readable pictures of each split.

    Raises:
        DataError: a split has none.
    """
    counts: dict[str, int] = {}
    for split in SPLITS:
        counts[split] = len(session.store.rows(dataset, dataset.split(split))[1])
        if counts[split] == 0:
            raise DataError(f"no picture of the {split} split can be read")
    return counts
