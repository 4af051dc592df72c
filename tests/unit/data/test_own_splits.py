"""Splits and groups of the pictures' owner."""

import csv

import pytest

import tod
from tests.conftest import make_pictures, run
from tod.errors import DataError


def write(folder, header, rows):
    with open(folder / "splits.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def tree(tmp_path):
    return make_pictures(tmp_path / "tree", per_class=10)


def files(tree):
    return sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.png"))


def splits(folder):
    return {s.path: s.split for s in tod.Dataset.open(folder, cache=False).samples}


def test_every_split_is_given(tree):
    words = ["train", "Training", "test", "val", "validation", "train"]
    names = {"Training": "train", "val": "validation"}
    given = {file: words[i % 6] for i, file in enumerate(files(tree))}
    write(tree, ["file", "split"], given.items())
    assert splits(tree) == {file: names.get(word, word) for file, word in given.items()}


def test_pictures_without_a_word_go_by_the_rule(tree):
    by_rule = splits(tree)
    chosen = files(tree)[:5]
    write(tree, ["file", "split"], [(file, "test") for file in chosen] + [(files(tree)[6], "")])
    found = splits(tree)
    assert all(found[file] == "test" for file in chosen)
    assert {f: s for f, s in found.items() if f not in chosen} == {
        f: s for f, s in by_rule.items() if f not in chosen
    }


def test_train_and_one_other_split(tree):
    """The other is the last word; what chooses the best cycle comes out of train."""
    given = {file: ("test" if i % 5 == 0 else "train") for i, file in enumerate(files(tree))}
    write(tree, ["file", "split"], given.items())
    dataset = tod.Dataset.open(tree, cache=False)
    assert {s.path for s in dataset.split("validation")} == {
        file for file, word in given.items() if word == "test"
    }
    assert len(dataset.split("test")) >= 3
    assert len(dataset.split("train")) > len(dataset.split("test"))
    assert any("the test pictures are the validation split" in text for text in dataset.notices)


def test_groups_stay_together(tree):
    groups = {file: f"day {i % 7}" for i, file in enumerate(files(tree))}
    write(tree, ["file", "group"], groups.items())
    for seed in range(3):
        sides = {}
        try:
            dataset = tod.Dataset.open(tree, seed=seed, cache=False)
        except DataError as error:  # 7 groups can leave a class without one of its splits
            assert "or in one group" in error.problem
            continue
        for sample in dataset.samples:
            side = sides.setdefault(groups[sample.path], sample.split)
            assert side == sample.split


def test_they_hold_in_the_prepared_form(tree, tmp_path):
    given = {file: ("test", "train", "validation")[i % 3] for i, file in enumerate(files(tree))}
    write(tree, ["file", "split"], given.items())
    assert run("tod", "prepare-dataset", tree, tmp_path / "one", "--size", 16).returncode == 0
    assert (
        run("tod", "prepare-dataset", tmp_path / "one", tmp_path / "two", "--size", 8).returncode
        == 0
    )
    wanted = {s.pixels: s.split for s in tod.Dataset.open(tree, cache=False).samples}
    for name in ("one", "two"):
        found = tod.Dataset.open(tmp_path / name, cache=False).samples
        assert {s.pixels: s.split for s in found} == wanted


def test_columns_of_targets(tree):
    rows = [(f, i, ("train", "test", "val")[i % 3]) for i, f in enumerate(files(tree))]
    with open(tree / "targets.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "weight", "split"], *rows])
    dataset = tod.Dataset.open(tree, cache=False)
    assert dataset.classes == ("weight",)
    names = {"val": "validation"}
    assert {s.path: s.split for s in dataset.samples} == {f: names.get(w, w) for f, _, w in rows}


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (["file", "split"], [("red/0.png", "trian")], "line 2: the split is 'trian', wanted train"),
        (["picture", "split"], [("red/0.png", "train")], "its first line is 'picture,split'"),
        (["file", "weight"], [("red/0.png", "1")], "wanted are the columns file and split"),
        (["file", "split"], [("red/0.png", "train"), ("red/0.png", "test")], "stands there twice"),
    ],
)
def test_mistakes(tree, header, rows, message):
    write(tree, header, rows)
    with pytest.raises(DataError, match=message):
        tod.Dataset.open(tree, cache=False)


def test_files_that_are_not_there_are_said(tree):
    write(tree, ["file", "split"], [("red/none.png", "train"), ("red/0.png", "test")])
    notices = tod.Dataset.open(tree, cache=False).notices
    assert any("1 files that are no pictures of it, e.g. red/none.png" in text for text in notices)


def test_equal_pictures_in_two_given_splits(tree):
    (tree / "red" / "copy.png").write_bytes((tree / "red" / "0.png").read_bytes())
    rows = [(file, "train" if file == "red/0.png" else "") for file in files(tree)]
    write(tree, ["file", "split"], [*rows[:-1], ("red/copy.png", "validation")])
    dataset = tod.Dataset.open(tree, cache=False)
    assert {s.path: s.split for s in dataset.samples}["red/copy.png"] == "train"
    assert any("given another split than equal ones" in text for text in dataset.notices)
