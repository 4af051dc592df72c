"""A TFLite graph in LiteRT. The only user of ai-edge-litert, which is optional."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.errors import ArtifactError, DeviceError, first_line
from tod.format.arrays import Arrays
from tod.runtime.delegates.runner import Detail
from tod.system.machine import install
from tod.system.streams import silenced


class LiteRtRunner:
    """See `Runner`. LiteRT's interpreter serves one thread, so each thread gets its own.

    Args:
        data: the TFLite file.
        name: for messages.
        threads: for one run.
        delegates: loaded by `ai_edge_litert.interpreter.load_delegate`, passed on as they are.

    Raises:
        DeviceError: ai-edge-litert is not installed.
        ArtifactError: it is no TFLite file, or a damaged one.
    """

    def __init__(
        self, data: bytes, name: str, threads: int, delegates: Sequence[object] = ()
    ) -> None:
        self._data, self._name, self._threads = data, name, threads
        self._delegates = list(delegates)
        self._local = threading.local()
        interpreter = self._interpreter()
        self.library = f"ai-edge-litert {metadata.version('ai-edge-litert')}"
        self.inputs = tuple(map(_detail, interpreter.get_input_details()))
        self.outputs = tuple(map(_detail, interpreter.get_output_details()))

    def run(self, feeds: Arrays) -> dict[str, NDArray[Any]]:
        interpreter = self._interpreter()
        try:
            details = interpreter.get_input_details()
            for detail in details:
                wanted = feeds[detail["name"]].shape
                if tuple(detail["shape"]) != wanted:
                    interpreter.resize_tensor_input(detail["index"], wanted)
            interpreter.allocate_tensors()
            for detail in details:
                interpreter.set_tensor(detail["index"], feeds[detail["name"]])
            interpreter.invoke()
            outputs = interpreter.get_output_details()
            return {d["name"]: interpreter.get_tensor(d["index"]) for d in outputs}
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"{self._name} failed in LiteRT: {first_line(error)}") from error

    def _interpreter(self) -> Any:
        if not hasattr(self._local, "interpreter"):
            self._local.interpreter = self._opened()
        return self._local.interpreter

    def _opened(self) -> Any:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise DeviceError(
                f"{self._name} is a TFLite file; ai-edge-litert, which runs it, cannot be loaded: "
                f"{error}",
                hint=install("tflite"),
            ) from error
        try:
            with silenced():  # it announces its delegate
                interpreter = Interpreter(
                    model_content=self._data,
                    num_threads=self._threads,
                    experimental_delegates=self._delegates or None,
                )
                interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ArtifactError(
                f"{self._name}: LiteRT cannot load it: {first_line(error)}",
                hint="copy or convert it again; it may be damaged, or made for a newer LiteRT",
            ) from error
        return interpreter


def _detail(detail: dict[str, Any]) -> Detail:
    quantized = detail["quantization_parameters"]
    return Detail(
        detail["name"],
        tuple(int(side) for side in detail["shape_signature"]),
        np.dtype(detail["dtype"]),
        tuple(map(float, quantized["scales"])),
        tuple(map(int, quantized["zero_points"])),
        int(quantized["quantized_dimension"]),
    )
