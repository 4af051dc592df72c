"""The frozen part in fewer bits: what the graph is, what it computes, and what is refused."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from torch import nn

import tod
from model.export import export_backbone
from model.lowering import lowering
from model.lowering.examples import smooth_pictures
from model.networks.backbone import Backbone
from model.reduce import calibration, parity, pixel_input, precision, quantize, sensitivity
from model.reduce.precision import Precision
from model.step.optimizers import SGD
from model.transfer_net import PixelsToFeatures
from tests.conftest import TINY_SPEC, make_pictures, run
from tests.support.tiny_models import tiny_backbone
from tod.data import image
from tod.data.dataset import Dataset
from tod.errors import DataError, TrainingError, UsageError
from tod.format import arrays, artifact, graph, manifest, manifest_checks
from tod.format.manifest import Weights
from tod.runtime.delegates.runner import Graph
from tod.runtime.delegates.table import Choice, open_runner
from tod.runtime.engine import Engine
from tod.runtime.layer_errors import layer_errors

SPEC = replace(TINY_SPEC, size_px=32, resize_px=32)
SMOOTH = smooth_pictures(4, SPEC.size_px)
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def conv(channels_in, channels, stride=1, groups=1, size=3):
    return nn.Conv2d(channels_in, channels, size, stride, size // 2, groups=groups)


def small_net(activation=nn.ReLU6):
    """Dense, depthwise and pointwise convolutions, as in a mobile network."""
    torch.manual_seed(0)
    return nn.Sequential(
        conv(3, 16, stride=2), activation(),
        conv(16, 16, groups=16), activation(),
        conv(16, 32, size=1), activation(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ).eval()  # fmt: skip


class Excited(nn.Module):
    """Squeeze-and-excitation with swish, and one filter a thousand times as loud as the rest."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.loud = conv(3, 16, stride=2), conv(16, 16, size=1)
        self.squeeze, self.excite = conv(16, 4, size=1), conv(4, 16, size=1)
        self.last, self.act = conv(16, 32, size=1), nn.SiLU()
        with torch.no_grad():
            self.loud.weight[0] *= 1000
            self.last.weight[:, 0] /= 1000

    def forward(self, x):
        x = self.act(self.loud(self.act(self.first(x))))
        gate = self.excite(self.act(self.squeeze(x.mean((2, 3), keepdim=True))))
        return self.act(self.last(x * torch.sigmoid(gate))).mean((2, 3))


def graph_of(module, spec=SPEC):
    return lowering.features_graph(PixelsToFeatures(module.eval(), spec), spec)


def quantized(model, spec=SPEC, **options):
    pictures = smooth_pictures(24, spec.size_px)
    found = quantize.ranges(model, pictures)
    return quantize.int8(model, found, pixels=pixel_input.find(model, spec), **options)


def cosine(before, after, pictures):
    graphs = [model.SerializeToString() for model in (before, after)]
    return parity.cosines(*(parity.features(data, pictures) for data in graphs)).mean()


def bytes_of(model):
    return model.SerializeToString()


@pytest.fixture(scope="module")
def small():
    return graph_of(small_net())


@pytest.fixture(scope="module")
def small_int8(small):
    return quantized(small)


# What the graph is


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_values_keep_their_names_so_that_a_damaged_layer_is_found(small, small_int8, layer):
    before = Graph(small.SerializeToString(), "float32")
    convs = [node for node in small.graph.node if node.op_type == "Conv"]
    names = {one.layer for one in layer_errors(before, Graph(bytes_of(small_int8), "int8"), SMOOTH)}
    assert {conv.name for conv in convs} <= names
    damaged = onnx.ModelProto()
    damaged.CopyFrom(small_int8)
    makers = {node.output[0]: node for node in damaged.graph.node}
    node = [node for node in damaged.graph.node if node.op_type == "Conv"][layer]
    scale = next(t for t in damaged.graph.initializer if t.name == makers[node.input[1]].input[1])
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) / 3, scale.name))
    found = layer_errors(before, Graph(bytes_of(damaged), "damaged"), SMOOTH)
    assert found[0].layer == convs[layer].name
    assert found[0].operators[-2:] == ("Conv", "Clip")
    half = layer_errors(before, Graph(bytes_of(quantize.float16(small)), "float16"), SMOOTH)
    assert {one.value for one in half} == {
        one.value for one in layer_errors(before, before, SMOOTH)
    }
    assert max(one.error for one in half) < 1e-3


