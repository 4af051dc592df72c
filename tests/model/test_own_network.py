"""A user's own network from a file, and what is said when it cannot be used."""

import re
import sys

import pytest

import tod
from tests.conftest import run
from tod.format.artifact import read

HEADER = """
import torch
from torch import nn
from model.transfer_net import TransferNet

def block(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, 2, 1), nn.BatchNorm2d(o), nn.ReLU())
"""
GOOD = """
INPUT = {"size_px": 32, "resize_px": 36, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.3),
         "colour": "bgr", "crop": "none"}
TRAINABLE = "last:1"
WEIGHTS = "trained on nothing"

def build(classes):
    parts = block(3, 8), nn.Sequential(block(8, 16), block(16, 16))
    return TransferNet(nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
                       nn.Linear(16, classes))
"""


@pytest.fixture
def export(call, tmp_path):
    """Exports a network from its text, in `tmp_path`."""

    def exported(text, *options):
        (tmp_path / "my_net.py").write_text(HEADER + text)
        return call("tod", "export", "my_net.py", "-o", "net.tod", *options, cwd=tmp_path)

    return exported


def test_it_exports_and_trains(export, tmp_path, pictures):
    done = export(GOOD)
    assert done.returncode == 0, done.stderr
    assert re.search(r"after 1\.0\S*: 16 x 8 x 8 numbers, 4\.0 KiB for a picture", done.stdout)
    manifest = read(tmp_path / "net.tod").manifest
    assert (manifest.backbone.name, manifest.head, manifest.trainable) == (
        "my_net", "own", "last:1"
    )  # fmt: skip
    assert (manifest.input.colour, manifest.input.crop) == ("bgr", "none")
    assert manifest.backbone.weights.source == "trained on nothing"
    done = run("net_runner", "-f", "net.tod", "-d", pictures, "-c", "20", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shown = run("tod", "info", "net.tod", cwd=tmp_path).stdout
    assert "32 px, the whole picture, bilinear, bgr" in shown


def test_the_channel_order_is_turned_inside_the_graph(export, tmp_path):
    """A network that wants BGR gets it from RGB pixels, with mean and std in its own order."""
    import numpy as np

    text = """
INPUT = {"size_px": 4, "resize_px": 4, "colour": "bgr", "mean": (0.1, 0.2, 0.3),
         "std": (1.0, 1.0, 1.0)}

def build(classes):
    return TransferNet(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(3, classes))
"""
    done = export(text)
    assert done.returncode == 0, done.stderr
    session = tod.TrainSession.load(tmp_path / "net.tod")
    red = np.zeros((1, 4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert session.engine.features(red)[0] == pytest.approx([-0.1, -0.2, 0.7], abs=1e-6)


def test_another_name_for_the_function(tmp_path, call):
    """What it returns tells which one was called."""
    text = (
        "def build(classes):\n    return 1\n\ndef small(classes):\n    return nn.Linear(1, classes)"
    )
    (tmp_path / "nets.py").write_text(HEADER + text)
    done = call("tod", "export", "--model", "nets.py:small", "-o", "net.tod", cwd=tmp_path)
    assert done.returncode == 2
    assert "small returned a Linear" in done.stderr


CUMPROD = """
INPUT = {"size_px": 8}

class Product(nn.Module):
    def forward(self, x):
        return torch.cumprod(x, 1)

def build(classes):
    parts = nn.Identity(), Product(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return TransferNet(nn.Sequential(*parts), nn.Linear(3, classes))
"""
MISTAKES = {
    "no function": ("x = 1", [], "defines no function 'build'"),
    "not a network": ("def build(classes):\n    return nn.Linear(1, classes)", [],
                      "build returned a Linear, wanted a TransferNet"),
    "it raises": ("def build(classes):\n    return 1 / 0", [],
                  "build(251) failed: ZeroDivisionError: division by zero"),
    "bad syntax": ("def build(", [], "reading it failed: SyntaxError"),
    "bad input": ("INPUT = {'side': 3}\ndef build(classes): ...", [],
                  "INPUT is {'side': 3}, wanted a dict with some of"),
    "bad value": ("INPUT = {'size_px': 'big'}\ndef build(classes): ...", [],
                  "INPUT: Expected `int`, got `str`"),
    "random numbers": (CUMPROD.replace("torch.cumprod(x, 1)", "x * torch.rand_like(x)"), [],
                       "aten.rand_like in layer 'backbone.1'"),
    "no operator": (CUMPROD, [], "aten.cumprod in layer 'backbone.1'"),
    "odd classes": ("def build(classes):\n    return TransferNet(nn.Flatten(), "
                    "nn.Linear(3 * 224 * 224, 2 * classes))", [],
                    "axis 0 of parameter 'head.weight' is 502 for 251 classes"),
    "frozen classes": (GOOD, ["--trainable", "0.*"], "add 'head.*' to the patterns"),
    "backbone too": (GOOD, ["--backbone", "x", "--size", "64"],
                     "--backbone, --size: your own network says these itself"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(tmp_path, call, name):
    text, options, message = MISTAKES[name]
    (tmp_path / "my_net.py").write_text(HEADER + text)
    done = call("tod", "export", "my_net.py", "-o", "net.tod", *options, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "net.tod").exists()


LINEAR = """
def block(i, o):
    return nn.Sequential(nn.Linear(i, o), nn.Linear(o, o))

def parts():
    return nn.Flatten(), block(48, 8), Product(), block(8, 8)
"""
CONVOLUTIONS = """
def parts():
    last = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return block(3, 8), Product(), block(8, 8), block(8, 8), *last
"""


@pytest.mark.parametrize(
    ("parts", "layer", "last"),
    [
        (LINEAR, "backbone.2", 1),
        pytest.param(CONVOLUTIONS, "backbone.1", 2, marks=pytest.mark.long),
    ],
    ids=["linear layers", "convolutions"],
)
def test_the_deepest_boundary_that_works_is_named(export, parts, layer, last):
    """An operator that runs in ONNX but whose gradient does not: above it training works."""
    text = """
INPUT = {"size_px": 4}

class Product(nn.Module):
    def forward(self, x):
        return x * x.prod(1, keepdim=True)

def build(classes):
    return TransferNet(nn.Sequential(*parts()), nn.Linear(8, classes))
"""
    done = export(parts + text, "--trainable", "all")
    assert done.returncode == 2, done.stderr
    assert f"no operator has a gradient as aten.prod.dim_int in layer '{layer}' does" in done.stderr
    best = f"--trainable last:{last}"
    assert f"the deepest boundary that works is {best} (asked was all)" in done.stderr
    done = export(parts + text, *best.split())
    assert done.returncode == 0, done.stderr


def test_no_such_file(tmp_path, call):
    done = call("tod", "export", "nothing.py", cwd=tmp_path)
    assert (done.returncode, "nothing.py: no such file" in done.stderr) == (2, True)


def test_a_file_beside_it_can_be_imported(export, tmp_path):
    """As long as it is needed: what the function returns tells that it was reached."""
    (tmp_path / "layers_beside.py").write_text("SIZE = 16\n")
    text = "from layers_beside import SIZE\ndef build(classes):\n    return nn.Linear(SIZE, 1)"
    done = export(text)
    assert "build returned a Linear" in done.stderr
    assert str(tmp_path) not in sys.path
