"""Every file that `tod convert` makes, beside the original.

    python -m benchmarks.conversion resnet18    the document's table anew: at 32 px, as TFLite
    python -m benchmarks.conversion lite0       every format, on a thousand photographs

resnet18: torch trains it here from random weights on the train split of handwritten digits (MNIST,
500 of each), `tod export` and `net_runner` give it a new head.

lite0: EfficientNet-Lite0 with its ImageNet weights, a head for the ten classes of `places`; the
first hundred pictures of each train and calibrate, the other hundred are compared.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from benchmarks.data import PICTURES, machine
from benchmarks.processes import program, run
from model.networks.load import load_backbone
from tod.data.dataset import Dataset
from tod.data.image import load

PER_CLASS, SIDE_PX, EPOCHS, BATCH = 500, 32, 5, 50
IDX_HEADER = {"images": 16, "labels": 8}
RESNET = "torchvision:resnet18"
TRAIN = 100  # pictures of each class of `places`


def idx(kind: str) -> NDArray[np.uint8]:
    """The training part of MNIST, [60000, ...]; the format is told at yann.lecun.com/exdb/mnist."""
    dimensions = 3 if kind == "images" else 1
    file = PICTURES / "mnist" / f"train-{kind}-idx{dimensions}-ubyte.gz"
    numbers = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8)[IDX_HEADER[kind] :]
    return numbers.reshape(-1, 28, 28) if kind == "images" else numbers


def digits(folder: Path) -> Path:
    """Class folders of PNG files."""
    images, labels = idx("images"), idx("labels")
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
        for index in np.flatnonzero(labels == digit)[:PER_CLASS]:
            Image.fromarray(images[index]).save(folder / str(digit) / f"{index}.png")
    return folder


def places(folder: Path) -> Path:
    """train/CLASS and val/CLASS."""
    for source in sorted((PICTURES / "places").iterdir()):
        for number, file in enumerate(sorted(source.iterdir()) if source.is_dir() else ()):
            split = folder / ("train" if number < TRAIN else "val") / source.name
            split.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, split)
    return folder


def resnet18(data: Path, weights: Path) -> None:
    """Train the whole network on the train split."""
    torch.manual_seed(0)
    # On a machine with other work two threads mostly wait for each other: 20 times as slow.
    torch.set_num_threads(1)
    whole = load_backbone(RESNET, weights="none", features="logits", size_px=SIDE_PX)
    net, spec = whole.module.train(), whole.input
    samples = Dataset.open(data, cache=False).split("train")
    pixels = np.stack([load((data / one.path).read_bytes(), spec) for one in samples])
    labels = torch.tensor([one.label for one in samples])
    mean, std = (torch.tensor(n).view(3, 1, 1) for n in (spec.mean, spec.std))
    x = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std
    steps = EPOCHS * len(x) // BATCH
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    loss = nn.CrossEntropyLoss()
    for step in range(steps):
        if step % (len(x) // BATCH) == 0:
            order = torch.randperm(len(x))
        rows = order[step * BATCH % len(x) :][:BATCH]
        optimizer.zero_grad()
        loss(net(x[rows]), labels[rows]).backward()
        optimizer.step()
        schedule.step()
    torch.save(net.state_dict(), weights)


def converted(model: Path, to: str, data: Path, *more: object) -> str:
    """The table of one format. Nothing is refused: what is worse is to be seen."""
    bits = [] if to == "torch" else ["--quantize", "all"]
    output = model.with_name(f"as_{to}").with_suffix({"torch": ".pt"}.get(to, f".{to}"))
    convert = ["convert", model, "--to", to, *bits, "-d", data, "--max-drop", 1, *more]
    return run([program("tod"), *convert, "-q", "-o", output]).output


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conversion")
    parser.add_argument("network", choices=["resnet18", "lite0"])
    network = parser.parse_args().network
    print(machine())
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model, trained = folder / "model.tod", folder / "trained.tod"
        if network == "resnet18":
            data, more = digits(folder / "digits"), []
            resnet18(data, folder / "resnet18.pt")
            source = ["--backbone", RESNET, "--weights", folder / "resnet18.pt"]
            run([program("tod"), "export", *source, "--size", SIDE_PX, "-q", "-o", model])
            formats = ["tflite"]
        else:
            data, more = places(folder / "places"), ["--splits"]
            run([program("tod"), "export", "-q", "-o", model])
            formats = ["onnx", "ort", "tflite", "torch"]
        train = ["-f", model, "-d", data, *more, "-c", 300, "-q", "-o", trained]
        run([program("net_runner"), *train])
        for to in formats:
            print(converted(trained, to, data, *more), flush=True)


if __name__ == "__main__":
    main()
