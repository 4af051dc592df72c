"""What a run reports, record by record; terminal, log file and tests read the same stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tod.data.splits import Split
from tod.format.manifest import Run


@dataclass(frozen=True)
class Started:
    """What is about to happen. `first_cycle` is above 1 when a checkpoint is continued."""

    model: str
    backbone: str
    classes: tuple[str, ...]
    pictures: dict[str, int]
    trainable_parameters: int
    optimizer: str
    run: Run
    first_cycle: int
    threads: int


@dataclass(frozen=True)
class Notice:
    """Something a user should know that stops nothing."""

    text: str


@dataclass(frozen=True)
class PicturesRead:
    """Progress of opening a dataset whose pictures are not all known."""

    done: int
    total: int


@dataclass(frozen=True)
class FeaturesDone:
    """Progress of the one pass over the pictures."""

    done: int
    total: int


@dataclass(frozen=True)
class CycleDone:
    cycle: int
    cycles: int
    loss: float
    min_loss: float


@dataclass(frozen=True)
class Evaluated:
    """Accuracy of a split; `max_accuracy` is the best one on it so far in this run.

    `metric` is "accuracy" or, for measured quantities, "R2"; see `tod.runtime.scoring`.
    """

    split: Split
    cycle: int
    accuracy: float
    max_accuracy: float
    correct: int
    total: int
    metric: str = "accuracy"


@dataclass(frozen=True)
class OldClasses:
    """Accuracy on the validation pictures of the classes that the model knew before new ones were
    added: by the model as it came, and by the trained one with all its classes to choose from."""

    before: float
    after: float
    pictures: int


@dataclass(frozen=True)
class Saved:
    """A file was written. `cycle` is the one whose parameters it holds, None if none is known."""

    kind: str
    path: str
    cycle: int | None


# "hour" is the time of the day, "time" what the run may use; "other" comes from the caller.
PauseReason = Literal["power", "battery", "temperature", "hour", "time", "memory", "other"]


@dataclass(frozen=True)
class Paused:
    """It does not suit now, see `tod.training.conditions`: why, and what is waited for."""

    reason: PauseReason
    text: str


@dataclass(frozen=True)
class Resumed:
    """It suits again, after so long."""

    waited_seconds: float


@dataclass(frozen=True)
class Stopped:
    """Why training ended: "cycles", "target", "patience", "time" or "interrupted"; which cycle is
    kept."""

    reason: str
    cycle: int
    kept_cycle: int


@dataclass(frozen=True)
class Promoted:
    """A model took the place of the served one, see `tod.promotion.promote`; `served_accuracy` is
    None where none was served."""

    path: str
    served: str
    generation: int
    accuracy: float
    served_accuracy: float | None
    total: int
    metric: str


@dataclass(frozen=True)
class RolledBack:
    """An earlier generation serves again; `was` is the one that served until now, None where it
    was missing."""

    served: str
    generation: int
    was: int | None


Record = (
    Started
    | Notice
    | PicturesRead
    | FeaturesDone
    | CycleDone
    | Evaluated
    | OldClasses
    | Saved
    | Paused
    | Resumed
    | Stopped
    | Promoted
    | RolledBack
)
