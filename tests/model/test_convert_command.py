"""`tod convert` as a user meets it."""

import json
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest

from tests.conftest import FILES
from tod.data.image import load
from tod.runtime.model import Model

BOUND = FILES / "bound.tod"


def test_a_report_and_a_file(call, tmp_path):
    done = call("tod", "convert", BOUND, "--to", "tflite", "-o", "m.tflite", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "m.tflite").read_bytes()[4:8] == b"TFL3"
    assert "on 96 pictures made by rule, one thread:" in done.stdout
    for column in ("bytes", "largest diff", "mean diff", "same answer", "median ms", "p90 ms"):
        assert column in done.stdout
    assert "notice: comparing on pictures made by rule" in done.stderr
    assert "comparing float32 with the original on 96 pictures made by rule" in done.stderr
    assert f"{BOUND.stat().st_size:,}" in done.stdout  # of the file that was given
    assert f"{(tmp_path / 'm.tflite').stat().st_size:,}" in done.stdout
    assert "Traceback" not in done.stderr


def test_all_variants_on_a_dataset(call, tmp_path, pictures, tiny):
    done = call("net_runner", "-f", tiny, "-d", pictures, "-c", 40, "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trained = tiny.with_name("tiny_trained.tod")
    done = call(
        "tod", "convert", trained, "--to", "tflite", "--quantize", "all", "-d", pictures,
        "--json", "-o", "m.tflite", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["pictures"].startswith("12 pictures of the validation split of ")
    assert [v["quantize"] for v in made["variants"]] == [
        "none",
        "dynamic",
        "weights",
        "int8",
        "fp16",
    ]
    for variant in made["variants"]:
        assert variant["written"]
        assert (tmp_path / variant["path"]).stat().st_size == variant["bytes"]
        assert variant["accuracy"] == made["original"]["accuracy"]
        assert variant["median_ms"] <= variant["p90_ms"]


def test_nothing_is_written_that_is_worse(call, tmp_path):
    done = call(
        "tod", "convert", BOUND, "--to", "tflite", "--quantize", "none,int8", "--max-drop", "0",
        "-o", "m.tflite", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 10
    assert re.search(
        r"error: int8: it is worse by 0\.\d+, allowed are 0; on 96 pictures", done.stderr
    )
    assert "hint: give pictures like those of the device (--calibrate DIR, -d DATA)" in done.stderr
    assert "(int8: not written)" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["m_float32.tflite"]


def test_the_onnx_file_runs_where_only_onnxruntime_is(call, tmp_path, pictures):
    done = call("tod", "convert", BOUND, "--to", "ort", "-o", "m.ort", "-q", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    model = Model.load(BOUND, cache=False)
    file = next((pictures / "red").iterdir())
    pixels = load(file.read_bytes(), model.manifest.input)[None]
    done = call("tod", "compare", BOUND, "m.ort", "-d", pictures, "--layers", cwd=tmp_path)
    assert done.returncode == 2
    assert "an ORT file does not show the values between its layers" in done.stderr
    session = onnxruntime.InferenceSession(tmp_path / "m.ort")
    (found,) = session.run(["probabilities"], {"pixels": pixels})
    np.testing.assert_allclose(found, model.predict([file]), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "code", "wanted"),
    [
        (["--to", "tflite", "-o", "m.onnx"], 2, "has to end in .tflite"),
        (["--to", "onnx", "--quantize", "int4"], 2, "'int4' is not known, wanted none, dynamic"),
        (["--to", "torch", "--quantize", "fp16"], 2, "--to torch is in float32"),
        (["--to", "onnx", "--calibrate", "x"], 2, "--calibrate belongs to --quantize"),
        (["--to", "onnx", "-o", "no/m.onnx"], 4, "the folder does not exist"),
        (["--to", "onnx", "-d", "nowhere"], 3, "nowhere"),
        (["--to", "web"], 2, "web"),
    ],
)
def test_what_is_wrong_is_said_before_the_work(call, tmp_path, arguments, code, wanted):
    done = call("tod", "convert", BOUND, *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert wanted in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_source_of_the_user_stays(call, tmp_path):
    own = tmp_path / "my_net.py"
    own.write_text("def build(classes): ...\n")
    asked = ("tod", "convert", BOUND, "--to", "torch", "-o", "my_net.pt")
    done = call(*asked, cwd=tmp_path)
    assert done.returncode == 2
    assert "my_net.py: this file is there already, and TOD did not make it" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["my_net.py"]
    own.unlink()
    for _ in range(2):  # its own source it may replace
        assert call(*asked, cwd=tmp_path).returncode == 0
    assert b"class Network" in own.read_bytes()


def test_open_classes_and_foreign_files_are_refused(call, tmp_path):
    done = call("tod", "convert", FILES / "tiny.tod", "--to", "onnx", "-o", "m.onnx", cwd=tmp_path)
    assert done.returncode == 2
    assert "it is not trained yet" in done.stderr
    (tmp_path / "no.tod").write_bytes(b"no")
    done = call("tod", "convert", "no.tod", "--to", "onnx", cwd=tmp_path)
    assert done.returncode == 4
    assert [path.name for path in tmp_path.iterdir()] == ["no.tod"]


def test_tflite_needs_no_torch(tmp_path):
    """Whoever has only a .tod file need not install it."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from tod.cli.app import main; sys.argv = ['tod', *sys.argv[1:]]; main()"
    )
    arguments = ["convert", BOUND, "--to", "tflite", "--quantize", "all", "--max-drop", "1"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments), "-q", "-o", "m.tflite"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(tmp_path.iterdir())) == 5


def test_a_missing_package_is_named_with_its_extra(call, tmp_path, monkeypatch):
    from tod.system import machine

    monkeypatch.setattr(
        machine.importlib.util, "find_spec", lambda name: None if name == "ai_edge_litert" else 1
    )
    done = call("tod", "convert", BOUND, "--to", "tflite", cwd=tmp_path)
    assert done.returncode == 5
    assert "needs the package 'ai_edge_litert'" in done.stderr
    assert "pip install -c constraints.txt '.[convert]'" in done.stderr


@pytest.mark.parametrize(("bits", "name"), [("none", "bound"), ("int8", "bound_int8")])
def test_the_files_of_the_tests_are_what_it_makes(call, tmp_path, bits, name):
    options = ("--to", "tflite", "--quantize", bits, "--max-drop", 1, "-o", "x.tflite")
    assert call("tod", "convert", BOUND, *options, cwd=tmp_path).returncode == 0
    assert (tmp_path / "x.tflite").read_bytes() == (FILES / f"{name}.tflite").read_bytes()


def test_an_ort_file_is_used_as_the_others(call, tmp_path, pictures):
    call("tod", "convert", BOUND, "--to", "ort", "-o", "x.ort", cwd=tmp_path)
    answers = []
    for model in (BOUND, "x.ort"):
        done = call("tod", "predict", "-f", model, pictures / "red", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        answers.append([json.loads(line)["probabilities"] for line in done.stdout.splitlines()])
    np.testing.assert_allclose(*answers, atol=1e-6)


def test_layers_of_every_variant_are_known(call, tmp_path, pictures):
    """By the names of the original: where a layer is a part of another one, that one has it."""
    files = []
    for bits in ("int8", "fp16", "dynamic"):
        files.append(tmp_path / f"{bits}.onnx")
        done = call(
            "tod", "convert", BOUND, "--to", "onnx", "--quantize", bits, "--max-drop", 1,
            "--calibrate", pictures, "-q", "-o", files[-1], cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    compare = ["tod", "compare", BOUND, *files, "-d", pictures, "--layers", "--json", "-q"]
    done = call(*compare, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for row in json.loads(done.stdout):
        values = {one["value"] for one in row["layers"]}
        assert {"features/9", "features/10", "features", "logits", "probabilities"} <= values
        layers = {one["layer"] for one in row["layers"]}
        assert {"features/6.Conv", "predict/1.Gemm"} <= layers
        assert all(one["cosine"] > 0.9 for one in row["layers"])
