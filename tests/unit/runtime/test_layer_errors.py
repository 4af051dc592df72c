"""The layer that loses it is named first."""

import numpy as np
import pytest

from tests.conftest import FILES, TINY_SPEC
from tod.errors import ArtifactError, UsageError
from tod.format import layers
from tod.format.layers import Layer
from tod.format.onnx_messages import message_class
from tod.runtime import layer_errors as subject
from tod.runtime.delegates.litert import LiteRtRunner
from tod.runtime.delegates.runner import Graph
from tod.runtime.layer_errors import layer_errors, open_graph
from tod.runtime.model import Model

PICTURES = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)


def dropout() -> Graph:
    """A convolution and a head of two dense layers."""
    model = Model.load(FILES / "dropout.tod", cache=False)
    model.bind(["a", "b", "c"])
    return Graph(model.inference_graph(), "dropout.onnx")


def weights(graph: Graph, name: str) -> bytes:
    model = message_class("Model")()
    model.ParseFromString(graph.data)
    return next(t.raw_data for t in model.graph.initializer if t.name == name)


def damaged(graph: Graph, name: str, *, by: float = 0.5) -> Graph:
    """The first half of some weights is multiplied."""
    old = weights(graph, name)
    values = np.frombuffer(old, "<f4").copy()
    values[: len(values) // 2] *= by
    assert graph.data.count(old) == 1
    return Graph(graph.data.replace(old, values.tobytes()), "damaged", graph.metadata)


def of(file: str) -> Graph:
    return open_graph(FILES / file)[0]


def weighted(graph: Graph) -> dict[str, str]:
    """Weights -> the layer that multiplies by them, or by what is made of them."""
    model = message_class("Model")()
    model.ParseFromString(graph.data)
    made = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Transpose"}
    found = [n for n in model.graph.node if n.op_type in ("Conv", "Gemm", "MatMul")]
    return {made.get(n.input[1], n.input[1]): n.name for n in found}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_damaged_layer_is_first(place):
    graph = dropout()
    weight, layer = [*weighted(graph).items()][place]
    found = layer_errors(graph, damaged(graph, weight), PICTURES)
    assert found[0].layer == layer
    assert found[0].growth == found[0].error > 0.1
    assert found[0].before == 0
    assert found[0].cosine < 0.999
    later = {one.layer: one for one in found}
    for other in [*weighted(graph).values()][:place]:
        assert later[other].error == 0
    for other in [*weighted(graph).values()][place + 1 :]:
        assert later[other].error > 0
        assert later[other].growth < found[0].growth


def test_error_and_cosine_are_those_of_all_numbers():
    graph = of("bound.tod")
    other = damaged(graph, "head.weight")
    one = next(e for e in layer_errors(graph, other, PICTURES) if e.value == "logits")
    runs = [subject._opened(g, layers.of_onnx(g.data), ["logits"], subject.DEFAULT, 1)
            for g in (graph, other)]  # fmt: skip
    x, y = (np.concatenate([run(p[None])["logits"] for p in PICTURES]).ravel() for run in runs)
    assert one.error == pytest.approx(np.sqrt(np.mean((x - y) ** 2) / np.mean(x**2)))
    assert one.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def test_what_is_not_finite_is_first():
    graph = of("bound.tod")
    found = layer_errors(graph, damaged(graph, "features/19", by=np.nan), PICTURES)
    assert found[0].layer == "features/6.Conv"
    assert (found[0].error, found[0].cosine, found[0].growth) == (np.inf, 0, np.inf)
    assert next(one for one in found if one.value == "logits").growth == 0


def test_tflite_is_found_by_the_same_names():
    """Its maps have their channels last, and an activation is part of its layer."""
    found = {one.value: one for one in layer_errors(of("bound.tod"), of("bound.tflite"), PICTURES)}
    assert found["features/9"].operators == ("Conv", "Relu")
    assert found["features/6"].operators == ("Add",)
    assert {"features/10", "features", "logits", "probabilities"} <= found.keys()
    assert max(one.error for one in found.values()) < 1e-5


@pytest.mark.parametrize(
    ("weight", "layer"), [("head.weight", "predict/1.Gemm"), ("features/20", "features/6.Conv")]
)
def test_a_damaged_layer_of_tflite(weight, layer):
    original, good = of("bound.tod"), of("bound.tflite")
    old = weights(original, weight)
    new = (10 * np.frombuffer(old, "<f4")).astype("<f4").tobytes()
    assert good.data.count(old) == 1
    bad = Graph(good.data.replace(old, new), "bad.tflite", good.metadata)
    assert layer_errors(original, bad, PICTURES)[0].layer == layer
    assert layer_errors(good, bad, PICTURES)[0].operators[0] in ("FULLY_CONNECTED", "CONV_2D")


def test_integers_of_tflite_become_real_numbers():
    found = layer_errors(of("bound.tflite"), of("bound_int8.tflite"), PICTURES)
    assert {one.value for one in found} >= {"features/6", "features/9", "logits"}
    assert all(one.cosine > 0.9 for one in found)
    assert 0 < next(one.error for one in found if one.value == "features/9") < 0.02


def test_values_that_tflite_keeps_are_those_of_the_runs():
    data = (FILES / "bound.tflite").read_bytes()
    kept = LiteRtRunner(data, "kept", 1, keep=True).run({"pixels": PICTURES[:1]})
    plain = LiteRtRunner(data, "plain", 1).run({"pixels": PICTURES[:1]})
    for name, values in plain.items():
        np.testing.assert_array_equal(kept[name], values)
    assert np.square(kept["features/4"] - PICTURES[:1]).max() == 0


def test_pictures_come_before_layers_that_compute_shapes():
    made = [Layer("s", "Shape", ("x",), "s"), Layer("c", "Mul", ("s", "w"), "c"),
            Layer("r", "Reshape", ("x", "c"), "r")]  # fmt: skip
    assert [layer.name for layer in layers.depending(["x"], made).layers] == ["r"]


def test_an_open_model_shows_its_frozen_part():
    graph, spec = open_graph(FILES / "tiny.tod")
    assert spec == TINY_SPEC
    found = layer_errors(graph, of("bound.tod"), PICTURES)
    assert "features/6.Conv" in {one.layer for one in found}
    assert "predict/1.Gemm" not in {one.layer for one in found}


def test_what_has_no_layer_in_common_is_refused():
    with pytest.raises(UsageError, match="none of its layers is known by name in ") as caught:
        layer_errors(of("bound.tod"), of("deep.tod"), PICTURES)
    assert "tod convert" in caught.value.hint


def test_a_file_that_says_nothing_of_its_pictures(tmp_path):
    file = tmp_path / "foreign.onnx"
    model = message_class("Model")()
    model.ParseFromString(of("bound.tod").data)
    del model.metadata_props[:]
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="do not say which samples it takes"):
        open_graph(file)
