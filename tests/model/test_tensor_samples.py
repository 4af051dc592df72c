"""Models whose samples are no pictures, from export to every place that uses them."""

import csv
import json
import random

import numpy as np
import pytest

import tod
from model.export import Settings, export_network
from model.networks import own
from model.step.losses import LOSSES
from model.step.optimizers import Adam
from tests.conftest import make_pictures
from tod.format import artifact as artifacts
from tod.runtime.engine import Engine

FRUIT = """
from torch import nn
from model.transfer_net import TransferNet

INPUT = {"shape": (3,), "mean": (5, 5, 5), "std": 2}
TRAINABLE = "*"

def build(classes):
    return TransferNet(nn.Sequential(nn.Linear(3, 16), nn.ReLU()), nn.Linear(16, classes))
"""
GREY = """
from torch import nn
from model.transfer_net import TransferNet

INPUT = {"shape": (1, 8, 8), "dtype": "uint8", "std": 255}

def build(classes):
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.Flatten())
    return TransferNet(backbone, nn.Linear(36, classes))
"""


def exported(folder, text, loss):
    (folder / "net.py").write_text(text)
    network = own.load(str(folder / "net.py"), seed=0)
    settings = Settings(Adam(learning_rate=0.01), LOSSES[loss](), backbone_lr=1.0)
    path = folder / "net.tod"
    export_network(path, network, settings)
    return path.read_bytes()


@pytest.fixture(scope="module")
def fruit_bytes(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("fruit"), FRUIT, "mse")


@pytest.fixture(scope="module")
def grey_bytes(tmp_path_factory):
    return exported(tmp_path_factory.mktemp("grey"), GREY, "cross-entropy")


