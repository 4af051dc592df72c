"""Run a converted file on one picture at a time, in one thread.

Knows the runtimes of the formats, and nothing of classes. Axes: S side in pixels, C answers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tod.runtime.delegates.litert import LiteRtRunner
from tod.runtime.engine import Engine

Format = Literal["onnx", "ort", "tflite", "torch", "nntrainer"]
Runner = Callable[[NDArray[np.uint8]], NDArray[np.float32]]  # [1, S, S, 3] -> [1, C]


def open_file(kind: Format, data: bytes) -> Runner:
    """What answers for a picture with a converted file.

    Args:
        kind: its format.
        data: its bytes; for "torch" those of the module's source, a zero byte, and the weights.

    Raises:
        DeviceError: its runtime refuses it.
    """
    return {"onnx": _onnx, "ort": _onnx, "tflite": _tflite, "torch": _torch}[kind](data)


def _onnx(data: bytes) -> Runner:
    engine = Engine({"inference.onnx": data})
    name = engine.input_names("inference.onnx")[0]

    def run(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        (answers,) = engine.run("inference.onnx", {name: picture}).values()
        return answers

    return run


def _tflite(data: bytes) -> Runner:
    runner = LiteRtRunner(data, "the file", threads=1)
    (source,), (result,) = runner.inputs, runner.outputs

    def run(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        return runner.run({source.name: picture})[result.name]

    return run


def _torch(data: bytes) -> Runner:
    import torch

    from model.convert import to_torch

    network = to_torch.load(data)

    def run(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                answers: NDArray[np.float32] = network(torch.from_numpy(picture)).numpy()
        finally:
            torch.set_num_threads(threads)
        return answers

    return run
