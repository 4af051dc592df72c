"""Which layer loses it: every layer of a model beside the same layer of a converted one.

Values are found by their names: conversions here, and onnxruntime's own quantizer, keep those of
the original. A value that is rounded to integers is taken after the rounding. Knows no classes.
Axes: S side in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tod.errors import UsageError
from tod.format import layers as onnx_layers
from tod.format.layers import Layer, Layers
from tod.format.manifest import SampleSpec
from tod.runtime.delegates.litert import LiteRtRunner
from tod.runtime.delegates.runner import Detail, Graph
from tod.runtime.delegates.table import DEFAULT, Choice, open_runner
from tod.runtime.model import Model
from tod.runtime.predictor import input_spec
from tod.runtime.read_model import is_tod, read_model
from tod.system import file_kind

# ONNX's and TFLite's operators that multiply by weights, with those of integers.
_WEIGHTED = frozenset({
    "Conv", "ConvTranspose", "Gemm", "MatMul",
    "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul",
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL",
})  # fmt: skip
# They compute nothing, and say nothing about where an error comes from.
_MOVES = frozenset({
    "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Gather", "Cast",
    "QuantizeLinear", "DequantizeLinear",
    "TRANSPOSE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "GATHER", "CAST", "QUANTIZE", "DEQUANTIZE",
})  # fmt: skip


@dataclass(frozen=True)
class LayerError:
    """How far a layer's values are from the original's, over all pictures.

    Attributes:
        layer: the original's node; the one with weights, where the other model joins several.
        operators: what the original computes since the layers before.
        value: the name of what it makes, in both models.
        error: root mean square of the difference, as a share of that of the original.
        cosine: of all the values together.
        before: the largest error among the layers that it takes its values from.
    """

    layer: str
    operators: tuple[str, ...]
    value: str
    error: float
    cosine: float
    before: float

    @property
    def growth(self) -> float:
        """The error that comes from this layer and not from those before it."""
        return self.error - self.before if np.isfinite(self.before) else 0.0


def open_graph(path: Path, require_signature: Path | None = None) -> tuple[Graph, SampleSpec]:
    """A model file, and which samples it takes; the frozen part alone while its classes are open.

    Raises:
        ArtifactError: it cannot be read, or does not say which samples it takes.
        UsageError: its format shows no values between its layers.
    """
    if is_tod(path):
        model = Model.load(path, threads=1, cache=False, require_signature=require_signature)
        whole = model.classes is not None
        data = model.inference_graph() if whole else model.artifact.graphs["features.onnx"]
        return Graph(data, str(path)), model.manifest.samples
    graph = read_model(path, require_signature=require_signature)
    kind = file_kind.of_bytes(graph.data[: file_kind.START_BYTES])
    if kind is not None and " ORT " in kind.name:
        raise UsageError(
            f"{path}: an ORT file does not show the values between its layers",
            hint="compare the .onnx file: tod convert --to onnx makes it with the same numbers",
        )
    return graph, input_spec(graph.metadata, path)


def layer_errors(
    reference: Graph,
    other: Graph,
    pictures: Sequence[NDArray[np.uint8]],
    *,
    engine: Choice = DEFAULT,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[LayerError]:
    """Run two models on the same pictures, and compare every layer that both have.

    Args:
        reference: the original, in float32.
        other: made from it, in fewer bits or in another format.
        pictures: uint8 [S, S, 3] each.
        engine: who computes both.
        threads: for one run.
        progress: called with the pictures done and to do.

    Returns:
        The layers from the one that adds most error to the one that adds least.

    Raises:
        UsageError: no layer has the same name and place in both.
    """
    ours, theirs = _layers(reference), _layers(other)
    names = _shared(ours, theirs)
    if not names:
        raise UsageError(
            f"{other.name}: none of its layers is known by name in {reference.name}",
            hint="compare files that come from one model, by 'tod convert' or 'tod export "
            "--quantize'; make them again if an older version made them",
        )
    first = _opened(reference, ours, names, engine, threads)
    second = _opened(other, theirs, names, engine, threads)
    may_move = reference.is_tflite != other.is_tflite
    sums: dict[str, _Sums] = {}
    for done, picture in enumerate(pictures, 1):
        wanted, found = first(picture[None]), second(picture[None])
        for name, values in wanted.items():
            fitting = list(_orders(found.get(name), values.shape, may_move))
            if fitting:
                nearest = min(fitting, key=lambda f: float(np.square(f - values).sum()))
                sums.setdefault(name, _Sums()).add(values, nearest)
        progress(done, len(pictures))
    return _errors(ours, sums)


@dataclass
class _Sums:
    """Over all numbers of a value, so far."""

    difference: float = 0.0
    wanted: float = 0.0
    found: float = 0.0
    product: float = 0.0

    def add(self, wanted: NDArray[Any], found: NDArray[Any]) -> None:
        self.difference += float(np.square(found - wanted).sum())
        self.wanted += float(np.square(wanted).sum())
        self.found += float(np.square(found).sum())
        self.product += float((wanted * found).sum())

    @property
    def error(self) -> float:
        if self.difference == 0:
            return 0.0
        found = float(np.sqrt(self.difference / self.wanted)) if self.wanted else np.inf
        return found if np.isfinite(found) else np.inf

    @property
    def cosine(self) -> float:
        lengths = np.sqrt(self.wanted * self.found)
        found = self.product / lengths if lengths else float(self.difference == 0)
        return float(found) if np.isfinite(found) else 0.0


def _layers(graph: Graph) -> Layers:
    if graph.is_tflite:
        return LiteRtRunner(graph.data, graph.name, 1).layers
    return onnx_layers.of_onnx(graph.data)


def _shared(ours: Layers, theirs: Layers) -> list[str]:
    """The values that both make, by name and by how many layers with weights lead to them: a graph
    whose values were numbered anew has the same names in other places. None if no weights lead to
    any of them, for then they are the pixels."""
    depth, other = _depths(ours), _depths(theirs)
    found = [name for name in depth if depth[name] == other.get(name)]
    return found if any(depth[name] for name in found) else []


def _depths(graph: Layers) -> dict[str, int]:
    behind: dict[str, frozenset[str]] = {}
    for layer in graph.layers:
        own = {layer.output} if layer.operator in _WEIGHTED else set()
        behind[layer.output] = frozenset(own).union(*(behind.get(n, ()) for n in layer.inputs))
    return {name: len(weighted) for name, weighted in behind.items()}


def _opened(
    graph: Graph, layers: Layers, names: list[str], engine: Choice, threads: int
) -> Callable[[NDArray[np.uint8]], dict[str, NDArray[np.float64]]]:
    """Pixels [1, S, S, 3] -> the values of these names that are real numbers."""
    rounded = dict(_rounded(layers))
    read = {name: rounded.get(name, name) for name in names}
    if not graph.is_tflite:
        graph = Graph(onnx_layers.with_outputs(graph.data, read.values()), graph.name)
    runner = open_runner(graph, engine, threads=threads)
    if graph.is_tflite:
        runner = LiteRtRunner(graph.data, graph.name, threads, keep=True)
    details = {detail.name: detail for detail in runner.outputs}
    (source,) = (detail.name for detail in runner.inputs)

    def run(pixels: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
        found = runner.run({source: pixels})
        values = {name: _real(found[at], details[at]) for name, at in read.items() if at in found}
        return {name: value for name, value in values.items() if value is not None}

    return run


def _rounded(graph: Layers) -> Iterator[tuple[str, str]]:
    """Values that are quantized, with the value after it."""
    sources = {n.output: n.inputs[0] for n in graph.layers if n.operator == "QuantizeLinear"}
    for layer in graph.layers:
        if layer.operator == "DequantizeLinear" and layer.inputs[0] in sources:
            yield sources[layer.inputs[0]], layer.output


def _real(values: NDArray[Any], detail: Detail) -> NDArray[np.float64] | None:
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    if len(detail.scales) != 1:
        return None
    return detail.scales[0] * (values.astype(np.float64) - detail.zero_points[0])


def _orders(
    values: NDArray[np.float64] | None, shape: tuple[int, ...], may_move: bool
) -> Iterator[NDArray[np.float64]]:
    """The values in every order of axes that has the shape: TFLite keeps channels last."""
    if values is None:
        return
    orders = [values]
    if may_move and values.ndim == 4:
        orders += [np.moveaxis(values, -1, 1), np.moveaxis(values, 1, -1)]
    yield from (order for order in orders if order.shape == shape)


def _errors(graph: Layers, sums: dict[str, _Sums]) -> list[LayerError]:
    makers = {layer.output: layer for layer in graph.layers}
    found = []
    for layer in graph.layers:
        if layer.output not in sums:
            continue
        chain, before = _since(layer, makers, sums)
        weighted = [one for one in chain if one.operator in _WEIGHTED]
        of = sums[layer.output]
        found.append(
            LayerError(
                layer=((weighted or [layer])[-1]).name,
                operators=tuple(o.operator for o in chain if o.operator not in _MOVES)
                or (layer.operator,),
                value=layer.output,
                error=of.error,
                cosine=of.cosine,
                before=max((sums[name].error for name in before), default=0.0),
            )
        )
    return sorted(found, key=lambda one: one.growth, reverse=True)


def _since(
    layer: Layer, makers: dict[str, Layer], sums: dict[str, _Sums]
) -> tuple[list[Layer], set[str]]:
    """The layers since the last ones that are compared, in their order; and the values of those."""
    chain, before, todo = {layer.output: layer}, set(), list(layer.inputs)
    while todo:
        name = todo.pop()
        if name in sums:
            before.add(name)
        elif name in makers and name not in chain:
            chain[name] = makers[name]
            todo += makers[name].inputs
    return [made for name, made in makers.items() if name in chain], before
