"""The layers of an INI file: which there are, and which one reads which.

Knows sections and names; knows no shapes and no torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.networks.nntrainer import keys, tables, text
from model.networks.nntrainer.text import Place, Section
from tod.system.names import near_names

NO_LAYERS = ("model", "optimizer", "learningratescheduler", "dataset", "train_set", "valid_set",
             "test_set")  # fmt: skip
LOSSES = ("mse", "cross_softmax", "cross_sigmoid")
_NAME = re.compile(r"[a-z0-9][-_./a-z0-9]*")
_SOURCE = re.compile(rf"({_NAME.pattern})(?:\((\d{{1,6}})\))?")
_MAX_NESTING = 8


@dataclass(frozen=True)
class Source:
    """One output of a layer; only `split` has several."""

    layer: str
    index: int = 0


@dataclass(frozen=True)
class Layer:
    """A section that is a layer.

    Attributes:
        values: of its keys, see `tables.LAYERS`.
        inputs: what it reads; empty for the first one.
    """

    name: str
    kind: str
    place: Place
    values: Mapping[str, Any]
    inputs: tuple[Source, ...] = ()


def layers(sections: Sequence[Section], path: Path, depth: int = 0) -> list[Layer]:
    """The layers of a file in its order, those of backbones among them, with their inputs.

    Raises:
        UsageError: an unknown layer, key or input.
    """
    found: list[Layer] = []
    outputs: dict[str, str] = {}  # the name of a backbone -> its last layer
    for section in sections:
        if section.name in NO_LAYERS:
            continue
        if not _NAME.fullmatch(section.name):
            raise section.place.wrong(
                f"[{section.name}] is no name of a layer",
                "letters, digits and - _ . / are allowed",
            )
        before = found[-1].name if found else None
        if "backbone" in section.items:
            made = _backbone(section, path, before, depth)
            outputs[section.name] = made[-1].name
            found += made
        else:
            found.append(_layer(section, before))
    if not found:
        raise Place(path, 1).wrong("it has no layers", "a layer is a section with a type")
    return _connected(found, outputs)


def in_order(found: Sequence[Layer]) -> list[Layer]:
    """The layers as nntrainer sorts them, which is the order of the weights in its files: depth
    first from the first layer, the last reader's way before the first one's.

    Raises:
        UsageError: they form a circle.
    """
    by_name = {layer.name: layer for layer in found}
    readers: dict[str, list[str]] = {layer.name: [] for layer in found}
    for layer in found:
        for source in layer.inputs:
            readers[source.layer].append(layer.name)
    done: list[Layer] = []
    state: dict[str, str] = {}
    for layer in found:
        if layer.name in state:
            continue
        state[layer.name] = "open"
        waiting: list[tuple[str, Iterator[str]]] = [(layer.name, iter(readers[layer.name]))]
        while waiting:
            name, rest = waiting[-1]
            for reader in rest:
                if state.get(reader) == "open":
                    raise by_name[reader].place.wrong(f"it reads {name}, which reads it")
                if reader not in state:
                    state[reader] = "open"
                    waiting.append((reader, iter(readers[reader])))
                    break
            else:
                waiting.pop()
                state[name] = "done"
                done.append(by_name[name])
    return done[::-1]


def last(found: Sequence[Layer]) -> Layer:
    """The one layer that nobody reads.

    Raises:
        UsageError: there are several.
    """
    read = {source.layer for layer in found for source in layer.inputs}
    ends = [layer for layer in found if layer.name not in read]
    if len(ends) > 1:
        names = " and ".join(layer.name for layer in ends[:4])
        raise ends[0].place.wrong(
            f"no layer reads {names}", "a network of TOD has one output: take out the others"
        )
    return ends[0]


def _layer(section: Section, before: str | None) -> Layer:
    if "type" not in section.items:
        hint = near_names(section.name, [*NO_LAYERS, "a section with type = conv2d"])
        raise section.place.wrong("a layer needs a type, or a backbone", hint)
    item = section.items["type"]
    kind = item.value.lower()
    if kind in tables.REFUSED:
        raise item.place.wrong(f"the layer {kind} is not supported", tables.REFUSED[kind])
    if kind not in tables.LAYERS:
        raise item.place.wrong(
            f"there is no layer '{item.value}'", near_names(kind, list(tables.LAYERS))
        )
    values = keys.read(section, tables.LAYERS[kind], kind)
    return Layer(section.name, kind, section.place, values, _inputs(section, values, before))


def _inputs(section: Section, values: Mapping[str, Any], before: str | None) -> tuple[Source, ...]:
    if values["input_layers"] is None:
        return (Source(before),) if before is not None else ()
    sources = []
    for name in values["input_layers"]:
        match = _SOURCE.fullmatch(name)
        if match is None:
            raise section.items["input_layers"].place.wrong(
                f"input_layers: {name!r} is no layer", "for example conv1, or split(1)"
            )
        sources.append(Source(match[1], int(match[2] or 0)))
    return tuple(sources)


def _backbone(section: Section, path: Path, before: str | None, depth: int) -> list[Layer]:
    """The layers of another file, with this section's name before theirs."""
    item = section.items["backbone"]
    values = keys.read(section, tables.BACKBONE, "a backbone")
    file = path.parent / item.value
    if file.suffix.lower() != ".ini":
        raise item.place.wrong(
            f"backbone = {item.value} is not supported", "only a backbone in an INI file is read"
        )
    if depth >= _MAX_NESTING:
        raise item.place.wrong(f"backbones stand in each other {_MAX_NESTING} deep")
    inner = layers(text.read(file), file, depth + 1)
    outer = _inputs(section, values, before)
    made = []
    for layer in inner:
        inputs = tuple(replace(s, layer=f"{section.name}/{s.layer}") for s in layer.inputs)
        changed = dict(layer.values) | {"trainable": values["trainable"]}
        if layer is inner[0]:
            inputs = outer
            changed |= {"input_shape": values["input_shape"] or layer.values["input_shape"]}
        name = f"{section.name}/{layer.name}"
        made.append(replace(layer, name=name, values=changed, inputs=inputs))
    last(inner)
    return made


def _connected(found: list[Layer], outputs: Mapping[str, str]) -> list[Layer]:
    """The same with the names of backbones replaced, all names checked."""
    places: dict[str, Place] = {}
    for layer in found:
        if layer.name in places:
            raise layer.place.wrong(f"there are two layers {layer.name}")
        places[layer.name] = layer.place
    made = []
    for layer in found:
        inputs = []
        for source in layer.inputs:
            name = outputs.get(source.layer, source.layer)
            if name not in places:
                raise layer.place.wrong(
                    f"input_layers: there is no layer '{name}'",
                    near_names(name, [*places, *outputs]),
                )
            inputs.append(replace(source, layer=name))
        made.append(replace(layer, inputs=tuple(inputs)))
    return made
