"""An inference graph as weights for torch, and the source of the module to load them into.

A .tod file holds graphs, no module: BatchNorm is folded, and the names of the frozen weights are
gone. So the module is written from the graph, line by line, and needs nothing but torch, whoever's
network it was. What was trained keeps its names: those go into the network that was exported, too.
Axes: N pictures, S side in pixels.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from model.convert.gelu import fused as with_gelu
from model.convert.integers import without_integers
from model.convert.static_graph import StaticGraph
from model.convert.torch_source import LINES, Scope, is_known
from tod.errors import UsageError

MARK = "written by `tod convert --to torch`"
"""In the first line of every source that is made here."""
_HEAD = '''"""{network}, {mark} from a .tod file; needs torch alone.

    network = Network()
    network.load_state_dict(torch.load({weights}, weights_only=True))
    answers = network({taken})  # {kind}

Weights under `frozen` are the frozen part's, with BatchNorm folded into them and numbered; the
others have the names that they had in the network that was exported.
"""

import torch
import torch.nn.functional as F
from torch import nn

CLASSES = {classes!r}
# Shapes of the tensors of the state_dict; those of the second table do not train.
PARAMETERS = {{
{parameters}}}
FROZEN = {{
{frozen}}}


class Network(nn.Module):
    """{kind} -> {answers} [N, {count}]."""

    def __init__(self):
        super().__init__()
        for name, shape in PARAMETERS.items():
            self._holder(name).register_parameter(
                name.rpartition(".")[2], nn.Parameter(torch.zeros(shape))
            )
        for name, shape in FROZEN.items():
            self._holder(name).register_buffer(name.rpartition(".")[2], torch.zeros(shape))

    def _holder(self, name):
        module = self
        for part in name.split(".")[:-1]:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        return module

    def forward(self, {taken}):
        return {end}

    def logits(self, {taken}):
        p, c = self.get_parameter, self.get_buffer
{lines}        return {logits}
'''
_TAKE_NUMBERS = {"Add", "Sub", "Mul", "Div", "Clip", "Pow", "Pad"}
_ENDS = {"Softmax": "torch.softmax(self.logits({}), -1)",
         "Sigmoid": "torch.sigmoid(self.logits({}))"}  # fmt: skip


@dataclass(frozen=True)
class About:
    """The network in words, its classes, and the name of the file of weights without its suffix."""

    network: str
    classes: tuple[str, ...]
    file: str


def check(graph: StaticGraph) -> None:
    """Refuse a graph with operators that are not known, all of them at once.

    Raises:
        UsageError: it names them.
    """
    _prepared(graph)


def convert(graph: StaticGraph, parameters: Mapping[str, Any], about: About) -> dict[str, bytes]:
    """The module's source and its weights, by the suffix of their names.

    Args:
        graph: of one picture, with the parameters as `variable`.
        parameters: what was trained, by name.
        about: what the source says of it.
    """
    graph = _prepared(graph)
    state: dict[str, torch.Tensor] = {}
    names = {graph.input: graph.input}
    shapes: tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]] = ({}, {})
    for place, (key, array) in enumerate(graph.constants.items()):
        if key in parameters:
            state[key] = torch.from_numpy(np.array(array))
            statistic = key.endswith(("running_mean", "running_var"))
            shapes[statistic][key] = array.shape
            names[key] = f"c({key!r})" if statistic else f"p({key!r})"
        elif array.size == 1 and array.dtype.kind in "fi" and _is_number(graph, key):
            names[key] = f"float({str(array.item())!r})" if np.isinf(array) else repr(array.item())
        elif array.dtype == np.float32:
            label = f"frozen.{place}"
            state[label] = torch.from_numpy(np.array(array))
            shapes[1][label] = array.shape
            names[key] = f"c({label!r})"
        else:
            names[key] = repr(array.tolist())
    lines, logits, end = _lines(graph, names)
    source = _HEAD.format(
        network=_in_docstring(about.network),
        mark=MARK,
        weights=_in_docstring(repr(f"{about.file}.pt")),
        taken=graph.input,
        kind=_kind(graph),
        classes=list(about.classes),
        parameters=_table(shapes[0]),
        frozen=_table(shapes[1]),
        answers="values" if end is None else "probabilities",
        count=graph.shapes[graph.output][1],
        end=(end or "self.logits({})").format(graph.input),
        lines=lines,
        logits=logits,
    )
    written = io.BytesIO()
    torch.save(state, written)
    return {".py": source.encode(), ".pt": written.getvalue()}


def load(data: bytes) -> nn.Module:
    """The network of a source and its weights, joined by a zero byte. The source is one that was
    just written here: every name in it is a Python literal."""
    source, _, weights = data.partition(b"\0")
    scope: dict[str, Any] = {"__name__": "converted"}
    exec(compile(source, "converted.py", "exec"), scope)
    network: nn.Module = scope["Network"]()
    network.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
    return network.eval()


def _lines(graph: StaticGraph, names: Mapping[str, str]) -> tuple[str, str, str | None]:
    """The lines, the name of the logits, and what makes answers of them."""
    at, text = Scope(graph, names), []
    *inner, last = graph.nodes
    end = _ENDS.get(last.kind) if last.attributes.get("axis", -1) == -1 else None
    if end is None and last.kind != "Identity":
        inner.append(last)
    for node in inner:
        variables = [f"x{len(at.names) + place}" for place in range(len(node.outputs))]
        line = LINES[node.kind](at, node)
        text.append(f"        {', '.join(variables)}{',' * (node.kind == 'Split')} = {line}\n")
        at.names |= dict(zip(node.outputs, variables, strict=True))
        if any(name in at.open for name in node.inputs):
            at.open |= set(node.outputs)
    logits = at.names[last.inputs[0] if inner and last is not inner[-1] else graph.output]
    return "".join(text), logits, end


def _is_number(graph: StaticGraph, name: str) -> bool:
    """Whether a constant may stand in the text as a plain number."""
    users = {node.kind for node in graph.nodes if name in node.inputs}
    return graph.constants[name].ndim < 2 and users <= _TAKE_NUMBERS


def _kind(graph: StaticGraph) -> str:
    """What the network takes, for a person."""
    sides = ", ".join(map(str, graph.shapes[graph.input][1:]))
    of = "pixels as they are, RGB, " if graph.input == "pixels" else ""
    return f"{of}{graph.dtype} [N, {sides}]"


def _in_docstring(text: str) -> str:
    """A text that cannot end the docstring it stands in, nor the file (by a zero byte)."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\0", " ")


def _table(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return "".join(f"    {name!r}: {shape!r},\n" for name, shape in shapes.items())


def _prepared(graph: StaticGraph) -> StaticGraph:
    graph = without_integers(with_gelu(graph))
    unknown = {node.kind for node in graph.nodes if not is_known(graph, node)}
    if unknown:
        raise UsageError(
            f"--to torch: the operators {', '.join(sorted(unknown))} cannot be converted; nothing "
            "was written",
            hint="--to onnx holds every network; report them to have them added",
        )
    return graph
