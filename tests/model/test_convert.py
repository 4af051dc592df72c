"""Conversions of whole models: what the files say, what is kept, what is refused."""

import functools
import io
import json
import re
import zipfile
from dataclasses import replace

import flatbuffers
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from model.convert import (
    comparison,
    fewer_bits,
    runners,
    static_graph,
    tflite_file,
    tflite_metadata,
    tflite_quantize,
    to_onnx,
    to_tflite,
    to_torch,
)  # fmt: skip
from model.convert.convert import Asked, convert, drop, refuse_worse, write_names
from model.export import export_backbone
from model.reduce import calibration
from model.reduce.calibration import Pictures
from model.step.optimizers import SGD
from tests.conftest import FILES, TINY_SPEC
from tests.support.tiny_models import backbone
from tod.data.dataset import Dataset
from tod.errors import ConvertedWorse, UsageError
from tod.runtime.model import Model

NAMES = ("bound", "deep", "dropout", "contrast", "several_classes", "numbers")
TASK = "single-label"


def opened(name):
    model = Model.load(FILES / f"{name}.tod", cache=False)
    if model.classes is None:
        model.bind(("a", "b", "c"))
    return model


@pytest.fixture(scope="module", autouse=True)
def _pictures_once():
    """Those that are made by rule take a second, and are always the same."""
    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(calibration.made_by_rule)
        patch.setattr(calibration, "made_by_rule", once)
        yield


@pytest.fixture(scope="module")
def bound():
    return opened("bound")


def made(model, format_, bits="none", **more):
    (variant,) = convert(model, Asked(format_, [bits], 1.0, **more)).variants
    return variant


@pytest.mark.parametrize("format_", ["onnx", "ort", "tflite", "torch"])
@pytest.mark.parametrize("name", NAMES)
def test_every_kind_of_model_answers_as_before(name, format_):
    variant = made(opened(name), format_)
    assert variant.problem is None
    assert variant.measured.largest < 1e-6
    assert variant.measured.cosine == pytest.approx(1)
    assert variant.measured.agreement == (None if name == "numbers" else 1)


@pytest.mark.parametrize("bits", ["dynamic", "int8", "fp16"])
@pytest.mark.parametrize("format_", ["onnx", "ort", "tflite"])
def test_fewer_bits_change_little(bound, format_, bits):
    measured = made(bound, format_, bits).measured
    assert measured.cosine > {"dynamic": 0.999, "int8": 0.99, "fp16": 0.99999}[bits]
    assert measured.largest < 2e-3


def test_the_input_is_pixels_and_the_output_probabilities(bound):
    from ai_edge_litert.interpreter import Interpreter

    for bits in ("none", "dynamic", "int8", "fp16"):
        found = Interpreter(model_content=made(bound, "tflite", bits).files[".tflite"])
        (source,), (answer,) = found.get_input_details(), found.get_output_details()
        assert (source["dtype"], list(source["shape"])) == (np.uint8, [1, 16, 16, 3])
        assert (answer["dtype"], list(answer["shape"])) == (np.float32, [1, 3])
        runner = found.get_signature_runner("serving_default")
        answers = runner(pixels=np.zeros((1, 16, 16, 3), np.uint8))["probabilities"]
        assert answers.sum() == pytest.approx(1)


# --- what a TFLite file says about itself


def fields(data, place):
    """A table of a FlatBuffer, read without a schema."""
    return flatbuffers.table.Table(bytearray(data), place)


def test_labels_and_input_stand_in_the_metadata(bound):
    data = made(bound, "tflite").files[".tflite"]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("labels.txt").decode().split("\n") == ["a", "b", "c", ""]
    model = tflite_file.unpack(data)
    (entry,) = model.metadata
    assert entry.name == b"TFLITE_METADATA"
    metadata = model.buffers[entry.buffer].data
    assert metadata[4:8] == b"M001"
    for text in (b"image", b"labels.txt", b"probability", b"0.5 0.5 0.5", b"RGB"):
        assert text in metadata
    root = fields(metadata, int.from_bytes(metadata[:4], "little"))
    graphs = root.Vector(root.Offset(10))  # field 3: subgraph_metadata
    graph = fields(metadata, root.Indirect(graphs))
    tensors = graph.Vector(graph.Offset(8))  # field 2: input_tensor_metadata
    tensor = fields(metadata, graph.Indirect(tensors))
    content = fields(metadata, tensor.Indirect(tensor.Offset(10) + tensor.Pos))
    assert content.Get(flatbuffers.number_types.Uint8Flags, content.Offset(4) + content.Pos) == 2


