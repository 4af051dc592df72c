"""The methods of the TFLite interpreter, on .tod and .onnx, by every delegate that is here."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import tod
from tests.conftest import FILES
from tod.errors import ArtifactError, DeviceError, TodWarning, UsageError
from tod.runtime.delegates import table
from tod.runtime.delegates.runner import Detail, Graph
from tod.runtime.interpreter import quantize

BOUND = FILES / "bound.tod"
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "bound.onnx"
    tod.TrainSession.load(BOUND).save_inference(path)
    return path


@pytest.fixture(scope="module")
def wanted():
    return tod.TrainSession.load(BOUND).predict(PIXELS)


@pytest.fixture(params=["tod", "onnx", "openvino"])
def interpreter(request, onnx):
    delegates = ["openvino"] if request.param == "openvino" else []
    return tod.Interpreter(BOUND if request.param == "tod" else onnx, delegates=delegates)


def test_the_four_steps_of_a_tflite_script(interpreter, wanted):
    interpreter.allocate_tensors()
    input_index = interpreter.get_input_details()[0]["index"]
    output_index = interpreter.get_output_details()[0]["index"]
    found = []
    for picture in PIXELS:
        interpreter.set_tensor(input_index, np.expand_dims(picture, axis=0))
        interpreter.invoke()
        found.append(interpreter.get_tensor(output_index)[0])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(("name", "off"), [("bound.tflite", 1e-5), ("bound_int8.tflite", 0.05)])
def test_a_tflite_file(wanted, name, off):
    interpreter = tod.Interpreter(FILES / name, num_threads=2, delegates=["litert"])
    interpreter.allocate_tensors()
    (pixels,), (answers,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert pixels["dtype"] is np.uint8
    assert pixels["shape"].tolist() == [1, 16, 16, 3]
    found = []
    for picture in PIXELS:
        interpreter.set_tensor(pixels["index"], picture[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(answers["index"])[0])
    np.testing.assert_allclose(found, wanted, atol=off)
    with pytest.raises(UsageError, match="cannot have the shape"):
        interpreter.resize_tensor_input(pixels["index"], PIXELS.shape)


def test_a_truncated_tflite_file(tmp_path):
    data = (FILES / "bound.tflite").read_bytes()
    for length in (8, 100, len(data) // 2):
        with pytest.raises(ArtifactError, match="LiteRT cannot load it"):
            tod.Interpreter(_written(tmp_path / "x.tflite", data[:length]))


def test_a_tflite_file_is_not_for_onnxruntime():
    with pytest.raises(UsageError, match="does not read a TFLite file"):
        tod.Interpreter(FILES / "bound.tflite", delegates=["cpu"])


def test_details_are_those_of_tflite(interpreter):
    (pixels,) = interpreter.get_input_details()
    (answers,) = interpreter.get_output_details()
    assert pixels.keys() == {
        "name", "index", "shape", "shape_signature", "dtype", "quantization",
        "quantization_parameters", "sparsity_parameters",
    }  # fmt: skip
    assert pixels["name"] == "pixels"
    assert pixels["dtype"] is np.uint8
    assert pixels["shape"].tolist() == [1, 16, 16, 3]
    assert pixels["shape_signature"].tolist() == [-1, 16, 16, 3]
    assert pixels["quantization"] == (0.0, 0)
    assert pixels["quantization_parameters"]["scales"].size == 0
    assert answers["name"] == "probabilities"
    assert answers["dtype"] is np.float32
    assert answers["shape"].tolist() == [1, 3]
    assert pixels["index"] != answers["index"]


def test_a_batch_of_another_size(interpreter, wanted):
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, PIXELS.shape)
    interpreter.allocate_tensors()
    assert interpreter.get_input_details()[0]["shape"].tolist() == list(PIXELS.shape)
    interpreter.set_tensor(index, PIXELS)
    interpreter.invoke()
    output = interpreter.get_output_details()[0]
    assert output["shape"].tolist() == list(wanted.shape)
    np.testing.assert_allclose(interpreter.get_tensor(output["index"]), wanted, atol=1e-5)


def test_signatures(interpreter, wanted):
    assert interpreter.get_signature_list() == {
        "serving_default": {"inputs": ["pixels"], "outputs": ["probabilities"]}
    }
    runner = interpreter.get_signature_runner("serving_default")
    for pixels in (PIXELS, PIXELS[:2]):
        found = runner(pixels=pixels)["probabilities"]
        np.testing.assert_allclose(found, wanted[: len(pixels)], atol=1e-5)
    assert runner.get_input_details()["pixels"]["dtype"] is np.uint8


def test_what_was_set_is_a_copy(interpreter):
    interpreter.allocate_tensors()
    mine = PIXELS[:1].copy()
    interpreter.set_tensor(0, mine)
    mine[:] = 0
    assert (interpreter.get_tensor(0) == PIXELS[:1]).all()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (PIXELS[:1].astype(np.float32), "wanted uint8 [1, 16, 16, 3], found float32"),
        (PIXELS[:2], "found uint8 [2, 16, 16, 3]"),
        (PIXELS[0], "found uint8 [16, 16, 3]"),
        ("a word", "found <U6 []"),
    ],
)
def test_a_wrong_tensor(value, words):
    interpreter = tod.Interpreter(BOUND)
    interpreter.allocate_tensors()
    with pytest.raises(UsageError) as caught:
        interpreter.set_tensor(0, value)
    assert words in caught.value.problem


def test_the_order_of_calls():
    interpreter = tod.Interpreter(BOUND)
    with pytest.raises(UsageError, match="allocate_tensors"):
        interpreter.set_tensor(0, PIXELS[:1])
    with pytest.raises(UsageError, match="allocate_tensors"):
        interpreter.invoke()
    interpreter.allocate_tensors()
    with pytest.raises(UsageError, match="no numbers for pixels"):
        interpreter.invoke()
    with pytest.raises(UsageError, match="invoke"):
        interpreter.get_tensor(1)
    with pytest.raises(UsageError, match="1 is no input"):
        interpreter.set_tensor(1, PIXELS[:1])
    with pytest.raises(UsageError, match="no tensor 7"):
        interpreter.get_tensor(7)


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 8, 16, 3), (0, 16, 16, 3), (-1, 16, 16, 3)])
def test_a_shape_that_the_model_does_not_have(shape):
    with pytest.raises(UsageError, match="cannot have the shape"):
        tod.Interpreter(BOUND).resize_tensor_input(0, shape)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda p: p / "none.tod", ArtifactError, "none.tod"),
        (lambda p: p / "none.onnx", ArtifactError, "No such file"),
        (lambda p: FILES / "tiny.tod", UsageError, "it is not trained yet"),
        (
            lambda p: _written(p / "x.tflite", b"\x1c\0\0\0TFL3" + bytes(40)),
            ArtifactError,
            "LiteRT",
        ),
        (lambda p: _written(p / "x.tflite", b""), ArtifactError, "an empty file"),
        (lambda p: _written(p / "x.onnx", b"\xff\xd8\xff" + bytes(40)), ArtifactError, "JPEG"),
        (lambda p: _written(p / "x.onnx", b"\x08\x08\x12\x04abcd"), DeviceError, "cannot load"),
        (lambda p: _written(p / "x.tod", BOUND.read_bytes()[:-9]), ArtifactError, "x.tod"),
    ],
)
def test_what_is_no_model(tmp_path, make, error, words):
    with pytest.raises(error) as caught:
        tod.Interpreter(make(tmp_path))
    assert words in caught.value.problem


def _written(path, data):
    path.write_bytes(data)
    return path


def test_a_truncated_onnx(tmp_path, onnx):
    data = onnx.read_bytes()
    with pytest.raises(DeviceError, match="cannot load"):
        tod.Interpreter(_written(tmp_path / "x.onnx", data[: len(data) // 2]))


def test_delegates_that_are_not_here():
    with pytest.raises(UsageError, match="none of cpu, openvino") as caught:
        tod.Interpreter(BOUND, delegates=["gpu"])
    assert "here are: cpu" in caught.value.hint
    with pytest.raises(DeviceError, match="qnn is not installed here") as caught:
        tod.Interpreter(BOUND, delegates=["qnn"])
    assert "onnxruntime-qnn" in caught.value.hint
    with pytest.raises(UsageError, match="does not read an ONNX or ORT file"):
        tod.Interpreter(BOUND, delegates=["litert"])
    with pytest.raises(DeviceError, match="qnn or cuda is not installed here"):
        tod.Interpreter(BOUND, delegates=["qnn", "cuda"])


@pytest.mark.parametrize("names", ["qnn, cpu", ["QNN", "CPU"], ["qnn", "litert", "cpu"]])
def test_of_a_list_the_first_that_is_here(names, wanted):
    """That litert reads no .tod file is no reason to warn: each kind of file has its engine."""
    with pytest.warns(TodWarning) as told:
        interpreter = tod.Interpreter(BOUND, delegates=names)
    assert [str(one.message) for one in told] == [
        "the engine qnn is passed over: it is not installed here"
    ]
    found = interpreter.get_signature_runner()(pixels=PIXELS)["probabilities"]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_name_that_is_nearly_right():
    with pytest.raises(UsageError, match="'opnvino' is none of") as caught:
        tod.Interpreter(BOUND, delegates="opnvino")
    assert caught.value.hint.startswith("did you mean openvino? here are: cpu")


def test_nothing_takes_over_in_the_middle_of_the_work(monkeypatch):
    """The rows of two engines would be mixed in one store."""
    interpreter = tod.Interpreter(BOUND, delegates="openvino,cpu")

    def fail(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(type(interpreter._runner), "_ready", fail)
    with pytest.raises(DeviceError, match="failed in OpenVINO: out of memory"):
        interpreter.get_signature_runner()(pixels=PIXELS)


def test_another_delegate_takes_over_only_when_it_is_named(monkeypatch, wanted):
    from tod.runtime.delegates import openvino

    def fail(*_, **__):
        raise DeviceError("the driver is gone")

    monkeypatch.setattr(openvino, "OpenVinoRunner", fail)
    with pytest.raises(DeviceError, match="the driver is gone"):
        tod.Interpreter(BOUND, delegates=["openvino"])
    with pytest.warns(TodWarning, match="openvino is passed over: the driver is gone"):
        interpreter = tod.Interpreter(BOUND, delegates=["openvino", "cpu"])
    found = interpreter.get_signature_runner()(pixels=PIXELS)["probabilities"]
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_a_provider_that_onnxruntime_drops_is_an_error(monkeypatch, onnx):
    """onnxruntime knows the name, and goes on without it: without a word, on the CPU."""
    monkeypatch.setattr(table, "providers", lambda: ("CUDAExecutionProvider",))
    with pytest.warns(UserWarning, match="not in available provider"), pytest.raises(
        DeviceError, match="cannot start CUDAExecutionProvider"
    ):  # fmt: skip
        tod.Interpreter(onnx, delegates=["cuda"])


def test_bf16_where_the_processor_has_none(monkeypatch):
    monkeypatch.setattr(table, "instructions", tuple)
    graph = Graph(tod.TrainSession.load(BOUND).inference_graph(), "bound.onnx")
    for here, hint in ((True, ", or try --engine openvino"), (False, "")):
        monkeypatch.setattr(table, "available", lambda here=here: {"openvino": here})
        with pytest.raises(DeviceError, match="only on Arm processors that have it") as caught:
            table.open_runner(graph, table.Choice(bf16=True), threads=1)
        assert caught.value.hint == f"leave --precision away{hint}"


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_quantized_inputs_round_and_stay_in_range(dtype):
    """Where a cast would cut off and wrap around."""
    detail = Detail("x", (-1,), np.dtype(dtype), (0.5,), (10,))
    limits = np.iinfo(dtype)
    real = np.array([-1e30, -np.inf, 0, 0.24, 0.25, 0.75, -0.25, 1e30, np.inf, np.nan], np.float32)
    found = quantize(real, detail)
    low, high = limits.min, limits.max
    assert found.tolist() == [low, low, 10, 10, 11, 12, 9, high, high, 10]


@given(
    real=arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e6, 1e6, width=32)),
    scale=st.sampled_from([2.0**-10, 0.0078125, 0.1, 1.0, 37.5]),
    zero=st.integers(-128, 127),
)
def test_a_quantized_number_is_the_nearest_one(real, scale, zero):
    found = quantize(real, Detail("x", (-1,), np.dtype(np.int8), (scale,), (zero,)))
    kept = scale * (np.array([-128, 127]) - zero)
    inside = np.clip(real.astype(np.float64), *kept)
    back = scale * (found.astype(np.float64) - zero)
    assert np.abs(back - inside).max() <= scale / 2 * (1 + 1e-9)


def test_each_channel_has_its_scale():
    detail = Detail("x", (-1, 2), np.dtype(np.int8), (1.0, 0.1), (0, 5), axis=1)
    found = quantize(np.array([[3, 3], [-3, -3]], np.float32), detail)
    assert found.tolist() == [[3, 35], [-3, -25]]
