"""A TFLite graph in LiteRT. The only user of ai-edge-litert, which is optional."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.errors import ArtifactError, DeviceError, first_line
from tod.format.arrays import Arrays
from tod.format.layers import Layer, Layers, depending
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
        keep: every value that an operator makes is an output.

    Raises:
        DeviceError: ai-edge-litert is not installed.
        ArtifactError: it is no TFLite file, or a damaged one.
    """

    def __init__(
        self,
        data: bytes,
        name: str,
        threads: int,
        delegates: Sequence[object] = (),
        *,
        keep: bool = False,
    ) -> None:
        self._data, self._name, self._threads, self._keep = data, name, threads, keep
        self._delegates = list(delegates)
        self._local = threading.local()
        interpreter = self._interpreter()
        self.library = f"ai-edge-litert {metadata.version('ai-edge-litert')}"
        self.inputs = tuple(map(_detail, interpreter.get_input_details()))
        self.outputs = tuple(map(_detail, self._results(interpreter)))

    @property
    def layers(self) -> Layers:
        """The operators of the file."""
        interpreter = self._interpreter()
        names = {d["index"]: d["name"] for d in interpreter.get_tensor_details()}
        made = [
            Layer(
                names[o["outputs"][0]],  # TFLite's operators have no names of their own
                o["op_name"],
                tuple(names[i] for i in o["inputs"] if i in names),
                names[o["outputs"][0]],
            )
            for o in _operators(interpreter)
        ]
        return depending([detail.name for detail in self.inputs], made)

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
            outputs = self._results(interpreter)
            return {d["name"]: interpreter.get_tensor(d["index"]) for d in outputs}
        except (RuntimeError, ValueError) as error:
            raise DeviceError(f"{self._name} failed in LiteRT: {first_line(error)}") from error

    def _results(self, interpreter: Any) -> list[dict[str, Any]]:
        if not self._keep:
            return list(interpreter.get_output_details())
        made = {index for o in _operators(interpreter) for index in o["outputs"]}
        return [d for d in interpreter.get_tensor_details() if d["index"] in made]

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
            # It announces its delegate, and that values which are kept take memory.
            with silenced(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                interpreter = Interpreter(
                    model_content=self._data,
                    num_threads=self._threads,
                    experimental_delegates=self._delegates or None,
                    experimental_preserve_all_tensors=self._keep,
                )
                interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ArtifactError(
                f"{self._name}: LiteRT cannot load it: {first_line(error)}",
                hint="copy or convert it again; it may be damaged, or made for a newer LiteRT",
            ) from error
        return interpreter


def _operators(interpreter: Any) -> list[dict[str, Any]]:
    """Those of the file, without the delegate's that stand for them."""
    return [o for o in interpreter._get_ops_details() if o["op_name"] != "DELEGATE"]


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
