"""The training loop: `train` gives a stream of records, one for each thing that happens."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.data.dataset import Dataset
from tod.data.trained_on import with_more
from tod.errors import Interrupted, NotNow, TrainingError
from tod.format.manifest import Run
from tod.runtime.draws import batch_rows
from tod.runtime.features import Features
from tod.system.settings import from_keywords, refused, with_keywords
from tod.training import divergence
from tod.training.checkpoints import Checkpoints
from tod.training.conditions import Conditions, Obstacle
from tod.training.evaluation import SPLITS, evaluated, fill_features, opened, readable_counts
from tod.training.new_classes import add_classes
from tod.training.record_stream import RecordStream
from tod.training.records import CycleDone, Evaluated, Notice, OldClasses, Record, Started, Stopped
from tod.training.session import TrainSession
from tod.training.settings import Settings, default, settle
from tod.training.watch import Watch


@with_keywords(Settings)
def train(
    session: TrainSession,
    dataset: Dataset | str | Path,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    splits: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    conditions: Conditions | Callable[[], str | None] | None = None,
    **settings: Any,
) -> RecordStream:
    """Train the session's model; afterwards its state is the best one seen on the test split.

    Nothing happens until the records are taken or `.run()` is called::

        score = tod.train(session, dataset, cycles=60, output="my_model.tod").run()

    One cycle is one optimizer step on one seeded random batch of the train split, or on several
    batches. A session that was loaded from a checkpoint continues its run with the same batches and
    numbers. A setting that is None comes from the checkpoint, else from the model, else it is the
    default.

    Args:
        session: changed as training goes on.
        dataset: a dataset or its folder; its classes are bound to the model, or matched by name
            with the model's classes.
        output: where the trained model is written at the end; checkpoints go beside it, and
            `tod.training.checkpoints.newest` finds the one to continue from. None writes nothing.
            Another model at that path stays as a generation, which `tod rollback` puts back.
        overwrite: replace such a model instead, and lose it.
        splits: for a folder, as for `Dataset.open`.
        should_stop: called between cycles; when it returns True, a checkpoint is saved and the work
            ends with `Interrupted`.
        conditions: when training may work, see `tod.Conditions`; or a function that returns why it
            may not work now, or None. They are checked between cycles and between pictures; if they
            are not met, a checkpoint is saved and the work waits.

    Returns:
        Records in the order in which things happen; `.run()` gives the score of the trained model
        on the validation split.

    Raises:
        UsageError: a setting that is not allowed, or an output that the session was loaded from;
            raised at once.
        DataError: the dataset does not fit the model, its folder vanished while it was read, or a
            split has no readable picture.
        TrainingError: the loss or a trained tensor is not finite, after the learning rate was
            halved 3 times; the last good parameters are kept.
        Interrupted: `should_stop` returned True.
        NotNow: the conditions are not met, and they say not to wait, or waiting does not help.
        ArtifactError: the trained model cannot be written; it says where the best state is.
    """
    checked = from_keywords(Settings, settings)
    keep = default("keep") if checked.keep is None else checked.keep
    checkpoints = Checkpoints(session, None if output is None else Path(output), keep,
                              overwrite=overwrite)  # fmt: skip
    watch = Watch(conditions)
    work = _train(session, dataset, splits, checked, checkpoints, should_stop, watch)
    return RecordStream(work, "tod.train(...)")


def _train(
    session: TrainSession,
    data: Dataset | str | Path,
    splits: bool,
    settings: Settings,
    checkpoints: Checkpoints,
    should_stop: Callable[[], bool],
    watch: Watch,
) -> Generator[Record, None, Evaluated]:
    checkpoints.begin()
    seed = settings.seed or 0
    dataset = yield from opened(session, data, settings.seed, should_stop, watch, splits=splits)
    old = None
    if settings.add_classes and session.classes is not None:
        old = yield from add_classes(session, dataset, seed, should_stop, watch)
    dataset = session.match(dataset, seed=seed)
    run, notices = settle(session.manifest, session.state.run, dataset, settings)
    yield _started(session, dataset, run)
    yield from map(Notice, (*dataset.notices, *notices))
    yield from fill_features(session, dataset, SPLITS, should_stop, watch)
    counts = readable_counts(session, dataset)
    if run.pictures and counts != run.pictures:
        changes = [f"{split} {run.pictures.get(split)} -> {counts[split]}" for split in SPLITS]
        text = "other pictures can be read than when the checkpoint was written"
        yield Notice(f"{text}: {', '.join(changes)}")
    session.state = replace(session.state, run=replace(run, pictures=counts))
    session.trained_on = with_more(session.trained_on, dataset.split("train"))
    rows = _train_rows(session, dataset)
    session.weigh_classes(rows[1])
    if session.state.best is None:
        _keep_best(session, run.best_accuracy)
    if settings.init is not None:
        if run.cycle:
            problem = "sets the head before the first cycle; this run is under way"
            raise refused(Settings, "init", problem, hint="leave it out, or start from the model")
        features, labels = rows
        session.init_head(settings.init, features[:], labels)
        yield from _test(session, dataset, checkpoints)
    yield from _cycles(session, dataset, rows, checkpoints, should_stop, watch)
    return (yield from _finish(session, dataset, checkpoints, old))


def _train_rows(session: TrainSession, dataset: Dataset) -> tuple[Features, NDArray[Any]]:
    """Return features and labels of the train split, ordered by content, so that file names do not
    change the batches."""
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
    """Run cycles until `finished` gives a reason or the time is used up."""
    features, labels = rows
    divergence.check(session.run, "")
    start, warned = None, False
    while finished(session.run) is None:
        run = session.run
        drawn = batch_rows(
            seed=run.seed,
            cycle=run.cycle + 1,
            batch_size=run.batch_size * run.accumulate,
            rows=len(labels),
        )
        batches = [(features[part], labels[part]) for part in np.split(drawn, run.accumulate)]
        lr = divergence.rate(run)
        state, loss = session.next_state(batches, lr=lr, seed=run.seed, cycle=run.cycle + 1)
        run = replace(run, cycle=run.cycle + 1)
        if wrong := divergence.not_finite(session.manifest, state, loss):
            # Count the cycle, so that the next batch is another one and the run ends at some time.
            session.state = replace(session.state, run=run)
            yield from _fall_back(session, checkpoints, wrong)
        else:
            least = loss if run.min_loss is None else min(loss, run.min_loss)
            session.state = replace(state, run=replace(run, min_loss=least))
            yield CycleDone(run.cycle, run.cycles, loss, least, lr)
            start = loss if start is None else start
            if not warned and (text := divergence.exploded(run, loss, start)):
                warned = True
                yield Notice(text)
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
    """Say why a run is over, or None. It depends on the run alone, so a resumed run stops in the
    same way."""
    if run.best_accuracy is not None and run.best_accuracy > run.target_accuracy:
        return "target"
    if run.patience and run.stale >= run.patience:
        return "patience"
    return "cycles" if run.cycle >= run.cycles else None


def _fall_back(session: TrainSession, checkpoints: Checkpoints, wrong: str) -> Iterator[Record]:
    """Go back to the last good parameters; end the run if that happened too often."""
    session.state = divergence.fall_back(session.manifest, session.state)
    yield Notice(divergence.sentence(session.run, wrong))
    if session.run.halvings > divergence.MAX_HALVINGS:
        yield from checkpoints.save(session)
        divergence.check(session.run, checkpoints.where(session))


def _test(session: TrainSession, dataset: Dataset, checkpoints: Checkpoints) -> Iterator[Record]:
    """Evaluate on the test split and keep the best state; of equally good states, the later one."""
    run = session.run
    try:
        record = evaluated(session, dataset, "test", run.best_accuracy)
    except TrainingError:
        yield from _fall_back(session, checkpoints, "an answer on the test split")
        return
    rose = run.best_accuracy is None or record.accuracy > run.best_accuracy
    run = replace(run, stale=0 if rose else run.stale + 1)
    session.state = replace(session.state, run=run)
    if record.accuracy >= record.max_accuracy:
        _keep_best(session, record.accuracy)
    # A large matrix every few cycles would fill the log.
    yield replace(record, scores={}, confusion=())


def _keep_best(session: TrainSession, accuracy: float | None) -> None:
    """Keep the present parameters as the ones to fall back on."""
    run = replace(session.run, best_accuracy=accuracy, best_cycle=session.run.cycle)
    session.state = replace(session.state.keep_best(session.manifest), run=run)


def _finish(
    session: TrainSession,
    dataset: Dataset,
    checkpoints: Checkpoints,
    old: tuple[Dataset, float] | None,
) -> Generator[Record, None, Evaluated]:
    """Take the best state, score it on the validation split, write the trained model.

    Args:
        old: the pictures of the classes that the model knew before new ones were added, and its
            accuracy on them at that time.
    """
    run = session.run
    reason = finished(run) or "time"
    ending = copy(session)
    session.state = session.state.restore_best()
    try:
        score = evaluated(session, dataset, "validation")
    except TrainingError as error:
        # Finite parameters can still give NaN or Inf, and a run without a test has not tried them.
        raise TrainingError(
            f"an answer of the trained model on the validation split is not finite after "
            f"{run.cycle} cycles; it was not saved",
            hint=f"try a smaller learning rate than {divergence.rate(run):g} with --lr, or tests "
            "on the way (--eval-every)",
        ) from error
    yield Stopped(reason, run.cycle, run.kept_cycle)
    score = replace(score, cycle=run.kept_cycle)
    yield score
    if old is not None:
        pictures, before = old
        now = evaluated(session, pictures, "validation")
        yield OldClasses(before, now.accuracy, now.total)
    session.end_run(reason, score.accuracy)
    yield from checkpoints.save_model(session, ending, score)
    return score
