"""What a page of a report shows: records in memory, no file and no HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tod.data.check import Doubt, Finding
from tod.format.manifest import Manifest
from tod.report.course import Course
from tod.runtime.calibration import Calibration
from tod.runtime.scoring import Evaluation

# How many groups or pictures of a finding are shown, and how many of a group.
OF_FINDING, _OF_GROUP = 6, 2
_WITH_PICTURES = ("contradiction", "leak", "duplicate", "flat", "small", "doubtful")


@dataclass(frozen=True)
class Shot:
    """A picture with what the model says of it.

    Attributes:
        path: below the data's folder.
        label: what it is said to be.
        answers: what the model says, the likeliest first: name and share, or name and quantity.
        own: probability of the label; of quantities, how far off it is in standard deviations.
        right: whether the answer is the label; None of quantities.
        thumbnail: a JPEG, None where there was no room or it cannot be read any more.
    """

    path: str
    label: str
    answers: tuple[tuple[str, float], ...]
    own: float
    right: bool | None
    thumbnail: bytes | None = None


@dataclass(frozen=True)
class Before:
    """How good the model was before training, on the same pictures; or why that is not known."""

    name: str
    evaluation: Evaluation | None
    why_not: str = ""


@dataclass(frozen=True)
class Contents:
    """All of a page.

    Attributes:
        model, data: as they were named.
        made: when, for a person to read.
        manifest: of the model.
        trained: whether it ever was.
        evaluation: on the validation split.
        calibration: None of quantities.
        worst: pictures with the least probability of what they are, or the largest error.
        doubtful: those that the model can decide least.
        points: of quantities, (true, said) by name.
        before: None where nothing was there to compare with.
        course: of the training run, where its records are known.
        findings: of `tod check`, with thumbnails of some of the pictures by path.
        pictures: of the dataset, by split.
        facts: names and values: timing, versions and the like, by heading.
    """

    model: str
    data: str
    made: str
    manifest: Manifest
    trained: bool
    evaluation: Evaluation
    calibration: Calibration | None
    worst: tuple[Shot, ...]
    doubtful: tuple[Shot, ...]
    pictures: Mapping[str, int]
    findings: tuple[Finding, ...] = ()
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    points: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    before: Before | None = None
    course: Course | None = None
    facts: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)


def paths_of(finding: Finding, item: object) -> tuple[str, ...]:
    """The pictures of one item of a finding that are worth a thumbnail."""
    kind = finding.kind.removeprefix("near_")
    if kind not in _WITH_PICTURES:
        return ()
    if isinstance(item, Doubt):
        return (item.path,)
    if isinstance(item, tuple):
        return tuple(map(str, item[: 1 if kind == "small" else _OF_GROUP]))
    return (str(item),)
