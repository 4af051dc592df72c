"""What every delegate gives: a graph that takes arrays by name and returns arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tod.format.arrays import Arrays

_TFLITE_MAGIC = b"TFL3"


@dataclass(frozen=True)
class Detail:
    """One input or output of a graph.

    Attributes:
        name: of the tensor.
        shape: its sides; -1 where the graph leaves one open.
        dtype: of its numbers.
        scales, zero_points: real = scale * (number - zero point), for one quantized tensor or for
            each index of `axis`; empty where the numbers are not quantized.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0


@dataclass(frozen=True)
class Graph:
    """A file of a model as bytes, ready for a delegate.

    Attributes:
        data: an ONNX file or a TFLite one.
        name: for messages.
        metadata: texts by name that the file carries.
    """

    data: bytes
    name: str
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_tflite(self) -> bool:
        return self.data[4:8] == _TFLITE_MAGIC


class Runner(Protocol):
    """A graph that a delegate has loaded. `run` may be called from several threads at once."""

    inputs: tuple[Detail, ...]
    outputs: tuple[Detail, ...]
    library: str
    """Name, version and settings of what computes: rows of features that another one has computed
    are not the same."""

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        """Every input by name -> every output by name.

        Raises:
            DeviceError: the delegate cannot compute it here.
        """
        ...
