"""nntrainer's INI files become .tod files that train as torch does."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tod
from benchmarks import lenet
from model import ini
from model.export import export_network
from model.networks.nntrainer import weights
from model.networks.nntrainer.load import load
from tests.support import ini_files
from tod.errors import DataError, UsageError
from tod.format import artifact

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist" / "nnstreamer"


def written(folder, text, name="net.ini"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def lenet_tod(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lenet")
    made = load(written(folder, ini_files.LENET))
    export_network(folder / "net.tod", made.network, ini.settings(made), class_count=made.classes)
    return folder / "net.tod"


@pytest.mark.parametrize("name", ["resnet", "mobilenet", "rest"])
def test_it_exports_and_agrees_with_torch(tmp_path, name):
    """20 steps of every kind of layer, against torch's own autograd and optimizer."""
    made = load(written(tmp_path, ini_files.ALL[name]))
    done = export_network(
        tmp_path / "net.tod", made.network, ini.settings(made), class_count=made.classes
    )
    assert done.differences.largest < 1e-3
    assert done.manifest.class_count == made.classes
    assert done.manifest.trainable == "all"


def test_what_the_file_says_of_the_document_s_network(lenet_tod):
    found = artifact.read(lenet_tod).manifest
    assert (found.batch_size, found.class_count, found.loss.name) == (
        4, 10, "softmax_cross_entropy",
    )  # fmt: skip
    assert found.optimizer.name == "keras-adam"
    assert found.optimizer.hyperparameters["eps"] == 1e-7
    assert found.samples.shape == (1, 28, 28)
    assert sum(np.prod(t.resolve(10)) for t in found.parameters) == 3898


def test_the_benchmark_trains_both_sides_alike(lenet_tod):
    """40 steps from the same weights on the same batches, each side on its own."""
    made = load(lenet_tod.with_name("net.ini"))
    x = np.random.default_rng(0).uniform(0, 255, (100, 1, 28, 28)).astype(np.float32)
    y = np.arange(100) % 10
    rows = np.arange(100)
    ours = lenet.Tod(artifact.read(lenet_tod), lenet.network(made, 1))
    theirs = lenet.Torch(made, lenet.network(made, 1).head)
    for side in (ours, theirs):
        orders = lenet.apart(1, rows, rows)
        curve = lenet.train(side, (x, y), orders, 4, lenet.constant(1e-3), steps=10)
        assert len(curve.accuracy) == len(curve.seconds) == 4
    for name, value in theirs.net.named_parameters():
        np.testing.assert_allclose(
            ours.tensors[f"head.{name}"], value.detach().numpy(), rtol=1e-3, atol=1e-5
        )


def test_the_samples_of_the_benchmark():
    x = np.zeros((1, 1, 4, 4), np.float32)
    x[0, 0, 1, 1] = 1
    moved, labels = lenet.shifted(x, np.array([7]), 1)
    assert moved.shape == (9, 1, 4, 4)
    assert labels.tolist() == [7] * 9
    assert {tuple(np.argwhere(one[0])[0]) for one in moved} == {
        (a, b) for a in range(3) for b in range(3)
    }
    first, later = (lenet.leaking(0, 1000)(epoch) for epoch in (0, 1))
    assert first[0].tolist() == list(range(500))
    assert sorted(np.concatenate(later).tolist()) == list(range(1000))
    assert set(later[0].tolist()) != set(first[0].tolist())
    train, held = lenet.apart(0, np.arange(500), np.arange(500, 1000))(3)
    assert sorted(train.tolist()) == list(range(500))
    assert held.min() == 500


