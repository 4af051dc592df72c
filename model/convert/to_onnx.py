"""An inference graph as one ONNX file with fewer bits, or in onnxruntime's own format.

Beside model/reduce/quantize.py and tod/runtime/engine.py the only user of onnxruntime.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from model.convert import static_graph
from model.convert.fewer_bits import Search, quantized
from model.reduce import pixel_input
from tod.errors import DeviceError, first_line
from tod.format.manifest import InputSpec, SampleSpec

_DENSE = ("Gemm", "MatMul")
_INNER = "features/inner"  # what `features` is called while the answers have its name


def dynamic(data: bytes, search: Search) -> tuple[bytes, tuple[str, ...]]:
    """int8 weights of dense layers, whose input is rounded as it comes; convolutions stay in float.

    onnxruntime has kernels for convolutions of this kind, but they are slower than float32.

    Returns:
        The file, and the layers that it keeps in float.
    """
    from model.reduce import quantize

    model = static_graph.folded(data)
    dense = {name: text for name, text in quantize.layers(model).items() if ": Conv " not in text}
    products = [node.name for node in model.graph.node if node.op_type in _DENSE]

    def make(kept: Collection[str]) -> bytes:
        left = [name for name in products if name not in dense or name in kept]
        # onnxruntime splits each Gemm first, and gives the product this name.
        left += [f"{name}_MatMul" for name in left]
        with tempfile.TemporaryDirectory() as folder, _silent():
            before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
            before.write_bytes(model.SerializeToString())
            quantize_dynamic(
                before, after, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8,
                op_types_to_quantize=list(_DENSE), nodes_to_exclude=left,
                extra_options={"MatMulConstBOnly": True},
            )  # fmt: skip
            return after.read_bytes()

    return quantized(search, dense, make)


def int8(data: bytes, spec: SampleSpec, search: Search) -> tuple[bytes, tuple[str, ...]]:
    """Weights and activations in int8, as `tod export --quantize int8` has them.

    Returns:
        The file, and the layers that it keeps in float.
    """
    from model.reduce import quantize

    whole = static_graph.folded(data)
    model = _as_features(whole)
    ranges = quantize.ranges(model, search.pictures.pixels[: search.pictures.calibrating])
    pixels = pixel_input.find(model, spec) if isinstance(spec, InputSpec) else None

    def make(kept: Collection[str]) -> bytes:
        return _with_end(quantize.int8(model, ranges, float_layers=kept, pixels=pixels), whole)

    return quantized(search, quantize.layers(model), make)


def float16(data: bytes) -> bytes:
    """Weights in half precision, arithmetic in float32."""
    from model.reduce import quantize

    whole = static_graph.folded(data)
    return _with_end(quantize.float16(_as_features(whole)), whole)


def ort(data: bytes, *, fold: bool = True) -> bytes:
    """onnxruntime's own format, which the mobile builds without ONNX read.

    Optimized as far as holds on every processor: no layout of one kind of them.

    Args:
        data: ONNX.
        fold: compute what depends on constants alone; weights in half precision would become
            float32 by that.

    Raises:
        DeviceError: onnxruntime here cannot write it.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.ort")
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(file)
        options.add_session_config_entry("session.save_model_format", "ORT")
        options.log_severity_level = 4
        try:
            onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"],
                disabled_optimizers=[] if fold else ["ConstantFolding"],
            )  # fmt: skip
            return file.read_bytes()
        except Exception as error:  # onnxruntime's errors share no base class but this
            raise DeviceError(
                f"onnxruntime {onnxruntime.__version__} cannot write its own format: "
                f"{first_line(error)}",
                hint="take --to onnx, or a complete build of onnxruntime",
            ) from error


def _as_features(whole: onnx.ModelProto) -> onnx.ModelProto:
    """The graph up to its last activation, under the name that the quantizer of the frozen part
    knows an output by."""
    model = onnx.ModelProto()
    model.CopyFrom(whole)
    _rename(model, {"features": _INNER, model.graph.node[-1].input[0]: "features"})
    del model.graph.node[-1]
    model.graph.output[0].name = "features"
    return model


def _with_end(model: onnx.ModelProto, whole: onnx.ModelProto) -> bytes:
    """Put back the last activation, the names, and what the file says about itself."""
    last = whole.graph.node[-1]
    _rename(model, {"features": last.input[0], _INNER: "features"})
    model.graph.node.add().CopyFrom(last)
    model.graph.output[0].CopyFrom(whole.graph.output[0])
    del model.metadata_props[:]
    model.metadata_props.extend(whole.metadata_props)
    return bytes(model.SerializeToString(deterministic=True))


def _rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Give values other names, all at once."""
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """onnxruntime's advice to prepare the model first, which does not fit here."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
