"""A TFLite file in fewer bits. The only user of ai-edge-quantizer.

dynamic: int8 weights, activations rounded as they come. weights: int8 weights, arithmetic in float.
int8: both, with ranges that pictures gave.
float16: weights in half precision. Input and output stay what they are: pixels, and float32.
"""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from collections.abc import Collection, Iterator
from typing import Any, Literal

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import qtyping, quantizer
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from numpy.typing import NDArray

from model.convert import tflite_file

Kind = Literal["dynamic", "weights", "int8", "float16"]
Ranges = dict[str, dict[str, NDArray[np.float32]]]  # name of a tensor -> {"min", "max"}
_EVERY = qtyping.TFLOperationName.ALL_SUPPORTED
# Probabilities in steps of 1/256 would lose all that are smaller.
_IN_FLOAT = (
    qtyping.TFLOperationName.INPUT,
    qtyping.TFLOperationName.OUTPUT,
    qtyping.TFLOperationName.SOFTMAX,
    qtyping.TFLOperationName.LOGISTIC,
)
# As TensorFlow's own dynamic quantization has it: smaller weights are not worth it.
_LEAST_ELEMENTS = 1024
_BATCH = 8
_LIVE = 1e-4  # of the largest weight
_WITH_WEIGHTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def layers(data: bytes) -> dict[str, str]:
    """The operators with weights of their own.

    Args:
        data: a file in float32.

    Returns:
        Name of the output -> what a person is told of it: its place, its kind, its weight's shape.
    """
    model = tflite_file.unpack(data)
    graph = model.subgraphs[0]
    found: dict[str, str] = {}
    for operator, kind in _operators(model):
        if kind in _WITH_WEIGHTS:
            weight = graph.tensors[operator.inputs[1]]
            shape = " x ".join(map(str, weight.shape))
            name = _text(graph.tensors[operator.outputs[0]].name)
            found[name] = f"{len(found) + 1}: {kind} {shape}"
    return found


def ranges(data: bytes, pixels: NDArray[np.uint8]) -> Ranges:
    """The range of every tensor: the mean over batches of 8 of its least and largest numbers.

    A single picture with extreme numbers widens it little; as `tod export --quantize` has it. The
    quantizer's own way, a moving average that begins with the first picture's range, gives the
    last twenty pictures all the weight.

    Args:
        data: a file in float32.
        pixels: uint8 [N, S, S, 3].
    """
    with _without_advice():
        runner = Interpreter(model_content=data, experimental_preserve_all_tensors=True)
    runner.allocate_tensors()
    place = runner.get_input_details()[0]["index"]
    tensors = tflite_file.unpack(data).subgraphs[0].tensors
    computed = {
        _text(tensor.name): index
        for index, tensor in enumerate(tensors)
        if tensor.buffer == 0 and tensor.type == tflite_file.schema.TensorType.FLOAT32
    }
    ranks = {name: len(tensors[index].shape) for name, index in computed.items()}
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in computed}
    for batch in _batches(pixels):
        ends = dict.fromkeys(computed, (np.inf, -np.inf))
        for picture in batch:
            runner.set_tensor(place, picture[None])
            runner.invoke()
            for name, index in computed.items():
                values = runner.get_tensor(index)
                low, high = ends[name]
                ends[name] = (min(low, float(values.min())), max(high, float(values.max())))
        for name, pair in ends.items():
            seen[name].append(pair)
    found = {name: np.array(pairs).mean(axis=0).tolist() for name, pairs in seen.items()}
    return {
        name: {
            end: np.full((1,) * ranks[name], number, np.float32)
            for end, number in zip(("min", "max"), pair, strict=True)
        }
        for name, pair in found.items()
    }


def _batches(pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    return (pixels[i : i + _BATCH] for i in range(0, len(pixels), _BATCH))


def quantized(
    data: bytes, kind: Kind, *, found: Ranges | None = None, float_layers: Collection[str] = ()
) -> bytes:
    """The file in fewer bits.

    Args:
        data: in float32.
        kind: what to make of it.
        found: see `ranges`; for int8.
        float_layers: names of layers that stay as they are, see `layers`.
    """
    made = quantizer.Quantizer(bytearray(_with_live_channels(data)))
    weights = qtyping.TensorQuantizationConfig(
        num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
    )
    if kind == "float16":
        half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        config = qtyping.OpQuantizationConfig(weight_tensor_config=half, explicit_dequantize=True)
        made.update_quantization_recipe(".*", _EVERY, config, AlgorithmName.FLOAT_CASTING)
    elif kind in ("dynamic", "weights"):
        in_float = kind == "weights"
        precision = qtyping.ComputePrecision
        config = qtyping.OpQuantizationConfig(
            weight_tensor_config=weights,
            compute_precision=precision.FLOAT if in_float else precision.INTEGER,
            explicit_dequantize=in_float,
            min_weight_elements=_LEAST_ELEMENTS,
        )
        made.update_quantization_recipe(".*", _EVERY, config)
    else:
        made.add_static_config(".*", _EVERY, activation_num_bits=8, weight_num_bits=8)
        for place in _IN_FLOAT:
            made.update_quantization_recipe(".*", place, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for name in float_layers:
        made.update_quantization_recipe(
            f"^{re.escape(name)};?$", _EVERY, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    with _without_advice():
        result = made.quantize(found, enable_progress_report=False, enable_progress_bar=False)
    return bytes(result.quantized_model or b"")


def _with_live_channels(data: bytes) -> bytes:
    """The file with a very small weight in each channel that has none but zeros.

    The quantizer divides by the largest weight of a channel. Without any its bias becomes what this
    processor makes of 0/0.
    """
    model = tflite_file.unpack(data)
    graph = model.subgraphs[0]
    changed = False
    for operator, kind in _operators(model):
        if kind not in _WITH_WEIGHTS:
            continue
        tensor = graph.tensors[operator.inputs[1]]
        if tensor.buffer == 0 or not model.buffers[tensor.buffer].data:
            continue
        weight = np.frombuffer(model.buffers[tensor.buffer].data, np.float32).copy()
        channels = weight.reshape(tuple(tensor.shape))
        axis = channels.ndim - 1 if kind == "DEPTHWISE_CONV_2D" else 0
        rows = np.moveaxis(channels, axis, 0).reshape(channels.shape[axis], -1)
        dead = np.flatnonzero(~rows.any(axis=1))
        if len(dead):
            first = [0] * channels.ndim
            for channel in dead:
                first[axis] = int(channel)
                channels[tuple(first)] = _LIVE * max(float(np.abs(weight).max()), 1.0)
            model.buffers[tensor.buffer] = tflite_file.buffer(channels.tobytes())
            changed = True
    return tflite_file.pack(model) if changed else data


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Without a bar that no setting turns off, and a warning of the memory that this takes."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _operators(model: Any) -> Iterator[tuple[Any, str]]:
    """Operators with the names of their kinds."""
    names = {
        number: name
        for name, number in vars(tflite_file.schema.BuiltinOperator).items()
        if not name.startswith("_")
    }
    for operator in model.subgraphs[0].operators:
        yield operator, names[model.operatorCodes[operator.opcodeIndex].builtinCode]


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name