def test_labels_with_odd_characters_stay_one_line_each():
    about = tflite_metadata.Described("n", ("a\nb", "Größe", "x, y"), TINY_SPEC, TASK)
    graph = static_graph.of(opened("bound").inference_graph())
    data = tflite_metadata.described(to_tflite.convert(graph), about)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("labels.txt").decode().splitlines() == ["a b", "Größe", "x, y"]


def test_equal_models_give_equal_bytes(bound):
    for format_ in ("onnx", "tflite", "torch"):
        assert made(bound, format_).files == made(bound, format_).files


def test_weights_lie_where_the_schema_wants_them(bound):
    """Every sixteen bytes: `force_align: 16`."""
    data = made(bound, "tflite").files[".tflite"]
    model = tflite_file.unpack(data)
    long = [buffer.data for buffer in model.buffers if len(buffer.data) > 64]
    assert long
    assert all(data.find(content) % 16 == 0 for content in long)


# --- quantization


def test_ranges_are_means_over_batches_of_eight(bound):
    data = to_tflite.convert(static_graph.of(bound.inference_graph()))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), np.uint8)
    both, first, second = (
        tflite_quantize.ranges(data, part) for part in (pixels, pixels[:8], pixels[8:])
    )
    for name, found in both.items():
        for end in ("min", "max"):
            mean = (first[name][end] + second[name][end]) / 2
            np.testing.assert_allclose(found[end], mean, rtol=1e-5, atol=1e-7)


def test_a_channel_without_weights_gets_a_bias_that_is_a_number(bound, recwarn):
    """EfficientNet-Lite0 has one; the quantizer divides by its largest weight."""
    graph = static_graph.of(bound.inference_graph())
    name = next(n.inputs[1] for n in graph.nodes if n.kind == "Conv")
    weight = graph.constants[name].copy()
    weight[2] = 0
    dead = replace(graph, constants={**graph.constants, name: weight})
    data = to_tflite.convert(dead)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    found = tflite_quantize.ranges(data, pixels)
    small = tflite_quantize.quantized(data, "int8", found=found)
    assert not [w for w in recwarn if "invalid value" in str(w.message)]
    before, after = (runners.open_file("tflite", file)(pixels[:1]) for file in (data, small))
    np.testing.assert_allclose(before, after, atol=5e-3)


def search(cosine_of):
    pictures = Pictures(np.zeros((3, 1, 1, 3), np.uint8), None, 0, None)
    before = np.array([[0.9, 0.1]], np.float32)
    found = fewer_bits.Search(pictures, before, TASK, None, lambda a, b: None, lambda text: None)
    object.__setattr__(found, "cosine", lambda data, count=None: cosine_of(data))
    return found


def test_the_layers_that_do_most_harm_stay_in_float():
    harm = {"a": 0.001, "b": 0.2, "c": 0.002, "d": 0.001}
    layers = {name: f"layer {name}" for name in harm}

    def make(kept):
        return json.dumps(sorted(kept)).encode()

    def cosine(data):
        return 1 - sum(harm[name] for name in harm if name not in json.loads(data))

    found = search(cosine)
    data, kept = fewer_bits.quantized(found, layers, make)
    assert kept == ("layer b",)
    assert json.loads(data) == ["b"]
    data, kept = fewer_bits.quantized(search(lambda _: 1.0), layers, make)
    assert (json.loads(data), kept) == ([], ())


def test_layers_left_in_float_are_float(bound):
    data = to_tflite.convert(static_graph.of(bound.inference_graph()))
    pixels = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    found = tflite_quantize.ranges(data, pixels)
    names = list(tflite_quantize.layers(data))
    kinds = tflite_file.schema.TensorType

    def types(kept):
        made = tflite_quantize.quantized(data, "int8", found=found, float_layers=kept)
        graph = tflite_file.unpack(made).subgraphs[0]
        weights = [t for t in graph.tensors if b"weight" in t.name]
        return [t.type for t in weights]

    assert len(names) == 2
    assert types(()) == [kinds.INT8, kinds.INT8]
    assert sorted(types(names[:1])) == sorted([kinds.FLOAT32, kinds.INT8])


