"""Each kind of layer of nntrainer against torch, written out once more."""

import pytest
import torch
from torch.nn import functional as nnf

from model.networks.nntrainer.load import load
from model.networks.nntrainer.tables import ACTIVATIONS, INITIALISERS, LAYERS
from tests.support.ini_files import HEAD
from tod.errors import UsageError

END = """
[flat]
type = flatten

[out]
type = fully_connected
unit = 3
activation = softmax
"""


def network(folder, layers, shape="2:6:6", end=END):
    path = folder / "net.ini"
    path.write_text(f"{HEAD}\n[in]\ntype = input\ninput_shape = {shape}\n{layers}{end}")
    return load(path).build()


def computed(folder, keys, shape="2:6:6"):
    """The layer `x`, its input and its output."""
    net = network(folder, f"\n[x]\n{keys}\n", shape)
    sizes = [int(size) for size in shape.split(":")]
    x = torch.randn(4, *(sizes[2:] if sizes[:2] == [1, 1] else sizes))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    got = {}
    net.x.register_forward_hook(lambda module, inputs, y: got.update(y=y))
    inside = net.flat.register_forward_hook(lambda module, inputs, y: got.update(y=inputs[0]))
    net(x)
    inside.remove()
    return net.x, x, got["y"]


def pad(x, top, bottom, left, right, value=0.0):
    return nnf.pad(x, (left, right, top, bottom), value=value)


def line(x, left, right):
    return nnf.pad(x[:, :, 0], (left, right))


