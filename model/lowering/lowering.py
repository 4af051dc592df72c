"""Lower torch networks to plain ONNX graphs of standard operators. The only user of torch's
exporters.

The order matters (torch 2.13): `torch.func.grad` inside `torch.export` fails, so the step is
traced by `make_fx` first, which leaves a graph of elementary operators without any autograd.
Axes: N pictures, B batch, S side in pixels, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import count
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnx_ir.passes import Sequential, common
from onnxscript import optimizer
from torch import nn
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from model.lowering import decompositions
from model.step.optimizers import Tensors
from model.train_wrap import TrainWrap
from model.transfer_net import to_features
from tod.errors import UsageError
from tod.format.manifest import CLASSES_AXIS, TASKS, SampleSpec

OPSET = 18
# The IR version that opset 18 came with: every onnxruntime since 1.14 reads both.
IR_VERSION = 8
MIN_ONNXRUNTIME = "1.14"
# Sizes for tracing the graphs. The tracer confuses axes of equal size, so no layer has these sizes.
# Comparing two numbers of classes shows which axes of the parameters count classes.
PROBE_CLASSES, OTHER_CLASSES = 251, 263
_PROBE_ROWS = 19
_WITH_ROWS = ("pixels", "inputs", "features", "labels", "logits")
Axes = Mapping[str, Mapping[int, str]]


def all_graphs(wrap: TrainWrap, axes: Axes, spec: SampleSpec) -> dict[str, onnx.ModelProto]:
    """The three graphs by name.

    Args:
        wrap: built for `PROBE_CLASSES`.
        axes: see `class_axes`.
        spec: what a sample is.
    """
    return {
        "features.onnx": features_graph(to_features(wrap.split.frozen, spec), spec),
        "train.onnx": train_graph(wrap, axes),
        "predict.onnx": predict_graph(wrap, axes),
    }


def features_graph(module: nn.Module, spec: SampleSpec) -> onnx.ModelProto:
    """`pixels` uint8 [N, S, S, 3], or other samples, -> `features` float32 [N, ...].

    Args:
        module: from `model.transfer_net.to_features`, in evaluation mode.
        spec: what a sample is.
    """
    samples = torch.zeros((2, *spec.shape), dtype=getattr(torch, spec.dtype))
    program = torch.export.export(module.eval(), (samples,), dynamic_shapes=({0: Dim("pictures")},))
    return to_onnx(program, [spec.name], ["features"], "features")


def train_graph(wrap: TrainWrap, axes: Axes) -> onnx.ModelProto:
    """Export one step: inputs and tensors -> `loss`, `logits`, `next.*`.

    The batch size stays symbolic, and so does the number of classes if the head depends on it.

    Args:
        wrap: built for `PROBE_CLASSES`.
        axes: see `class_axes`.
    """
    inputs, tensors = example_inputs(wrap, _PROBE_ROWS, PROBE_CLASSES), train_tensors(wrap)
    names = [*inputs, *tensors]

    def step(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = dict(zip(names, values, strict=True))
        loss, logits, after = wrap.step(
            {n: given[n] for n in inputs}, {n: given[n] for n in tensors}
        )
        return loss, logits, *(after[name] for name in tensors)

    program = trace(step, {**inputs, **tensors}, {**_input_axes(inputs), **_spread(axes, tensors)})
    outputs = ["loss", "logits", *(f"next.{name}" for name in tensors)]
    return to_onnx(program, names, outputs, "train")


def predict_graph(wrap: TrainWrap, axes: Axes) -> onnx.ModelProto:
    """`features` [B, ...], parameters, statistics -> `logits` [B, C]."""
    tensors = {**wrap.parameters(), **wrap.statistics()}

    def predict(features: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return wrap.logits(dict(zip(tensors, values, strict=True)), features)

    features = torch.randn(_PROBE_ROWS, *wrap.split.feature_shape)
    arguments = {"features": features, **tensors}
    program = trace(predict, arguments, {"features": {0: "batch"}, **_spread(axes, tensors)})
    return to_onnx(program, list(arguments), ["logits"], "predict")


def train_tensors(wrap: TrainWrap) -> Tensors:
    """Return the tensors that the step takes and gives back, before the first step: parameters,
    statistics, slots, accumulators."""
    return {**wrap.parameters(), **wrap.statistics(), **wrap.slots(), **wrap.accumulators()}


def example_inputs(wrap: TrainWrap, rows: int, classes: int) -> Tensors:
    """Make the step's other inputs, in the order of the graph."""
    made = {"features": torch.randn(rows, *wrap.split.feature_shape)}
    labels = TASKS[wrap.loss_fn.name] == "single-label"
    made["labels"] = torch.zeros(rows, dtype=torch.int64) if labels else torch.zeros(rows, classes)
    made["lr"] = torch.tensor(0.1)
    if wrap.class_weights:
        made["class_weights"] = torch.ones(classes)
    if wrap.accumulate:
        made["apply"] = torch.tensor(1.0)
    return made | {name: torch.rand(rows, *shape) for name, shape in wrap.split.noise.items()}


