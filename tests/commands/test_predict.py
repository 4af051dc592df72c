"""tod predict: every way to name pictures, and every way to show what was found."""

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

import tod
from tests.conftest import FILES, run
from tod.data.sort_into import copy_to_class


@pytest.fixture(scope="module")
def trained(tiny_file, tmp_path_factory, pictures):
    path = tmp_path_factory.mktemp("trained") / "trained.tod"
    session = tod.TrainSession.load(tiny_file)
    dataset = tod.Dataset.open(pictures)
    list(tod.train(session, dataset, init="ridge", cycles=1, target_accuracy=1, output=path))
    session.save_inference(path.with_suffix(".onnx"))
    return path


@pytest.fixture
def predict(call, tmp_path, trained):
    """Run it in a folder of its own; returns what was found by name, and how it ended."""

    def predicted(*arguments, model=trained):
        done = call("tod", "predict", "-f", model, *arguments, "--json", cwd=tmp_path)
        return {r["picture"]: r for r in map(json.loads, done.stdout.splitlines())}, done

    return predicted


def test_a_folder_is_searched_to_the_bottom(predict, pictures):
    found, done = predict(pictures)
    assert done.returncode == 0, done.stderr
    files = sorted(pictures.rglob("*.png"))
    assert sorted(found) == [str(file) for file in files]
    assert all(found[str(file)]["label"] == file.parent.name for file in files)


def test_a_pattern_and_an_array_and_a_list(predict, pictures, trained, tmp_path, monkeypatch):
    files = sorted((pictures / "red").glob("1*.png"))
    wanted = tod.TrainSession.load(trained).predict(files)
    by_pattern, _ = predict(str(pictures / "**" / "red" / "1*.png"))
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(map(str, files)) + "\n\n"))
    by_list, _ = predict("-")
    assert [*by_pattern] == [*by_list] == [*map(str, files)]
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    np.save(tmp_path / "several.npy", pixels)
    np.savez(tmp_path / "two.npz", one=pixels[0], more=pixels[1:3])
    by_array, _ = predict("several.npy", "two.npz")
    names = [f"several.npy[{i}]" for i in range(len(files))]
    assert [*by_array] == [*names, "two.npz:one", "two.npz:more[0]", "two.npz:more[1]"]
    for found in (by_pattern, by_list, by_array):
        shares = [one["probabilities"][0] for one in found.values()][: len(files)]
        np.testing.assert_allclose(shares, wanted.max(axis=1), atol=1e-6)


@pytest.mark.parametrize("engine", [None, "openvino", "openvino,cpu"])
def test_the_onnx_file_answers_as_the_tod_file(predict, pictures, trained, engine):
    options = [] if engine is None else ["--engine", engine]
    wanted, _ = predict(pictures / "red")
    for model in (trained, trained.with_suffix(".onnx")):
        found, done = predict(pictures / "red", *options, model=model)
        assert done.returncode == 0, done.stderr
        assert found.keys() == wanted.keys()
        for name, one in found.items():
            assert one["label"] == wanted[name]["label"]
            assert one["probabilities"] == pytest.approx(wanted[name]["probabilities"], abs=1e-5)


def test_an_engine_of_a_list_that_is_not_here_is_named_once(call, tmp_path, pictures, trained):
    line = "notice: the engine qnn is passed over: it is not installed here\n"
    models = (trained, trained.with_suffix(".onnx"))
    options = ("--engine", "qnn,cpu", "-q")
    done = call("tod", "predict", "-f", trained, pictures, *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, line)
    done = call("tod", "compare", *models, "-d", pictures, *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, line)
    done = call("tod", "eval", "-f", trained, "-d", pictures, *options, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, line)


@pytest.mark.parametrize(("name", "off"), [("bound.tflite", 1e-5), ("bound_int8.tflite", 0.05)])
def test_a_tflite_file_answers_as_the_tod_file(predict, pictures, name, off):
    wanted, _ = predict(pictures, "--top", 3, model=FILES / "bound.tod")
    found, done = predict(pictures, "--top", 3, model=FILES / name)
    assert done.returncode == 0, done.stderr
    assert found.keys() == wanted.keys()
    picture = pictures / "red" / "1.png"
    alone = run("tod", "predict", "-f", FILES / name, picture, "--json")
    assert alone.stderr == ""  # LiteRT's own remarks are kept from it
    for path, one in found.items():
        right = dict(zip(wanted[path]["classes"], wanted[path]["probabilities"], strict=True))
        shares = dict(zip(one["classes"], one["probabilities"], strict=True))
        assert shares == pytest.approx(right, abs=off)


def test_csv_holds_what_json_holds(predict, call, pictures, trained, tmp_path):
    found, _ = predict(pictures / "blue", "--top", 2)
    done = call(
        "tod", "predict", "-f", trained, pictures / "blue", "--top", 2, "--csv", cwd=tmp_path
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["picture"] for row in rows] == [*found]
    for row in rows:
        one = found[row["picture"]]
        assert [row["class 1"], row["class 2"]] == one["classes"]
        shares = [float(row["probability 1"]), float(row["probability 2"])]
        assert shares == pytest.approx(one["probabilities"], abs=1e-6)


