"""Time of one step with the last two blocks of EfficientNet-Lite0 unfrozen, against torch eager.

Run it with `python -m benchmarks.deep_step`. Batch 32, SGD with momentum, BatchNorm frozen, both on
all cores, each in a process of its own, in turn. torch twice: from the same cached features, and as
a script without a cache does it, from the pictures through the whole network.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.data import machine
from benchmarks.processes import printed
from benchmarks.sides import in_turn, ratio
from model.export import export
from model.networks import trainable
from model.networks.load import load_backbone
from model.networks.network import with_head
from model.step.optimizers import SGD
from model.train_wrap import TrainWrap
from tod.system.machine import available_cores
from tod.training.session import TrainSession

CLASSES, BATCH, STEPS, PAIRS, DEPTH = 10, 32, 9, 3, "last:2"
SIDES = {
    "ours": "ours",
    "tail": "torch eager from the same features",
    "whole": "torch eager from the pictures",
}


def ours(model: Path) -> Callable[[], None]:
    session = TrainSession.load(model)
    session.bind([str(i) for i in range(CLASSES)])
    shape = session.manifest.backbone.feature_shape
    features = np.random.default_rng(0).standard_normal((BATCH, *shape)).astype(np.float32)
    labels = np.arange(BATCH) % CLASSES

    def run() -> None:
        session.state, _ = session.next_state([(features, labels)], lr=0.001, seed=0, cycle=1)

    return run


def theirs(whole: bool) -> Callable[[], None]:
    """The network's own modules, with autograd and `torch.optim`."""
    torch.set_num_threads(available_cores())
    net = with_head(load_backbone(), "linear", std=0.01, seed=0).build(CLASSES).eval()
    names = trainable.names(net, DEPTH)
    tail = TrainWrap(net, weights=names, optimizer=SGD(0.001)).split.tail
    module: nn.Module = net if whole else tail
    module.requires_grad_(False)
    parameters = [module.get_parameter(name).requires_grad_(True) for name in names]
    optimizer = torch.optim.SGD(parameters, lr=0.001, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    shape = (
        (3, 224, 224) if whole else tail.graph.find_nodes(op="placeholder")[0].meta["val"].shape[1:]
    )
    x, labels = torch.randn(BATCH, *map(int, shape)), torch.arange(BATCH) % CLASSES

    def run() -> None:
        optimizer.zero_grad()
        loss = criterion(module(x), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return run


def one_side(side: str, model: str) -> None:
    run = ours(Path(model)) if side == "ours" else theirs(side == "whole")
    times = []
    for _ in range(STEPS + 3):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    print(statistics.median(times[3:]))


def main() -> None:
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.tod")
        export(model, optimizer=SGD(0.02, dampening=0.01), trainable=DEPTH)
        sides = {side: partial(printed, "deep_step", side, model) for side in SIDES}
        found = in_turn(sides, PAIRS)
    for side, what in SIDES.items():
        times = ratio(found[side], found["ours"])
        print(f"{what}: {statistics.median(found[side]):.0f} ms a step, {times:.1f} times ours")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one_side(sys.argv[1], sys.argv[2])
    else:
        main()
