"""The layers of an INI file as one torch module, with nntrainer's initial weights.

Axes: N samples, C classes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from model.networks.nntrainer import layers as kinds
from model.networks.nntrainer.built import Built, said
from model.networks.nntrainer.graph import Layer, Source
from model.networks.nntrainer.keys import Shape

# Layers after the one with a unit for each class; each keeps that number.
_KEEP_CLASSES = (
    "activation", "flatten", "dropout", "identity", "multiout", "pooling2d",
    "batch_normalization", "layer_normalization",
)  # fmt: skip
_UNITS = {"fully_connected": "unit", "conv2d": "filters"}


@dataclass(frozen=True)
class _Step:
    layer: Layer
    name: str
    built: Built
    inputs: tuple[tuple[Source, Shape], ...]


@dataclass(frozen=True)
class Stored:
    """One tensor of nntrainer's file of weights.

    Attributes:
        name: of the parameter or buffer in the module.
        swapped: nntrainer has its first two axes in the other order.
        trains: it has a gradient, so an optimizer keeps moments of it.
    """

    name: str
    tensor: torch.Tensor
    swapped: bool
    trains: bool


class IniNetwork(nn.Module):
    """float32 [N, c, h, w], or rows [N, w] -> logits [N, C].

    Args:
        found: the layers in nntrainer's order; the last one gives the logits.
        sizes: units or filters of some layers in place of those of the file.
        seed: of the weights; each layer draws its own numbers.
    """

    def __init__(self, found: Sequence[Layer], sizes: Mapping[str, int], seed: int) -> None:
        super().__init__()
        self.steps: list[_Step] = []
        shapes: dict[Source, Shape] = {}
        for index, layer in enumerate(found):
            if layer.name in sizes:
                changed = {_UNITS[layer.kind]: sizes[layer.name]}
                layer = _with(layer, changed)
            inputs = [_read(layer, source, shapes) for source in layer.inputs]
            given = [shape for _, shape in inputs] or [_input_shape(layer)]
            built = kinds.build(layer, given)
            name = self._free_name(layer.name)
            _initialise(built.module, layer, torch.Generator().manual_seed(seed * 100_003 + index))
            self.add_module(name, built.module)
            self.steps.append(_Step(layer, name, built, tuple(inputs)))
            out = [(1, 1, math.prod(s)) if layer.values["flatten"] else s for s in built.shapes]
            shapes |= {Source(layer.name, i): shape for i, shape in enumerate(out)}
            self.out_shape = out[0]
        self.in_shape = _input_shape(found[0])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values: dict[Source, torch.Tensor] = {}
        for step in self.steps:
            given = [values[source] for source, _ in step.inputs] or [x]
            results = self._run(step, given)
            values |= {Source(step.layer.name, i): y for i, y in enumerate(results)}
        return results[0].flatten(1)

    def _run(self, step: _Step, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        built, flat = step.built, step.layer.values["flatten"]
        xs = given if built.rows else [x[:, None, None] if x.dim() == 2 else x for x in given]
        if built.before is not None:
            xs = [built.before(x) for x in xs]
        made = self.get_submodule(step.name)(*xs)
        results = list(made) if isinstance(made, tuple | list) else [made]
        if built.after is not None:
            results = [built.after(y) for y in results]
        act = kinds.ACTIVATIONS.get(step.layer.values["activation"])
        if act is not None:
            results = [act(y) for y in results]
        rows = [flat or shape[:2] == (1, 1) for shape in built.shapes]
        return [
            y.flatten(1) if row and y.dim() > 2 else y for y, row in zip(results, rows, strict=True)
        ]

    def names(self, layer: str) -> list[str]:
        """The full names of a layer's parameters."""
        (name,) = (step.name for step in self.steps if step.layer.name == layer)
        return [f"{name}.{inner}" for inner, _ in self.get_submodule(name).named_parameters()]

    def stored(self) -> Iterator[Stored]:
        """The weights in the order of nntrainer's files."""
        for step in self.steps:
            module, trains = step.built.module, bool(step.layer.values["trainable"])
            inner = dict(module.named_parameters())
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for statistic in ("running_mean", "running_var"):
                    tensor = module.get_buffer(statistic)
                    yield Stored(f"{step.name}.{statistic}", tensor, False, False)
            swapped = isinstance(module, nn.Linear | nn.ConvTranspose2d)
            for name, value in inner.items():
                yield Stored(f"{step.name}.{name}", value, swapped and value.dim() > 1, trains)

    def _free_name(self, layer: str) -> str:
        """A name that torch allows for a module."""
        name = re.sub("[^a-z0-9_]", "_", layer)
        while hasattr(self, name) or not name.isidentifier():
            name = f"{name}_" if name[:1].isalpha() else f"layer_{name}"
        return name


