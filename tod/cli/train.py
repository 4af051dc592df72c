"""The command `tod train`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from tod.cli import net_runner

# The options of net_runner, one by one the same; only without -c this one trains.
train: Callable[..., None] = wraps(net_runner.net_runner)(lambda **given: net_runner.run(**given))
# The docstring of net_runner came along.
HELP = """Train a model on pictures, or continue a checkpoint; the same as net_runner -c 60.

Example: tod train -f transfer_learning.tod -d dataset -c 60 -s 20
"""