def test_activations_are_uint8_and_weights_int8_by_channel(small_int8):
    constants = {t.name: numpy_helper.to_array(t) for t in small_int8.graph.initializer}
    makers = {node.output[0]: node for node in small_int8.graph.node}
    convs = [node for node in small_int8.graph.node if node.op_type == "Conv"]
    assert len(convs) == 3
    for node in convs:
        picture, weight, bias = (makers[name] for name in node.input)
        assert {maker.op_type for maker in (picture, weight, bias)} == {"DequantizeLinear"}
        assert constants[picture.input[2]].dtype == np.uint8
        assert constants[weight.input[0]].dtype == np.int8
        assert constants[weight.input[1]].shape == (len(constants[weight.input[0]]),)
        assert constants[bias.input[0]].dtype == np.int32
    steps = [node for node in small_int8.graph.node if node.op_type == "QuantizeLinear"]
    assert {constants[node.input[2]].dtype for node in steps} == {np.dtype(np.uint8)}


def test_only_depthwise_weights_use_all_bits(small_int8):
    """Two products of uint8 and 7 bits fit in 16 bits, which is what old x86 processors add in."""
    constants = {t.name: numpy_helper.to_array(t) for t in small_int8.graph.initializer}
    largest = {
        array.shape[:2]: int(np.abs(array.astype(int)).max())
        for array in constants.values()
        if array.dtype == np.int8 and array.ndim == 4
    }
    assert largest.pop((16, 1)) > 100
    assert len(largest) == 2
    assert all(255 * number * 2 <= 32767 for number in largest.values())


def test_pixels_go_into_the_first_convolution(small_int8):
    users = [n for n in small_int8.graph.node if "pixels" in n.input and n.op_type != "Shape"]
    assert [node.op_type for node in users] == ["Transpose"]
    (dequantize,) = [n for n in small_int8.graph.node if users[0].output[0] in n.input]
    assert dequantize.op_type == "DequantizeLinear"
    (first,) = [n for n in small_int8.graph.node if dequantize.output[0] in n.input]
    assert first.op_type == "Conv"
    assert not {"Cast", "Mul"} & {node.op_type for node in _between(small_int8, first)}


def _between(model, last):
    """The nodes that lead to a node, itself included."""
    wanted, found = {last.output[0]}, []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            wanted |= set(node.input)
            found.append(node)
    return found


@pytest.mark.parametrize("make", [quantize.float16, quantized], ids=["float16", "int8"])
def test_graphs_stay_tidy_and_standard(small, make):
    model = make(small)
    data = model.SerializeToString(deterministic=True)
    found = graph.inspect(data, where="x")
    assert (found.opset, found.ir_version) == (lowering.OPSET, lowering.IR_VERSION)
    assert found.inputs == graph.inspect(small.SerializeToString(), where="x").inputs
    assert found.outputs == graph.inspect(small.SerializeToString(), where="x").outputs
    names = [node.name for node in model.graph.node]
    names += [tensor.name for tensor in model.graph.initializer]
    assert all(name.startswith("features/") for name in names)
    assert not model.metadata_props
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


def test_features_do_not_depend_on_the_batch(small_int8):
    engine = Engine({"features.onnx": small_int8.SerializeToString()})
    pixels = smooth_pictures(8, SPEC.size_px)
    whole = engine.features(pixels)
    for size in (1, 3):
        parts = [engine.features(pixels[i : i + size]) for i in range(0, 8, size)]
        assert np.array_equal(np.concatenate(parts), whole)


