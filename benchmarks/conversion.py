"""The document's table anew: ResNet18 at 32 px as TFLite, float, dynamic, int8 and fp16.

Run it with `python -m benchmarks.conversion`. A network that is trained here from random weights on
handwritten digits (MNIST, 300 of each) is converted to every variant; accuracy on its validation
pictures, bytes, and milliseconds of one picture in one thread.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.data import PICTURES, machine
from benchmarks.processes import program, run

PER_CLASS = 300
IDX_HEADER = {"images": 16, "labels": 8}


def idx(kind: str) -> NDArray[np.uint8]:
    """The training part of MNIST, [60000, ...]; the format is told at yann.lecun.com/exdb/mnist."""
    dimensions = 3 if kind == "images" else 1
    file = PICTURES / "mnist" / f"train-{kind}-idx{dimensions}-ubyte.gz"
    numbers = np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8)[IDX_HEADER[kind] :]
    return numbers.reshape(-1, 28, 28) if kind == "images" else numbers


def write_pictures(folder: Path) -> Path:
    """Class folders of PNG files."""
    images, labels = idx("images"), idx("labels")
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
        for index in np.flatnonzero(labels == digit)[:PER_CLASS]:
            Image.fromarray(images[index]).save(folder / str(digit) / f"{index}.png")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conversion")
    parser.add_argument("--cycles", type=int, default=400)
    cycles = parser.parse_args().cycles
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = write_pictures(folder / "digits")
        model, trained = folder / "resnet18.tod", folder / "trained.tod"
        network = ["--backbone", "torchvision:resnet18", "--weights", "none", "--size", 32]
        step = ["--trainable", "all", "--optimizer", "adam", "--lr", 0.001, "--batch-size", 32]
        run([program("tod"), "export", *network, *step, "-o", model])
        options = ["--eval-every", 100, "--target-accuracy", 1, "-q", "-o", trained]
        run([program("net_runner"), "-f", model, "-d", data, "-c", cycles, *options])
        convert = ["convert", trained, "--to", "tflite", "--quantize", "all", "-d", data]
        done = run([program("tod"), *convert, "--max-drop", 1, "-q", "-o", folder / "x.tflite"])
    print(machine())
    print(done.output)


if __name__ == "__main__":
    main()
