"""TOD: fine-tune a vision model on the device that will use it.

The whole job::

    session = tod.TrainSession.load("transfer_learning.tod")
    score = tod.train(session, tod.Dataset.open("dataset"), output="my_model.tod").run()
    print(score.accuracy)

`tod.records` are what training yields: `for record in tod.train(...)`.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tod.data.dataset import Dataset
    from tod.errors import TodError
    from tod.runtime.interpreter import Interpreter
    from tod.training import records
    from tod.training.conditions import Conditions
    from tod.training.evaluation import evaluate
    from tod.training.loop import train
    from tod.training.session import TrainSession

# onnxruntime's wheels for Linux (1.31) keep a device id in the home folder and send events about
# every model to their maker unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = [
    "Conditions", "Dataset", "Interpreter", "TodError", "TrainSession", "__version__",
    "evaluate", "records", "train",
]  # fmt: skip

_HOMES = {
    "Conditions": "tod.training.conditions",
    "Dataset": "tod.data.dataset",
    "Interpreter": "tod.runtime.interpreter",
    "TodError": "tod.errors",
    "TrainSession": "tod.training.session",
    "evaluate": "tod.training.evaluation",
    "records": "tod.training",
    "train": "tod.training.loop",
}


def __getattr__(name: str) -> Any:
    # Load each name on first use: every command imports `tod`, and `--help` must not load NumPy.
    if name not in _HOMES:
        raise AttributeError(f"module 'tod' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    return getattr(home, name, None) or import_module(f"{_HOMES[name]}.{name}")


def __dir__() -> list[str]:
    return __all__
