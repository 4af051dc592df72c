"""Time of one head cycle, ours against torch eager, in turn.

Run it with `python -m benchmarks.head_step`.
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
from model.networks.backbone import Features
from model.step.optimizers import SGD
from tod.runtime.draws import batch_rows
from tod.training.session import TrainSession

ROWS, CLASSES, BATCH = 600, 10, 32
ROUNDS, CYCLES, PAIRS = 15, 200, 5
KINDS: dict[Features, int] = {"pooled": 1280, "logits": 1000}


def ours(model: Path, features: np.ndarray, labels: np.ndarray) -> Callable[[], None]:
    """A cycle as `tod.train` has it: draw the batch, pick its rows, step."""
    session = TrainSession.load(model)
    session.bind([str(i) for i in range(CLASSES)])
    cycle = 0

    def run() -> None:
        nonlocal cycle
        cycle += 1
        rows = batch_rows(seed=0, cycle=cycle, batch_size=BATCH, rows=ROWS)
        batch = (features[rows], labels[rows])
        session.state, _ = session.next_state([batch], lr=0.05, seed=0, cycle=cycle)

    return run


def theirs(features: np.ndarray, labels: np.ndarray) -> Callable[[], None]:
    """The same in torch."""
    torch.set_num_threads(2)
    head = nn.Linear(features.shape[1], CLASSES)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9, dampening=0.01)
    criterion = nn.CrossEntropyLoss()
    rows_of = torch.from_numpy(features), torch.from_numpy(labels)

    def run() -> None:
        rows = torch.randint(0, ROWS, (BATCH,))
        optimizer.zero_grad()
        loss = criterion(head(rows_of[0][rows]), rows_of[1][rows])
        loss.backward()
        optimizer.step()
        loss.item()

    return run


def cycle_ms(run: Callable[[], None]) -> float:
    """Median over rounds, after a warm-up."""
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        for _ in range(CYCLES):
            run()
        times.append((time.perf_counter() - start) / CYCLES * 1e3)
    return statistics.median(times[1:])


def one_side(side: str, model: str, count: int) -> None:
    generator = np.random.default_rng(0)
    features = generator.standard_normal((ROWS, count)).astype(np.float32)
    labels = generator.integers(0, CLASSES, ROWS)
    run = ours(Path(model), features, labels) if side == "ours" else theirs(features, labels)
    print(cycle_ms(run))


def main() -> None:
    """Each side in a process of its own, in turn: both keep their threads spinning after a call,
    and would take the cores from each other."""
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        for kind, count in KINDS.items():
            model = Path(folder, "model.tod")
            export(model, optimizer=SGD(0.05, dampening=0.01), features=kind)
            sides = {s: partial(printed, "head_step", s, model, count) for s in ("ours", "theirs")}
            found = in_turn(sides, PAIRS)
            mine, torchs = map(statistics.median, found.values())
            times = ratio(found["theirs"], found["ours"])
            print(
                f"{count} -> {CLASSES}, batch {BATCH}: Median {mine:.3f} ms a cycle, torch eager "
                f"{torchs:.3f} ms, ratio {times:.1f}"
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one_side(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    else:
        main()
