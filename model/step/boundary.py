"""Split a network at the freeze boundary into a frozen part and the tail that trains.

The boundary is the deepest frozen tensor that lies on every path from picture to output. Knows
torch's graphs; knows no ONNX, no loss, no optimizer.
Axes: N pictures, C classes.
"""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim
from torch.nn.attention import SDPBackend, sdpa_kernel

from tod.errors import UsageError, first_line

aten = torch.ops.aten
# Odd, so that the tracer does not confuse this size with another axis or a constant.
_PICTURES = 3
_DROPOUT = {aten.dropout.default, aten.feature_dropout.default}
_SIZES = {aten.sym_size.int, aten.sym_size.default}


@dataclass(frozen=True)
class Split:
    """A network in two parts, as graphs of torch's own operators.

    Attributes:
        frozen: normalised pictures float32 [N, 3, S, S] -> features [N, ...].
        tail: features, noise ... -> logits [N, C], as it runs in training.
        evaluation: features -> logits [N, C], as it runs in evaluation.
        feature_shape: the shape of one picture's features.
        boundary: the layer whose output is the features; empty for the pixels themselves.
        noise: name -> shape of one row of uniform noise, for each dropout of the tail, in the order
            of the tail's inputs.
        statistics: names of the buffers that the tail's BatchNorm updates.
    """

    frozen: fx.GraphModule
    tail: fx.GraphModule
    evaluation: fx.GraphModule
    feature_shape: tuple[int, ...]
    boundary: str
    noise: Mapping[str, tuple[int, ...]]
    statistics: tuple[str, ...]


def split(
    evaluation: nn.Module,
    training: nn.Module,
    input_shape: tuple[int, ...],
    trainable: Collection[str],
) -> Split:
    """Find the boundary and split the network there.

    Args:
        evaluation: the whole network as it evaluates.
        training: the same network, with the same names, as it trains; may be the same object.
        input_shape: the shape of one picture, such as (3, S, S).
        trainable: names of the parameters that train.

    Raises:
        UsageError: the network cannot be traced.
    """
    whole = _trace(training, input_shape)
    cut = _deepest_cut(whole.graph, set(trainable))
    frozen, tail = _upto(whole, cut), _after(whole, cut)
    if training is evaluation:
        evaluated = tail
    else:
        # The frozen part runs the same in both networks, so the cut is the same call in both.
        plain = _trace(evaluation, input_shape)
        twin = plain.graph.find_nodes(op="placeholder")[0]
        if cut.op == "call_function":
            twin = _calls(plain.graph)[_calls(whole.graph).index(cut)]
        evaluated = _after(plain, twin)
    noise = {
        str(node.name): tuple(int(size) for size in node.meta["row"])
        for node in tail.graph.nodes
        if node.op == "placeholder" and "row" in node.meta
    }
    shape = tuple(int(size) for size in cut.meta["val"].shape[1:])
    return Split(frozen, tail, evaluated, shape, layer_of(cut), noise, _statistics(tail.graph))


def layer_of(node: fx.Node) -> str:
    """The dotted name of the module that a call belongs to; empty for none."""
    stack = node.meta.get("nn_module_stack") or {}
    names = [name for name, _ in stack.values()]
    return str(names[-1]) if names else ""


def out_of_place(target: Any) -> Any:
    """Return the operator that gives a new tensor, if `target` overwrites its first argument."""
    schema = getattr(target, "_schema", None)
    if schema is None or not schema.name.endswith("_"):
        return target
    packet = getattr(aten, schema.name.removeprefix("aten::").removesuffix("_"))
    return getattr(packet, target._overloadname)


def plain_attention() -> Any:
    """Compute attention as products and a softmax, whose gradients ONNX can express."""
    return sdpa_kernel(SDPBackend.MATH)


@contextmanager
def _silence() -> Iterator[None]:
    """Hide what torch.export prints about a network that it cannot trace."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _place(error: Exception) -> str:
    """Find the line of the network's own code that failed; empty if unknown."""
    inside = [str(Path(torch.__file__).parent), str(Path(__file__).parents[1]), "<"]
    lines = [
        frame for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(tuple(inside))
    ]  # fmt: skip
    return f" ({lines[-1].filename}, line {lines[-1].lineno}: {lines[-1].line})" if lines else ""


