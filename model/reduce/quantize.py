"""Quantize a frozen graph. The only user of onnxruntime's quantizer.

int8: static, as pairs of QuantizeLinear and DequantizeLinear (QDQ) that every onnxruntime turns
into integer kernels; activations uint8 with a range for each tensor, weights int8 with a scale for
each output channel. Other choices of signed and unsigned types are slower than float32 on x86-64.

Weights of dense layers use 7 bits, weights of depthwise convolutions 8. Processors of the x86
family without VNNI (before 2019, and many small ones since) add two products of uint8 and int8 in
16 bits: 255 * 127 * 2 does not fit, 255 * 64 * 2 does. With 8 bits everywhere, the cosine of the
features of EfficientNet-Lite0 to float32's is 0.99 with VNNI and 0.85 without; with 7 it is 0.98,
and every number is the same on both. Depthwise kernels add in 32 bits. See docs/performance.md for
the measurements.

float16: constants in half precision, arithmetic in float32.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from model.lowering import lowering
from model.reduce.pixel_input import PixelInput, drop_unused, fold, keep, splice

_LAYERS = ("Conv", "Gemm", "MatMul")
# These become part of the layer before them when its output is quantized: the quantized range ends
# where they clip.
_ACTIVATIONS = ("Clip", "Relu")
_BATCH = 8
# For smaller constants, the extra node that casts them to float32 is not worth it.
_LEAST_ELEMENTS = 64
Ranges = Any  # onnxruntime's TensorsData: lowest and highest number of each tensor


def layers(model: onnx.ModelProto) -> dict[str, str]:
    """Find the layers that can be quantized: nodes that multiply by a constant, a kernel or a
    matrix. onnxruntime has no integer product of several matrices with a scale for each column.

    Returns:
        Name of the node -> description for users: its position, its kind, its weight's shape.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    found: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type not in _LAYERS:
            continue
        axes = len(shapes.get(node.input[1], ()))
        if axes == 2 or (axes > 2 and node.op_type == "Conv"):
            shape = " x ".join(map(str, shapes[node.input[1]]))
            found[node.name] = f"{len(found) + 1}: {node.op_type} {shape}"
    return found


