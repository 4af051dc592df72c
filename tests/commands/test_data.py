"""`tod data`: what data hold, and the same in another form."""

import json

import numpy as np
import pytest

from tests.conftest import make_pictures
from tod.data.dataset import Dataset
from tod.data.repository import write_repository


@pytest.fixture
def digits(tmp_path):
    """A repository of 30 grey pictures of three classes."""
    rng = np.random.default_rng(0)
    samples = [
        (rng.integers(0, 256, (4, 4)).astype(np.float32), np.eye(3, dtype=np.float32)[index % 3])
        for index in range(30)
    ]
    write_repository(tmp_path / "d.json", samples)
    return tmp_path / "d.json"


def test_info(digits, call, tmp_path):
    done = call("tod", "data", "info", digits, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["samples"], told["classes"], told["format"]) == (30, ["0", "1", "2"], "static")
    assert told["tensors"][0] == {"dtype": "float32", "shape": [4, 4]}
    assert sum(told["splits"].values()) == 30
    shown = call("tod", "data", "info", digits, cwd=tmp_path).stdout
    assert "float32 4 x 4" in shown


def test_there_and_back(digits, call, tmp_path):
    """Repository -> arrays -> folders of pictures -> flexible repository -> the same pixels."""
    for source, out, *options in (
        ("d.json", "d.npz"), ("d.npz", "folders"),
        ("folders", "f.json", "--size", 4, "--grey", "--form", "flexible"),
    ):  # fmt: skip
        done = call("tod", "data", "convert", source, "-o", out, *options, "-q", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    first, last = Dataset.open(digits, cache=False), Dataset.open(tmp_path / "f.json", cache=False)

    def pairs(dataset, kind):
        arrays = [np.frombuffer(dataset.source(s).tobytes(), kind) for s in dataset.samples]
        names = [dataset.classes[sample.label] for sample in dataset.samples]
        return sorted((n, a.astype(np.uint8).tobytes()) for n, a in zip(names, arrays, strict=True))

    assert pairs(last, np.uint8) == pairs(first, np.float32)


def test_named_parts_are_splits(digits, call, tmp_path):
    options = ("--train", 20, "--validation", 10)
    done = call("tod", "data", "convert", digits, "-o", "d.npz", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = Dataset.open(tmp_path / "d.npz", cache=False)
    assert found.counts()["validation"] == 10
    assert all(s.path.startswith("validation") for s in found.split("validation"))


def test_equal_data_give_equal_bytes(digits, call, tmp_path):
    for out in ("a.npz", "b.npz", "a.json", "b.json"):
        assert call("tod", "data", "convert", digits, "-o", out, cwd=tmp_path).returncode == 0
    for one, other in (("a.npz", "b.npz"), ("a.json", "b.json"), ("a.data", "b.data")):
        assert (tmp_path / one).read_bytes() == (tmp_path / other).read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("d.json", "-o", "d.json"), "d.json"),
        (("d.json", "-o", "x.json", "--train", 5, "--validation", 5), "arrays of an .npz file"),
        (("d.json", "-o", "x.npz", "--train", 5), "--train and --validation go together"),
        (("d.json", "-o", "x.npz", "--train", 25, "--validation", 25), "has 30 samples, 50 are"),
        (("d.json", "-o", "x.npz", "--form", "sparse"), "--form belongs to a repository"),
        (("d.json", "-o", "x.npz", "--size", 8), "--size belongs to pictures"),
        (("pictures", "-o", "x.npz"), "--size belongs to pictures"),
        (("d.json", "-o", "pictures"), "is not empty"),
        (("none.json", "-o", "x.npz"), "none.json"),
    ],
)
def test_what_cannot_be_converted(digits, call, tmp_path, options, said):
    make_pictures(tmp_path / "pictures", per_class=5, side_px=8)
    done = call("tod", "data", "convert", *options, cwd=tmp_path)
    assert done.returncode in (2, 3)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.npz").exists()


def test_numbers_that_are_no_pixels_make_no_pictures(call, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.linspace(0, 1, 320).reshape(20, 4, 4), y=np.arange(20) % 2)
    done = call("tod", "data", "convert", "d.npz", "-o", "out", cwd=tmp_path)
    assert done.returncode == 3
    assert "sample 0 is no picture" in done.stderr


def test_class_names_cannot_leave_the_folder(call, tmp_path):
    names = np.array(["../../evil", "good"])[np.arange(20) % 2]
    np.savez(tmp_path / "d.npz", x=np.arange(320, dtype=np.uint8).reshape(20, 4, 4) % 251, y=names)
    done = call("tod", "data", "convert", "d.npz", "-o", "out/here", cwd=tmp_path)
    assert done.returncode in (0, 2, 3)
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path.parent / "evil").exists()