def test_below_the_threshold_a_picture_is_unknown(predict, call, pictures, tmp_path):
    unsure = FILES / "bound.tod"
    found, _ = predict(pictures, model=unsure)
    threshold = np.median([one["probabilities"][0] for one in found.values()])
    found, _ = predict(pictures, "--threshold", threshold, model=unsure)
    shares = {name: one["probabilities"][0] for name, one in found.items()}
    unknown = {name for name, one in found.items() if one["label"] == "unknown"}
    assert unknown == {name for name, share in shares.items() if share < threshold}
    assert 0 < len(unknown) < len(found)
    name = next(iter(unknown))
    done = call("tod", "predict", "-f", unsure, name, "--threshold", threshold, cwd=tmp_path)
    assert "unknown (" in done.stdout


def test_pictures_are_copied_to_their_classes(predict, pictures, tmp_path):
    (tmp_path / "sorted" / "red").mkdir(parents=True)
    (tmp_path / "sorted" / "red" / "1.png").write_bytes(b"mine")
    for _ in range(2):
        _, done = predict(pictures, "--sort-into", "sorted")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "sorted" / "red" / "1.png").read_bytes() == b"mine"
    for file in pictures.rglob("*.png"):
        name = "1-2.png" if (file.parent.name, file.name) == ("red", "1.png") else file.name
        copy = tmp_path / "sorted" / file.parent.name / name
        assert copy.read_bytes() == file.read_bytes()
    assert len([*(tmp_path / "sorted").rglob("*.png")]) == len([*pictures.rglob("*.png")]) + 1


@pytest.mark.parametrize(
    "name", ["..", "../../up", "/etc", "a\0b", "", ".", "c:\\x", "CON/..", "a/b"]
)
def test_a_class_cannot_lead_out_of_the_folder(pictures, tmp_path, name):
    copy = copy_to_class(pictures / "red" / "1.png", name, tmp_path / "sorted")
    assert (tmp_path / "sorted") in copy.resolve().parents
    assert copy.resolve().parent != (tmp_path / "sorted").resolve()


def test_what_cannot_be_read_is_named_at_the_end(predict, pictures, tmp_path):
    good = pictures / "red" / "1.png"
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    (tmp_path / "words.txt").write_text("no picture")
    np.save(tmp_path / "float.npy", np.zeros((4, 4, 3)))
    np.save(tmp_path / "pickle.npy", np.array([{}], object))
    found, done = predict(
        "bad.jpg", "none.png", "float.npy", "pickle.npy", "*.webp", "words.txt", good
    )
    assert [*found] == [str(good)]
    assert done.returncode == 3
    said = " ".join(done.stderr.split())
    for words in (
        "bad.jpg: ", "none.png: cannot be read", "float.npy: wanted uint8", "pickle.npy: no arrays",
        "*.webp: no file fits", "words.txt: ",
    ):  # fmt: skip
        assert words in said


def test_files_beside_pictures_are_a_notice(predict, pictures, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("no picture")
    (tmp_path / "folder" / "1.png").write_bytes((pictures / "red" / "1.png").read_bytes())
    found, done = predict("folder")
    assert [*found] == ["folder/1.png"]
    assert done.returncode == 0
    assert "notes.txt" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["empty"], 3, "there is no file in this folder"),
        (["texts"], 3, "error: no picture was found"),
        (["-"], 3, "error: no picture was found"),
        (["-", "-"], 2, "stands there twice"),
        (["x.png", "--csv"], 2, "exclude each other"),
        (["x.png", "--engine", "gpu"], 2, "is none of cpu"),
        (["x.png", "--engine", "cuda"], 5, "not installed here"),
        (["x.png", "--sort-into", "file"], 3, "file"),
    ],
)
def test_mistakes(predict, tmp_path, monkeypatch, arguments, code, words):
    for name in ("empty", "texts"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts" / "a.txt").write_text("no picture")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    (tmp_path / "file").write_text("")
    _, done = predict(*arguments)
    assert done.returncode == code
    assert words in " ".join(done.stderr.split())


def test_a_foreign_onnx_file_does_not_say_what_it_takes(predict, trained, tmp_path, pictures):
    import onnx

    model = onnx.load(trained.with_suffix(".onnx"))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    _, done = predict(pictures / "red" / "1.png", model=tmp_path / "foreign.onnx")
    assert done.returncode == 4
    assert "metadata" in done.stderr


def test_a_folder_in_the_place_of_the_model(predict, trained):
    _, done = predict("x.png", model=trained.parent)
    assert done.returncode == 4
    assert f"{trained.parent}: it is a folder" in done.stderr
    assert trained.name in done.stderr  # the model in it
    with pytest.raises(tod.TodError, match="it is a folder"):
        tod.Interpreter(trained.parent)
