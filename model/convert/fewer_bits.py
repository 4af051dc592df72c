"""Quantize a whole network: all of it, or but for the layers that do most harm.

Knows no format: who calls it says how a file is made and run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.convert.comparison import Rows, cosine
from model.convert.runners import Runner
from model.reduce import sensitivity
from model.reduce.calibration import Pictures
from model.reduce.sensitivity import Progress
from tod.format.manifest import Task

# Cosine of the logits to float32's on held-out pictures; as `tod export --quantize` wants it of
# features (model/reduce/precision.py).
TARGET = 0.985
# With more layers in float the file is hardly smaller.
_MOST_FLOAT = 0.5
_RANKING_PICTURES = 8


@dataclass(frozen=True)
class Search:
    """What every trial needs.

    Attributes:
        pictures: those held out from calibration measure.
        before: answers of float32 for the pictures held out.
        task: of the model.
        run: opens a file.
        progress: layers done and to do.
        say: called with a short text before long work.
    """

    pictures: Pictures
    before: Rows
    task: Task
    run: Callable[[bytes], Runner]
    progress: Progress
    say: Callable[[str], None]

    @property
    def held_out(self) -> NDArray[np.uint8]:
        return self.pictures.pixels[self.pictures.calibrating :]

    def cosine(self, data: bytes, count: int | None = None) -> float:
        """Of a file's logits, on the first `count` of the pictures held out."""
        run = self.run(data)
        pixels = self.held_out[:count]
        rows = np.concatenate([run(pixels[i : i + 1]) for i in range(len(pixels))])
        return cosine(rows, self.before[:count], self.task)


def quantized(
    search: Search, layers: Mapping[str, str], make: Callable[[Collection[str]], bytes]
) -> tuple[bytes, tuple[str, ...]]:
    """The file in fewer bits, and the layers that it keeps in float.

    Args:
        search: what to measure with.
        layers: what can be quantized: name -> what a person is told.
        make: the file with the given layers in float.
    """
    data = make(())
    reached = search.cosine(data)
    most = int(_MOST_FLOAT * len(layers))
    if reached >= TARGET or most == 0:
        return data, ()
    search.say(f"cosine {reached:.4f}: looking for the layers that lose it")
    names = list(layers)
    ranked = sensitivity.rank(
        names, lambda kept: search.cosine(make(kept), _RANKING_PICTURES), search.progress
    )
    kept = sensitivity.fewest(
        ranked, lambda some: search.cosine(make(some)), target=TARGET, most=most
    )
    return make(kept), tuple(text for name, text in layers.items() if name in kept)
