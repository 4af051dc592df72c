"""Explain why a network cannot be lowered: name the operator, its layer, and a boundary that works.

Used only after lowering has failed, so it may be slow: every operator is tried alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from model.lowering import lowering
from model.networks import trainable
from model.step import boundary
from model.train_wrap import TrainWrap
from tod.errors import UsageError, first_line
from tod.format import graph as graphs

_PICTURES = 3


def explain(wrap: TrainWrap, chosen: str, error: Exception) -> UsageError:
    """Make the error that a user gets.

    Args:
        wrap: the training step that could not be lowered.
        chosen: what should train, in the user's words.
        error: the error that lowering raised.
    """
    found = [(node, "runs") for node in _failing(wrap.split.frozen.graph, _forward)]
    found += [(node, "runs") for node in _failing(wrap.split.evaluation.graph, _forward)]
    forward = bool(found)
    trains = set(wrap.weights)
    bad = [] if forward else _failing(wrap.split.tail.graph, lambda n: _gradient(n, trains))
    found += [(node, "has a gradient") for node in bad]
    if not found:
        return UsageError(
            f"the network cannot be lowered to ONNX: {first_line(error)}",
            hint="--debug shows where; each of its operators alone can be lowered",
        )
    places = "; ".join(
        f"{_name(node)} in layer '{boundary.layer_of(node) or 'the network'}'" for node, _ in found
    )
    verb = found[0][1]
    problem = f"the network cannot be lowered: in plain ONNX no operator {verb} as {places} does"
    if forward:
        return UsageError(problem, hint="replace that layer")
    return UsageError(problem, hint=_deepest(wrap, chosen, {boundary.layer_of(n) for n in bad}))


def _deepest(wrap: TrainWrap, chosen: str, layers: set[str]) -> str:
    """Find the largest trainable part that holds none of these layers."""
    count = len(trainable.blocks(wrap.net.backbone))
    for wanted in [*(f"last:{k}" for k in range(count, 0, -1)), "head"]:
        names = trainable.names(wrap.net, wanted)
        tail = boundary.split(wrap.training_net, wrap.training_net, wrap.input_shape, names).tail
        if not layers & {boundary.layer_of(node) for node in tail.graph.nodes}:
            return f"the deepest boundary that works is --trainable {wanted} (asked was {chosen})"
    return "it stands in the head itself: replace that layer"


def _failing(graph: fx.Graph, attempt: Callable[[fx.Node], Callable[..., Any]]) -> list[fx.Node]:
    """Find the calls that cannot be lowered."""
    verdicts: dict[str, bool] = {}
    failing = []
    for node in graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        if not isinstance(node.meta.get("val"), torch.Tensor | tuple | list):
            continue
        shapes = [getattr(n.meta.get("val"), "shape", ()) for n in node.all_input_nodes]
        key = f"{node.target} {node.args[1:]} {[len(shape) for shape in shapes]}"
        if key not in verdicts:
            verdicts[key] = _works(node, attempt)
        if not verdicts[key]:
            failing.append(node)
    return failing


def _works(node: fx.Node, attempt: Callable[[fx.Node], Callable[..., Any]]) -> bool:
    tensors = {f"in{i}": _example(n) for i, n in enumerate(_tensors(node))}
    try:
        with boundary.plain_attention():
            program = lowering.trace(attempt(node), tensors, {name: {} for name in tensors})
        outputs = len(program.graph_signature.user_outputs)
        model = lowering.to_onnx(
            program, list(tensors), [f"out{i}" for i in range(outputs)], "operator"
        )
        graphs.inspect(model.SerializeToString(), where=str(node.target))
    except Exception:
        return False
    return True


def _example(node: fx.Node) -> torch.Tensor:
    value = node.meta["val"]
    shape = [int(size) for size in value.shape]
    if value.dtype.is_floating_point:
        return torch.rand(shape, dtype=value.dtype) + 0.5
    return torch.ones(shape, dtype=value.dtype)


def _tensors(node: fx.Node) -> list[fx.Node]:
    return [n for n in node.all_input_nodes if isinstance(n.meta.get("val"), torch.Tensor)]


def _forward(node: fx.Node) -> Callable[..., Any]:
    def run(*tensors: torch.Tensor) -> Any:
        values: dict[fx.Node, Any] = dict(zip(_tensors(node), tensors, strict=True))
        # Other arguments are batch sizes; any number will do.
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: values.get(n, _PICTURES))
        result = node.target(*args, **kwargs)
        first = result[0] if isinstance(result, tuple | list) else result
        # Add 0, because a mere view of an input would leave no operator in the graph.
        return first + 0

    return run


def _gradient(node: fx.Node, trains: set[str]) -> Callable[..., Any]:
    forward = _forward(node)
    fixed = [n.op == "get_attr" and str(n.target) not in trains for n in _tensors(node)]

    def run(*tensors: torch.Tensor) -> Any:
        pairs = enumerate(zip(tensors, fixed, strict=True))
        moving = [i for i, (t, stays) in pairs if t.dtype.is_floating_point and not stays]
        if not moving:
            return forward(*tensors)

        def total(*inputs: torch.Tensor) -> torch.Tensor:
            given = list(tensors)
            for place, value in zip(moving, inputs, strict=True):
                given[place] = value
            result = forward(*given)
            return (result * result).sum() if result.dtype.is_floating_point else given[0].sum()

        every = tuple(range(len(moving)))
        return torch.func.grad(total, argnums=every)(*(tensors[i] for i in moving))

    return run


def _name(node: fx.Node) -> str:
    return str(node.target).removesuffix(".default")
