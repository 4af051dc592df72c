"""The command `tod train`."""

from __future__ import annotations

from tod.cli import options
from tod.cli.net_runner import Job, run
from tod.training.conditions import Conditions
from tod.training.settings import Settings


@options.expand
def train(
    job: Job,
    settings: Settings,
    conditions: Conditions,
    resume: options.Resume = False,
    output: options.Output = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Train a model on pictures, or continue a checkpoint; the same as net_runner -c 60.

    Example: tod train -f transfer_learning.tod -d dataset -c 60 -s 20
    """
    run(job, settings, conditions, resume=resume, output=output, overwrite=overwrite)
