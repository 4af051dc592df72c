"""Every optimizer in a graph that adds up batches before a step."""

import numpy as np
import pytest

import tod
from model.export import export_backbone
from model.step.optimizers import OPTIMIZERS
from tests.support.tiny_models import tiny_backbone
from tod.cli.export_options import OptimizerName

# The others differ only in what they do with the mean gradient, which test_optimizers compares.
SHORT = ("sgd", "adam")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, id=name, marks=() if name in SHORT else pytest.mark.long)
        for name, kind in OPTIMIZERS.items()
    ],
)
def test_micro_batches_equal_one_large_batch(tmp_path, kind):
    path = tmp_path / "x.tod"
    made = export_backbone(
        path, tiny_backbone(), trainable="all", accumulate=4, backbone_lr=1.0, class_count=3,
        optimizer=kind(OptimizerName(kind.name).lr),
    )  # fmt: skip
    assert made.differences.largest < 2e-5  # from torch
    generator = np.random.default_rng(0)
    features = generator.standard_normal((24, 3, 16, 16)).astype("f")
    labels = generator.integers(0, 3, 24)
    found = []
    for parts in (1, 4):
        session = tod.TrainSession.load(path)
        session.bind(["a", "b", "c"])
        for cycle in range(3):
            batches = list(zip(np.split(features, parts), np.split(labels, parts), strict=True))
            session.state, loss = session.next_state(batches, lr=0.001, seed=0, cycle=cycle + 1)
        found.append((session.state.tensors, loss))
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-6)
    for name, value in found[0][0].items():
        difference = np.abs(found[1][0][name] - value).max()
        if not name.startswith("square"):
            assert difference <= 2e-6 * np.abs(value).max() + 1e-9, name
