"""An ONNX graph in OpenVINO. The only user of openvino, which is optional."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.errors import DeviceError, first_line
from tod.format.arrays import Arrays
from tod.runtime.delegates.runner import Detail
from tod.system.machine import install

Shapes = tuple[tuple[int, ...], ...]  # of all inputs, in their order


class OpenVinoRunner:
    """See `Runner`. The graph is compiled for each number of pictures that it gets.

    With the number open, its convolutions in bf16 take 1.5 times as long (docs/performance.md), and
    in a quantized graph that counts its pictures (Shape, Range) OpenVINO 2026.4 drops the bias of a
    convolution on integer pixels: the cosine of the features was 0.8.

    Args:
        data: the ONNX file.
        name: for messages.
        threads: for one run.
        parallel: runs that are made at once.
        bf16: compute in bf16.

    Raises:
        DeviceError: openvino is not installed, or cannot load the graph.
    """

    def __init__(
        self, data: bytes, name: str, threads: int, *, parallel: int = 1, bf16: bool = False
    ) -> None:
        try:
            import openvino
        except ImportError as error:
            raise DeviceError(
                f"openvino cannot be loaded: {error}", hint=install("openvino")
            ) from error
        self._name = name
        # Rows of features that were computed with the number left open may be wrong.
        self.library = f"openvino {openvino.__version__} closed{' bf16' if bf16 else ''}"
        self._settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads * parallel,
            "NUM_STREAMS": parallel,
        }
        try:
            self._core = openvino.Core()
            able = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            if bf16 and "BF16" not in able:
                raise DeviceError(
                    "this processor computes no bf16 in OpenVINO",
                    hint="leave --precision away, or use a processor with AVX512-BF16 or AMX",
                )
            self._model = self._core.read_model(data)
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO cannot load {name}: {first_line(error)}") from error
        self.inputs = tuple(map(_detail, self._model.inputs))
        self.outputs = tuple(map(_detail, self._model.outputs))
        details = (*self.inputs, *self.outputs)
        self._rows_are_open = all(d.shape and d.shape[0] == -1 for d in details)
        self._compiled: dict[Shapes, Any] = {}
        self._lock = threading.Lock()
        # A request computes for one thread at a time.
        self._local = threading.local()

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        given = [np.ascontiguousarray(feeds[detail.name]) for detail in self.inputs]
        try:
            shapes = self._ready(tuple(array.shape for array in given))
            if shapes not in self._requests:
                self._requests[shapes] = self._compiled[shapes].create_infer_request()
            filled = [_filled(array, shape) for array, shape in zip(given, shapes, strict=True)]
            found = self._requests[shapes].infer(filled)
        except (RuntimeError, TypeError, ValueError) as error:
            raise DeviceError(f"{self._name} failed in OpenVINO: {first_line(error)}") from error
        rows = slice(len(given[0])) if self._rows_are_open else ...
        return {d.name: np.array(found[i][rows]) for i, d in enumerate(self.outputs)}

    @property
    def _requests(self) -> dict[Shapes, Any]:
        if not hasattr(self._local, "requests"):
            self._local.requests = {}
        requests: dict[Shapes, Any] = self._local.requests
        return requests

    def _ready(self, shapes: Shapes) -> Shapes:
        """Compile for these shapes, or find some that hold them and at most as many rows again:
        the last batch of many is often smaller."""
        with self._lock:
            for known in sorted(self._compiled):
                if shapes == known or (self._rows_are_open and _holds(known, shapes)):
                    return known
            model = self._model.clone()
            names = [port.any_name for port in model.inputs]
            model.reshape(dict(zip(names, map(list, shapes), strict=True)))
            self._compiled[shapes] = self._core.compile_model(model, "CPU", self._settings)
            return shapes


def _holds(known: Shapes, shapes: Shapes) -> bool:
    return all(
        one[1:] == other[1:] and other[0] <= one[0] <= 2 * other[0]
        for one, other in zip(known, shapes, strict=True)
    )


def _filled(array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """With rows of zeros at the end."""
    if array.shape == shape:
        return array
    missing = shape[0] - len(array)
    return np.concatenate([array, np.zeros((missing, *shape[1:]), array.dtype)])


def _detail(port: Any) -> Detail:
    sides = (side.get_length() if side.is_static else -1 for side in port.partial_shape)
    return Detail(port.any_name, tuple(sides), np.dtype(port.element_type.to_dtype()))