def ranges(model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> Ranges:
    """Measure the range of every tensor: the mean of its least and largest numbers over batches of
    8.

    A single picture with extreme numbers widens it little, for any number of pictures. It is the
    cheapest of the quantizer's methods, and no other was better (docs/performance.md).

    Args:
        model: float32.
        pixels: uint8 [N, S, S, 3].
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        file = Path(folder, "model.onnx")
        file.write_bytes(model.SerializeToString())
        calibrator = create_calibrator(
            file,
            [*_LAYERS, *_ACTIVATIONS],
            augmented_model_path=str(Path(folder, "augmented.onnx")),
            extra_options={"moving_average": True},
        )
        # Use one call: with several calls, onnxruntime gives the first batch 99 % of the weight.
        calibrator.collect_data(_Batches(model.graph.input[0].name, pixels))
        return calibrator.compute_data()


class _Batches(CalibrationDataReader):
    """Gives samples to the quantizer in batches."""

    def __init__(self, name: str, pixels: NDArray[Any]) -> None:
        self._name = name
        self._batches: Iterator[NDArray[Any]] = (
            pixels[i : i + _BATCH] for i in range(0, len(pixels), _BATCH)
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def int8(
    model: onnx.ModelProto,
    found: Ranges,
    *,
    float_layers: Collection[str] = (),
    pixels: PixelInput | None = None,
) -> onnx.ModelProto:
    """Quantize all layers except `float_layers` to int8.

    Args:
        model: float32.
        found: see `ranges`.
        float_layers: names of nodes.
        pixels: how the first convolution takes pixels; None leaves the normalisation in float32,
            and so does a first convolution in float32.
    """
    chosen = [name for name in layers(model) if name not in float_layers]
    overrides = _full_range(model, chosen)
    if pixels is not None and pixels.layer not in chosen:
        pixels = None
    if pixels is not None:
        model = fold(model, pixels)
        number = {"scale": np.array(pixels.scale), "zero_point": np.array(pixels.zero_point)}
        overrides[pixels.tensor] = [{"quant_type": QuantType.QUInt8, **number}]
    activations = [node.name for node in model.graph.node if node.op_type in _ACTIVATIONS]
    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(model),
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=found,
        nodes_to_quantize=[*chosen, *activations],
        nodes_to_exclude=[],
        op_types_to_quantize=[*_LAYERS, *_ACTIVATIONS],
        extra_options={"TensorQuantOverrides": overrides},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantized = quantizer.model.model
    if pixels is not None:
        splice(quantized, pixels)
    _keep_in_float(quantized, float_layers)
    _drop_zero_points(quantized)
    return _tidy(quantized, model)


def _full_range(model: onnx.ModelProto, chosen: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Make overrides that give the weights of depthwise convolutions all 8 bits."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    full = {"axis": 0, "quant_type": QuantType.QInt8, "symmetric": True, "reduce_range": False}
    overrides = {}
    for node in model.graph.node:
        if node.name in chosen and node.op_type == "Conv":
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            if groups > 1 and shapes[node.input[1]][:2] == (groups, 1):
                overrides[node.input[1]] = [full]
    return overrides


def _keep_in_float(model: onnx.ModelProto, float_layers: Collection[str]) -> None:
    """Stop onnxruntime from quantizing the float layers.

    Its optimizer (WeightBiasQuantization in newer versions) quantizes the weights of any
    convolution between a DequantizeLinear and a QuantizeLinear. It uses one scale for all channels,
    which is worse than the quantization that was avoided here. A Clip before the layer, at the ends
    of the quantized range, changes no number and hides this pattern.
    """
    makers = {node.output[0]: node for node in model.graph.node}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        maker = makers.get(node.input[0]) if node.input else None
        if node.name in float_layers and maker and maker.op_type == "DequantizeLinear":
            scale, zero_point = (
                numpy_helper.to_array(constants[n]).item() for n in maker.input[1:]
            )
            ends = [f"{node.name}/least", f"{node.name}/largest"]
            for name, end in zip(ends, (0 - zero_point, 255 - zero_point), strict=True):
                value = np.array(np.float32(scale) * np.float32(end))
                model.graph.initializer.append(numpy_helper.from_array(value, name))
            shielded = f"{node.name}/input"
            nodes.append(onnx.helper.make_node("Clip", [node.input[0], *ends], [shielded]))
            node.input[0] = shielded
        nodes.append(node)
    keep(model.graph.node, nodes)


def _drop_zero_points(model: onnx.ModelProto) -> None:
    """Remove the zero points of biases: they are all zero, which is the default, but take as many
    numbers as the biases."""
    biases = {t.name for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT32}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in biases:
            node.input[:] = node.input[:2]
    drop_unused(model)


def float16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store large constants in half precision, each followed by a Cast to float32.

    onnxruntime casts them once, when it loads the graph, so the arithmetic and its speed do not
    change. A constant outside half precision's range (65504) stays as it is.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    casts = []
    for tensor in half.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _LEAST_ELEMENTS:
            continue
        if np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = f"{tensor.name}/half"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name))
        target = name.removesuffix("/half")
        casts.append(onnx.helper.make_node("Cast", [name], [target], to=onnx.TensorProto.FLOAT))
    keep(half.graph.node, [*casts, *half.graph.node])
    return _tidy(half, model)


def _tidy(reduced: onnx.ModelProto, model: onnx.ModelProto) -> onnx.ModelProto:
    """A value that the graph had in float32 keeps its name; only what was added gets a new one."""
    kept = {name for node in model.graph.node for name in node.output}
    kept |= {tensor.name for tensor in model.graph.initializer}
    return lowering.tidy(reduced, [model.graph.input[0].name], ["features"], "features", kept=kept)
