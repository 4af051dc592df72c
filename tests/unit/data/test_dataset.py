"""Class folders and dataset.json are read alike everywhere, and mistakes are explained."""

import json
import shutil

import pytest

from tests.conftest import make_pictures
from tod.data.dataset import Dataset
from tod.errors import DataError
from tod.system.names import natural_key, near_names


def test_a_plain_tree(pictures):
    dataset = Dataset.open(pictures)
    assert dataset.classes == ("blue", "green", "red")
    assert dataset.counts() == {"train": 36, "test": 12, "validation": 12}
    assert dataset.samples[0].path == "blue/0.png"
    assert [s.path for s in dataset.samples[:3]] == ["blue/0.png", "blue/1.png", "blue/2.png"]


def test_classes_may_lie_deeper(tmp_path):
    make_pictures(tmp_path / "tree" / "indoor")
    assert Dataset.open(tmp_path / "tree").classes == ("indoor/blue", "indoor/green", "indoor/red")


def test_seed_and_only_the_seed_changes_the_split(pictures, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(pictures, copy)
    for index, file in enumerate(sorted((copy / "red").iterdir(), reverse=True)):
        file.rename(file.with_name(f"renamed {index}.png"))
    assert Dataset.open(copy).digest() == Dataset.open(pictures).digest()
    assert Dataset.open(copy, seed=1).digest() != Dataset.open(copy).digest()


def test_copies_of_a_picture_stay_together(tmp_path):
    tree = make_pictures(tmp_path / "tree")
    for index in range(5):
        shutil.copy(tree / "red" / f"{index}.png", tree / "red" / f"copy {index}.png")
    splits = {}
    for sample in Dataset.open(tree).samples:
        assert splits.setdefault(sample.sha256, sample.split) == sample.split


def test_links_that_go_round_are_followed_once(tmp_path):
    tree = make_pictures(tmp_path / "tree")
    (tree / "red" / "loop").symlink_to(tree)
    assert Dataset.open(tree).classes == ("blue", "green", "red")


def test_a_class_folder_may_be_a_link(tmp_path):
    tree = make_pictures(tmp_path / "tree")
    (tree / "red").rename(tmp_path / "elsewhere")
    (tree / "red").symlink_to(tmp_path / "elsewhere")
    assert Dataset.open(tree).classes == ("blue", "green", "red")


def write(tree, content):
    (tree / "dataset.json").write_text(content)


@pytest.mark.parametrize(
    ("prepare", "message", "hint"),
    [
        (shutil.rmtree, "no such folder", "one folder per class"),
        (lambda t: [shutil.rmtree(d) for d in t.iterdir()], "no class folder", "one folder per"),
        (lambda t: [shutil.rmtree(t / d) for d in ("red", "blue")], "only the class green", "one"),
        (
            lambda t: [(t / "red" / f"{i}.png").unlink() for i in range(17)],
            r"too small: red \(3\)",
            "add pictures",
        ),
        (lambda t: (t / "dataset.journal").touch(), "was interrupted", "prepare-dataset"),
        (lambda t: write(t, "{"), "not a readable dataset index", "prepare the dataset again"),
        (lambda t: write(t, '{"format": "tod-dataset"}'), "missing required field", "again"),
    ],
)
def test_mistakes(tmp_path, prepare, message, hint):
    tree = make_pictures(tmp_path / "tree")
    prepare(tree)
    with pytest.raises(DataError, match=message) as caught:
        Dataset.open(tree)
    assert hint in caught.value.hint


def test_twenty_copies_of_one_picture_are_one_picture(tmp_path):
    tree = make_pictures(tmp_path / "tree")
    for file in (tree / "red").iterdir():
        shutil.copyfile(tree / "blue" / "0.png", file)
    with pytest.raises(DataError, match=r"too small: red \(1\)"):
        Dataset.open(tree)


def test_a_class_whose_pictures_are_all_elsewhere_too(tmp_path):
    """Every picture of `twin` is in `red` as well; where that empties a split, it is said."""
    tree = make_pictures(tmp_path / "tree", per_class=5)
    for index in range(1, 40):
        shutil.copytree(tree / "red", tree / f"twin {index}")
    try:
        dataset = Dataset.open(tree)
    except DataError as error:
        assert "in other classes as well" in error.problem
    else:
        assert all(dataset.counts().values())


def test_ready_made_splits_are_not_classes(tmp_path):
    make_pictures(tmp_path / "tree" / "train")
    make_pictures(tmp_path / "tree" / "val")
    with pytest.raises(DataError, match=r"ready-made splits \(train, val\), not classes"):
        Dataset.open(tmp_path / "tree")


def test_an_index_that_lies_is_refused(tmp_path, pictures):
    from dataset_tools.prepare import prepare
    from dataset_tools.sources import class_folders

    prepare(class_folders(pictures), tmp_path / "out", size_px=16)
    file = tmp_path / "out" / "dataset.json"
    file.write_text(file.read_text().replace('"name": "red"', '"name": "blue"'))
    with pytest.raises(DataError, match="two of its classes have the same name"):
        Dataset.open(tmp_path / "out")
    index = json.loads(file.read_text().replace('"name": "blue"', '"name": "red"', 1))
    for evil in ("../../etc/passwd", "/etc/passwd"):
        index["files"][0]["file"] = evil
        file.write_text(json.dumps(index))
        with pytest.raises(DataError, match="lie elsewhere"):
            Dataset.open(tmp_path / "out")


def test_natural_order():
    names = ["10.bmp", "9.bmp", "a10", "a9", "b", "1", "01"]
    assert sorted(names, key=natural_key) == ["01", "1", "9.bmp", "10.bmp", "a9", "a10", "b"]


def test_near_names():
    assert near_names("abey", ["abbey", "beach"]) == "did you mean abbey?"
    assert near_names("xyz", ["abbey", "beach"]) == "known: abbey, beach"
