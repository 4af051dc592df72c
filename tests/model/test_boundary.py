"""Where the frozen part ends, for every choice of what trains."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from model.networks import trainable
from model.step import boundary
from model.transfer_net import TransferNet
from tod.errors import UsageError


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.one = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.two = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        return functional.relu(self.two(functional.relu(self.norm(self.one(x))))) + x


def net_of(head=None):
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(inplace=True)),
        nn.Sequential(Block(4), Block(4), Block(4)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return TransferNet(backbone, head or nn.Linear(4, 3)).eval()


def split_of(net, wanted, training=None):
    names = trainable.names(net, wanted)
    return boundary.split(net, training or net, (3, 9, 9), names)


CASES = {
    "head": ("backbone.3", (4,)),
    "last:1": ("backbone.1.1", (4, 4, 4)),
    "last:2": ("backbone.1.0", (4, 4, 4)),
    "last:3": ("backbone.0.1", (4, 4, 4)),
    "all": ("", (3, 9, 9)),
    # Inside a residual block: what goes round it has to pass the boundary as well.
    "1.2.two.*": ("backbone.1.1", (4, 4, 4)),
    "1.0.norm.*,head.bias": ("backbone.0.1", (4, 4, 4)),
    "head.bias": ("head", (3,)),
}


@pytest.mark.parametrize("wanted", CASES)
def test_the_boundary_is_the_deepest_that_works(wanted):
    net = net_of()
    split = split_of(net, wanted)
    if wanted == "head.bias":
        # A bias inside one linear layer cannot be cut off.
        assert split.feature_shape == (4,)
    else:
        assert (split.boundary, split.feature_shape) == CASES[wanted]
    x = torch.randn(5, 3, 9, 9)
    with torch.no_grad():
        features = split.frozen(x)
        assert features.shape[1:] == split.feature_shape
        assert torch.equal(split.evaluation(features), net(x))
    used = {name for name, _ in split.tail.named_parameters()}
    assert set(trainable.names(net, wanted)) <= used


def test_what_is_overwritten_in_place_is_seen_by_later_readers():
    class Overwrites(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, x):
            y = x * self.scale
            y.relu_()
            return (y.mul_(2) + y).mean((2, 3))

    net = TransferNet(Overwrites(), nn.Identity()).eval()
    split = boundary.split(net, net, (3, 4, 4), ["backbone.scale"])
    x = torch.randn(5, 3, 4, 4)
    kept = x.clone()
    assert torch.equal(split.tail(split.frozen(x)), net(x))
    assert torch.equal(x, kept)


def test_dropout_takes_its_noise_from_an_input():
    net = net_of(nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.25), nn.Dropout(0), nn.Linear(8, 3)))
    training = copy.deepcopy(net)
    training.train()
    split = split_of(net, "head", training)
    assert split.noise == {"noise_head_1": (8,)}
    features, noise = torch.randn(6, 4), torch.rand(6, 8)
    first, _, _, last = net.head
    wanted = last(first(features) * (noise >= 0.25) / 0.75)
    assert torch.allclose(split.tail(features, noise), wanted)
    assert torch.equal(split.evaluation(features), net.head(features))


def test_dropout_drops_the_share_it_says():
    net = nn.Sequential(nn.Linear(4, 2000), nn.Dropout(0.3)).train()
    split = boundary.split(net, net, (4,), ["0.weight"])
    (noise,) = split.noise.values()
    out = split.tail(torch.ones(3, 4), torch.rand(3, *noise))
    assert (out == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_statistics_of_a_norm_that_trains_are_named():
    net = net_of()
    training = copy.deepcopy(net)
    training.backbone[1][2].norm.train()
    split = split_of(net, "last:1", training)
    stem = "backbone.1.2.norm.running_"
    assert split.statistics == (f"{stem}mean", f"{stem}var")


class Depends(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Remembers(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x):
        y = x * self.scale
        self.seen.add_(y.detach().mean(0))
        return y


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Depends(), r"cannot be traced.*test_boundary.py, line \d+: return x if x.sum"),
        (Remembers(), "'head.0' writes its buffer 'head.0.seen'"),
    ],
)
def test_refusals_name_the_layer(layer, message, capfd):
    net = net_of(nn.Sequential(layer, nn.Linear(4, 3)))
    with pytest.raises(UsageError, match=message):
        split_of(net, "head")
    # torch.export would list what it had traced until then.
    assert capfd.readouterr() == ("", "")


def test_last_counts_blocks_and_what_follows_them():
    net = net_of()
    assert trainable.blocks(net.backbone) == [("0",), ("1.0",), ("1.1",), ("1.2",)]
    names = trainable.names(net, "last:1")
    assert names[0] == "backbone.1.2.one.weight"
    assert names[-1] == "head.bias"
    assert trainable.names(net, "all") == [name for name, _ in net.named_parameters()]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("last:5", "this backbone has 4 blocks"),
        ("last:0", "last:1 to last:4"),
        ("last:x", "this backbone has 4 blocks"),
        ("1.2.tow.*", "no parameter is called '1.2.tow.*'"),
    ],
)
def test_mistakes_are_named(wanted, message):
    with pytest.raises(UsageError) as error:
        trainable.names(net_of(), wanted)
    assert message in str(error.value)


def test_patterns_take_the_backbones_own_name_for_the_head():
    net = net_of()
    assert trainable.names(net, "classifier.*", head_name="classifier") == [
        "head.weight", "head.bias"
    ]  # fmt: skip
    assert trainable.names(net, "backbone.1.2.two.weight") == ["backbone.1.2.two.weight"]