def test_bytes_do_not_depend_on_the_process(tmp_path, small):
    """The quantizer keeps sets of names, whose order changes with the hash seed."""
    (tmp_path / "small.onnx").write_bytes(small.SerializeToString())
    code = (
        "import onnx, sys, hashlib; from tests.model.test_quantize import quantized\n"
        "data = quantized(onnx.load(sys.argv[1])).SerializeToString(deterministic=True)\n"
        "print(hashlib.sha256(data).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "small.onnx")],
            capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    mine = quantized(small).SerializeToString(deterministic=True)
    assert found == {hashlib.sha256(mine).hexdigest()}


# Pixels as integers


@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("channels", [(0.5, 0.25), (127 / 255, 128 / 255), IMAGENET])
def test_normalisation_goes_into_the_first_convolution(colour, channels):
    """Folded weights on pixels are the convolution of the normalised picture, inside its border."""
    given_ = channels if isinstance(channels, dict) else {
        "mean": (channels[0],) * 3, "std": (channels[1],) * 3}  # fmt: skip
    spec = replace(SPEC, colour=colour, **given_)
    torch.manual_seed(1)
    net = nn.Sequential(conv(3, 8), nn.ReLU6())
    found = pixel_input.find(graph_of(net, spec), spec)
    pixels = smooth_pictures(2, spec.size_px)
    with torch.no_grad():
        wanted = PixelsToFeatures(net[0], spec)(torch.from_numpy(pixels))
        x = float(found.scale) * (torch.from_numpy(pixels).float() - int(found.zero_point))
        weights = torch.from_numpy(found.weight), torch.from_numpy(found.bias)
        ours = nn.functional.conv2d(x.permute(0, 3, 1, 2), *weights, padding=1)
    inner = (..., slice(1, -1), slice(1, -1))
    assert torch.allclose(ours[inner], wanted[inner], atol=1e-5)
    if channels == (127 / 255, 128 / 255):
        assert torch.allclose(ours, wanted, atol=1e-5)


class Doubled(nn.Module):
    """Takes the normalised picture twice."""

    def __init__(self):
        super().__init__()
        self.net = small_net()

    def forward(self, x):
        return self.net(x) + x.mean((1, 2, 3))[:, None]


def test_other_beginnings_keep_their_normalisation():
    model = graph_of(Doubled())
    assert pixel_input.find(model, SPEC) is None
    made = quantized(model)
    assert "Cast" in {node.op_type for node in made.graph.node}
    assert cosine(model, made, smooth_pictures(8, 32)) > 0.98


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, **IMAGENET)], ids=["even", "imagenet"])
def test_openvino_computes_the_same_integers(spec):
    """With the number of pictures left open it drops the bias of the first convolution."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    model = quantized(graph_of(small_net(), spec), spec)
    assert {"Range", "Gather"} <= {node.op_type for node in model.graph.node}
    graph = Graph(model.SerializeToString(), "int8")
    pictures = {"pixels": smooth_pictures(8, spec.size_px)}
    wanted = open_runner(graph, threads=1).run(pictures)["features"]
    found = open_runner(graph, Choice(("openvino",)), threads=1).run(pictures)["features"]
    assert parity.cosines(wanted, found).min() > 0.9999


# What stays in float


@given(st.lists(st.floats(0, 0.1), min_size=2, max_size=30), st.floats(0.8, 1))
def test_the_search_keeps_the_fewest_of_the_worst(harms, target):
    """With harms that add up, the greedy choice is the best there is."""
    losses = {f"layer {i}": harm for i, harm in enumerate(harms)}

    def cosine_of(kept):
        return 1 - sum(harm for name, harm in losses.items() if name not in kept)

    ranked = sensitivity.rank(list(losses), cosine_of)
    assert [losses[n] for n in ranked] == pytest.approx(sorted(harms, reverse=True), abs=1e-12)
    kept = sensitivity.fewest(ranked, cosine_of, target=target, most=len(harms))
    assert kept == tuple(ranked[: len(kept)])
    assert cosine_of(kept) >= target or len(kept) == len(harms)
    if kept:
        assert cosine_of(kept[:-1]) < target


def test_a_layer_left_in_float_is_left_alone(small):
    """onnxruntime by itself would quantize it again, with one scale for all its channels."""
    names = list(quantize.layers(small))
    loud = onnx.ModelProto.FromString(small.SerializeToString())
    weights = {tensor.name: tensor for tensor in loud.graph.initializer}
    middle = next(node for node in loud.graph.node if node.name == names[1])
    array = numpy_helper.to_array(weights[middle.input[1]]).copy()
    array[0] *= 3000  # with one scale for all channels, nothing is left of the others
    weights[middle.input[1]].CopyFrom(numpy_helper.from_array(array, middle.input[1]))
    pixels = smooth_pictures(8, 32)
    assert cosine(loud, quantized(loud, float_layers=names[1:2]), pixels) > 0.99


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return Dataset.open(make_pictures(tmp_path_factory.mktemp("data") / "colours", side_px=32))


def test_sensitive_layers_are_found_and_kept(colours):
    """All in int8 misses the target; without the loud filter, and what hears it, it is reached."""
    model = graph_of(Excited())
    everything = quantized(model)
    assert cosine(model, everything, smooth_pictures(8, 32)) < precision.TARGET
    seen = []
    asked = Precision("int8", colours, progress=lambda done, total: seen.append((done, total)))
    made = precision.reduce(model, SPEC, (32,), asked)
    assert made.parity.cosine >= precision.TARGET
    assert made.parity.layers == 5
    assert made.parity.float_layers[0] == "2: Conv 16 x 16 x 1 x 1"
    assert len(made.parity.float_layers) <= 2
    assert seen == [(i + 1, 5) for i in range(5)]
    floats = {t.name for t in made.model.graph.initializer
              if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 4}  # fmt: skip
    convs = [node for node in made.model.graph.node if node.op_type == "Conv"]
    assert sum(node.input[1] in floats for node in convs) == len(made.parity.float_layers)


# Refusal


class Drowned(nn.Module):
    """One filter so loud that a uint8 has no step left for the others; scaled back behind it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = conv(3, 16, stride=2)
        scale = torch.ones(16)
        with torch.no_grad():
            self.conv.weight[0] *= 1e4
            self.conv.bias[0] *= 1e4
            scale[0] = 1e-4
        self.register_buffer("scale", scale)

    def forward(self, x):
        return torch.relu(self.conv(x)).mean((2, 3)) * self.scale