def class_layer(found: Sequence[Layer]) -> Layer:
    """The layer that has a unit for each class, before the last one or the last one itself.

    Raises:
        UsageError: there is none.
    """
    by_name = {layer.name: layer for layer in found}
    layer = found[-1]
    while layer.kind in _KEEP_CLASSES and len(layer.inputs) == 1:
        layer = by_name[layer.inputs[0].layer]
    if layer.kind not in _UNITS:
        raise layer.place.wrong(
            f"the network ends with {layer.kind}, which has no unit for each class",
            "end it with fully_connected (or with conv2d and global pooling)",
        )
    if not layer.values["trainable"]:
        raise layer.place.wrong("trainable = false: the layer with the classes must train")
    return layer


def units(layer: Layer) -> int:
    """How many units or filters a layer has in the file."""
    return int(layer.values[_UNITS[layer.kind]])


def _with(layer: Layer, changed: Mapping[str, Any]) -> Layer:
    return Layer(layer.name, layer.kind, layer.place, {**layer.values, **changed}, layer.inputs)


def _read(layer: Layer, source: Source, shapes: Mapping[Source, Shape]) -> tuple[Source, Shape]:
    """The output that a layer reads, and its shape."""
    # A layer with several readers gives each of them the same, as multiout does.
    if source not in shapes and Source(source.layer, 1) not in shapes:
        source = Source(source.layer)
    if source not in shapes:
        count = sum(known.layer == source.layer for known in shapes)
        raise layer.place.wrong(f"input_layers: {source.layer} has the outputs 0 to {count - 1}")
    shape, wanted = shapes[source], layer.values["input_shape"]
    if wanted not in (None, shape):
        raise layer.place.wrong(f"input_shape is {said(wanted)}, its input has {said(shape)}")
    return source, shape


def _input_shape(layer: Layer) -> Shape:
    shape: Shape | None = layer.values["input_shape"]
    if shape is None:
        raise layer.place.wrong("nothing comes before it", "give input_shape, such as 1:28:28")
    return shape


def _initialise(module: nn.Module, layer: Layer, generator: torch.Generator) -> None:
    values = layer.values
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    norm = layer.kind.endswith("normalization")
    with torch.no_grad():
        if isinstance(weight, nn.Parameter):
            kind = values["gamma_initializer" if norm else "weight_initializer"]
            _fill(weight, kind, *_fans(module, weight), generator)
        if isinstance(bias, nn.Parameter):
            kind = values["beta_initializer" if norm else "bias_initializer"]
            _fill(bias, kind, 1, bias.numel(), generator)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for name, theirs in (("running_mean", "mean"), ("running_var", "variance")):
                statistic = module.get_buffer(name)
                kind = values[f"moving_{theirs}_initializer"]
                _fill(statistic, kind, 1, statistic.numel(), generator)


def _fans(module: nn.Module, weight: torch.Tensor) -> tuple[int, int]:
    """Inputs and outputs of a weight, as nntrainer counts them."""
    if weight.dim() != 4:
        sizes = weight.shape if weight.dim() == 2 else (1, weight.numel())
        return (sizes[1], sizes[0]) if isinstance(module, nn.Linear) else (sizes[0], sizes[1])
    field = math.prod(weight.shape[2:])
    first, second = weight.shape[0] * field, weight.shape[1] * field
    return (first, second) if isinstance(module, nn.ConvTranspose2d) else (second, first)


def _fill(
    tensor: torch.Tensor, kind: str, fan_in: int, fan_out: int, generator: torch.Generator
) -> None:
    """Fill a tensor as nntrainer's initialiser of that name does."""
    if kind in ("zeros", "ones"):
        tensor.fill_(float(kind == "ones"))
        return
    family, _, form = kind.partition("_")
    if form == "normal":
        share = {"lecun": 1 / fan_in, "xavier": 2 / (fan_in + fan_out), "he": 2 / fan_in}[family]
        tensor.normal_(0, share**0.5, generator=generator)
    else:
        share = {"lecun": 1 / fan_in, "xavier": 6 / (fan_in + fan_out), "he": 6 / fan_in}[family]
        tensor.uniform_(-(share**0.5), share**0.5, generator=generator)
