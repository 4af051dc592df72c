"""Interpreter: a model file, tensors in and tensors out, by the methods of the TFLite interpreter.

Source of names and behaviour: `ai_edge_litert.interpreter.Interpreter`. It opens .tod (a trained
model: pixels to probabilities), .onnx and .tflite. Knows no pictures and no training.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tod.errors import UsageError
from tod.runtime.delegates.runner import Detail, Runner
from tod.runtime.delegates.table import Choice, names_in, open_runner
from tod.runtime.read_model import read_model
from tod.system.machine import available_cores

_SIGNATURE = "serving_default"


class Interpreter:
    """Run a model, as `tf.lite.Interpreter` does.

    Args:
        model_path: a .tod, .onnx or .tflite file.
        model_content: its bytes instead, of .onnx or .tflite.
        experimental_delegates: TFLite's name for `delegates`.
        num_threads: for one run; by default, and with -1, one for each core.
        delegates: names of `tod.runtime.delegates.table`, in the order in which they are tried,
            also as one text with commas between; or what
            `ai_edge_litert.interpreter.load_delegate` gives.
        require_signature: a file with a public key; a .tod file that its holder has not signed is
            refused.

    Raises:
        ArtifactError: the file is missing, damaged or no model.
        DeviceError: a delegate is not installed, or cannot run the model.
        UsageError: a .tod file that is not trained yet.
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str] | None = None,
        model_content: bytes | None = None,
        experimental_delegates: str | Sequence[object] | None = None,
        num_threads: int | None = None,
        *,
        delegates: str | Sequence[object] = (),
        require_signature: str | Path | None = None,
    ) -> None:
        if (model_path is None) == (model_content is None):
            raise UsageError("wanted one of model_path and model_content")
        if num_threads is not None and num_threads < 1 and num_threads != -1:
            raise UsageError(f"num_threads is {num_threads}, at least 1 is wanted, or -1 for all")
        threads = available_cores() if num_threads in (None, -1) else num_threads
        graph = read_model(model_path, model_content, require_signature=require_signature)
        wanted = [*_each(delegates), *_each(experimental_delegates or ())]
        names = tuple(name for name in wanted if isinstance(name, str))
        others = [other for other in wanted if not isinstance(other, str)]
        self._runner: Runner = open_runner(
            graph, Choice(names), threads=int(threads or 1), others=others
        )
        self._details = (*self._runner.inputs, *self._runner.outputs)
        self._inputs = len(self._runner.inputs)
        self._shapes = [_closed(detail.shape) for detail in self._details]
        self._values: dict[int, NDArray[Any]] = {}
        self._allocated = False

    def allocate_tensors(self) -> None:
        """Prepare for the shapes of the inputs; again after `resize_tensor_input`."""
        self._values = {
            index: value
            for index, value in self._values.items()
            if index < self._inputs and value.shape == self._shapes[index]
        }
        self._allocated = True

    def get_input_details(self) -> list[dict[str, Any]]:
        """One dict for each input: name, index, shape, shape_signature (-1 for an open side),
        dtype, quantization, quantization_parameters, sparsity_parameters."""
        return [self._told(index) for index in range(self._inputs)]

    def get_output_details(self) -> list[dict[str, Any]]:
        """The same for each output; an open side has its true length after `invoke`."""
        return [self._told(index) for index in range(self._inputs, len(self._details))]

    def get_tensor_details(self) -> list[dict[str, Any]]:
        """The details of inputs and outputs; what lies between them is not kept."""
        return [*self.get_input_details(), *self.get_output_details()]

    def resize_tensor_input(
        self, input_index: int, tensor_size: Sequence[int], strict: bool = False
    ) -> None:
        """Give an input another shape; `allocate_tensors` is due after it.

        Args:
            input_index: of the input.
            tensor_size: the shape. Only a side that the model leaves open can change.
            strict: accepted as in TFLite; it is always strict here.
        """
        detail = self._input(input_index)
        shape = tuple(int(side) for side in tensor_size)
        if not _fits(shape, detail.shape):
            raise UsageError(
                f"input {input_index} ({detail.name}) cannot have the shape {list(shape)}, its "
                f"sides are {list(detail.shape)}",
                hint="only a side that is -1 can change",
            )
        self._shapes[input_index] = shape
        self._allocated = False

    def set_tensor(self, tensor_index: int, value: ArrayLike) -> None:
        """Give an input its numbers.

        Args:
            tensor_index: of the input.
            value: of the shape and dtype of the input. A quantized input also takes float32: real
                numbers, which are divided by the scale, rounded and kept in range.

        Raises:
            UsageError: another shape or dtype, or `allocate_tensors` is due.
        """
        detail = self._input(tensor_index)
        self._check_allocated()
        array = np.asarray(value)
        if detail.scales and array.dtype == np.float32:
            array = quantize(array, detail)
        wanted = self._shapes[tensor_index]
        if array.dtype != detail.dtype or array.shape != wanted:
            raise UsageError(
                f"input {tensor_index} ({detail.name}): wanted {detail.dtype} {list(wanted)}, "
                f"found {array.dtype} {list(array.shape)}",
                hint="resize_tensor_input and allocate_tensors change the number of rows"
                if array.dtype == detail.dtype
                else f"convert it, for instance with numpy.asarray(value, numpy.{detail.dtype})",
            )
        self._values[tensor_index] = array.copy()

    def invoke(self) -> None:
        """Run the model.

        Raises:
            UsageError: an input was not set.
            DeviceError: the delegate cannot compute it.
        """
        self._check_allocated()
        missing = [d.name for i, d in enumerate(self._runner.inputs) if i not in self._values]
        if missing:
            raise UsageError(f"no numbers for {', '.join(missing)}", hint="call set_tensor first")
        feeds = {d.name: self._values[i] for i, d in enumerate(self._runner.inputs)}
        found = self._runner.run(feeds)
        for index in range(self._inputs, len(self._details)):
            self._values[index] = found[self._details[index].name]
            self._shapes[index] = self._values[index].shape

    def get_tensor(self, tensor_index: int, subgraph_index: int = 0) -> NDArray[Any]:
        """A copy of the numbers of an output after `invoke`, or of an input."""
        detail = self._detail(tensor_index)
        if tensor_index not in self._values:
            first = "invoke" if tensor_index >= self._inputs else "set_tensor"
            raise UsageError(f"{detail.name} has no numbers yet", hint=f"call {first}() first")
        return self._values[tensor_index].copy()

    def reset_all_variables(self) -> None:
        """Nothing: these models keep no state between runs."""

    def get_signature_list(self) -> dict[str, dict[str, list[str]]]:
        """The one signature, with the names of inputs and outputs."""
        return {
            _SIGNATURE: {
                "inputs": [detail.name for detail in self._runner.inputs],
                "outputs": [detail.name for detail in self._runner.outputs],
            }
        }

    def get_signature_runner(self, signature_key: str | None = None) -> SignatureRunner:
        """A function from inputs by name to outputs by name."""
        if signature_key not in (None, _SIGNATURE):
            raise UsageError(
                f"signature {signature_key!r} does not exist", hint=f"here is {_SIGNATURE!r}"
            )
        return SignatureRunner(self)

    def _input(self, index: int) -> Detail:
        if not 0 <= index < self._inputs:
            known = ", ".join(f"{i} ({d.name})" for i, d in enumerate(self._runner.inputs))
            raise UsageError(f"{index} is no input", hint=f"the inputs are {known}")
        return self._details[index]

    def _detail(self, index: int) -> Detail:
        if not 0 <= index < len(self._details):
            known = ", ".join(f"{i} ({d.name})" for i, d in enumerate(self._details))
            raise UsageError(f"there is no tensor {index}", hint=f"here are {known}")
        return self._details[index]

    def _check_allocated(self) -> None:
        if not self._allocated:
            raise UsageError("the tensors are not allocated", hint="call allocate_tensors() first")

    def _told(self, index: int) -> dict[str, Any]:
        detail = self._details[index]
        # One scale stands for the whole tensor; of several, TFLite's old field says nothing.
        whole = len(detail.scales) == 1
        return {
            "name": detail.name,
            "index": index,
            "shape": np.array(self._shapes[index], np.int32),
            "shape_signature": np.array(detail.shape, np.int32),
            "dtype": detail.dtype.type,
            "quantization": (detail.scales[0], detail.zero_points[0]) if whole else (0.0, 0),
            "quantization_parameters": {
                "scales": np.array(detail.scales, np.float32),
                "zero_points": np.array(detail.zero_points, np.int32),
                "quantized_dimension": detail.axis,
            },
            "sparsity_parameters": {},
        }