CASES = {
    "conv2d": (
        "type = conv2d\nfilters = 5\nkernel_size = 3,2\nstride = 2,1\ndilation = 1,2\n"
        "padding = 2,1\n",
        lambda m, x: nnf.conv2d(x, m.weight, m.bias, (2, 1), (2, 1), (1, 2)),
    ),
    "conv2d same": (
        "type = conv2d\nfilters = 5\nkernel_size = 3,4\nstride = 2,2\npadding = same\n",
        lambda m, x: nnf.conv2d(pad(x, 0, 1, 1, 1), m.weight, m.bias, 2),
    ),
    "conv2d four sides": (
        "type = conv2d\nfilters = 5\nkernel_size = 3,3\npadding = 0,1,2,3\ndisable_bias = true\n",
        lambda m, x: nnf.conv2d(pad(x, 0, 1, 2, 3), m.weight),
    ),
    "depthwiseconv2d": (
        "type = depthwiseconv2d\nkernel_size = 3,3\npadding = 1\n",
        lambda m, x: nnf.conv2d(x, m.weight, m.bias, 1, 1, 1, 2),
    ),
    "depthwiseconv2d twice": (
        "type = depthwiseconv2d\nfilters = 4\nkernel_size = 3,3\n",
        lambda m, x: nnf.conv2d(x, m.weight, m.bias, groups=2),
    ),
    "conv2dtranspose": (
        "type = conv2dtranspose\nfilters = 3\nkernel_size = 3,3\nstride = 2,2\npadding = 1\n",
        lambda m, x: nnf.conv_transpose2d(x, m.weight, m.bias, 2, 1),
    ),
    "conv2dtranspose sides": (
        "type = conv2dtranspose\nfilters = 3\nkernel_size = 3,3\npadding = 1,0,0,2\n",
        lambda m, x: nnf.conv_transpose2d(x, m.weight, m.bias)[:, :, 1:, :-2],
    ),
    "max": (
        "type = pooling2d\npooling = max\npool_size = 3,2\nstride = 2,1\npadding = 1,0\n",
        lambda m, x: nnf.max_pool2d(x, (3, 2), (2, 1), (1, 0)),
    ),
    "average": (
        "type = pooling2d\npooling = average\npool_size = 2,2\nstride = 2,2\n",
        lambda m, x: nnf.avg_pool2d(x, 2, 2),
    ),
    "average padded": (
        "type = pooling2d\npooling = average\npool_size = 3,3\nstride = 2,2\npadding = 1\n",
        lambda m, x: nnf.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    ),
    "average same": (
        "type = pooling2d\npooling = average\npool_size = 2,2\npadding = same\n",
        lambda m, x: (
            nnf.avg_pool2d(pad(x, 0, 1, 0, 1), 2, 1)
            / nnf.avg_pool2d(pad(torch.ones_like(x), 0, 1, 0, 1), 2, 1)
        ),
    ),
    "global_max": (
        "type = pooling2d\npooling = global_max\n",
        lambda m, x: nnf.adaptive_max_pool2d(x, 1),
    ),
    "global_average": (
        "type = pooling2d\npooling = global_average\n",
        lambda m, x: nnf.adaptive_avg_pool2d(x, 1),
    ),
    "batch_normalization": (
        "type = batch_normalization\nepsilon = 0.01\n",
        lambda m, x: nnf.batch_norm(x, None, None, m.weight, m.bias, True, eps=0.01),
    ),
    "layer_normalization": (
        "type = layer_normalization\naxis = 2,3\n",
        lambda m, x: nnf.layer_norm(x, (6, 6), m.weight[0], m.bias[0], 1e-3),
    ),
    "layer_normalization of channels": (
        "type = layer_normalization\naxis = 1\n",
        lambda m, x: nnf.layer_norm(
            x.permute(0, 2, 3, 1), (2,), m.weight[:, 0, 0], m.bias[:, 0, 0], 1e-3
        ).permute(0, 3, 1, 2),
    ),
    "permute": ("type = permute\ndirection = 3,1,2\n", lambda m, x: x.permute(0, 3, 1, 2)),
    "reshape": ("type = reshape\ntarget_shape = 3:4:6\n", lambda m, x: x.reshape(-1, 3, 4, 6)),
    "slice": (
        "type = slice\naxis = 3\nstart_index = 2\nend_index = 5\n",
        lambda m, x: x[..., 1:4],
    ),
    "nearest": (
        "type = upsample2d\nupsample = nearest\nkernel_size = 2,3\n",
        lambda m, x: nnf.interpolate(x, scale_factor=(2, 3)),
    ),
    "bilinear": (
        "type = upsample2d\nupsample = bilinear\nkernel_size = 3,2\n",
        lambda m, x: nnf.interpolate(x, scale_factor=(3, 2), mode="bilinear"),
    ),
    "fully_connected of a picture": (
        "type = fully_connected\nunit = 4\n",
        lambda m, x: nnf.linear(x, m.weight, m.bias),
    ),
    "identity": ("type = identity\n", lambda m, x: x),
    "multiout": ("type = multiout\n", lambda m, x: x),
    "flatten of a key": (
        "type = conv2d\nfilters = 2\nkernel_size = 2,2\nflatten = true\nactivation = relu\n",
        lambda m, x: nnf.conv2d(x, m.weight, m.bias).relu().flatten(1),
    ),
}
LINES = {
    "conv1d": (
        "type = conv1d\nfilters = 4\nkernel_size = 3\nstride = 2\npadding = 1,2\n",
        lambda m, x: nnf.conv1d(line(x, 1, 2), m.weight[:, :, 0], m.bias, 2)[:, :, None],
    ),
    "conv1d same": (
        "type = conv1d\nfilters = 4\nkernel_size = 4\ndilation = 2\npadding = same\n",
        lambda m, x: nnf.conv1d(nnf.pad(x[:, :, 0], (3, 3)), m.weight[:, :, 0], m.bias, dilation=2)[
            :, :, None
        ],
    ),
    "conv1d causal": (
        "type = conv1d\nfilters = 4\nkernel_size = 3\npadding = causal\n",
        lambda m, x: nnf.conv1d(line(x, 2, 0), m.weight[:, :, 0], m.bias)[:, :, None],
    ),
}


