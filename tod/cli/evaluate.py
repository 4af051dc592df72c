"""The command `tod eval`."""

from __future__ import annotations

from tod.cli import options
from tod.cli.net_runner import Job, run
from tod.training.conditions import Conditions
from tod.training.settings import Settings


@options.expand
def evaluate(job: Job, conditions: Conditions, seed: options.Seed = None) -> None:
    """Accuracy of a model on the validation split, precision and recall by class, and what it
    takes for what; net_runner without -c prints the first line alone.

    Example: tod eval -f transfer_learning_trained.tod -d dataset
    """
    run(job, Settings(cycles=0, seed=seed), conditions, by_class=True)
