"""The records that a run reports; terminal, log file and tests read the same stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tod.data.splits import Split
from tod.format.manifest import Run
from tod.runtime.class_score import ClassScore, Confusion


@dataclass(frozen=True)
class Started:
    """Training starts. `first_cycle` is above 1 when a checkpoint is continued."""

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
    """A message for the user that does not stop the work."""

    text: str


@dataclass(frozen=True)
class PicturesRead:
    """Progress of opening a dataset with pictures that must be read first."""

    done: int
    total: int


@dataclass(frozen=True)
class FeaturesDone:
    """Progress of the one pass over the pictures."""

    done: int
    total: int


@dataclass(frozen=True)
class CycleDone:
    """One step was made; `lr` is the learning rate that it was made with."""

    cycle: int
    cycles: int
    loss: float
    min_loss: float
    lr: float | None = None


@dataclass(frozen=True)
class Evaluated:
    """Accuracy on a split; `max_accuracy` is the best on this split so far in this run.

    `metric` is "accuracy" or, for measured quantities, "R2"; `scores` and `confusion` tell more,
    and are empty for the tests on the way; see `tod.runtime.scoring`.
    """

    split: Split
    cycle: int
    accuracy: float
    max_accuracy: float
    correct: int
    total: int
    metric: str = "accuracy"
    scores: dict[str, ClassScore] = field(default_factory=dict)
    confusion: Confusion = ()


@dataclass(frozen=True)
class OldClasses:
    """Accuracy on the validation pictures of the old classes, after new classes were added:
    `before` of the model without the new classes, `after` of the trained model, which chooses among
    all classes."""

    before: float
    after: float
    pictures: int


@dataclass(frozen=True)
class Saved:
    """A file was written. `cycle` is the cycle whose parameters the file holds, None if unknown."""

    kind: str
    path: str
    cycle: int | None


# "hour" is the time of day, "time" the time limit of the run; "other" comes from the caller.
PauseReason = Literal["power", "battery", "temperature", "hour", "time", "memory", "other"]


@dataclass(frozen=True)
class Paused:
    """The run waits, see `tod.training.conditions`; `text` says why and for what."""

    reason: PauseReason
    text: str


@dataclass(frozen=True)
class Resumed:
    """The run continues after a pause."""

    waited_seconds: float


@dataclass(frozen=True)
class Stopped:
    """Training ended. `reason` is "cycles", "target", "patience", "time" or "interrupted";
    `kept_cycle` is the cycle whose parameters are kept."""

    reason: str
    cycle: int
    kept_cycle: int


@dataclass(frozen=True)
class Promoted:
    """A model replaced the served one, see `tod.promotion.promote`; `served_accuracy` is None if no
    model was served before."""

    path: str
    served: str
    generation: int
    accuracy: float
    served_accuracy: float | None
    total: int
    metric: str


@dataclass(frozen=True)
class RolledBack:
    """An earlier generation is served again; `was` is the generation that was served until now,
    None if it was missing."""

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