def _trace(net: nn.Module, input_shape: tuple[int, ...]) -> fx.GraphModule:
    """Trace the network into calls of aten operators; parameters and buffers keep their names."""
    x = torch.zeros(_PICTURES, *input_shape)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it is one fused operator without a gradient
    try:
        with _silence():
            program = torch.export.export(
                net, (x,), dynamic_shapes=({0: Dim("batch", min=1)},), strict=False
            )
    except Exception as error:  # torch.export raises whatever tracing raises
        raise UsageError(
            f"the network cannot be traced by torch.export: {first_line(error)}{_place(error)}",
            hint="its layers and shapes must not depend on the values of the pictures, nor on "
            "how many there are",
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return program.module(check_guards=False)


def _calls(graph: fx.Graph) -> list[fx.Node]:
    """Return the calls that compute, without counters of batches."""
    return [node for node in graph.nodes if node.op == "call_function"]


def _draws(node: fx.Node) -> bool:
    """Tell whether a node is a dropout in training mode."""
    return node.target in _DROPOUT and node.args[1] > 0 and bool(node.args[2])


def _updates(node: fx.Node) -> bool:
    """Tell whether a node is a BatchNorm in training mode."""
    return node.target is aten.batch_norm.default and bool(node.args[5])


def _deepest_cut(graph: fx.Graph, trainable: set[str]) -> fx.Node:
    """Find the deepest frozen tensor on every path from input to output (a dominator)."""
    still: list[fx.Node] = []
    moved: set[fx.Node] = set()
    fed: set[fx.Node] = set()
    for node in graph.nodes:
        inputs = node.all_input_nodes
        if node.op == "placeholder":
            still.append(node)
            fed.add(node)
        elif node.op == "get_attr":
            if str(node.target) in trainable:
                moved.add(node)
        elif any(before in moved for before in inputs) or _draws(node) or _updates(node):
            moved.add(node)
        elif any(before in fed for before in inputs) and node.target not in _SIZES:
            fed.add(node)
            value = node.meta.get("val")
            if isinstance(value, torch.Tensor) and value.dtype == torch.float32 and value.dim() > 1:
                still.append(node)
    source, (output,) = still[0], graph.find_nodes(op="output")
    batch = source.meta["val"].shape[0]
    for node in reversed(still):
        if node.meta["val"].shape[0] == batch and not _passes_by(output, source, node):
            return node
    return source


def _passes_by(output: fx.Node, source: fx.Node, cut: fx.Node) -> bool:
    """Tell whether a path from the source to the output avoids the cut."""
    waiting, seen = [output], {cut}
    while waiting:
        node = waiting.pop()
        if node not in seen:
            if node is source:
                return True
            seen.add(node)
            # Nodes that carry only the batch size do not count: both parts know it.
            waiting += [before for before in node.all_input_nodes if before.target not in _SIZES]
    return False


def _upto(whole: fx.GraphModule, cut: fx.Node) -> fx.GraphModule:
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in whole.graph.nodes:
        _copy(graph, node, copies)
        if node is cut:
            break
    graph.output(copies[cut])
    return _module(whole, graph)


def _after(whole: fx.GraphModule, cut: fx.Node) -> fx.GraphModule:
    """Copy the part after the cut; the noise of each dropout becomes an input."""
    graph = fx.Graph()
    features = graph.placeholder("features")
    features.meta["val"] = cut.meta["val"]
    copies: dict[fx.Node, fx.Node] = {cut: features}
    for node in whole.graph.nodes:
        if node.op == "placeholder" or node is cut:
            continue
        if node.target in _SIZES and node.args[0] not in copies:
            copies[node] = graph.call_function(aten.sym_size.int, (features, 0))
        elif node.op == "output":
            graph.output(copies[node.args[0][0]])
        elif all(before in copies for before in node.all_input_nodes):
            _refuse_memory(node)
            if _draws(node):
                _dropout(graph, node, copies)
            else:
                _copy(graph, node, copies)
    return _module(whole, graph)


def _copy(graph: fx.Graph, node: fx.Node, copies: dict[fx.Node, fx.Node]) -> None:
    copy = graph.node_copy(node, lambda before: copies[before])
    copies[node] = copy
    if node.op == "call_function" and (target := out_of_place(node.target)) is not node.target:
        copy.target = target
        # Later uses of the overwritten tensor must read the new one.
        copies[node.args[0]] = copy


def _dropout(graph: fx.Graph, node: fx.Node, copies: dict[fx.Node, fx.Node]) -> None:
    """Write dropout as x * (noise >= p) / (1 - p), with uniform noise [N, ...] as an input."""
    x, share = copies[node.args[0]], float(node.args[1])
    row = list(node.meta["val"].shape[1:])
    if node.target is aten.feature_dropout.default:
        row[1:] = [1] * len(row[1:])
    with graph.inserting_after(graph.find_nodes(op="placeholder")[-1]):
        noise = graph.placeholder(f"noise_{layer_of(node) or node.name}".replace(".", "_"))
    noise.meta["row"] = row
    kept = graph.call_function(aten.ge.Scalar, (noise, share))
    scaled = graph.call_function(aten.mul.Scalar, (x, 1 / (1 - share)))
    copies[node] = graph.call_function(aten.mul.Tensor, (scaled, kept))
    copies[node].meta = dict(node.meta)


def _refuse_memory(node: fx.Node) -> None:
    """Refuse a layer that keeps state from step to step, except BatchNorm's statistics."""
    written = node.args[0] if node.args else None
    if not isinstance(written, fx.Node) or written.op != "get_attr":
        return
    if out_of_place(node.target) is node.target or "num_batches_tracked" in str(written.target):
        return
    raise UsageError(
        f"layer '{layer_of(node)}' writes its buffer '{written.target}' while it trains, "
        "which is not lowered",
        hint="only BatchNorm's statistics are kept up to date (--batch-norm train)",
    )


def _statistics(graph: fx.Graph) -> tuple[str, ...]:
    found: list[str] = []
    for node in graph.nodes:
        if node.op == "call_function" and _updates(node):
            found += [str(node.args[3].target), str(node.args[4].target)]
    return tuple(found)


def _module(whole: fx.GraphModule, graph: fx.Graph) -> fx.GraphModule:
    graph.eliminate_dead_code(is_impure_node=lambda node: node.op in ("placeholder", "output"))
    # A GraphModule copies only what its graph names.
    return fx.GraphModule(whole, graph)
