"""Run a converted file on one picture at a time, in one thread.

Knows the runtimes of the formats, and nothing of classes. Axes: S side in pixels, C answers.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tod.errors import DeviceError, first_line
from tod.runtime.engine import Engine

Format = Literal["onnx", "ort", "tflite", "torch"]
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

    def run(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        (answers,) = engine.run("inference.onnx", {"pixels": picture}).values()
        return answers

    return run


def _tflite(data: bytes) -> Runner:
    from ai_edge_litert.interpreter import Interpreter

    try:
        with _quiet():
            interpreter = Interpreter(model_content=data, num_threads=1)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise DeviceError(f"the TFLite runtime refuses the file: {first_line(error)}") from error
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def run(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        interpreter.set_tensor(source, picture)
        interpreter.invoke()
        answers: NDArray[np.float32] = interpreter.get_tensor(result)
        return answers

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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep a library's remarks on its own loading from the terminal; no setting does."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