def test_dense_layers_left_in_float_are_float_in_onnx(monkeypatch):
    """onnxruntime quantizes them under names of its own."""
    counts = []

    def tried(search, layers, make):
        for kept in ((), list(layers)[:1], list(layers)):
            kinds = [node.op_type for node in onnx.load_from_string(make(kept)).graph.node]
            counts.append(kinds.count("MatMulInteger"))
        return make(()), ()

    monkeypatch.setattr(to_onnx, "quantized", tried)
    to_onnx.dynamic(opened("dropout").inference_graph(), None)
    assert counts == [2, 1, 0]


@pytest.mark.parametrize("format_", ["onnx", "tflite"])
def test_what_trains_in_elementary_steps_is_quantized(tmp_path, format_):
    """A depthwise convolution to 1 x 1 becomes several products, Hardswish Max and Min."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=2), nn.Hardswish(),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), nn.Hardswish(),
    ]  # fmt: skip
    path = tmp_path / "whole.tod"
    names = ("a", "b", "c")
    net = backbone("net", *layers)
    export_backbone(path, net, trainable="all", class_names=names, optimizer=SGD(0.1))
    model = Model.load(path)
    graph = static_graph.of(model.inference_graph())
    assert any(len(graph.shapes[n.inputs[1]]) == 3 for n in graph.nodes if n.kind == "MatMul")
    assert {"Max", "Min"} <= {node.kind for node in graph.nodes}
    for bits in ("dynamic", "int8"):
        assert made(model, format_, bits).measured.cosine > 0.98


# --- torch


def test_the_module_takes_any_number_of_pictures(bound):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
    files = made(bound, "torch").files
    network = to_torch.load(files[".py"] + b"\0" + files[".pt"])
    with torch.inference_mode():
        found = network(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(found, bound.predict(pixels), atol=1e-6)


def test_what_was_trained_keeps_its_names_and_trains_on():
    model = opened("deep")
    files = made(model, "torch").files
    network = to_torch.load(files[".py"] + b"\0" + files[".pt"]).train()
    trained = dict(network.named_parameters())
    assert set(trained) == {t.name for t in model.manifest.parameters}
    for name, value in trained.items():
        np.testing.assert_array_equal(value.detach().numpy(), model.parameters[name])
    network.logits(torch.zeros((2, 16, 16, 3), dtype=torch.uint8)).sum().backward()
    assert all(value.grad is not None for value in trained.values())


def test_names_from_a_file_are_only_text_in_the_source(bound):
    graph = static_graph.of(bound.inference_graph())
    evil = ('"); import os #', "it's\n'''\"\"\"{x}", "\\")
    about = to_torch.About(
        '"""\nraise SystemExit\n"""', evil, "'; x" + '"""\nraise SystemExit\n"""'
    )
    files = to_torch.convert(graph, {}, about)
    network = to_torch.load(files[".py"] + b"\0" + files[".pt"])
    assert type(network).__name__ == "Network"


def test_the_lines_at_the_top_of_the_module_load_it(call, tmp_path, monkeypatch):
    done = call(
        "tod", "convert", FILES / "bound.tod", "--to", "torch", "-o", "my model.pt", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "the module to load it into: my model.py" in done.stdout
    source = (tmp_path / "my model.py").read_text()
    lines = re.findall(r"^    (network.*)$", source.split('"""')[1], re.M)
    assert len(lines) == 2
    scope = {}
    exec(source, scope)
    monkeypatch.chdir(tmp_path)
    exec("\n".join(lines), scope)
    pixels = torch.zeros((2, 16, 16, 3), dtype=torch.uint8)
    assert scope["network"](pixels).shape == (2, 3)


# --- the verdict


def measured(**more):
    values = {
        "bytes": 1, "largest": 0.0, "mean": 0.0, "cosine": 1.0, "agreement": 1.0, "accuracy": None,
        "median_ms": 1.0, "p90_ms": 1.0,
    }  # fmt: skip
    return comparison.Measured(**{**values, **more})


