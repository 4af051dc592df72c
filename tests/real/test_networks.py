"""The networks that export knows by name: exported, proved against torch, trained.

Random weights and small pictures where the network allows; that real weights work is shown in
tests/real/test_main_job.py. `make test` takes few and narrow blocks of each kind, `make test-real`
the whole networks.
"""

import numpy as np
import pytest

from model.export import export_backbone
from model.networks.load import load_backbone
from model.step.losses import BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from model.step.optimizers import SGD, Adam, AdamW, RMSprop
from tests.support.small_networks import small
from tests.support.tiny_models import tiny_backbone
from tod.errors import UsageError
from tod.format.artifact import read
from tod.runtime.verify import TOLERANCE, run_vectors
from tod.training.session import TrainSession

SIDE = 64
# Network -> what trains. Together these have every kind of operator.
TABLE = {
    "efficientnet-b0": "last:1",
    "torchvision:mobilenet_v3_small": "last:2",
    "torchvision:shufflenet_v2_x1_0": "last:2",
    "torchvision:convnext_tiny": "last:1",
    "torchvision:vit_b_16": "last:1",
}
MORE = {
    "efficientnet-b7": "head",
    **{f"torchvision:efficientnet_b{size}": "head" for size in (0, 1, 3, 4, 5, 6, 7)},
    "torchvision:efficientnet_b2": "last:1",
    "torchvision:efficientnet_v2_s": "last:1",
    "torchvision:mobilenet_v2": "last:2",
    "torchvision:mobilenet_v3_large": "last:1",
    "torchvision:regnet_y_400mf": "last:1",
    "torchvision:resnet18": "last:1",
    "torchvision:resnet50": "last:1",
}


def exports_agrees_and_trains(path, name, trainable):
    base = load_backbone(name, weights="none", size_px=SIDE)
    made = export_backbone(
        path, base, optimizer=SGD(0.01), trainable=trainable, class_count=3, batch_size=6
    )
    assert made.differences.largest < TOLERANCE
    assert made.manifest.step_bytes > 0
    names = [tensor.name for tensor in made.manifest.parameters]
    assert any(name.startswith("backbone.") for name in names) == (trainable != "head")
    session = TrainSession.load(made.path)
    session.bind(["a", "b", "c"])
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (6, SIDE, SIDE, 3), np.uint8)
    features = session.engine.features(pixels)
    # More of one class: with random weights deep features are almost zero, and the biases learn.
    labels = np.array([0, 0, 0, 0, 1, 2])
    losses = []
    for cycle in range(20):
        session.state, loss = session.next_state(
            [(features, labels)], lr=1e-6, seed=0, cycle=cycle + 1
        )
        losses.append(loss)
    assert min(losses[1:]) < losses[0]
    assert all(verdict.difference < 1e-3 for verdict in run_vectors(read(made.path)))


@pytest.mark.parametrize("name", TABLE)
def test_its_blocks_export_agree_and_train(tmp_path, monkeypatch, name):
    small(monkeypatch, name)
    exports_agrees_and_trains(tmp_path / "x.tod", name, "last:1")


@pytest.mark.long
@pytest.mark.parametrize("name", TABLE | MORE)
def test_it_exports_agrees_and_trains(tmp_path, name):
    exports_agrees_and_trains(tmp_path / "x.tod", name, (TABLE | MORE)[name])


SETTINGS = {
    "everything": {
        "head": "mlp:12,silu,dropout=0.3", "trainable": "all", "train_batch_norm": True,
        "accumulate": 2, "class_weights": "auto", "clip_norm": 0.5, "backbone_lr": 0.1,
        "loss": SoftmaxCrossEntropy(0.1), "optimizer": AdamW(0.01),
    },
    "relu head": {"head": "mlp:8", "optimizer": Adam(0.01, weight_decay=0.1)},
    "several classes": {"loss": BinaryCrossEntropy(), "optimizer": RMSprop(0.001, 0.9)},
    "numbers": {"loss": MeanSquaredError(), "optimizer": SGD(0.01), "trainable": "last:1"},
    "decay of all": {"decay_all": True, "optimizer": SGD(0.01, weight_decay=0.1)},
    "patterns": {"trainable": "0.*,head.*", "optimizer": RMSprop(0.001)},
    "clipped": {"clip_norm": 1e-3, "optimizer": SGD(0.1)},
}  # fmt: skip


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_agree_with_torch(tmp_path, name):
    made = export_backbone(tmp_path / "x.tod", tiny_backbone(), **SETTINGS[name])
    # Far below what the export itself asks for: this network is shallow.
    assert made.differences.largest < 2e-5
    verdicts = run_vectors(read(made.path))
    assert all(verdict.difference < 1e-4 for verdict in verdicts)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("torchvision:resnet81", {}, "did you mean"),
        ("resnet18", {}, "torchvision:resnet18"),
        ("torchvision:squeezenet1_1", {"weights": "none"}, "does not end in a linear layer"),
        ("torchvision:resnet18", {"weights": "no/file.pth"}, "IMAGENET1K_V1"),
        ("torchvision:resnet18", {"size_px": 7}, "32 to 2048"),
    ],
)
def test_mistakes_are_named(name, options, message):
    with pytest.raises(UsageError) as error:
        load_backbone(name, **options)
    assert message in str(error.value)


def test_torchvision_weights_that_cannot_be_downloaded(tmp_path, monkeypatch):
    """The loader's own path, with no network: where the file would have to lie is said."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(UsageError) as error:
        load_backbone("torchvision:shufflenet_v2_x1_0")
    assert "could not be downloaded" in error.value.problem
    assert str(tmp_path) in error.value.hint


def test_torchvision_states_its_input():
    """Size, crop, resampling and normalisation of the weights that are asked for."""
    from torchvision.models import get_model_weights

    from model.networks.torchvision import _input_spec

    for name in TABLE | MORE:
        if not name.startswith("torchvision:"):
            continue
        for entry in get_model_weights(name.removeprefix("torchvision:")):
            spec, stated = _input_spec(entry), entry.transforms()
            assert [spec.size_px] == stated.crop_size
            assert spec.interpolation == stated.interpolation.value
            assert (list(spec.mean), list(spec.std)) == (stated.mean, stated.std)
