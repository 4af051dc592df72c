"""ONNX files are understood without the onnx package, and strangers are refused."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tod.errors import ArtifactError
from tod.format import artifact, graph


def model(nodes=None, *, opset=18, ir_version=8, domain="", functions=(), initializers=()):
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3]) for n in ("x", "y")]
    nodes = nodes or [helper.make_node("Relu", ["x"], ["y"])]
    body = helper.make_graph(nodes, "g", value[:1], value[1:], initializer=list(initializers))
    opsets = [helper.make_opsetid(domain, opset)]
    made = helper.make_model(body, opset_imports=opsets, functions=functions, ir_version=ir_version)
    return made.SerializeToString()


def test_what_is_read(tiny_file):
    info = graph.inspect(artifact.read(tiny_file).graphs["train.onnx"], where="train.onnx")
    reference = onnx.load_from_string(artifact.read(tiny_file).graphs["train.onnx"])
    assert info.opset == reference.opset_import[0].version == 18
    assert info.ir_version == reference.ir_version == 8
    assert sum(info.operators.values()) == len(reference.graph.node)
    assert info.inputs["head.weight"] == graph.TensorType("float32", ("classes", 8))
    assert info.inputs["features"] == graph.TensorType("float32", ("batch", 8))
    assert info.inputs["optimizer.step"] == graph.TensorType("int64", ())


def subgraph():
    body = helper.make_graph([], "then", [], [])
    return helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)


def outside():
    tensor = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    return tensor


def in_attribute():
    return helper.make_node("Constant", [], ["y"], value=outside())


FUNCTION = helper.make_function("", "F", ["x"], ["y"], [], [helper.make_opsetid("", 18)])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (model(opset=22), "opset 22, at most 21"),
        (model(ir_version=11), "IR version 11, at most 10"),
        (model(domain="com.microsoft"), "operator domains"),
        (model([helper.make_node("Evil", ["x"], ["y"])]), "not allowed: Evil"),
        (model([helper.make_node("Relu", ["x"], ["y"], domain="x.y")]), "not allowed: x.y"),
        (model([helper.make_node("RandomNormal", [], ["y"], shape=[1])]), "RandomNormal"),
        (model([subgraph()]), "subgraphs"),
        (model(functions=[FUNCTION]), "functions"),
        (model(initializers=[outside()]), "other files"),
        (model([in_attribute()]), "other files"),
        (b"\x08\x08\x3a\xff\xff", "cut off"),
    ],
)
def test_refused(data, message):
    with pytest.raises(ArtifactError, match=message) as caught:
        graph.inspect(data, where="bad.onnx")
    assert caught.value.problem.startswith("bad.onnx: ")


def test_an_ordinary_graph_is_accepted():
    assert graph.inspect(model(), where="x").operators == {"Relu": 1}


def test_joined_inference_file_is_valid_and_equal(tiny_file):
    found = artifact.read(tiny_file)
    weights = {
        "head.weight": np.random.default_rng(0).standard_normal((4, 8)).astype("f"),
        "head.bias": np.arange(4, dtype="f"),
    }
    data = graph.join_inference(
        found.graphs["features.onnx"], found.graphs["predict.onnx"], weights, {"classes": '["é"]'}
    )
    joined = onnx.load_from_string(data)
    onnx.checker.check_model(joined, full_check=True)
    assert [value.name for value in joined.graph.input] == ["pixels"]
    assert [value.name for value in joined.graph.output] == ["probabilities"]
    assert json.loads(joined.metadata_props[0].value) == ["é"]

    session = onnxruntime.InferenceSession(data)
    pixels = np.random.default_rng(1).integers(0, 255, (3, 16, 16, 3), np.uint8)
    features = onnxruntime.InferenceSession(found.graphs["features.onnx"])
    rows = features.run(None, {"pixels": pixels})[0]
    logits = rows @ weights["head.weight"].T + weights["head.bias"]
    expected = np.exp(logits - logits.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(session.run(None, {"pixels": pixels})[0], expected, atol=1e-6)