@pytest.fixture
def fruit(fruit_bytes, tmp_path):
    """`net.tod` and `fruit.csv`."""
    (tmp_path / "net.tod").write_bytes(fruit_bytes)
    generator = random.Random(0)
    with (tmp_path / "fruit.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["melon", "apple", "grape", "price"])
        for _ in range(300):
            melon, apple, grape = (generator.randint(1, 9) for _ in range(3))
            rows.writerow([melon, apple, grape, melon + 0.1 * apple + 0.01 * grape])
    return tmp_path


TRAIN = ("net_runner", "-f", "net.tod", "-d", "fruit.csv", "--target", "price", "-c", 60, "-q",
         "--patience", 0, "--target-accuracy", 1)  # fmt: skip


@pytest.fixture
def trained(fruit, call):
    done = call(*TRAIN, "-c", 300, cwd=fruit)
    assert done.returncode == 0, done.stderr
    return fruit / "net_trained.tod"


def test_what_the_file_says(fruit):
    found = artifacts.read(fruit / "net.tod").manifest
    assert found.schema == 2
    assert found.input is None
    assert found.tensor.shape == (3,)
    assert found.samples.name == "inputs"


def test_mean_and_std_are_inside_the_graph(grey_bytes, tmp_path):
    (tmp_path / "x.tod").write_bytes(grey_bytes)
    graphs = artifacts.read(tmp_path / "x.tod").graphs
    white = Engine(graphs).features(np.full((1, 1, 8, 8), 255, np.uint8))
    import torch

    network = own.load(str(_written(tmp_path)), seed=0).build(3)
    with torch.no_grad():
        wanted = network.backbone(torch.ones(1, 1, 8, 8)).numpy()
    np.testing.assert_allclose(white, wanted, atol=1e-6)


def _written(folder):
    (folder / "grey.py").write_text(GREY)
    return folder / "grey.py"


def test_it_learns_and_remembers_its_columns(trained, call):
    done = call("tod", "eval", "-f", trained.name, "-d", "fruit.csv", "--json", cwd=trained.parent)
    assert done.returncode == 0, done.stderr
    score = [json.loads(line) for line in done.stdout.splitlines()][-1]
    assert score["accuracy"] > 0.9  # R2
    spec = artifacts.read(trained).manifest.tensor
    assert (spec.inputs, spec.target) == (("melon", "apple", "grape"), ("price",))
    shown = call("tod", "info", trained.name, cwd=trained.parent).stdout
    assert "float32 3, of melon, apple, grape" in shown


def test_columns_in_another_order_are_found_by_name(trained, call):
    folder = trained.parent
    (folder / "other.csv").write_text("grape,price,melon,apple\n7,0,2,4\n")
    (folder / "same.csv").write_text("melon,apple,grape\n2,4,7\n")
    answers = [
        json.loads(call("tod", "predict", "-f", trained.name, name, "--json", cwd=folder).stdout)
        for name in ("other.csv", "same.csv")
    ]
    assert answers[0]["values"] == answers[1]["values"]
    assert answers[0]["values"][0] == pytest.approx(2.47, abs=0.5)


def test_a_resumed_run_gives_the_same_bytes(fruit, call):
    whole = call(*TRAIN, "-o", "whole.tod", cwd=fruit)
    assert whole.returncode == 0, whole.stderr
    part = call(*TRAIN, "-o", "part.tod", "-s", 20, "-c", 40, cwd=fruit)
    assert part.returncode == 0, part.stderr
    part = call(*TRAIN, "-o", "part.tod", "--resume", "--overwrite", cwd=fruit)
    assert part.returncode == 0, part.stderr
    states = [artifacts.read(fruit / name).state for name in ("whole.tod", "part.tod")]
    for name, value in states[0].items():
        assert (states[1][name] == value).all(), name


def test_the_cache_is_used_by_a_second_run(trained, call):
    """The features are in a file beside the table; columns that were chosen do not change them."""
    kept = list((trained.parent / ".tod-cache").iterdir())
    assert kept
    before = {path: path.stat().st_mtime_ns for path in kept}
    done = call("tod", "eval", "-f", trained.name, "-d", "fruit.csv", cwd=trained.parent)
    assert done.returncode == 0, done.stderr
    assert {p: p.stat().st_mtime_ns for p in (trained.parent / ".tod-cache").iterdir()} == before


def test_verify_check_and_report(trained, call):
    folder = trained.parent
    for command in (
        ("tod", "verify", trained.name),
        ("tod", "check", "fruit.csv", "-f", trained.name),
        ("tod", "report", trained.name, "-d", "fruit.csv", "-o", "r.html"),
        ("tod", "doctor", trained.name),
    ):
        done = call(*command, cwd=folder)
        assert done.returncode == 0, done.stderr
    page = (folder / "r.html").read_text()
    assert "float32 3" in page


@pytest.mark.parametrize("to", ["onnx", "ort", "tflite", "torch"])
def test_every_format_answers_the_same(trained, call, to):
    folder = trained.parent
    done = call("tod", "convert", trained.name, "--to", to, "-d", "fruit.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "samples of the validation split of fruit.csv" in done.stdout
    if to == "torch":
        return
    rows = np.array([[1, 2, 3], [9, 9, 9]], np.float32)
    answers = []
    for name in (trained.name, trained.with_suffix(f".{to}").name):
        runner = tod.Interpreter(folder / name)
        runner.allocate_tensors()
        place = runner.get_input_details()[0]
        assert place["shape"].tolist() == [1, 3]
        assert place["dtype"] is np.float32
        found = []
        for row in rows:
            runner.set_tensor(place["index"], row[None])
            runner.invoke()
            found.append(runner.get_tensor(runner.get_output_details()[0]["index"])[0])
        answers.append(np.array(found))
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-5)
    if to == "tflite":
        done = call("tod", "predict", "-f", "net_trained.tflite", "fruit.csv", "--json", cwd=folder)
        assert len(done.stdout.splitlines()) == 300


def test_fewer_bits_want_samples(trained, call):
    convert = ("tod", "convert", trained.name, "--to", "tflite", "--quantize", "int8")
    done = call(*convert, cwd=trained.parent)
    assert done.returncode == 2
    assert "there is no rule to make those of this model, [3]" in done.stderr
    done = call(*convert, "-d", "fruit.csv", "--max-drop", "0.1", cwd=trained.parent)
    assert done.returncode == 0, done.stderr


def test_weights_alone_in_int8(trained, call):
    done = call(
        "tod", "convert", trained.name, "--to", "onnx", "--quantize", "weights", cwd=trained.parent
    )
    assert done.returncode == 2
    assert "--quantize weights goes with --to tflite" in done.stderr


def test_compare(trained, call):
    folder = trained.parent
    call("tod", "convert", trained.name, "--to", "tflite", "-d", "fruit.csv", cwd=folder)
    done = call("tod", "compare", trained.name, "net_trained.tflite", "-d", "fruit.csv", cwd=folder)
    assert done.returncode == 0, done.stderr


def test_a_program_trains_with_arrays(fruit):
    session = tod.TrainSession.load(fruit / "net.tod")
    session.bind(["price"])
    x = np.random.default_rng(0).integers(1, 10, (32, 3))
    y = x @ np.array([1, 0.1, 0.01])
    losses = [session.step(x, y[:, None]) for _ in range(200)]
    assert losses[-1] < 0.01 * losses[0]
    assert session.predict([5, 5, 5]).shape == (1, 1)


def test_a_dataset_of_a_program(fruit):
    dataset = tod.Dataset.open(fruit / "fruit.csv", target=["price"], numbers=True)
    session = tod.TrainSession.load(fruit / "net.tod", cache=False)
    tod.train(session, dataset, cycles=5, output=fruit / "x.tod").run()
    assert (fruit / "x.tod").exists()


@pytest.mark.parametrize("kind", ["npz", "folders"])
def test_grey_pictures_as_samples(grey_bytes, tmp_path, call, kind):
    (tmp_path / "net.tod").write_bytes(grey_bytes)
    data = tmp_path / "data"
    make_pictures(data, per_class=12, side_px=8)
    dataset = tod.Dataset.open(data)
    if kind == "npz":
        from tod.data.pictures import array_of

        spec = artifacts.read(tmp_path / "net.tod").manifest.samples
        x = np.stack([array_of(dataset.source(s), spec) for s in dataset.samples])
        y = np.array([dataset.classes[sample.label] for sample in dataset.samples])
        np.savez(tmp_path / "d.npz", x=x, y=y)
        data = tmp_path / "d.npz"
    done = call("net_runner", "-f", "net.tod", "-d", data, "-c", 60, "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    picture = dataset.source(dataset.samples[0])
    done = call("tod", "predict", "-f", "net_trained.tod", picture, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["classes"][0] in dataset.classes


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("-d", "fruit.csv"), "which of its columns is the answer? It has melon, apple"),
        (("-d", "fruit.csv", "--target", "prise"), "it has no column prise"),
        (
            ("-d", "fruit.csv", "--target", "price", "--inputs", "melon"),
            "its samples are [1], this model takes [3]",
        ),
        (("-d", "pictures"), "it holds pictures; this model takes [3]"),
    ],
)
def test_data_that_does_not_fit(fruit, call, options, said):
    make_pictures(fruit / "pictures", per_class=5, side_px=8)
    (fruit / "pictures" / "targets.csv").write_text(
        "file,y\n"
        + "".join(
            f"{path.relative_to(fruit / 'pictures').as_posix()},{i}\n"
            for i, path in enumerate(sorted((fruit / "pictures").rglob("*.png")))
        )
    )
    done = call("net_runner", "-f", "net.tod", *options, "-c", 5, cwd=fruit)
    assert done.returncode in (2, 3), done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_of_pictures_takes_no_columns(tiny, fruit, call):
    done = call("net_runner", "-f", tiny, "-d", "fruit.csv", "--target", "price", cwd=fruit)
    assert done.returncode == 2
    assert "this model takes pictures" in done.stderr
    done = call("net_runner", "-f", tiny, "-d", "fruit.csv", "-c", 5, cwd=fruit)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('{"shape": ()}', "INPUT"),
        ('{"shape": (0,)}', "INPUT"),
        ('{"shape": 3}', "INPUT"),
        ('{"shape": (3,), "dtype": "int64"}', "INPUT"),
        ('{"shape": (3,), "mean": (1, 2)}', "mean has 2 numbers, wanted 1 or 3"),
        ('{"shape": (3,), "std": 0}', "std is not above 0"),
        ('{"shape": (3,), "size_px": 4}', "some of"),
    ],
)
def test_an_input_without_a_meaning(tmp_path, given, said):
    from tod.errors import UsageError

    path = tmp_path / "net.py"
    path.write_text(FRUIT.replace('{"shape": (3,), "mean": (5, 5, 5), "std": 2}', given))
    with pytest.raises(UsageError, match="INPUT") as refused:
        own.load(str(path), seed=0)
    assert said in str(refused.value)


def test_what_is_frozen_of_them_is_not_quantized(fruit, call):
    (fruit / "net.py").write_text(GREY)
    done = call("tod", "export", "net.py", "--quantize", "fp16", "-o", "x.tod", cwd=fruit)
    assert done.returncode == 2
    assert "--quantize works on networks of pictures" in done.stderr