@pytest.mark.parametrize("name", ini_files.ALL)
def test_weights_go_there_and_back(tmp_path, name):
    made = load(written(tmp_path, ini_files.ALL[name]), seed=3)
    net = made.build(seed=3)
    data = weights.to_bytes(net)
    (tmp_path / "x.bin").write_bytes(data)
    other = made.build(seed=4)
    weights.load(other, tmp_path / "x.bin")
    for (key, value), again in zip(
        net.state_dict().items(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(value, again), key
    assert weights.to_bytes(other) == data


def test_a_file_of_nntrainer_has_this_size():
    """pretrained-mnist.bin of nnstreamer-example has 15,604 bytes."""
    net = load(MNIST / "mnist.ini").build()
    assert len(weights.to_bytes(net)) == 15_604


def test_the_order_is_that_of_nntrainer(tmp_path):
    """Depth first: the shortcut, which is read last, stands before the branch."""
    net = load(written(tmp_path, ini_files.RESNET)).build()
    order = [one.name for one in net.stored()]
    assert order.index("shortcut.weight") < order.index("a1.weight")
    assert order[1:5] == [
        "stem_bn.running_mean", "stem_bn.running_var", "stem_bn.weight", "stem_bn.bias",
    ]  # fmt: skip


def test_a_dense_layer_lies_as_nntrainer_has_it(tmp_path):
    """Its matrix is [inputs, units]."""
    net = load(written(tmp_path, ini_files.MLP)).build()
    first = np.frombuffer(weights.to_bytes(net), "<f4", 160).reshape(10, 16)
    np.testing.assert_array_equal(first, net.fc1.weight.detach().numpy().T)


@pytest.mark.parametrize("rest", [b"", bytes(12), "adam", "adam+"])
def test_what_may_follow_the_weights(tmp_path, rest):
    made = load(written(tmp_path, ini_files.LENET))
    data = weights.to_bytes(made.build(seed=5))[:-12]
    if isinstance(rest, str):
        rest = b"adam" + bytes(2 * 4 * 3898) + (bytes(12) if "+" in rest else b"")
    (tmp_path / "x.bin").write_bytes(data + rest)
    net = load(tmp_path / "net.ini", weights_file=tmp_path / "x.bin").network.build(10)
    assert weights.to_bytes(net.head)[:-12] == data


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data[:-1], "it has 15,603 bytes"),
        (lambda data: data + b"x", "15,592 bytes (3,898 numbers)"),
        (lambda data: b"", "it has 0 bytes"),
        (lambda data: data[:-12] + b"adam" + bytes(100), "Adam's moments"),
    ],
)
def test_a_wrong_size_is_refused(tmp_path, change, said):
    made = load(written(tmp_path, ini_files.LENET))
    (tmp_path / "x.bin").write_bytes(change(weights.to_bytes(made.build())))
    with pytest.raises(UsageError) as refused:
        load(tmp_path / "net.ini", weights_file=tmp_path / "x.bin")
    assert said in str(refused.value)


def test_numbers_that_are_none_are_refused(tmp_path):
    made = load(written(tmp_path, ini_files.LENET))
    data = bytearray(weights.to_bytes(made.build()))
    data[40:44] = np.array(np.nan, "<f4").tobytes()
    (tmp_path / "x.bin").write_bytes(data)
    with pytest.raises(DataError, match="number 10 of 3,898 is not finite"):
        load(tmp_path / "net.ini", weights_file=tmp_path / "x.bin")
    with pytest.raises(UsageError, match="no such file"):
        load(tmp_path / "net.ini", weights_file=tmp_path / "y.bin")


