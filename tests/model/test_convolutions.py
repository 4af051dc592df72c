"""The rewritten tail computes what torch computes, and so do its gradients."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from model.lowering import decompositions
from model.step import boundary
from model.step.convolutions import Rewritten


class Gate(nn.Module):
    """Squeeze-and-excitation's shape: a map times one number for each channel."""

    def forward(self, x):
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


class Twice(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) + 0.5 * x


def conv(*arguments, **options):
    return nn.Conv2d(*arguments, **options)


LAYERS = {
    "pointwise": conv(8, 6, 1),
    "pointwise without bias": conv(8, 6, 1, bias=False),
    "pointwise with stride": conv(8, 6, 1, stride=2),
    "pointwise with padding": conv(8, 6, 1, padding=1),
    "depthwise": conv(8, 8, 3, padding=1, groups=8),
    "depthwise with stride": conv(8, 8, 5, stride=2, padding=2, groups=8),
    "depthwise with dilation": conv(8, 8, 3, padding=2, dilation=2, groups=8),
    "depthwise, oblong": conv(8, 8, (1, 3), padding=(0, 1), groups=8),
    "dense": conv(8, 6, 3, padding=1),
    "dense with stride": conv(8, 6, 3, stride=2, padding=1),
    "grouped": conv(8, 12, 3, padding=1, groups=4),
    "transposed": nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1),
    "transposed, grouped": nn.ConvTranspose2d(8, 12, 2, stride=2, groups=4),
    "uneven padding": nn.Sequential(
        conv(8, 8, 1), nn.ZeroPad2d((0, 1, 2, 1)), conv(8, 8, 3, groups=8)
    ),
    "uneven padding, dense": nn.Sequential(
        conv(8, 8, 1), nn.ZeroPad2d((0, 1, 2, 1)), conv(8, 6, 3)
    ),
    "frozen norm": nn.Sequential(conv(8, 6, 1), nn.BatchNorm2d(6)),
    "frozen norm, depthwise": nn.Sequential(conv(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.ReLU6()),
    "frozen norm, dense": nn.Sequential(conv(8, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
    "norm alone": nn.Sequential(conv(8, 6, 1), nn.SiLU(), nn.BatchNorm2d(6)),
    "norm without scale": nn.Sequential(conv(8, 6, 1), nn.BatchNorm2d(6, affine=False)),
    "gate": nn.Sequential(conv(8, 6, 1), Gate(), nn.Hardswish()),
    "residual": Twice(nn.Sequential(conv(8, 8, 1), nn.GELU())),
    "pooled": nn.Sequential(conv(8, 6, 1), nn.AdaptiveAvgPool2d(1)),
    "pooled to 3": nn.Sequential(conv(8, 6, 1), nn.AdaptiveAvgPool2d(3)),
    "average": nn.Sequential(conv(8, 6, 1), nn.AvgPool2d(3, 2, 1)),
    "average of the inside": nn.Sequential(conv(8, 6, 3), nn.AvgPool2d(3, 2, 1, False, False)),
    "average, ceiling": nn.Sequential(conv(8, 6, 1), nn.AvgPool2d(3, 2, ceil_mode=True)),
    "average, divisor": nn.Sequential(conv(8, 6, 1), nn.AvgPool2d(2, divisor_override=3)),
    "maximum": nn.Sequential(conv(8, 6, 1), nn.MaxPool2d(3, 2, 1)),
    "group norm": nn.Sequential(conv(8, 6, 1), nn.GroupNorm(2, 6)),
}


def random_statistics(net):
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)


@pytest.mark.parametrize("side", [7, 24], ids=["small map", "large map"])
@pytest.mark.parametrize("layer", LAYERS)
def test_forward_and_gradients_equal_torch(layer, side):
    torch.manual_seed(0)
    net = nn.Sequential(LAYERS[layer], nn.Flatten()).eval()
    random_statistics(net)
    names = [name for name, _ in net.named_parameters()]
    split = boundary.split(net, net, (8, side, side), names)
    features = torch.randn(5, 8, side, side)
    rewritten = Rewritten(split.tail)
    found, statistics = rewritten(split.frozen(features))
    wanted = net(features)
    assert statistics == {}
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    if not names:
        return
    weight = torch.randn_like(wanted)
    theirs = torch.autograd.grad((wanted * weight).sum(), net.parameters())
    ours = torch.autograd.grad(
        (found * weight).sum(), [split.tail.get_parameter(name) for name in names]
    )
    for name, a, b in zip(names, ours, theirs, strict=True):
        assert torch.linalg.norm(a - b) < 1e-4 * (torch.linalg.norm(b) + 1e-3), name


@pytest.mark.parametrize("side", [7, 24], ids=["small map", "large map"])
def test_batch_norm_in_training_equals_torch(side):
    """Output, and the running mean and variance after the batch."""
    torch.manual_seed(0)
    net = nn.Sequential(conv(8, 6, 1), nn.BatchNorm2d(6, momentum=0.3), nn.Flatten()).train()
    random_statistics(net)
    features = torch.randn(5, 8, side, side)
    split = boundary.split(net, net, (8, side, side), ["0.weight", "1.weight"])
    found, statistics = Rewritten(split.tail)(features)
    wanted = net(features)
    assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert list(statistics) == ["1.running_mean", "1.running_var"]
    for name, value in statistics.items():
        assert torch.allclose(value, net.get_buffer(name), rtol=1e-5)


CONVOLUTIONS = [
    nn.Conv2d(6, 4, 3, padding=1),
    nn.Conv2d(6, 4, 3, stride=2),
    nn.Conv2d(6, 4, (2, 3), stride=(1, 2), padding=(1, 0), dilation=(2, 1)),
    nn.Conv2d(6, 6, 5, stride=2, padding=2, groups=6),
    nn.Conv2d(6, 9, 3, padding=1, groups=3),
    nn.Conv2d(6, 4, 1, stride=3),
    nn.Conv2d(6, 4, 5),
    nn.Conv2d(6, 4, (5, 3), padding=(2, 1)),
    nn.ConvTranspose2d(6, 4, 5, padding=1),
    nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1),
    nn.ConvTranspose2d(6, 9, 3, dilation=2, groups=3),
]


