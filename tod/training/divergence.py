"""Recover from NaN or Inf: restore the best parameters, halve the learning rate.

Everything that decides it is in the state and its run, so that a checkpoint holds it too: a run
that was cut and continued falls back at the same cycles, to the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tod.errors import TrainingError
from tod.format.manifest import Manifest, Run
from tod.training.state import TrainState

MAX_HALVINGS = 3
# How many times its start a loss may be. A start below 1 counts as 1: the loss of one batch of a
# good model varies by more than that.
_FAR_ABOVE = 10


def rate(run: Run) -> float:
    """The learning rate of the next cycle."""
    return run.schedule.rate(run.lr, run.cycle, run.cycles) * 0.5**run.halvings


def not_finite(manifest: Manifest, state: TrainState, loss: float) -> str:
    """What of a step's result is not finite; empty where all is.

    Slots count as well: one that has overflowed ruins the next step, and a checkpoint.
    """
    if not math.isfinite(loss):
        return "the loss"
    for tensor in manifest.tensors:
        if not np.isfinite(state.tensors[tensor.name]).all():
            return f"{tensor.role} {tensor.name}"
    return ""


def fall_back(manifest: Manifest, state: TrainState) -> TrainState:
    """The best parameters so far, or those that the run began with, and half the learning rate.

    Slots are zero again, the optimizer's count of steps with them: what it remembers led here. Adam
    corrects its moments by that count, and SGD takes its first velocity whole where it is zero, so
    both go on as from the beginning. Accumulators are zero: they may hold what is not finite.
    """
    assert state.run is not None
    run = replace(state.run, halvings=state.run.halvings + 1)
    return replace(state.restore_fallback().with_zeros(manifest), run=run)


def check(run: Run, kept: str) -> None:
    """Raise TrainingError when a run has fallen back too often to go on.

    Args:
        run: it may have been loaded from the checkpoint that was saved at its end.
        kept: where the parameters are that it fell back to.
    """
    if run.halvings > MAX_HALVINGS:
        raise TrainingError(
            f"training was not finite {run.halvings} times, although the learning rate was halved "
            f"{MAX_HALVINGS} times; the parameters of cycle {run.best_cycle} are kept{kept}",
            hint=f"try a smaller learning rate than {run.lr / 2**MAX_HALVINGS:g} with --lr",
        )


def exploded(run: Run, loss: float, start: float) -> str:
    """A notice where a finite loss is far above its start; empty where it is not.

    Args:
        run: after the cycle of this loss.
        loss: of the present cycle.
        start: of the first cycle.
    """
    if loss <= _FAR_ABOVE * max(start, 1.0):
        return ""
    return (
        f"cycle {run.cycle}: the loss is {loss:.4g}, it began at {start:.4g}: the learning rate "
        f"{rate(run):g} is probably too large, try a smaller one with --lr"
    )


def sentence(run: Run, wrong: str) -> str:
    """What just happened, for a notice.

    Args:
        run: after falling back.
        wrong: as `not_finite` says.
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
