"""torch -> plain ONNX graphs of standard operators. The only user of torch's exporters.

The order matters (torch 2.13): `torch.func.grad` inside `torch.export` fails, so the step is
traced by `make_fx` first, which leaves a graph of elementary operators without any autograd.
Axes: N pictures, B batch, S side in pixels, F features, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes import Sequential, common
from onnxscript import optimizer
from torch import nn
from torch._decomp import core_aten_decompositions
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import make_fx

from model.train_wrap import TrainWrap
from tod.manifest import CLASSES_AXIS

OPSET = 18
# The IR version that opset 18 came with: every onnxruntime since 1.14 reads both.
IR_VERSION = 8
MIN_ONNXRUNTIME = "1.14"
# The head is traced with this number of classes, and an axis of this size is the class axis.
PROBE_CLASSES = 13


def features_graph(module: nn.Module, side_px: int) -> onnx.ModelProto:
    """`pixels` uint8 [N, S, S, 3] -> `features` float32 [N, F].

    Args:
        module: a `PixelsToFeatures` in evaluation mode.
        side_px: S.
    """
    pixels = torch.zeros((2, side_px, side_px, 3), dtype=torch.uint8)
    program = torch.export.export(module.eval(), (pixels,), dynamic_shapes=({0: Dim("pictures")},))
    return _to_onnx(program, ["pixels"], ["features"], "features")


def train_graph(wrap: TrainWrap, feature_count: int) -> onnx.ModelProto:
    """`features`, `labels`, `lr`, parameters, slots -> `loss`, `logits`, `next.*`.

    Batch and, where the head has it, the number of classes stay symbolic.
    """
    parameters = wrap.parameters()
    slots = wrap.optimizer.init(parameters)
    names = [*parameters, *slots]
    split = len(parameters)

    def step(
        features: torch.Tensor, labels: torch.Tensor, lr: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        loss, logits, after, slots_after = wrap.step(
            features,
            labels,
            lr,
            dict(zip(names[:split], tensors[:split], strict=True)),
            dict(zip(names[split:], tensors[split:], strict=True)),
        )
        return loss, logits, *after.values(), *(slots_after[name] for name in slots)

    tensors = [*parameters.values(), *slots.values()]
    # Odd sizes, so that no axis is taken for another one or for a constant.
    batch = (torch.randn(6, feature_count), torch.zeros(6, dtype=torch.int64), torch.tensor(0.1))
    axes = tensor_axes(wrap)
    program = _trace(step, (*batch, *tensors), [{0: "batch"}, {0: "batch"}, {}, *axes])
    inputs = ["features", "labels", "lr", *names]
    outputs = ["loss", "logits", *(f"next.{name}" for name in names)]
    return _to_onnx(program, inputs, outputs, "train")


def predict_graph(wrap: TrainWrap, feature_count: int) -> onnx.ModelProto:
    """`features` [B, F], parameters -> `logits` [B, C]."""
    parameters = wrap.parameters()
    axes = tensor_axes(wrap)[: len(parameters)]

    def predict(features: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        return wrap.logits(dict(zip(parameters, tensors, strict=True)), features)

    arguments = (torch.randn(6, feature_count), *parameters.values())
    program = _trace(predict, arguments, [{0: "batch"}, *axes])
    return _to_onnx(program, ["features", *parameters], ["logits"], "predict")


def tensor_axes(wrap: TrainWrap) -> list[dict[int, str]]:
    """Which axis of each parameter and slot counts the classes.

    The head is built for `PROBE_CLASSES`, which tells the class axis apart without knowing the
    kind of head.
    """
    parameters = wrap.parameters()
    tensors = {**parameters, **wrap.optimizer.init(parameters)}
    return [
        {i: CLASSES_AXIS for i, size in enumerate(tensor.shape) if size == PROBE_CLASSES}
        for tensor in tensors.values()
    ]


def _trace(
    function: Callable[..., Any],
    arguments: tuple[torch.Tensor, ...],
    axes: Sequence[dict[int, str]],
) -> torch.export.ExportedProgram:
    traced = make_fx(
        function, decomposition_table=core_aten_decompositions(), tracing_mode="symbolic"
    )(*arguments)
    dims = {"batch": Dim("batch", min=1), CLASSES_AXIS: Dim(CLASSES_AXIS, min=2)}
    shapes = tuple({i: dims[name] for i, name in named.items()} or None for named in axes)
    return torch.export.export(traced, arguments, dynamic_shapes=shapes)


def _to_onnx(
    program: torch.export.ExportedProgram, inputs: list[str], outputs: list[str], prefix: str
) -> onnx.ModelProto:
    frozen = prefix == "features"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # optimize=True folds BatchNorm into the convolutions before it, which only the frozen
        # part may have done. It also takes a constant below 1e-8 for zero (onnxscript 0.7's
        # pattern matcher), and Adam's eps with it: never for a graph that trains.
        exported = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, verbose=False, optimize=frozen
        )
    assert exported is not None
    model = exported.model
    if not frozen:
        model = _fold_constants(model)
    return _tidy(ir.serde.serialize_model(model), inputs, outputs, prefix)


def _fold_constants(model: ir.Model) -> ir.Model:
    """The part of the exporter's clean-up that changes no number."""
    optimizer.inline(model)
    optimizer.fold_constants(model)
    Sequential(
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)
    return model


def _tidy(
    model: onnx.ModelProto, inputs: list[str], outputs: list[str], prefix: str
) -> onnx.ModelProto:
    """Give every value the name that the format wants, and take out what is not arithmetic.

    The exporter writes stack traces with this machine's paths into each node, and names that
    depend on its version. Inner names get a prefix, so that two graphs can be joined.
    """
    graph = model.graph
    wanted = dict(zip([value.name for value in graph.input], inputs, strict=True))
    # An input that is handed on unchanged, or one tensor that is two outputs, would need a name
    # twice; the graphs here have neither, and strict checking below would say so.
    wanted |= dict(zip([value.name for value in graph.output], outputs, strict=True))
    inner = [n for node in graph.node for n in node.output] + [t.name for t in graph.initializer]
    for name in inner:
        if name and name not in wanted:
            wanted[name] = f"{prefix}/{len(wanted)}"
    for index, node in enumerate(graph.node):
        node.name = f"{prefix}/{index}.{node.op_type}"
        node.input[:] = [wanted.get(name, name) for name in node.input]
        node.output[:] = [wanted.get(name, name) for name in node.output]
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = wanted[value.name]
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    _name_axes(model)
    graph.name = prefix
    for field in ("value_info", "metadata_props", "doc_string"):
        graph.ClearField(field)
    tidy = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    tidy.producer_name, tidy.producer_version = "tod", ""
    onnx.checker.check_model(tidy, full_check=True)
    return tidy


def _name_axes(model: onnx.ModelProto) -> None:
    """Readable names for symbolic axes in place of the tracer's s0, s1."""
    known: dict[str, str] = {}
    for value in (*model.graph.input, *model.graph.output):
        for position, axis in enumerate(value.type.tensor_type.shape.dim):
            if axis.dim_param:
                first = value.name in ("pixels", "features", "labels", "logits") and position == 0
                name = known.setdefault(axis.dim_param, "batch" if first else CLASSES_AXIS)
                axis.dim_param = name