def class_axes(net: nn.Module, other: nn.Module) -> dict[str, dict[int, str]]:
    """Find the axes of parameters that count the classes.

    Args:
        net, other: the same network, built for `PROBE_CLASSES` and for `OTHER_CLASSES`.

    Raises:
        UsageError: the two differ in anything else.
    """
    found: dict[str, dict[int, str]] = {}
    theirs = dict(other.named_parameters())
    for name, parameter in net.named_parameters():
        twin = theirs.pop(name, None)
        if twin is None or twin.dim() != parameter.dim():
            raise UsageError(f"parameter '{name}' depends on the number of classes")
        found[name] = {}
        for axis, sizes in enumerate(zip(parameter.shape, twin.shape, strict=True)):
            if sizes == (PROBE_CLASSES, OTHER_CLASSES):
                found[name][axis] = CLASSES_AXIS
            elif sizes[0] != sizes[1]:
                raise UsageError(
                    f"axis {axis} of parameter '{name}' is {sizes[0]} for {PROBE_CLASSES} classes "
                    f"and {sizes[1]} for {OTHER_CLASSES}; it must be that number or a fixed one"
                )
    if theirs:
        raise UsageError(f"parameter '{next(iter(theirs))}' depends on the number of classes")
    return found


def tensor_axes(axes: Axes, tensor: str) -> Mapping[int, str]:
    """Return the class axes of a parameter or of a slot; a slot's name ends with its parameter's
    name."""
    owners = [name for name in axes if tensor == name or tensor.endswith(f".{name}")]
    return axes[max(owners, key=len)] if owners else {}


def _spread(axes: Axes, tensors: Tensors) -> dict[str, Mapping[int, str]]:
    return {name: tensor_axes(axes, name) for name in tensors}


def _input_axes(inputs: Tensors) -> dict[str, Mapping[int, str]]:
    def axes(name: str, value: torch.Tensor) -> Mapping[int, str]:
        if name == "class_weights":
            return {0: CLASSES_AXIS}
        if name == "labels" and value.dim() > 1:
            return {0: "batch", 1: CLASSES_AXIS}
        return {0: "batch"} if value.dim() else {}

    return {name: axes(name, value) for name, value in inputs.items()}


def trace(
    function: Callable[..., Any],
    arguments: Tensors,
    axes: Mapping[str, Mapping[int, str]],
) -> torch.export.ExportedProgram:
    """Trace a function of tensors into a program of elementary operators, gradients included.

    Args:
        function: called with the arguments in their order.
        arguments: examples by name.
        axes: the symbolic axes of each argument: "batch" or "classes".
    """
    # Copy the arguments: if an argument shared memory with a constant, the tracer would tie their
    # sizes.
    values = tuple(value.clone() for value in arguments.values())
    named = [axes[name] for name in arguments]
    # Frozen tensors after the boundary are not arguments but constants of the step.
    shapes_only = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())
    with shapes_only, enable_python_dispatcher():
        # Use the mode "real", because the arguments are fake tensors already. The mode "symbolic"
        # would make every axis of every parameter a symbol, which takes many times as long.
        traced = make_fx(
            function,
            decomposition_table=decompositions.table(),
            tracing_mode="real",
            _allow_non_fake_inputs=True,
        )(*_symbolic(shapes_only, values, named))
    dims = {"batch": Dim("batch", min=1), CLASSES_AXIS: Dim(CLASSES_AXIS, min=2)}
    shapes = tuple({i: dims[axis] for i, axis in one.items()} or None for one in named)
    return torch.export.export(traced, values, dynamic_shapes=shapes)