def test_the_drop_is_of_what_is_known():
    before = measured(accuracy=0.9)
    assert drop(before, measured(accuracy=0.85, agreement=0.5)) == pytest.approx(0.05)
    assert drop(measured(), measured(agreement=0.97)) == pytest.approx(0.03)
    numbers = measured(agreement=None)
    assert drop(numbers, measured(agreement=None, cosine=0.99)) == pytest.approx(0.01)


def test_a_worse_file_is_named_with_the_reason(bound):
    found = convert(bound, Asked("tflite", ["none", "int8"], 0.0))
    bad = replace(found.variants[1], problem="it is worse by 0.0417, allowed are 0.02")
    with pytest.raises(ConvertedWorse, match=r"int8: it is worse by 0\.0417.* made by rule"):
        refuse_worse(replace(found, variants=(found.variants[0], bad)), 0.02)
    refuse_worse(replace(found, variants=found.variants[:1]), 0.02)


def test_another_computation_is_no_rounding(bound, monkeypatch):
    right = to_tflite.convert

    def wrong(graph):
        constants = {
            n: a * 3 if a.ndim == 4 and a.dtype == np.float32 else a
            for n, a in graph.constants.items()
        }
        return right(replace(graph, constants=constants))

    monkeypatch.setattr(to_tflite, "convert", wrong)
    assert re.match(
        r"its answers differ by .*, which is no rounding", made(bound, "tflite").problem
    )


@given(st.integers(2, 5), st.integers(0, 1000))
def test_logits_give_the_same_answers_back(classes, seed):
    raw = np.random.default_rng(seed).normal(size=(6, classes)).astype(np.float32)
    rows = np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
    found = comparison.logits(rows, TASK)
    np.testing.assert_allclose(found, raw - raw.mean(axis=1, keepdims=True), atol=1e-4)
    assert comparison.cosine(rows, rows, TASK) == pytest.approx(1)


def test_torch_has_no_fewer_bits(bound):
    with pytest.raises(UsageError, match="--to torch is in float32: --quantize int8"):
        convert(bound, Asked("torch", ["int8"], 0.02))


def test_open_classes_are_refused():
    model = Model.load(FILES / "tiny.tod", cache=False)
    with pytest.raises(UsageError, match="not trained yet"):
        convert(model, Asked("onnx", ["none"], 0.02))


def test_accuracy_is_that_of_the_validation_split(bound, pictures):
    dataset = Dataset.open(pictures, cache=False)
    model = Model.load(FILES / "tiny.tod", cache=False)
    dataset = model.match(dataset)
    found = convert(model, Asked("tflite", ["none"], 0.02, data=dataset))
    wanted = model.evaluate(dataset).accuracy
    assert found.original.accuracy == found.variants[0].measured.accuracy == wanted
    assert f"{len(dataset.split('validation'))} pictures of the validation split" in found.source


def test_several_files_are_told_apart_by_their_bits(tmp_path):
    one = write_names(tmp_path / "m.tflite", ["int8"])
    assert one == {"int8": tmp_path / "m.tflite"}
    two = write_names(tmp_path / "m.tflite", ["none", "int8"])
    assert [path.name for path in two.values()] == ["m_float32.tflite", "m_int8.tflite"]


def test_a_network_that_trains_whole_in_every_precision(tmp_path):
    """Its 1 x 1 convolutions are products of matrices in the graph, with the weight on the left."""
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 1), nn.ReLU(),
        nn.Conv2d(64, 8, 1, stride=2),
    ]  # fmt: skip
    net = backbone("net", *layers)
    path = tmp_path / "whole.tod"
    names = ("a", "b", "c")
    export_backbone(path, net, trainable="all", class_names=names, optimizer=SGD(0.1))
    model = Model.load(path)
    data = model.inference_graph()
    graph = static_graph.of(data)
    assert any(node.kind == "MatMul" and node.inputs[0] in graph.constants for node in graph.nodes)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)
    wanted = model.predict(pixels)
    plain = to_tflite.convert(graph)
    found = tflite_quantize.ranges(plain, pixels)
    for kind, off in (("float16", 1e-3), ("dynamic", 0.02), ("int8", 0.05)):
        made = tflite_quantize.quantized(plain, kind, found=found if kind == "int8" else None)
        run = runners.open_file("tflite", made)
        answers = np.concatenate([run(picture[None]) for picture in pixels])
        np.testing.assert_allclose(answers, wanted, atol=off)
        assert len(made) < len(plain)
