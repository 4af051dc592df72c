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


class OpenVinoRunner:
    """See `Runner`.

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
        self.library = f"openvino {openvino.__version__}{' bf16' if bf16 else ''}"
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads * parallel,
            "NUM_STREAMS": parallel,
        }
        try:
            core = openvino.Core()
            able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            if bf16 and "BF16" not in able:
                raise DeviceError(
                    "this processor computes no bf16 in OpenVINO",
                    hint="leave --precision away, or use a processor with AVX512-BF16 or AMX",
                )
            self._compiled = core.compile_model(core.read_model(data), "CPU", settings)
        except RuntimeError as error:
            raise DeviceError(f"OpenVINO cannot load {name}: {first_line(error)}") from error
        self.inputs = tuple(map(_detail, self._compiled.inputs))
        self.outputs = tuple(map(_detail, self._compiled.outputs))
        # A request computes for one thread at a time.
        self._local = threading.local()

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        try:
            if not hasattr(self._local, "request"):
                self._local.request = self._compiled.create_infer_request()
            found = self._local.request.infer(feeds)
        except (RuntimeError, TypeError, ValueError) as error:
            raise DeviceError(f"{self._name} failed in OpenVINO: {first_line(error)}") from error
        return {d.name: np.array(found[i]) for i, d in enumerate(self.outputs)}


def _detail(port: Any) -> Detail:
    sides = (side.get_length() if side.is_static else -1 for side in port.partial_shape)
    return Detail(port.any_name, tuple(sides), np.dtype(port.element_type.to_dtype()))