@pytest.mark.parametrize("layer", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("side", [9, 12])
def test_the_gradient_of_a_convolution_equals_torch(layer, side):
    torch.manual_seed(0)
    x = torch.randn(3, 6, side, side)
    y = layer(x)
    gradient = torch.randn_like(y)
    transposed = isinstance(layer, nn.ConvTranspose2d)
    arguments = (
        gradient, x, layer.weight, [layer.out_channels], list(layer.stride), list(layer.padding),
        list(layer.dilation), transposed, list(layer.output_padding), layer.groups,
        [True, True, True],
    )  # fmt: skip
    wanted = torch.ops.aten.convolution_backward(*arguments)
    found = decompositions.convolution_backward(*arguments)
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_the_corners_of_relu_are_torchs():
    x = torch.tensor([-1.0, 0.0, 3.0, 6.0, 7.0], requires_grad=True)
    ones = torch.ones(5)
    (wanted,) = torch.autograd.grad(nn.functional.relu6(x).sum(), x)
    assert torch.equal(decompositions.hardtanh_backward(ones, x.detach(), 0, 6), wanted)
    (wanted,) = torch.autograd.grad(nn.functional.relu(x).sum(), x)
    assert torch.equal(decompositions.threshold_backward(ones, x.detach(), 0), wanted)


def test_parameters_are_taken_from_outside():
    """`functional_call` reaches what the graph names."""
    net = nn.Sequential(conv(8, 6, 1), nn.Flatten()).eval()
    tail = boundary.split(net, net, (8, 7, 7), ["0.weight"]).tail
    features = torch.randn(2, 8, 7, 7)
    zeros = {"tail.0.weight": torch.zeros(6, 8, 1, 1), "tail.0.bias": torch.ones(6)}
    found, _ = functional_call(Rewritten(tail), zeros, (features,))
    assert torch.equal(found, torch.ones(2, 6 * 49))


def test_tokens_pass_a_linear_layer_as_in_torch():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 3, bias=False))
    split = boundary.split(net, net, (5, 8), [name for name, _ in net.named_parameters()])
    x = torch.randn(4, 5, 8)
    found, _ = Rewritten(split.tail)(x)
    assert torch.allclose(found, net(x), rtol=1e-5, atol=1e-6)