def test_below_the_bound_nothing_is_written_without_force(tmp_path, colours):
    """Its only layer cannot stay in float, or nothing would be quantized."""
    net = Backbone("drowned", Drowned().eval(), 16, SPEC, Weights("a test", "", ""))
    path = tmp_path / "x.tod"
    with pytest.raises(TrainingError) as caught:
        export_backbone(path, net, optimizer=SGD(0.1), precision=Precision("int8", colours))
    assert "0 of 1 layers in float; at least 0.9 is wanted" in caught.value.problem
    assert "--force" in caught.value.hint
    assert not path.exists()
    forced = Precision("int8", colours, force=True)
    made = export_backbone(path, net, optimizer=SGD(0.1), precision=forced)
    assert made.reduced.parity.cosine < precision.REFUSED
    assert artifact.read(path).manifest.backbone.parity == made.reduced.parity


@pytest.mark.parametrize("kind", ["int8", "float16"])
def test_nothing_frozen_is_nothing_to_quantize(tmp_path, lowered, kind):
    lowered("deep")
    with pytest.raises(UsageError, match="nothing is frozen"):
        export_backbone(
            tmp_path / "x.tod", tiny_backbone(), optimizer=SGD(0.1), trainable="all",
            precision=Precision(kind),
        )  # fmt: skip
    assert not (tmp_path / "x.tod").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--force"], 2, "--force belongs to --quantize"),
        (["--calibrate", "x"], 2, "--calibrate belongs to --quantize int8"),
        (["--quantize", "fp16", "--calibrate", "x"], 2, "--calibrate belongs to --quantize int8"),
        (["--quantize", "int8", "--calibrate", "nowhere"], 3, "no such folder"),
        (["--quantize", "int4"], 2, "Invalid value"),
    ],
)
def test_options_that_cannot_be_meant(tmp_path, call, options, code, message):
    done = call("tod", "export", *options, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


# Pictures


def test_calibration_takes_the_classes_in_turn(pictures):
    data = Dataset.open(pictures)
    found = calibration.from_dataset(data, TINY_SPEC, count=12)
    again = calibration.from_dataset(data, TINY_SPEC, count=12)
    assert np.array_equal(found.pixels, again.pixels)
    assert found.labels.tolist().count(0) == found.labels.tolist().count(1) == 4
    assert set(found.labels[: found.calibrating]) == set(found.labels[found.calibrating :])
    assert found.data_sha256 == data.digest()
    train = {image.load((data.root / s.path).read_bytes(), TINY_SPEC).tobytes()
             for s in data.split("train")}  # fmt: skip
    assert all(picture.tobytes() in train for picture in found.pixels)


def test_unreadable_pictures_are_passed_over(pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "some")
    data = Dataset.open(tmp_path / "some")
    broken = data.split("train")[::2]
    for sample in broken:
        (data.root / sample.path).write_bytes(b"no picture")
    found = calibration.from_dataset(data, TINY_SPEC)
    assert len(found.pixels) == len(data.split("train")) - len(broken)
    for sample in data.split("train"):
        (data.root / sample.path).write_bytes(b"no picture")
    with pytest.raises(DataError, match="0 pictures of its train split can be read"):
        calibration.from_dataset(data, TINY_SPEC)


def test_pictures_made_by_rule_use_the_range_of_photographs():
    first, second = (calibration.made_by_rule(SPEC, 12) for _ in range(2))
    assert np.array_equal(first.pixels, second.pixels)
    assert first.labels is None
    assert first.pixels.shape == (12, 32, 32, 3)
    assert 80 < first.pixels.mean() < 150
    assert first.pixels.std() > 50
    assert len({picture.tobytes() for picture in first.pixels}) == 12


def test_large_features_take_fewer_pictures():
    assert calibration.count_for((1280,), 300) == 300
    assert calibration.count_for((16, 112, 112), 1000) == 334
    assert calibration.count_for((64, 1024, 1024), 300) == 12


# Half precision


def test_half_precision_is_half_the_size_and_close(small):
    net = nn.Sequential(small_net()[:-2], conv(32, 512, size=1), nn.AdaptiveAvgPool2d(1),
                        nn.Flatten())  # fmt: skip
    model = graph_of(net)
    half = quantize.float16(model)
    assert half.ByteSize() / model.ByteSize() < 0.58  # names and nodes keep their size
    assert cosine(model, half, smooth_pictures(8, 32)) > 0.99999
    makers = {node.output[0]: node.op_type for node in half.graph.node}
    convs = [node for node in half.graph.node if node.op_type == "Conv"]
    assert all(makers[node.input[1]] == "Cast" for node in convs)


def test_what_half_precision_cannot_hold_stays():
    net = small_net()
    with torch.no_grad():
        net[4].weight[0, 0] = 1e5
    kept = [t for t in quantize.float16(graph_of(net)).graph.initializer if len(t.dims) == 4]
    kinds = {tuple(tensor.dims): tensor.data_type for tensor in kept}
    assert kinds[32, 16, 1, 1] == onnx.TensorProto.FLOAT
    assert kinds[16, 3, 3, 3] == onnx.TensorProto.FLOAT16


# From export to the device


def small_backbone():
    """32 features of 32 x 32 pixels: a network of three convolutions."""
    return Backbone("small", small_net(), 32, SPEC, Weights("random numbers of a test", "", ""))


def exported(path, precision):
    return export_backbone(path, small_backbone(), optimizer=SGD(0.5), precision=precision)


@pytest.fixture(scope="module")
def int8_file(tmp_path_factory, colours):
    return exported(tmp_path_factory.mktemp("int8") / "x.tod", Precision("int8", colours)).path


@pytest.mark.parametrize("kind", ["int8", "float16"])
def test_the_device_trains_what_was_quantized(tmp_path, pictures, colours, int8_file, kind):
    path = tmp_path / "x.tod"
    if kind == "int8":
        shutil.copy(int8_file, path)
    else:
        exported(path, Precision(kind))
    frozen = artifact.read(path).manifest.backbone
    found = frozen.parity
    assert (found.agreement is None) == (kind == "float16")
    if kind == "int8":
        assert min(found.agreement, found.accuracy_before, found.accuracy_after) > 0.8
        assert found.data_sha256 == colours.digest()
    assert frozen.precision == kind
    done = run("net_runner", "-f", path, "-d", pictures, "-c", 60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1].split("=")[1]) > 0.8
    trained = tod.TrainSession.load(tmp_path / "x_trained.tod")
    assert trained.manifest.backbone == frozen
    assert run("tod", "verify", path).returncode == 0
    shown = run("tod", "info", tmp_path / "x_trained.tod").stdout
    assert f"{kind} frozen part" in shown
    assert f"{found.cosine:.4f}" in shown


