"""Settle the settings of a training run: given, or from the checkpoint, or the default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tod.data.dataset import Dataset
from tod.errors import UsageError
from tod.format.manifest import Run
from tod.format.manifest_checks import problems
from tod.training.session import TrainSession


def check(given: Mapping[str, float]) -> None:
    """Refuse settings that cannot be meant, all of them at once.

    Raises:
        UsageError: what was given, and what is wanted.
    """
    least = {
        "accumulate": 1,
        "batch_size": 1,
        "cycles": 0,
        "eval_every": 0,
        "keep": 1,
        "patience": 0,
        "save_every": 0,
        "seed": 0,
    }
    problems = [
        f"{name} is {given[name]}, at least {bound} is wanted"
        for name, bound in least.items()
        if given.get(name, bound) < bound
    ]
    if not 0 < given.get("lr", 1) < math.inf:
        problems.append(f"lr is {given['lr']}, a number above 0 is wanted")
    if not 0 <= given.get("target_accuracy", 0) <= 1:
        problems.append(f"target_accuracy is {given['target_accuracy']}, wanted 0 to 1")
    if problems:
        raise UsageError("; ".join(problems))


def settle(
    session: TrainSession, dataset: Dataset, given: Mapping[str, Any]
) -> tuple[Run, list[str]]:
    """Settle every setting: given, or from the checkpoint, or the default.

    Returns:
        The run as it starts or goes on; what a user should know about it.

    Raises:
        UsageError: the model cannot do what was asked.
    """
    manifest = session.manifest
    earlier = session.state.run
    run = earlier or Run(
        cycles=60,
        batch_size=manifest.batch_size,
        lr=manifest.optimizer.lr,
        schedule=manifest.optimizer.schedule,
        accumulate=manifest.accumulate or 1,
        eval_every=20,
        target_accuracy=0.9,
        patience=0,
        save_every=0,
        seed=0,
        split_seed=dataset.seed,
        pictures={},
        data_sha256="",
    )
    run = replace(run, **given, split_seed=dataset.seed, data_sha256=dataset.digest())
    # Found out now, not after the work: what could not be read again is not written.
    if wrong := problems(replace(manifest, run=run)):
        raise UsageError(f"what is trained here could not be saved: {'; '.join(wrong[:8])}")
    if earlier is not None and earlier.lr != run.lr:
        run = replace(run, halvings=0)  # the new rate is meant as it was given
    if run.accumulate > 1 and manifest.accumulate is None:
        raise UsageError("this model cannot add up batches", hint="export it with --accumulate N")
    notices = []
    if not dataset.cropped and session.split_seed not in (None, dataset.seed):
        notices.append(
            f"the pictures are split with seed {dataset.seed}, but this model was trained on the "
            f"split of seed {session.split_seed}: some test and validation pictures are known to it"
        )
    if earlier is None:
        return run, notices
    exact = ("batch_size", "lr", "eval_every", "seed", "schedule", "accumulate")
    pairs = [(name, getattr(earlier, name), getattr(run, name)) for name in exact]
    changed = [f"{name} {old} -> {new}" for name, old, new in pairs if old != new]
    if changed:
        notices.append(f"other settings than the checkpoint's: {', '.join(changed)}")
    if run.cycles != earlier.cycles and run.schedule.follows_run:
        notices.append(
            f"the schedule {run.schedule} follows the whole run, which was {earlier.cycles} cycles "
            f"long and is {run.cycles} now"
        )
    if earlier.data_sha256 != run.data_sha256:
        notices.append("the pictures or their split are not those that the checkpoint has seen")
    return run, notices
