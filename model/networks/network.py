"""The facts of a network that an export needs, for networks from any source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from model.networks import heads
from model.networks.backbone import Backbone
from model.transfer_net import TransferNet
from tod.format.manifest import SampleSpec, Weights


@dataclass(frozen=True)
class Network:
    """A network and its facts.

    Attributes:
        name: for people.
        build: number of classes -> the network; the same number gives the same weights.
        input: what a sample is, and how it becomes the network's input.
        weights: where the backbone's weights came from.
        head: the kind of its head, for people.
        trainable: the parameters that train by default, see `model.networks.trainable`.
        head_name: the backbone's name for the layer that the head replaces.
    """

    name: str
    build: Callable[[int], TransferNet]
    input: SampleSpec
    weights: Weights
    head: str
    trainable: str = "head"
    head_name: str = ""


def with_head(base: Backbone, head: str, *, std: float, seed: int) -> Network:
    """Combine a pretrained backbone with a new head.

    Args:
        base: the backbone.
        head: see `model.networks.heads.parse`.
        std: standard deviation of the weights of the head's last layer.
        seed: for the head's weights.
    """
    spec = heads.parse(head)

    def build(classes: int) -> TransferNet:
        made = heads.build(spec, base.feature_count, classes, std=std, seed=seed)
        return TransferNet(base.module, made)

    return Network(base.name, build, base.input, base.weights, str(spec), head_name=base.head_name)
