"""Recover from NaN or Inf: restore the best parameters, halve the learning rate.

The decision depends only on the state and its run, which a checkpoint holds too: a run that was
interrupted and continued falls back at the same cycles, to the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tod.errors import TrainingError
from tod.format.manifest import Manifest, Run
from tod.training.state import TrainState

MAX_HALVINGS = 3
# A loss above this many times the first loss gives a notice. A first loss below 1 counts as 1,
# because the small loss of a good model varies by more than this factor from batch to batch.
_FAR_ABOVE = 10


def rate(run: Run) -> float:
    """The learning rate of the next cycle."""
    return run.schedule.rate(run.lr, run.cycle, run.cycles) * 0.5**run.halvings


def not_finite(manifest: Manifest, state: TrainState, loss: float) -> str:
    """Name the first part of a step's result that is not finite; empty if all parts are finite.

    Slots are checked too: a slot that has overflowed ruins the next step and the checkpoint.
    """
    if not math.isfinite(loss):
        return "the loss"
    for tensor in manifest.tensors:
        if not np.isfinite(state.tensors[tensor.name]).all():
            return f"{tensor.role} {tensor.name}"
    return ""


def fall_back(manifest: Manifest, state: TrainState) -> TrainState:
    """Return to the best parameters so far, or the initial ones, with half the learning rate.

    Slots are zero again, and so is the optimizer's count of steps, because their values led to the
    divergence. Adam corrects its moments by that count, and SGD does not dampen its first velocity
    when the count is zero, so both continue as at the start. Accumulators are zero because they may
    hold NaN or Inf.
    """
    assert state.run is not None
    run = replace(state.run, halvings=state.run.halvings + 1)
    return replace(state.restore_fallback().with_zeros(manifest), run=run)


def check(run: Run, kept: str) -> None:
    """Raise TrainingError when a run has fallen back too often to go on.

    Args:
        run: the run; it may come from the checkpoint that was saved when it ended.
        kept: says where the parameters are saved that the run fell back to.
    """
    if run.halvings > MAX_HALVINGS:
        raise TrainingError(
            f"training was not finite {run.halvings} times, although the learning rate was halved "
            f"{MAX_HALVINGS} times; the parameters of cycle {run.best_cycle} are kept{kept}",
            hint=f"try a smaller learning rate than {run.lr / 2**MAX_HALVINGS:g} with --lr",
        )


def exploded(run: Run, loss: float, start: float) -> str:
    """Return a notice if a finite loss is far above the first loss; otherwise an empty text.

    Args:
        run: the run after the cycle of this loss.
        loss: the loss of the present cycle.
        start: the loss of the first cycle.
    """
    if loss <= _FAR_ABOVE * max(start, 1.0):
        return ""
    return (
        f"cycle {run.cycle}: the loss is {loss:.4g}, it began at {start:.4g}: the learning rate "
        f"{rate(run):g} is probably too large, try a smaller one with --lr"
    )


def sentence(run: Run, wrong: str) -> str:
    """Describe the fall-back for a notice.

    Args:
        run: the run after falling back.
        wrong: what is not finite, as `not_finite` names it.
    """
    back = (
        f"cycle {run.cycle}: {wrong} is not finite; back to the parameters of cycle "
        f"{run.best_cycle}"
    )
    if run.halvings > MAX_HALVINGS:
        return back
    lr = run.lr / 2**run.halvings
    times = f"{run.halvings} of at most {MAX_HALVINGS} times"
    return f"{back}, with half the learning rate: {2 * lr:g} -> {lr:g} ({times})"