def _symbolic(
    mode: FakeTensorMode, values: Sequence[torch.Tensor], named: Sequence[Mapping[int, str]]
) -> list[torch.Tensor]:
    """Make fake tensors that have only a shape, with symbols for the named axes."""
    made = []
    for index, (value, axes) in enumerate(zip(values, named, strict=True)):
        kinds = [DimDynamic.DUCK if i in axes else DimDynamic.STATIC for i in range(value.dim())]
        context = StatelessSymbolicContext(dynamic_sizes=kinds)
        source = ConstantSource(f"input{index}")
        made.append(mode.from_tensor(value, symbolic_context=context, source=source))
    return made


def to_onnx(
    program: torch.export.ExportedProgram, inputs: list[str], outputs: list[str], prefix: str
) -> onnx.ModelProto:
    """Convert a program to a tidy ONNX graph.

    Args:
        program: the result of `trace` or `torch.export`.
        inputs, outputs: names, in order.
        prefix: prefix for the names of all other values; "features" means that nothing in it
            trains.
    """
    frozen = prefix == "features"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # optimize=True folds BatchNorm into the convolutions before it, which is allowed only in
        # the frozen part. It also replaces constants below 1e-8 by zero (onnxscript 0.7's pattern
        # matcher), even Adam's eps, so it must not be used for a graph that trains.
        exported = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, verbose=False, optimize=frozen
        )
    assert exported is not None
    model = exported.model
    if not frozen:
        model = _fold_constants(model)
    return tidy(ir.serde.serialize_model(model), inputs, outputs, prefix)


def _fold_constants(model: ir.Model) -> ir.Model:
    """Run the part of the exporter's clean-up that changes no number."""
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


def tidy(
    model: onnx.ModelProto,
    inputs: list[str],
    outputs: list[str],
    prefix: str,
    *,
    kept: Collection[str] = (),
) -> onnx.ModelProto:
    """Give every value the name that the format needs, and remove everything that is not
    arithmetic.

    The exporter writes stack traces with this machine's paths into each node, and names that
    depend on its version. Inner names get a prefix, so that two graphs can be joined.

    Args:
        model: the graph; changed.
        inputs, outputs: their names.
        prefix: of inner names.
        kept: inner names that stay: `tod compare --layers` finds a value of another graph by them.
    """
    graph = model.graph
    wanted = dict(zip([value.name for value in graph.input], inputs, strict=True))
    # An input that is also an output, or a tensor that is two outputs, would need two names. The
    # graphs here have neither; the strict check below would find it.
    wanted |= dict(zip([value.name for value in graph.output], outputs, strict=True))
    inner = [n for node in graph.node for n in node.output] + [t.name for t in graph.initializer]
    new = (made for n in count(len(wanted)) if (made := f"{prefix}/{n}") not in kept)
    for name in inner:
        if name and name not in wanted:
            wanted[name] = name if name in kept else next(new)
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
    """Give symbolic axes readable names in place of the tracer's s0, s1."""
    known: dict[str, str] = {}
    for value in (*model.graph.input, *model.graph.output):
        for position, axis in enumerate(value.type.tensor_type.shape.dim):
            if axis.dim_param:
                rows = value.name in _WITH_ROWS and position == 0
                name = known.setdefault(axis.dim_param, "batch" if rows else CLASSES_AXIS)
                axis.dim_param = name
