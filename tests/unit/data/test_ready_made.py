"""Ready-made splits: refused by that name or, when asked for, taken as they are."""

import itertools
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_tools.prepare import prepare
from dataset_tools.sources import class_folders
from tests.conftest import make_pictures
from tod.data.check import gather
from tod.data.dataset import Dataset
from tod.data.own_splits import SPLIT_WORDS
from tod.data.ready_made import ready_made_splits
from tod.errors import DataError


def grid(*patterns):
    return [
        pattern.replace("*", name) for pattern in patterns for name in ("cat", "dog")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("paths", "names", "splits"),
    [
        (grid("Training/*", "Testing/*"), "cat dog cat dog", "train train test test"),
        (grid("photos/train/*", "photos/val/*"), "cat dog cat dog",
         "train train validation validation"),
        (grid("*/train", "*/test"), "cat dog cat dog", "train train test test"),
        (grid("*/images/train", "*/images/dev"), "cat/images dog/images cat/images dog/images",
         "train train validation validation"),
        ([*grid("seg_train/seg_train/*", "seg_test/seg_test/*"), "seg_pred/seg_pred"],
         "cat dog cat dog ", "train train test test -"),
        (grid("train2017/*", "val2017/*"), "cat dog cat dog", "train train validation validation"),
        (grid("trainset/*", "testset/*"), "cat dog cat dog", "train train test test"),
        (grid("a/train/*", "a/test/*", "b/train/*", "b/test/*"),
         "a/cat a/dog a/cat a/dog b/cat b/dog b/cat b/dog",
         "train train test test train train test test"),
        ([*grid("train/*"), "test"], "cat dog ", "train train test"),
        ([*grid("*/train", "*/test"), "bird"], "cat dog cat dog bird",
         "train train test test -"),
        (["train/cat", "train/dog", "val/dog", "val/bird"], "cat dog dog bird",
         "train train validation validation"),
        (grid("train/images/*", "test/images/*"), "cat dog cat dog", "train train test test"),
    ],
)  # fmt: skip
def test_they_are_found_at_any_level(paths, names, splits):
    ready = ready_made_splits(paths)
    assert list(ready.names.values()) == names.split(" ")
    assert [split or "-" for split in ready.splits.values()] == splits.split(" ")
    assert ready.by_name
    assert not ready.unknown


@pytest.mark.parametrize(
    "paths",
    [
        ["cat", "dog"],
        ["train", "car", "bus"],
        ["vehicle/train", "vehicle/car", "food/bread"],
        ["arena/hockey", "arena/rodeo", "attic"],
        ["church/indoor", "church/outdoor", "library/indoor", "library/outdoor", "attic"],
        ["arena/hockey", "arena/rodeo", "church/indoor", "church/outdoor", "bank/indoor"],
        ["test_tube/full", "test_tube/empty", "train_station/roof"],
        ["church/indoor", "library/indoor"],
        ["cat", "dog", "train", "train/steam"],
        ["indoor/cat", "indoor/dog"],
    ],
)
def test_classes_are_no_splits(paths):
    assert ready_made_splits(paths) is None


@pytest.mark.parametrize(
    "paths",
    [
        grid("2019/*", "2020/*"),
        [*grid("2019/*", "2020/*"), "2020/bird", "2021/cat"],
        grid("*/left", "*/right"),
        grid("x/A/*", "x/B/*"),
    ],
)
def test_repeated_names_alone(paths):
    ready = ready_made_splits(paths)
    assert not ready.by_name
    assert ready.unknown == ready.folders


@given(
    st.sets(st.text("abcdefgh", min_size=1, max_size=4), min_size=2, max_size=5),
    st.sampled_from(list(itertools.combinations(SPLIT_WORDS, 2))),
    st.lists(st.text("xyz", min_size=1, max_size=3), max_size=2),
    st.booleans(),
)
def test_any_names_in_any_wrapper(classes, words, wrapper, last):
    if SPLIT_WORDS[words[0]] == SPLIT_WORDS[words[1]] or classes & {*SPLIT_WORDS}:
        return
    parts = {(c, w): [*wrapper, *((c, w) if last else (w, c))] for c in classes for w in words}
    ready = ready_made_splits(["/".join(path) for path in parts.values()])
    for (name, word), path in parts.items():
        assert ready.names["/".join(path)] == name
        assert ready.splits["/".join(path)] == SPLIT_WORDS[word]