def check(folder, keys, wanted, shape):
    module, x, y = computed(folder, keys, shape)
    torch.testing.assert_close(y, wanted(module, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_layer_of_pictures(tmp_path, name):
    check(tmp_path, *CASES[name], "2:6:6")


@pytest.mark.parametrize("name", LINES)
def test_a_layer_of_lines(tmp_path, name):
    check(tmp_path, *LINES[name], "2:1:9")


def test_batch_normalization_of_one_channel_is_along_the_width(tmp_path):
    check(
        tmp_path,
        "type = batch_normalization\n",
        lambda m, x: nnf.batch_norm(
            x.transpose(1, 3), None, None, m.weight, m.bias, True, eps=1e-3
        ).transpose(1, 3),
        "1:5:6",
    )


def test_batch_normalization_of_rows_keeps_nntrainer_s_share_of_the_past(tmp_path):
    module, x, _ = computed(tmp_path, "type = batch_normalization\nmomentum = 0.9", "1:1:6")
    torch.testing.assert_close(module.running_mean, 0.1 * x.mean(0))


def test_embedding(tmp_path):
    net = network(tmp_path, "\n[x]\ntype = embedding\nin_dim = 7\nout_dim = 3\n", "1:1:4")
    rows = torch.tensor([[0.0, 6, 3, 3], [1, 2, 3, 4]])
    wanted = nnf.embedding(rows.long(), net.x.weight)[:, None]
    torch.testing.assert_close(net.x(rows[:, None, None]), wanted)


THEIRS = {
    "tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": nnf.relu, "swish": nnf.silu,
    "gelu": nnf.gelu,
    "softmax": lambda x: nnf.softmax(x, -1), "leaky_relu": lambda x: nnf.leaky_relu(x, 0.01),
    "tanh_gelu": lambda x: nnf.gelu(x, approximate="tanh"), "elu": nnf.elu, "selu": nnf.selu,
    "sigmoid_gelu": lambda x: x * torch.sigmoid(1.702 * x), "mish": nnf.mish,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x), "softplus": nnf.softplus,
    "none": lambda x: x,
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation(tmp_path, name):
    _, x, y = computed(tmp_path, f"type = activation\nactivation = {name}")
    torch.testing.assert_close(y, THEIRS[name](x), rtol=1e-5, atol=1e-5)


def test_several_inputs_and_outputs(tmp_path):
    net = network(
        tmp_path,
        """
[cut]
type = split
axis = 2
split_number = 3
[a]
type = activation
activation = relu
input_layers = cut(2)
[b]
type = identity
input_layers = cut
[sum]
type = addition
input_layers = a, b, cut(1)
[join]
type = concat
axis = 3
input_layers = sum, a
""",
    )
    x = torch.randn(3, 2, 6, 6)
    got = {}
    net.flat.register_forward_hook(lambda module, inputs, y: got.update(y=inputs[0]))
    net(x)
    a, b, c = x[:, :, 4:].relu(), x[:, :, :2], x[:, :, 2:4]
    torch.testing.assert_close(got["y"], torch.cat([a + b + c, a], 3))


def test_a_layer_with_several_readers_needs_no_multiout(tmp_path):
    net = network(
        tmp_path,
        "\n[m]\ntype = multiout\n[a]\ntype = identity\ninput_layers = m(0)\n"
        "[b]\ntype = identity\ninput_layers = m(1)\n[s]\ntype = addition\ninput_layers = a,b\n",
    )
    assert net(torch.randn(2, 2, 6, 6)).shape == (2, 3)


def test_dropout_works_in_training_alone(tmp_path):
    net = network(tmp_path, "\n[x]\ntype = dropout\ndropout_rate = 0.5\n")
    x = torch.randn(8, 2, 6, 6)
    assert torch.equal(net.eval().x(x), x)
    kept = net.train().x(x)
    assert set((kept != 0).unique().tolist()) == {False, True}
    torch.testing.assert_close(kept[kept != 0], 2 * x[kept != 0])


@pytest.mark.parametrize("kind", INITIALISERS)
def test_an_initialiser_has_nntrainer_s_spread(tmp_path, kind):
    net = network(
        tmp_path,
        f"\n[x]\ntype = conv2d\nfilters = 64\nkernel_size = 3,3\nweight_initializer = {kind}\n",
        "32:6:6",
    )
    weight, ins, outs = net.x.weight.detach(), 32 * 9, 64 * 9
    if kind in ("zeros", "ones"):
        assert (weight == float(kind == "ones")).all()
        return
    family, form = kind.split("_")
    share = {"lecun": 1 / ins, "xavier": 2 / (ins + outs), "he": 2 / ins}[family]
    if form == "uniform":
        most = {"lecun": 1 / ins, "xavier": 6 / (ins + outs), "he": 6 / ins}[family] ** 0.5
        assert weight.abs().max().item() == pytest.approx(most, rel=0.01)
    else:
        assert weight.std().item() == pytest.approx(share**0.5, rel=0.03)
    assert not net.x.bias.any()


def test_every_layer_of_the_table_is_built():
    from model.networks.nntrainer.graph import LOSSES
    from model.networks.nntrainer.layers import _KINDS

    assert set(_KINDS) == set(LAYERS) - set(LOSSES)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("type = conv2d\nfilters = 2\nkernel_size = 7,7", "a window of 7 x 7 does not fit into"),
        ("type = conv1d\nfilters = 2\nkernel_size = 2", "conv1d takes c:1:w, its input is 2:6:6"),
        ("type = depthwiseconv2d\nfilters = 3\nkernel_size = 2,2", "a multiple of the 2 channels"),
        ("type = pooling2d\npooling = max", "pooling2d needs pool_size"),
        ("type = pooling2d\npooling = global_max\npadding = 1", "neither stride nor padding"),
        ("type = pooling2d\npooling = global_max\npool_size = 2,2", "takes no pool_size"),
        ("type = pooling2d\npooling = average\npool_size = 1,1\npadding = 1", "nothing has a mean"),
        ("type = reshape\ntarget_shape = 5", "2:6:6 has not as many numbers as 1:1:5"),
        ("type = permute\ndirection = 1,1,2", "wanted 1, 2 and 3"),
        ("type = split\naxis = 1\nsplit_number = 3", "2 cannot be split into 3"),
        ("type = slice\naxis = 1\nstart_index = 2\nend_index = 9", "indices 2 up to before 9"),
        ("type = embedding\nin_dim = 3\nout_dim = 3", "embedding takes 1:1:w"),
        ("type = addition\ninput_layers = in, in2", "there is no layer 'in2'"),
        ("type = conv2dtranspose\nfilters = 1\nkernel_size = 1,1\npadding = 3", "nothing is left"),
        ("type = identity\ninput_shape = 2:5:5", "input_shape is 2:5:5, its input has 2:6:6"),
        ("type = identity\ninput_layers = in,in", "identity takes one input, it has 2"),
    ],
)
def test_shapes_that_do_not_fit(tmp_path, keys, said):
    with pytest.raises(UsageError) as refused:
        network(tmp_path, f"\n[x]\n{keys}\n")
    assert said in str(refused.value)
    assert "[x]" in str(refused.value)


def test_shapes_that_cannot_be_added_or_joined(tmp_path):
    part = "\n[p]\ntype = slice\naxis = 2\nstart_index = 1\nend_index = 3\n"
    for kind, said in (("addition", "it adds 2:6:6 and 2:2:6"), ("concat", "it joins 2:6:6")):
        with pytest.raises(UsageError, match=said):
            network(tmp_path, f"{part}[x]\ntype = {kind}\ninput_layers = in, p\n")
