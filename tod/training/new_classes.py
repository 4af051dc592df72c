"""Add the dataset's new classes to a trained model, and score the old classes before that."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from tod.data.dataset import Dataset
from tod.data.samples import Sample
from tod.errors import DataError
from tod.training.evaluation import evaluated, fill_features
from tod.training.records import Notice, Record
from tod.training.session import TrainSession
from tod.training.watch import Watch


def add_classes(
    session: TrainSession,
    dataset: Dataset,
    seed: int,
    should_stop: Callable[[], bool],
    watch: Watch,
) -> Generator[Record, None, tuple[Dataset, float] | None]:
    """Make room for the dataset's new classes.

    Returns:
        The pictures of the old classes and the model's accuracy on their validation split; None
        when there is no new class.
    """
    known = session.classes or ()
    new = [name for name in dataset.classes if name not in known]
    if not new:
        yield Notice("the data has no class that the model does not know")
        return None
    if missing := [name for name in known if name not in dataset.classes]:
        raise DataError(
            f"{dataset.root}: pictures of the model's own classes are missing: "
            f"{', '.join(missing)}",
            hint="keep some pictures of each old class beside the new ones; without any the old "
            "ones would be forgotten",
        )
    old = dataset.only(known)
    old = replace(old, classes=known, samples=_relabelled(old, known))
    yield from fill_features(session, old, ("validation",), should_stop, watch)
    before = evaluated(session, old, "validation").accuracy
    session.add_classes(new, seed=seed)
    yield Notice(f"new classes: {', '.join(new)}")
    return old, before


def _relabelled(dataset: Dataset, class_names: Sequence[str]) -> tuple[Sample, ...]:
    place = {name: label for label, name in enumerate(class_names)}
    return tuple(replace(s, label=place[dataset.classes[s.label]]) for s in dataset.samples)
