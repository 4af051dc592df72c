"""An INI file of nntrainer as a network of TOD, and how it trains."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from model.networks.network import Network
from model.networks.nntrainer import graph, network, recipe, text, weights
from model.networks.nntrainer.built import said
from model.networks.nntrainer.graph import Layer
from model.networks.nntrainer.network import IniNetwork
from model.networks.nntrainer.recipe import Recipe
from model.transfer_net import TransferNet
from tod.format.manifest import TensorSpec, Weights

HEAD = "head."


@dataclass(frozen=True)
class Ini:
    """What a file says.

    Attributes:
        layers: up to the logits, in nntrainer's order.
        recipe: how it trains.
        classes: units of the layer that has one for each class.
        network: for `model.export.export_network`.
        decayed: full names of the parameters that weight decay works on; None: all that train.
    """

    layers: tuple[Layer, ...]
    recipe: Recipe
    classes: int
    network: Network
    decayed: tuple[str, ...] | None

    def build(self, classes: int | None = None, seed: int = 0) -> IniNetwork:
        """The network alone, with weights of its initialisers."""
        return _build(self.layers, self.classes if classes is None else classes, seed)


def load(path: Path, *, weights_file: Path | None = None, seed: int = 0) -> Ini:
    """Read a file.

    Args:
        path: ends in .ini.
        weights_file: nntrainer's weights of this network; None: its initialisers fill them.
        seed: for those.

    Raises:
        UsageError: anything in it that is wrong or not supported; it names file, line and section.
        DataError: the weights cannot be read.
    """
    sections = text.read(path)
    found = graph.in_order(graph.layers(sections, path))
    graph.last(found)
    how, kept = recipe.read(sections, found)
    layers = tuple(kept)
    classes = network.units(network.class_layer(layers))
    net = _build(layers, classes, seed)
    origin = Weights(f"random numbers, by the initialisers of {path.name}", "", "")
    if weights_file is not None:
        origin = weights.load(net, weights_file)

    def build(count: int) -> TransferNet:
        made = _build(layers, count, seed)
        # With another number of classes, for tracing, the frozen part must be the same.
        own = made.state_dict()
        same = {n: v for n, v in net.state_dict().items() if v.shape == own[n].shape}
        made.load_state_dict(own | same)
        # All of it is the head: there dropout and batch normalisation work as nntrainer has them.
        return TransferNet(nn.Identity(), made)

    described = Network(
        path.stem, build, _spec(layers), origin, "nntrainer INI", _trainable(layers, net)
    )
    decayed = how.decayed
    names = None if decayed is None else tuple(_tensor(net, *pair) for pair in decayed)
    return Ini(layers, how, classes, described, names)


def _build(layers: tuple[Layer, ...], classes: int, seed: int) -> IniNetwork:
    net = IniNetwork(layers, {network.class_layer(layers).name: classes}, seed)
    shape = net.out_shape
    if shape.count(1) < 2 or max(shape) != classes:
        raise layers[-1].place.wrong(
            f"the output is {said(shape)}, wanted one number for each of the {classes} classes",
            "flatten before the last fully_connected, or pool globally after it",
        )
    return net


def _spec(layers: tuple[Layer, ...]) -> TensorSpec:
    shape = layers[0].values["input_shape"]
    if shape is None:
        raise layers[0].place.wrong("the first layer needs input_shape, such as 1:28:28")
    return TensorSpec(shape[2:] if shape[:2] == (1, 1) else shape)


def _trainable(layers: tuple[Layer, ...], net: IniNetwork) -> str:
    owners = [layer for layer in layers if net.names(layer.name)]
    training = [layer for layer in owners if layer.values["trainable"]]
    if training == owners:
        return "all"
    modules = (net.names(layer.name)[0].rpartition(".")[0] for layer in training)
    return ",".join(f"{HEAD}{module}.*" for module in modules)


def _tensor(net: IniNetwork, layer: str, tensor: str) -> str:
    return next(f"{HEAD}{name}" for name in net.names(layer) if name.endswith(f".{tensor}"))
