"""An inference graph as a TFLite file: pixels uint8 [1, S, S, 3], or another sample, in; answers
float32 [1, C] out.

Written by ourselves, from the graphs that every .tod file holds: the converters there are want
torch's module (litert-torch, 2.3 GB) or Python 3.12 and versions of their own (onnx2tf).
docs/inference.md has the comparison. What is not known is refused by name.
"""

from __future__ import annotations

from dataclasses import replace

from model.convert.gelu import fused as with_gelu
from model.convert.integers import without_integers
from model.convert.static_graph import Node, StaticGraph
from model.convert.tflite_arithmetic import ARITHMETIC, Convert
from model.convert.tflite_layers import LAYERS
from model.convert.tflite_shapes import SHAPES
from model.convert.tflite_values import Conversion, refused
from tod.errors import UsageError

OPERATORS: dict[str, Convert] = {**LAYERS, **ARITHMETIC, **SHAPES}


def convert(graph: StaticGraph) -> bytes:
    """The file, in float32.

    Args:
        graph: of one picture.

    Raises:
        UsageError: an operator is not known, or not in the way in which the graph uses it.
    """
    graph = without_integers(with_gelu(graph))
    check(graph)
    to = Conversion(replace(graph, shapes=dict(graph.shapes)))
    for node in graph.nodes:
        OPERATORS[node.kind](to, node)
    output = to.natural(graph.output)
    return to.file.data({graph.input: to.value(graph.input).tensor}, {graph.output: output})


def check(graph: StaticGraph) -> None:
    """Refuse a graph with operators that are not known, all of them at once.

    Raises:
        UsageError: it names them.
    """
    unknown: dict[str, Node] = {n.kind: n for n in graph.nodes if n.kind not in OPERATORS}
    if len(unknown) == 1:
        raise refused(next(iter(unknown.values())), "TFLite's conversion here does not know it")
    if unknown:
        raise UsageError(
            f"--to tflite: the operators {', '.join(sorted(unknown))} cannot be converted; nothing "
            "was written",
            hint="--to onnx and --to ort hold every network; report them to have them added",
        )