class SignatureRunner:
    """A model as a function: `runner(pixels=array)` gives the outputs by name."""

    def __init__(self, interpreter: Interpreter) -> None:
        self._interpreter = interpreter

    def get_input_details(self) -> dict[str, dict[str, Any]]:
        return {d["name"]: d for d in self._interpreter.get_input_details()}

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        return {d["name"]: d for d in self._interpreter.get_output_details()}

    def __call__(self, **inputs: ArrayLike) -> dict[str, NDArray[Any]]:
        interpreter, details = self._interpreter, self.get_input_details()
        if inputs.keys() != details.keys():
            raise UsageError(
                f"wanted the inputs {', '.join(details)}, found {', '.join(inputs) or 'none'}"
            )
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        for name, array in arrays.items():
            interpreter.resize_tensor_input(details[name]["index"], array.shape)
        interpreter.allocate_tensors()
        for name, array in arrays.items():
            interpreter.set_tensor(details[name]["index"], array)
        interpreter.invoke()
        outputs = self.get_output_details()
        return {name: interpreter.get_tensor(d["index"]) for name, d in outputs.items()}


def quantize(values: NDArray[np.float32], detail: Detail) -> NDArray[Any]:
    """Real numbers -> those of a quantized tensor: value / scale + zero point, rounded half away
    from zero as TFLite does (`std::round`), and kept in the range of its dtype.

    What is not finite goes to the end of the range; not a number becomes the zero point.

    Args:
        values: of the shape of the tensor.
        detail: with one scale, or one for each index of `axis`.
    """
    shape = [1] * values.ndim
    shape[detail.axis] = -1
    scales = np.array(detail.scales, np.float64)
    zeros = np.array(detail.zero_points, np.float64)
    if len(scales) > 1:
        scales, zeros = scales.reshape(shape), zeros.reshape(shape)
    real = np.nan_to_num(values).astype(np.float64)  # infinity becomes the largest float32
    steps = real / scales
    number = np.copysign(np.floor(np.abs(steps) + 0.5), steps) + zeros
    limits = np.iinfo(detail.dtype)
    return np.clip(number, limits.min, limits.max).astype(detail.dtype)


def _each(delegates: str | Sequence[object]) -> Sequence[object]:
    return names_in(delegates) if isinstance(delegates, str) else delegates


def _closed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(1 if side < 0 else side for side in shape)


def _fits(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    return (
        len(shape) == len(wanted)
        and all(found == side or side < 0 for found, side in zip(shape, wanted, strict=True))
        and min(shape, default=1) > 0
    )
