"""Files that hold many samples: tables and arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tod.data.dataset import Dataset
from tod.data.rows import content_hashes, identities
from tod.data.table_rows import read_inputs
from tod.errors import DataError, UsageError

NAMES = "melon,apple,price"


def table(tmp_path, lines, header=NAMES, name="fruit.csv"):
    path = tmp_path / name
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def good_lines(count=40):
    return [f"{i},{i % 7},{100 * i + i % 7}" for i in range(count)]


def test_a_table_of_numbers(tmp_path):
    found = Dataset.open(table(tmp_path, good_lines()), target=["price"], numbers=True)
    assert found.classes == ("price",)
    assert found.columns.inputs == ("melon", "apple")
    assert {s.split for s in found.samples} == {"train", "test", "validation"}
    sample = next(s for s in found.samples if s.path == "line 5")
    assert sample.targets == (303.0,)
    assert found.source(sample).tolist() == [3, 3]
    assert found.notices == ()


def test_a_table_of_classes(tmp_path):
    lines = [f"{i},{i + 1},{'ripe' if i % 2 else 'unripe'}" for i in range(20)]
    found = Dataset.open(table(tmp_path, lines, "a,b,state"), target=["state"])
    assert found.classes == ("ripe", "unripe")
    assert not found.has_targets
    assert [s.label for s in found.samples][:2] == [1, 0]


def test_text_in_a_column_of_numbers_is_passed_over_and_named(tmp_path):
    lines = good_lines()
    lines[3] = "many,3,303"
    lines[5] = "5,5,"
    lines[7] = "7,0"
    lines[9] = "9,nan,902"
    found = Dataset.open(table(tmp_path, lines), target=["price"], numbers=True)
    assert len(found.samples) == 36
    said = " ".join(found.notices)
    assert "line 5 was passed over: melon: could not convert" in said
    assert "line 7 was passed over: price" in said
    assert "line 9 was passed over: it has 2 cells, the header 3" in said
    assert {one.path for one in found.left_out} == {"line 5", "line 7", "line 9", "line 11"}


def test_no_line_that_can_be_used(tmp_path):
    with pytest.raises(DataError, match="no line that can be used") as refused:
        Dataset.open(table(tmp_path, ["x,y,z"] * 9), target=["price"], numbers=True)
    assert "line 2: melon" in refused.value.hint


@pytest.mark.parametrize(
    ("options", "said", "hint"),
    [
        ({}, "which of its columns is the answer", "--target price"),
        ({"target": ["prise"]}, "no column prise", "price"),
        ({"target": ["price"], "inputs": ["melom"]}, "no column melom", "melon"),
        ({"target": ["price"], "inputs": ["price"]}, "price cannot be input and target", ""),
        ({"target": ["price", "apple"]}, "a class stands in one column", "--loss mse"),
    ],
)
def test_columns_that_are_not_there(tmp_path, options, said, hint):
    with pytest.raises(UsageError, match=said) as refused:
        Dataset.open(table(tmp_path, good_lines()), **options)
    assert hint in refused.value.hint


def test_two_columns_of_one_name(tmp_path):
    with pytest.raises(DataError, match="wanted a name for each column"):
        Dataset.open(table(tmp_path, good_lines(), "a,a,price"), target=["price"])


def test_split_and_group_are_columns_of_their_own(tmp_path):
    splits = ("train", "test", "validation")
    lines = [f"{i},{i},{i},{splits[i % 3]},g{i}" for i in range(30)]
    path = table(tmp_path, lines, "melon,apple,price,split,group")
    found = Dataset.open(path, target=["price"], numbers=True)
    assert found.columns.inputs == ("melon", "apple")
    assert all(s.split == splits[(int(s.path.split()[1]) - 2) % 3] for s in found.samples)


def test_decimal_commas_in_the_first_column(tmp_path):
    lines = [f"{i},5;{i};{i}" for i in range(20)]
    path = table(tmp_path, lines, "melon;apple;price")
    found = Dataset.open(path, target=["price"], numbers=True)
    assert found.rows[3].tolist() == [3.5, 3]


def test_equal_lines_are_observations_of_their_own(tmp_path):
    lines = ["1,2,102"] * 200 + good_lines()
    found = Dataset.open(table(tmp_path, lines), target=["price"], numbers=True)
    equal = [s for s in found.samples if s.targets == (102.0,)]
    assert {s.split for s in equal} == {"train", "test", "validation"}
    assert len({s.pixels for s in equal}) == len(equal)
    assert len({s.sha256 for s in equal}) == 1  # features are computed once


def test_a_table_that_grows_keeps_its_splits(tmp_path):
    lines = good_lines() * 3
    before = Dataset.open(table(tmp_path, lines), target=["price"], numbers=True)
    more = [*lines, *good_lines(60)]
    after = Dataset.open(table(tmp_path, more), target=["price"], numbers=True)
    kept = {s.path: s.split for s in after.samples}
    assert all(kept[s.path] == s.split for s in before.samples)


def test_equal_inputs_with_other_numbers_are_named(tmp_path):
    lines = [*good_lines(), "1,1,999"]
    found = Dataset.open(table(tmp_path, lines), target=["price"], numbers=True)
    assert any("several times with different numbers" in notice for notice in found.notices)


def test_only_the_inputs_of_a_table(tmp_path):
    path = table(tmp_path, ["1,2", "x,3", "4"], "apple,melon")
    values, names, problems = read_inputs(path, ("melon", "apple"))
    assert values.tolist() == [[2, 1]]
    assert names == ["line 2"]
    assert [p.split(":")[0] for p in problems] == ["line 3", "line 4"]


def archive(tmp_path, **arrays):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


X = np.arange(240, dtype=np.uint8).reshape(60, 2, 2)
Y = np.arange(60) % 3


def test_arrays_with_whole_numbers_as_classes(tmp_path):
    found = Dataset.open(archive(tmp_path, x=X, y=Y))
    assert found.classes == ("0", "1", "2")
    assert [s.label for s in found.samples[:4]] == [0, 1, 2, 0]
    assert (found.source(found.samples[7]) == X[7]).all()


@pytest.mark.parametrize(
    "y", [Y.astype(np.float32), np.eye(3)[Y], Y[:, None], np.array(list("abc"))[Y]]
)
def test_the_same_classes_written_in_other_ways(tmp_path, y):
    found = Dataset.open(archive(tmp_path, x=X, y=y))
    assert [s.label for s in found.samples] == Y.tolist()


def test_the_splits_of_keras(tmp_path):
    path = archive(tmp_path, x_train=X[:40], y_train=Y[:40], x_test=X[40:], y_test=Y[40:])
    found = Dataset.open(path)
    assert found.counts()["validation"] == 20
    assert {s.path.split()[0] for s in found.split("validation")} == {"test"}


def test_equal_arrays_stay_together(tmp_path):
    found = Dataset.open(
        archive(tmp_path, x=np.concatenate([X, X[:20]]), y=np.concatenate([Y, Y[:20]]))
    )
    for sample in found.samples[60:]:
        twin = found.samples[sample.row - 60]
        assert twin.split == sample.split


def test_numbers_as_targets(tmp_path):
    y = np.stack([Y, Y * 2], axis=1).astype(np.float32)
    y[4, 1] = np.nan
    x = X.astype(np.float32)
    x[9, 0, 0] = np.inf
    found = Dataset.open(archive(tmp_path, x=x, y=y), numbers=True)
    assert found.classes == ("y0", "y1")
    assert len(found.samples) == 58
    assert {one.path: one.reason for one in found.left_out} == {
        "row 4": "its label is not finite",
        "row 9": "it has numbers that are not finite",
    }
    sample = next(s for s in found.samples if s.path == "row 10")
    assert (found.source(sample) == x[10]).all()
    assert sample.targets == tuple(y[10])


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": X, "y": Y[:-1]}, "do not fit together"),
        ({"x": X, "y": np.ones((60, 3))}, "the label of sample 0 is no class"),
        ({"x": X, "y": Y + 0.5}, "its labels are float64, wanted classes"),
        ({"x": np.array(["a"] * 60), "y": Y}, "wanted numbers"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :1], "y_test": Y}, "differ in more than"),
        ({"x": np.float64(1), "y": Y}, "do not fit together"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, arrays, said):
    with pytest.raises(DataError, match=said):
        Dataset.open(archive(tmp_path, **arrays))


def test_arrays_of_other_names_are_chosen(tmp_path):
    path = archive(tmp_path, images=X, digits=Y)
    with pytest.raises(UsageError, match="no arrays x and y, but digits, images") as refused:
        Dataset.open(path)
    assert "--inputs NAME --target NAME" in refused.value.hint
    assert len(Dataset.open(path, inputs=["images"], target=["digits"]).samples) == 60


def test_one_array_a_file(tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    with pytest.raises(UsageError, match="where are their labels"):
        Dataset.open(tmp_path / "x.npy")
    assert len(Dataset.open(tmp_path / "x.npy", target=["y.npy"]).samples) == 60
    with pytest.raises(DataError, match="no such file"):
        Dataset.open(tmp_path / "x.npy", target=["z.npy"])


def test_a_pickle_is_not_run(tmp_path):
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "y.npy", Y)
    with pytest.raises(DataError, match="no arrays can be read"):
        Dataset.open(tmp_path / "x.npy", target=["y.npy"])


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_damaged_files_are_refused(tmp_path, name):
    whole = tmp_path / f"whole{name[1:]}"
    if name == "x.npz":
        np.savez(whole, x=X, y=Y)
    else:
        np.save(whole, X)
    np.save(tmp_path / "y.npy", Y)
    data = whole.read_bytes()
    options = {"target": ["y.npy"]} if name == "x.npy" else {}
    for end in range(0, len(data), 37):
        (tmp_path / name).write_bytes(data[:end])
        with pytest.raises(DataError):
            Dataset.open(tmp_path / name, **options)


def test_hashes_do_not_depend_on_the_order_of_bytes():
    values = np.arange(12, dtype="<f8").reshape(4, 3)
    assert content_hashes(values) == content_hashes(values.astype(">f8"))
    assert content_hashes(values) != content_hashes(values.astype("<f4"))
    assert len(set(content_hashes(values))) == 4


@given(st.lists(st.sampled_from("abc")), st.lists(st.sampled_from("abc")))
def test_identities_differ_and_stay(first, more):
    found = identities(first + more)
    assert len(set(found)) == len(found)
    assert found[: len(first)] == identities(first)


def test_numbers_that_were_taken_for_classes(tmp_path):
    lines = [f"{i},{i},{i / 7}" for i in range(90)]
    with pytest.raises(DataError, match=r"5 different samples .* and 70 more") as refused:
        Dataset.open(table(tmp_path, lines), target=["price"])
    assert "want a model of --loss mse" in refused.value.hint
