"""The lowered graphs compute what torch computes, for any batch and any number of classes."""

import copy

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from model.lowering import lowering
from model.lowering.torch_reference import relative
from model.networks import heads
from model.step.losses import SoftmaxCrossEntropy
from model.step.optimizers import SGD, Adam
from model.train_wrap import TrainWrap
from model.transfer_net import PixelsToFeatures, TransferNet
from tod.format.manifest import InputSpec
from tod.runtime.engine import Engine

FEATURES = 24
HALF = (0.5, 0.5, 0.5)


def wrap_for(optimizer, classes):
    return TrainWrap(net_for(classes), optimizer=optimizer, input_shape=(FEATURES,))


def net_for(classes):
    return TransferNet(nn.Identity(), heads.linear(FEATURES, classes, std=0.1))


def axes():
    return lowering.class_axes(net_for(lowering.PROBE_CLASSES), net_for(lowering.OTHER_CLASSES))


@pytest.fixture(
    scope="module", params=[SGD(0.05, dampening=0.01), Adam(0.003)], ids=["sgd", "adam"]
)
def lowered(request):
    probe = wrap_for(request.param, lowering.PROBE_CLASSES)
    train = lowering.train_graph(probe, axes()).SerializeToString()
    predict = lowering.predict_graph(probe, axes()).SerializeToString()
    return request.param, Engine({"train.onnx": train, "predict.onnx": predict})


@pytest.mark.parametrize("batch", [1, 5, 32])
@pytest.mark.parametrize("classes", [2, 7, 365])
def test_20_steps_equal_torch(lowered, batch, classes):
    optimizer, engine = lowered
    wrap = wrap_for(optimizer, classes)
    generator = np.random.default_rng(batch * classes)
    head = copy.deepcopy(wrap.net.head)
    reference = optimizer.torch_twin(head.parameters())
    parameters = wrap.parameters()
    tensors = {n: t.numpy() for n, t in {**parameters, **wrap.optimizer.init(parameters)}.items()}
    for _ in range(20):
        features = generator.standard_normal((batch, FEATURES)).astype("f")
        labels = generator.integers(0, classes, batch)
        reference.zero_grad()
        logits = head(torch.from_numpy(features))
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels))
        loss.backward()
        reference.step()
        lr = np.array(optimizer.learning_rate, "f")
        inputs = {"features": features, "labels": labels, "lr": lr}
        tensors, found, found_logits = engine.step(tensors, inputs)
        assert found == pytest.approx(loss.item(), rel=1e-5)
        assert relative(found_logits, logits.detach().numpy()) < 1e-5
    assert relative(tensors["head.weight"], head.weight.detach().numpy()) < 1e-5
    assert relative(tensors["head.bias"], head.bias.detach().numpy()) < 1e-5
    predicted = engine.predict({n: tensors[n] for n in parameters}, features)
    assert relative(predicted, head(torch.from_numpy(features)).detach().numpy()) < 1e-5


def test_adam_keeps_its_eps():
    """A constant of 1e-8 is taken for zero by the exporter's optimizer: 0 / 0 where g is 0."""
    train = lowering.train_graph(wrap_for(Adam(0.001), lowering.PROBE_CLASSES), axes())
    engine = Engine({"train.onnx": train.SerializeToString()})
    wrap = wrap_for(Adam(0.001), 3)
    parameters = wrap.parameters()
    tensors = {n: t.numpy() for n, t in {**parameters, **wrap.optimizer.init(parameters)}.items()}
    inputs = {
        "features": np.zeros((2, FEATURES), "f"),
        "labels": np.array([0, 1]),
        "lr": np.array(0.1, "f"),
    }
    after, _, _ = engine.step(tensors, inputs)
    assert np.array_equal(after["head.weight"], tensors["head.weight"])


def test_graphs_are_tidy():
    """No path, name or version of the exporting machine; standard operators; old enough."""
    model = lowering.train_graph(wrap_for(SGD(0.1), lowering.PROBE_CLASSES), axes())
    text = str(model)
    for trace in ("torch", "aten", "site-packages", ".py", "metadata", "doc_string"):
        assert trace not in text, trace
    assert (model.opset_import[0].version, model.ir_version) == (18, 8)
    assert {node.domain for node in model.graph.node} == {""}
    assert [v.name for v in model.graph.input] == [
        "features", "labels", "lr", "head.weight", "head.bias",
        "optimizer.step", "velocity.head.weight", "velocity.head.bias",
    ]  # fmt: skip
    again = lowering.train_graph(wrap_for(SGD(0.1), lowering.PROBE_CLASSES), axes())
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(
        deterministic=True
    )


def test_features_do_not_depend_on_the_batch():
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    spec = InputSpec(32, 32, "bilinear", "none", "rgb", HALF, HALF)
    module = PixelsToFeatures(net.eval(), spec)
    graphs = {"features.onnx": lowering.features_graph(module, spec).SerializeToString()}
    pixels = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 3), np.uint8)
    whole = Engine(graphs).features(pixels)
    single = np.concatenate([Engine(graphs).features(pixels[i : i + 1]) for i in range(12)])
    assert np.array_equal(whole, single)
    with torch.no_grad():
        normal = (torch.from_numpy(pixels).float() / 255 - 0.5) / 0.5
        reference = net(normal.permute(0, 3, 1, 2)).numpy()
    assert relative(whole, reference) < 1e-5


def test_the_backbone_stays_in_evaluation_mode():
    net = TransferNet(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), nn.Linear(4, 2))
    net.train()
    assert not any(module.training for module in net.backbone.modules())
    assert net.head.training


def test_train_wrap_defaults_are_the_seeds():
    net = TransferNet(nn.Identity(), nn.Linear(4, 2))
    wrap = TrainWrap(net, input_shape=(4,))
    assert wrap.optimizer == Adam(learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    assert wrap.loss_fn == SoftmaxCrossEntropy()
    assert wrap.weights == ["head.weight", "head.bias"]
    with pytest.raises(ValueError, match="are not parameters of the network"):
        TrainWrap(net, weights=["head.nothing"])


def test_a_broken_graph_is_not_handed_on():
    model = lowering.predict_graph(wrap_for(SGD(0.1), lowering.PROBE_CLASSES), axes())
    names = [[value.name for value in values] for values in (model.graph.input, model.graph.output)]
    again = onnx.ModelProto.FromString(model.SerializeToString())
    assert lowering.tidy(again, *names, "predict").graph.name == "predict"
    model.graph.node[0].input[0] = "nobody"
    with pytest.raises(onnx.checker.ValidationError, match="nobody"):
        lowering.tidy(model, *names, "predict")


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_the_benchmark_of_a_cycle_runs(tiny_file, capsys, side):
    """That it gives a figure; what the figure should be is not a test's business."""
    from benchmarks.head_step import one_side

    one_side(side, str(tiny_file), 8)
    assert float(capsys.readouterr().out) > 0
