"""Conversions of whole networks: real weights, real pictures, and every network there is a way to.

Each has a reduced form in tests/model and tests/commands.
"""

import json

import numpy as np
import pytest

from model.convert import runners, static_graph, to_tflite
from model.lowering import lowering
from model.networks.load import load_backbone
from model.transfer_net import PixelsToFeatures
from tests.conftest import run
from tod.runtime.engine import Engine

NETWORKS = (
    "efficientnet-b0", "torchvision:mobilenet_v2", "torchvision:mobilenet_v3_small",
    "torchvision:resnet18", "torchvision:convnext_tiny", "torchvision:vit_b_16",
    "torchvision:densenet121", "torchvision:shufflenet_v2_x1_0", "torchvision:regnet_y_400mf",
    "torchvision:googlenet", "torchvision:swin_t",
)  # fmt: skip


@pytest.mark.long
def test_lite0_in_every_format(lite0_file, test_data, tmp_path):
    data = test_data / "scenes"
    done = run("net_runner", "-f", lite0_file, "-d", data, "-c", 60, "-o", "t.tod", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for format_ in ("tflite", "onnx", "ort"):
        done = run(
            "tod", "convert", "t.tod", "--to", format_, "--quantize", "all", "-d", data,
            "--json", "-q", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        float32, dynamic, int8, fp16 = json.loads(done.stdout)["variants"]
        assert float32["largest"] < 1e-5
        assert dynamic["agreement"] >= 0.98
        assert int8["agreement"] >= 0.98
        assert fp16["cosine"] >= 0.9999
        assert int8["bytes"] < 4.1e6
        assert fp16["bytes"] < 7e6
    done = run("tod", "convert", "t.tod", "--to", "torch", "--json", "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["variants"][0]["largest"] < 1e-5


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:The default weight initialization of GoogleNet:FutureWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_become_tflite(name):
    backbone = load_backbone(name, weights="none", features="pooled", size_px=None)
    side = backbone.input.size_px
    module = PixelsToFeatures(backbone.module, backbone.input)
    model = lowering.features_graph(module, backbone.input)
    data = model.SerializeToString()
    run_tflite = runners.open_file("tflite", to_tflite.convert(static_graph.of(data)))
    pixels = np.random.default_rng(1).integers(0, 256, (1, side, side, 3), np.uint8)
    wanted = Engine({"features.onnx": data}).features(pixels).reshape(-1)
    found = run_tflite(pixels).reshape(-1)
    assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()