@pytest.mark.parametrize(("share", "code"), [(0.03, 0), (0.5, 5)])
def test_verify_allows_int8_a_step_and_no_saturation(tmp_path, int8_file, share, code):
    """Other roundings move features of int8 by 0.04, sums that overflow by 0.5."""
    path = Path(shutil.copy(int8_file, tmp_path))
    found = artifact.read(path)
    vectors = arrays.arrays_from_bytes(found.vectors, where="x")
    features = vectors["features.onnx/out.features"].copy()
    features[0, features[0].argmin()] += share * features.max()
    vectors["features.onnx/out.features"] = features
    artifact.write(replace(found, vectors=arrays.arrays_to_bytes(vectors)))
    done = run("tod", "verify", path)
    assert done.returncode == code, done.stderr
    assert ("features.onnx by 0.5" in done.stderr) == (code == 5)


def test_two_exports_are_the_same_bytes(tmp_path, colours, int8_file):
    exported(tmp_path / "again.tod", Precision("int8", colours))
    assert (tmp_path / "again.tod").read_bytes() == int8_file.read_bytes()


def test_a_manifest_whose_precision_contradicts_itself(tiny):
    described = artifact.read(tiny).manifest
    wrong = replace(described, backbone=replace(described.backbone, precision="int8"))
    with pytest.raises(tod.TodError, match="precision and parity"):
        manifest_checks.decode(manifest.encode(wrong), where="x")