FROZEN = ini_files.MLP.replace("unit = 16", "unit = 16\ntrainable = false")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`net.ini`, the weights that it began with, and what was trained of them; its first layer is
    frozen, batch normalisation and the last layer are not."""
    folder = tmp_path_factory.mktemp("trained")
    made = load(written(folder, FROZEN), seed=7)
    (folder / "x.bin").write_bytes(weights.to_bytes(made.build(seed=7)))
    made = load(folder / "net.ini", weights_file=folder / "x.bin")
    export_network(folder / "net.tod", made.network, ini.settings(made), class_count=3)
    rows = np.random.default_rng(0).normal(size=(60, 10)).astype(np.float32)
    np.savez(folder / "d.npz", x=rows, y=np.array(["a", "b", "c"] * 20))
    session = tod.TrainSession.load(folder / "net.tod", cache=False)
    data = tod.Dataset.open(folder / "d.npz")
    tod.train(session, data, cycles=20, lr=0.01, output=folder / "net_trained.tod").run()
    return folder


def test_the_weights_of_a_file_are_exported(trained):
    state = artifact.read(trained / "net.tod").state
    wanted = load(trained / "net.ini", seed=7).build(seed=7)
    np.testing.assert_array_equal(state["head.out.weight"], wanted.out.weight.detach().numpy())
    assert "head.fc1.weight" not in state


def test_a_trained_model_goes_back_to_nntrainer(trained, call):
    convert = ("tod", "convert", "net_trained.tod", "--to", "nntrainer", "--ini", "net.ini")
    done = call(*convert, "--weights", "x.bin", "-d", "d.npz", "-o", "y.bin", cwd=trained)
    assert done.returncode == 0, done.stderr
    found = load(trained / "net.ini").build()
    weights.fill(found, (trained / "y.bin").read_bytes(), "y.bin")
    before = load(trained / "net.ini", seed=7).build(seed=7)
    state = artifact.read(trained / "net_trained.tod").state
    assert torch.equal(found.fc1.weight, before.fc1.weight)
    np.testing.assert_array_equal(found.bn.running_mean.numpy(), state["head.bn.running_mean"])
    np.testing.assert_array_equal(found.out.weight.detach().numpy(), state["head.out.weight"])
    assert not torch.equal(found.out.weight, before.out.weight)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--to", "nntrainer"), "needs the INI file that the model was exported from"),
        (("--to", "nntrainer", "--ini", "net.ini"), "head.fc1.weight, head.fc1.bias did not train"),
        (("--to", "nntrainer", "--ini", "lenet.ini"), "takes [1, 28, 28], this model [10]"),
        (("--to", "nntrainer", "--ini", "wide.ini", "--weights", "x.bin"), "it has"),
        (("--to", "nntrainer", "--ini", "net.ini", "--quantize", "int8"), "is in float32"),
        (("--to", "onnx", "--ini", "net.ini"), "--ini and --weights belong to --to nntrainer"),
    ],
)  # fmt: skip
def test_what_cannot_go_back(trained, call, options, said):
    written(trained, ini_files.LENET, "lenet.ini")
    written(trained, FROZEN.replace("unit = 16", "unit = 17"), "wide.ini")
    done = call("tod", "convert", "net_trained.tod", *options, "-o", "z.bin", cwd=trained)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (trained / "z.bin").exists()


def test_weights_that_are_not_those_of_the_export(trained, call):
    """The answers of the new file are compared before it is written."""
    other = load(trained / "net.ini", seed=8).build(seed=8)
    (trained / "other.bin").write_bytes(weights.to_bytes(other))
    done = call("tod", "convert", "net_trained.tod", "--to", "nntrainer", "--ini", "net.ini",
                "--weights", "other.bin", "-d", "d.npz", "-o", "z.bin", cwd=trained)  # fmt: skip
    assert done.returncode == 10
    assert "which is no rounding" in done.stderr
    assert not (trained / "z.bin").exists()


def test_the_command(tmp_path, call):
    written(tmp_path, ini_files.MLP)
    made = load(tmp_path / "net.ini", seed=7)
    (tmp_path / "x.bin").write_bytes(weights.to_bytes(made.build(seed=7)))
    done = call("tod", "export", "net.ini", "--weights", "x.bin", "-o", "net.tod", "--json",
                cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["backbone"]["weights"]["source"] == "file x.bin"
    assert max(said["differences"].values()) < 1e-3
    found = artifact.read(tmp_path / "net.tod")
    assert found.manifest.optimizer.hyperparameters["weight_decay"] == 0.005
    assert [noise.shape for noise in found.manifest.noise] == [(16,)]
    assert {t.role for t in found.manifest.tensors} == {"parameter", "statistic", "slot"}


def test_options_that_the_file_answers(tmp_path, call):
    written(tmp_path, ini_files.MLP)
    done = call("tod", "export", "net.ini", "--lr", 1, "--batch-size", 32, cwd=tmp_path)
    assert done.returncode == 2
    assert "--batch-size, --lr: the INI file says this itself" in done.stderr
    assert not list(tmp_path.glob("*.tod"))


def test_a_mistake_is_one_line_and_a_hint(tmp_path, call):
    written(tmp_path, ini_files.LENET.replace("kernel_size = 5,5", "kernal_size = 5,5", 1))
    done = call("tod", "export", "net.ini", cwd=tmp_path)
    assert done.returncode == 2
    line = ini_files.LENET.split("\n").index("kernel_size = 5,5") + 1
    assert done.stderr == (
        f"error: net.ini, line {line}, [conv1]: conv2d has no key 'kernal_size'\n"
        "hint: did you mean kernel_size or trainable?\n"
    )
