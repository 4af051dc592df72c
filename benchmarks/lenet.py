"""nntrainer's LeNet on 1000 digits: TOD and torch from the same weights, on the same batches.

Run it with `python -m benchmarks.lenet [apart] [leak] [recipe] [step]` (all by default), or with
numbers of epochs and seeds before these: `python -m benchmarks.lenet 300 5 leak`. The
digits and the network are `mnist.data` and `mnist.ini` of nnstreamer-example. The first 500 samples
train, the last 500 validate, ten in a batch, pixels as stored, one thread. Four tables:

- apart: the curve at the document's rate, both programs, and how far apart they are;
- leak: the same as upstream's pipeline does it: it shuffles all samples before each epoch but the
  first and takes the first 500 for training, so what it validates on was trained on before;
- recipe: 0.90 without that, and the time until then against torch at 1e-3;
- step: the time of one, both programs in turn.

Axes: N samples, B batch.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.data import PICTURES, machine
from model import ini
from model.export import export_network
from model.networks.nntrainer.load import Ini, load
from tod.format import artifact
from tod.format.manifest import with_classes
from tod.format.schedule import Schedule, parse
from tod.runtime.engine import Engine
from tod.training.state import initial

Samples = tuple[NDArray[np.float32], NDArray[np.int64]]
BATCH, HALF, TARGET = 10, 500, 0.9
# A step for each epoch's order: rows of the training samples, and rows to validate on.
Orders = Callable[[int], tuple[NDArray[np.int64], NDArray[np.int64]]]
# Chosen on the training half alone: 350 of it trained, 150 decided.
RECIPE_LR, RECIPE_SCHEDULE, RECIPE_EPOCHS, SHIFT_PX = 0.006, "cosine", 60, 2


@dataclass
class Curve:
    """Validation accuracy after each epoch, and the seconds that the steps until then took."""

    accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def reached(self, target: float) -> tuple[int, float] | None:
        """The first epoch with that accuracy, and its seconds."""
        for epoch, found in enumerate(self.accuracy):
            if found >= target:
                return epoch + 1, self.seconds[epoch]
        return None


class Tod:
    """Steps and answers of a .tod file's graphs."""

    def __init__(self, found: artifact.Artifact, net: nn.Module) -> None:
        self.engine = Engine(found.graphs, threads=1)
        described = with_classes(found.manifest, tuple("0123456789"))
        self.model = [tensor.name for tensor in found.manifest.model]
        self.tensors: dict[str, NDArray[Any]] = dict(
            initial(described, found.state, seed=0).tensors
        )
        for name, value in net.named_parameters():
            self.tensors[name] = value.detach().numpy().copy()

    def step(self, x: NDArray[np.float32], y: NDArray[np.int64], lr: float) -> None:
        batch: dict[str, NDArray[Any]] = {
            "features": x,
            "labels": y,
            "lr": np.array(lr, np.float32),
        }
        self.tensors, _, _ = self.engine.step(self.tensors, batch)

    def classes(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        parameters = {name: self.tensors[name] for name in self.model}
        found: NDArray[np.int64] = self.engine.predict(parameters, x).argmax(1)
        return found


class Torch:
    """The same in torch eager, its optimizer made to have Keras' epsilon."""

    def __init__(self, made: Ini, net: nn.Module) -> None:
        self.net = net
        self.optimizer = ini.settings(made).optimizer.torch_twin(net.parameters())

    def step(self, x: NDArray[np.float32], y: NDArray[np.int64], lr: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        logits = self.net(torch.from_numpy(x))
        nn.functional.cross_entropy(logits, torch.from_numpy(y)).backward()
        self.optimizer.step()

    def classes(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        with torch.no_grad():
            found: NDArray[np.int64] = self.net(torch.from_numpy(x)).argmax(1).numpy()
        return found


def read(path: Path) -> Samples:
    """Digits [N, 1, 28, 28] with values 0 to 255, and their labels."""
    rows = np.fromfile(path, "<f4").reshape(-1, 28 * 28 + 10)
    return rows[:, :784].reshape(-1, 1, 28, 28).copy(), rows[:, 784:].argmax(1)


def shifted(x: NDArray[np.float32], y: NDArray[np.int64], most_px: int) -> Samples:
    """The samples moved by up to so many pixels up, down and to the sides; black comes in."""
    moves = range(-most_px, most_px + 1)
    room = np.pad(x, ((0, 0), (0, 0), (most_px, most_px), (most_px, most_px)))
    side = x.shape[2]
    parts = [
        room[:, :, most_px + a : most_px + a + side, most_px + b : most_px + b + side]
        for a in moves
        for b in moves
    ]
    return np.concatenate(parts), np.tile(y, len(parts))


def apart(seed: int, train: NDArray[np.int64], validation: NDArray[np.int64]) -> Orders:
    """Only the training samples are shuffled."""
    return lambda epoch: (np.random.default_rng([seed, epoch]).permutation(train), validation)


def leaking(seed: int, count: int) -> Orders:
    """All samples are shuffled before each epoch but the first, as upstream's source does."""

    def order(epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        rows = np.arange(count)
        if epoch:
            rows = np.random.default_rng([seed, epoch]).permutation(rows)
        return rows[:HALF], rows[HALF:]

    return order


def train(
    side: Tod | Torch, samples: Samples, orders: Orders, epochs: int, rates: Iterator[float],
    steps: int = HALF // BATCH,
    until: float = 2.0,
) -> Curve:  # fmt: skip
    """Train and validate after each epoch of so many steps, until an accuracy is reached."""
    x, y = samples
    curve, spent = Curve(), 0.0
    for epoch in range(epochs):
        rows, held = orders(epoch)
        start = time.perf_counter()
        for batch in np.split(rows[: steps * BATCH], steps):
            side.step(x[batch], y[batch], next(rates))
        spent += time.perf_counter() - start
        curve.seconds.append(spent)
        curve.accuracy.append(float((side.classes(x[held]) == y[held]).mean()))
        if curve.accuracy[-1] >= until:
            break
    return curve


def constant(lr: float) -> Iterator[float]:
    while True:
        yield lr


def scheduled(schedule: Schedule, lr: float, total: int) -> Iterator[float]:
    for step in range(total):
        yield schedule.rate(lr, step, total)


def curves(
    made: Ini, found: artifact.Artifact, samples: Samples, orders: Callable[[int], Orders],
    epochs: int, seeds: int,
) -> None:  # fmt: skip
    """TOD and torch at the document's rate."""
    lr = made.recipe.settings["learning_rate"]
    print(f"seed, accuracy after {epochs} epochs of TOD, torch; largest and mean difference of an "
          "epoch; ms a step of TOD, torch")  # fmt: skip
    for seed in range(seeds):
        sides = Tod(found, network(made, seed)), Torch(made, network(made, seed).head)
        ours = train(sides[0], samples, orders(seed), epochs, constant(lr))
        theirs = train(sides[1], samples, orders(seed), epochs, constant(lr))
        gap = np.abs(np.array(ours.accuracy) - theirs.accuracy)
        steps = epochs * HALF // BATCH
        print(f"{seed}: {ours.accuracy[-1]:.3f}, {theirs.accuracy[-1]:.3f}; {gap.max():.3f}, "
              f"{gap.mean():.4f}; {1e3 * ours.seconds[-1] / steps:.2f}, "
              f"{1e3 * theirs.seconds[-1] / steps:.2f}", flush=True)  # fmt: skip


def step_times(made: Ini, found: artifact.Artifact, samples: Samples, rounds: int = 40) -> None:
    """Both in turn, so that what else the machine does meets both."""
    x, y = samples[0][:BATCH], samples[1][:BATCH]
    sides: tuple[Tod | Torch, ...] = (
        Tod(found, network(made, 0)), Torch(made, network(made, 0).head),
    )  # fmt: skip
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for side, found_ms in zip(sides, times, strict=True):
            for _ in range(HALF // BATCH):
                start = time.perf_counter()
                side.step(x, y, 1e-4)
                found_ms.append(1e3 * (time.perf_counter() - start))
    for name, found_ms in zip(("TOD", "torch"), times, strict=True):
        print(f"{name}: {np.median(found_ms):.2f} ms a step (median), "
              f"{np.percentile(found_ms, 10):.2f} (tenth percentile)")  # fmt: skip


def network(made: Ini, seed: int) -> Any:
    """With the initial weights of a seed."""
    path = made.layers[0].place.path
    return load(path, seed=seed).network.build(made.classes)


def recipe(made: Ini, found: artifact.Artifact, samples: Samples, seeds: int) -> None:
    """Time until 0.90: ours, and torch at 1e-3 with the document's batches."""
    x, y = samples
    held = np.arange(HALF, len(x))
    moved = shifted(x[:HALF], y[:HALF], SHIFT_PX)
    every = np.concatenate([x, moved[0]]), np.concatenate([y, moved[1]])
    rows = np.arange(len(x), len(every[0]))
    schedule, steps = parse(RECIPE_SCHEDULE), RECIPE_EPOCHS * HALF // BATCH
    print(
        f"lr {RECIPE_LR:g}, {schedule}, {steps:,} cycles of {BATCH}, shifts of {SHIFT_PX} px: "
        "seed, accuracy at the end; epoch and seconds until 0.90; the same of torch at 1e-3"
    )
    for seed in range(seeds):
        ours = train(Tod(found, network(made, seed)), every, apart(seed, rows, held),
                     RECIPE_EPOCHS, scheduled(schedule, RECIPE_LR, steps))  # fmt: skip
        theirs = train(Torch(made, network(made, seed).head), samples,
                       apart(seed, np.arange(HALF), held), 300, constant(1e-3),
                       until=TARGET)  # fmt: skip
        print(f"{seed}: {ours.accuracy[-1]:.3f}; {ours.reached(TARGET)}; "
              f"{theirs.reached(TARGET)}", flush=True)  # fmt: skip


def main() -> None:
    words = sys.argv[1:]
    numbers = [int(word) for word in words if word.isdecimal()]
    epochs, seeds = [*numbers, *(300, 5)[len(numbers) :]]
    parts = [word for word in words if not word.isdecimal()]
    folder = PICTURES / "mnist" / "nnstreamer"
    torch.set_num_threads(1)
    print(machine())
    made = load(folder / "mnist.ini")
    samples = read(folder / "mnist.data")
    first, last = np.arange(HALF), np.arange(HALF, len(samples[0]))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "mnist.tod"
        export_network(path, made.network, ini.settings(made), class_count=made.classes)
        found = artifact.read(path)
    work: dict[str, Callable[[], None]] = {
        "apart": lambda: curves(
            made, found, samples, lambda seed: apart(seed, first, last), epochs, seeds
        ),
        "leak": lambda: curves(
            made, found, samples, lambda seed: leaking(seed, len(samples[0])), epochs, seeds
        ),
        "recipe": lambda: recipe(made, found, samples, seeds),
        "step": lambda: step_times(made, found, samples),
    }
    for part in parts or work:
        print(f"\n{part}")
        work[part]()


if __name__ == "__main__":
    main()