def opened(tree, **options):
    return Dataset.open(tree, cache=False, **options)


@pytest.fixture
def parted(tmp_path):
    """photos/Training and photos/Testing, of ten and five pictures in each class."""
    make_pictures(tmp_path / "tree" / "photos" / "Training", per_class=15)
    for folder in list((tmp_path / "tree" / "photos" / "Training").iterdir()):
        other = tmp_path / "tree" / "photos" / "Testing" / folder.name
        other.mkdir(parents=True)
        for index in range(10, 15):
            (folder / f"{index}.png").rename(other / f"{index}.png")
    return tmp_path / "tree"


def test_they_are_taken_when_asked_for(parted, tmp_path):
    with pytest.raises(DataError, match=r"ready-made splits \(photos/Testing, photos/Tr") as caught:
        opened(parted)
    assert "--splits" in caught.value.hint
    dataset = opened(parted, splits=True)
    assert dataset.classes == ("blue", "green", "red")
    held = {s.path for s in dataset.samples if s.split == "validation"}
    assert held == {p.relative_to(parted).as_posix() for p in parted.rglob("Testing/*/*.png")}
    assert any("these splits are taken as they are" in text for text in dataset.notices)
    made = prepare(class_folders(parted, splits=True), tmp_path / "out", size_px=16)
    assert {f.source: f.split for f in made.index.files} == {
        s.path: s.split for s in dataset.samples
    }
    looked, refused = gather(parted, seed=0, cache=False, splits=True)
    assert (looked.classes, refused) == (dataset.classes, None)
    with pytest.raises(DataError, match="ready-made splits"):
        class_folders(parted)


def test_three_splits_are_those_of_the_folders(parted):
    photos = parted / "photos"
    shutil.copytree(photos / "Testing", photos / "valid")
    for file in (photos / "valid").rglob("*.png"):
        if int(file.stem) > 11:
            file.unlink()
    for file in (photos / "Testing").rglob("*.png"):
        if int(file.stem) <= 11:
            file.unlink()
    dataset = opened(parted, splits=True)
    assert dataset.counts() == {"train": 30, "test": 9, "validation": 6}
    for sample in dataset.samples:
        folder = {"train": "Training", "test": "Testing", "validation": "valid"}[sample.split]
        assert sample.path.startswith(f"photos/{folder}/")


def test_what_has_no_class_is_left_out(parted):
    photos = parted / "photos"
    (photos / "Testing" / "x.png").write_bytes((photos / "Testing/red/10.png").read_bytes())
    dataset = opened(parted, splits=True)
    reasons = {one.path: one.reason for one in dataset.left_out}
    assert reasons == {"photos/Testing/x.png": "it lies in a split's folder, but in no class"}


def test_names_that_say_nothing(parted):
    photos = parted / "photos"
    shutil.copytree(photos / "Testing", photos / "holdout")
    with pytest.raises(DataError, match=r"the names of photos/holdout do not say which they are"):
        opened(parted, splits=True)
    (photos / "Training").rename(photos / "2019")
    (photos / "Testing").rename(photos / "2020")
    for splits in (False, True):
        with pytest.raises(DataError, match="repeat the same folders: they are ready-made splits"):
            opened(parted, splits=splits)
    looked, refused = gather(parted, seed=0, cache=False)
    assert "ready-made splits" in refused.problem
    assert len(looked.samples) == 60


def test_asked_for_where_there_are_none(pictures):
    with pytest.raises(DataError, match="it holds no ready-made splits"):
        opened(pictures, splits=True)


def test_groups_of_splits_csv_are_kept_as_well(parted):
    group = ["photos/Testing/red/10.png", "photos/Testing/red/11.png"]
    (parted / "splits.csv").write_text("file,group\n" + "".join(f"{file},g\n" for file in group))
    dataset = opened(parted, splits=True)
    assert {s.path: s.split for s in dataset.samples}[group[0]] == "validation"


@pytest.mark.parametrize("name", ["splits-as-top-folders", "splits-in-a-wrapper"])
def test_cases_from_the_field(test_data, name):
    folder = test_data / "field_cases" / name
    with pytest.raises(DataError, match="ready-made splits"):
        opened(folder)
    dataset = opened(folder, splits=True)
    assert dataset.classes == ("aquarium", "beach", "conference_room")
    assert dataset.counts()["validation"] == 36
