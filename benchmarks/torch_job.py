"""The same training run in torch eager, without a cache, for `benchmarks.whole_job`.

Run it with `python -m benchmarks.torch_job plain|best MODEL.tod DATASET [CYCLES]`. Backbone,
weights, new head, batches and evaluations are those of `net_runner -c 60 --target-accuracy 1`, but
every picture goes through the whole network in every cycle and in every evaluation.

- plain: as the tutorials write it: a Dataset, a DataLoader, backbone frozen by `requires_grad`.
- best: pictures decoded once and kept in memory, channels_last, `inference_mode` in the backbone,
  `torch.set_flush_denormal`; start it with `processes.KEEP_MEMORY` in the environment.

Axes: N pictures, B batch, S side in pixels.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from model.networks.backbone import RANDOM
from model.networks.load import load_backbone
from tod.data.dataset import Dataset
from tod.data.samples import Sample
from tod.format import artifact
from tod.format.manifest import InputSpec, Manifest
from tod.runtime.draws import batch_rows
from tod.system.machine import available_cores
from tod.training.state import initial

TEST_EVERY, EVALUATION_BATCH = 20, 32
Batches = Iterator[tuple[torch.Tensor, torch.Tensor]]


class Pictures(TorchDataset):  # type: ignore[misc]
    """Picture files as normalised float32 [3, S, S] and their class."""

    def __init__(self, root: Path, samples: Sequence[Sample], spec: InputSpec) -> None:
        self.root, self.samples, self.spec = root, samples, spec
        self.mean, self.std = (torch.tensor(n).view(3, 1, 1) for n in (spec.mean, spec.std))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        x = self.pixels(index).permute(2, 0, 1).float() / 255
        return (x - self.mean) / self.std, self.samples[index].label

    def pixels(self, index: int) -> torch.Tensor:
        """uint8 [S, S, 3]."""
        image = Image.open(self.root / self.samples[index].path).convert("RGB")
        side = (self.spec.size_px, self.spec.size_px)
        if image.size != side:
            image = image.resize(side, Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(image))


class Plain:
    """Reads, decodes and normalises whenever a picture is asked for."""

    def __init__(self, backbone: nn.Module, pictures: Pictures) -> None:
        self.backbone = backbone.requires_grad_(False).eval()
        self.pictures = pictures

    def batches(self, rows: Sequence[Sequence[int]]) -> Batches:
        return iter(DataLoader(self.pictures, batch_sampler=rows))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone(x)


class Best(Plain):
    """Keeps the pixels [N, S, S, 3] in memory: seen as [N, 3, S, S] they are channels_last."""

    def __init__(self, backbone: nn.Module, pictures: Pictures) -> None:
        super().__init__(backbone.to(memory_format=torch.channels_last), pictures)
        count = len(pictures)
        self.labels = torch.tensor([sample.label for sample in pictures.samples])
        self.pixels = torch.stack([pictures.pixels(i) for i in range(count)])

    def batches(self, rows: Sequence[Sequence[int]]) -> Batches:
        for part in rows:
            x = self.pixels[list(part)].permute(0, 3, 1, 2).float().div_(255)
            yield x.sub_(self.pictures.mean).div_(self.pictures.std), self.labels[list(part)]

    def features(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            features = self.backbone(x)
        return features.clone()  # the head's gradient refuses to save an inference tensor


def main(way: str, model: str, folder: str, cycles: int = 60) -> None:
    manifest = artifact.read(model).manifest
    torch.set_num_threads(available_cores())
    torch.set_flush_denormal(way == "best")
    random = manifest.backbone.weights == RANDOM
    base = load_backbone(manifest.backbone.name, weights="none" if random else "auto")
    train(way, manifest, base.module, Dataset.open(folder), cycles)


def train(way: str, manifest: Manifest, backbone: nn.Module, dataset: Dataset, cycles: int) -> None:
    """The whole run; prints the accuracies as `net_runner` does."""
    train_split = sorted(dataset.split("train"), key=lambda s: (s.label, s.sha256))
    first, second = len(train_split), len(train_split) + len(dataset.split("test"))
    samples = [*train_split, *dataset.split("test"), *dataset.split("validation")]
    assert manifest.input is not None
    pictures = Pictures(dataset.root, samples, manifest.input)
    side = {"plain": Plain, "best": Best}[way](backbone, pictures)
    head = new_head(manifest, classes=len(dataset.classes))
    rule = manifest.optimizer
    momentum, dampening = (float(rule.hyperparameters[n]) for n in ("momentum", "dampening"))
    optimizer = torch.optim.SGD(head.parameters(), rule.lr, momentum, dampening)
    criterion = nn.CrossEntropyLoss()
    size = manifest.batch_size
    drawn = [
        batch_rows(seed=0, cycle=cycle, batch_size=size, rows=first).tolist()
        for cycle in range(1, cycles + 1)
    ]
    best, kept = -1.0, head
    for cycle, (x, labels) in enumerate(side.batches(drawn), start=1):
        optimizer.zero_grad()
        criterion(head(side.features(x)), labels).backward()
        optimizer.step()
        if cycle % TEST_EVERY == 0:
            accuracy = evaluate(side, head, range(first, second), "test")
            if accuracy >= best:
                best, kept = accuracy, copy.deepcopy(head)
    evaluate(side, kept, range(second, len(samples)), "validation")


def new_head(manifest: Manifest, classes: int) -> nn.Linear:
    """The linear head that the device would make."""
    tensors = initial(replace(manifest, class_count=classes), {}, seed=0).tensors
    head = nn.Linear(tensors["head.weight"].shape[1], classes)
    head.load_state_dict(
        {name: torch.from_numpy(tensors[f"head.{name}"]) for name in ("weight", "bias")}
    )
    return head


@torch.no_grad()  # type: ignore[untyped-decorator]
def evaluate(side: Plain, head: nn.Module, rows: range, split: str) -> float:
    parts = [rows[i : i + EVALUATION_BATCH] for i in range(0, len(rows), EVALUATION_BATCH)]
    right = sum(
        int((head(side.features(x)).argmax(dim=1) == labels).sum())
        for x, labels in side.batches(parts)
    )
    print(f"accuracy on {split} data = {right / len(rows):.6g}", flush=True)
    return right / len(rows)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], *map(int, sys.argv[4:]))