COSTS = ("cosine of the features", "accuracy of a head", "ms a picture")
NET = """
from torch import nn
from model.transfer_net import TransferNet

INPUT = {"size_px": 32, "resize_px": 32}

def build(classes):
    parts = nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU()
    backbone = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return TransferNet(backbone, nn.Linear(16, classes))
"""


def test_the_command_says_what_it_costs(tmp_path, call, colours):
    (tmp_path / "net.py").write_text(NET)
    quantize = ("--quantize", "int8", "--calibrate", colours.root)
    done = call("tod", "export", "net.py", "-o", "net.tod", *quantize, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [text for text in COSTS if text not in done.stdout] == []
    assert "agreed with torch while in float32" in done.stdout
    parity = artifact.read(tmp_path / "net.tod").manifest.backbone.parity
    assert parity.cosine >= precision.TARGET
    assert parity.data_sha256 == colours.digest()


@pytest.mark.long
def test_the_real_backbone(test_data, lite0_file, tmp_path):
    """EfficientNet-Lite0 from the command to the accuracy on real pictures."""
    from benchmarks.data import subset

    scenes = subset("scenes", 20)
    model = tmp_path / "int8.tod"
    done = run("tod", "export", "-o", model, "--quantize", "int8", "--calibrate", scenes)
    assert done.returncode == 0, done.stderr
    assert [text for text in COSTS if text not in done.stdout] == []
    described = json.loads(run("tod", "info", model, "--json").stdout)["backbone"]["parity"]
    assert described["cosine"] >= precision.TARGET
    assert described["bytes_after"] < 0.28 * described["bytes_before"]
    assert len(described["float_layers"]) <= 4
    assert model.stat().st_size < 0.3 * lite0_file.stat().st_size
    data = Dataset.open(scenes)
    scores = []
    for file in (lite0_file, model):
        session = tod.TrainSession.load(file)
        list(tod.train(session, data, cycles=30, target_accuracy=1))
        scores.append(session.evaluate(data).accuracy)
    assert scores[1] == pytest.approx(scores[0], abs=0.051)  # two of 40 pictures
