"""What an export needs to know of a network, wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from model.networks import heads
from model.networks.backbone import Backbone
from model.transfer_net import TransferNet
from tod.format.manifest import InputSpec, Weights


@dataclass(frozen=True)
class Network:
    """A network and its facts.

    Attributes:
        name: for people.
        build: number of classes -> the network; the same number, the same weights.
        input: how pictures become its input.
        weights: where those of the backbone came from.
        head: what kind of head it has, for people.
        trainable: which parameters train unless told otherwise, see `model.networks.trainable`.
        head_name: what the backbone calls the layer that the head stands for.
    """

    name: str
    build: Callable[[int], TransferNet]
    input: InputSpec
    weights: Weights
    head: str
    trainable: str = "head"
    head_name: str = ""


def with_head(base: Backbone, head: str, *, std: float, seed: int) -> Network:
    """A pretrained backbone with a head of ours.

    Args:
        base: the backbone.
        head: see `model.networks.heads.parse`.
        std: standard deviation of the weights of the head's last layer.
        seed: of the head's weights.
    """
    spec = heads.parse(head)

    def build(classes: int) -> TransferNet:
        made = heads.build(spec, base.feature_count, classes, std=std, seed=seed)
        return TransferNet(base.module, made)

    return Network(base.name, build, base.input, base.weights, str(spec), head_name=base.head_name)
