"""Training with seed after seed of both split and batches; features are computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import tod
from tod.runtime.features import FeatureStore

# By data folder; of one backbone.
Stores = dict[Path, FeatureStore]


def sessions(
    model: Path, tree: Path, seeds: Iterable[int], stores: Stores
) -> Iterator[tuple[tod.TrainSession, tod.Dataset, int]]:
    """A fresh session with a new head, and the data, for each seed."""
    for seed in seeds:
        session = tod.TrainSession.load(model)
        session.store = stores.setdefault(tree, session.store)
        dataset = tod.Dataset.open(tree, seed=seed)
        session.bind(dataset.classes, seed=seed)
        yield session, dataset, seed


def scores(
    model: Path,
    tree: Path,
    seeds: Iterable[int],
    stores: Stores,
    narrow: Callable[[tod.Dataset, int], tod.Dataset] = lambda dataset, seed: dataset,
    **settings: Any,
) -> list[float]:
    """Validation accuracy for each seed, without early stopping.

    Args:
        narrow: what of the data is used with a seed.
        settings: of `tod.train`.
    """
    settings = {"cycles": 60, "target_accuracy": 1} | settings
    return [
        tod.train(session, narrow(dataset, seed), seed=seed, **settings).run().accuracy
        for session, dataset, seed in sessions(model, tree, seeds, stores)
    ]
