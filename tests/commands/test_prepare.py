"""tod prepare-dataset: every source, resumed at any point, the same bytes each time."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_tools import sources
from dataset_tools.prepare import prepare
from tests.conftest import make_pictures, run
from tod.data.dataset import Dataset
from tod.data.image import decode
from tod.errors import DataError, DeviceError, Interrupted, UsageError


def tree_bytes(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def small(tmp_path) -> Path:
    return make_pictures(tmp_path / "source", per_class=8, side_px=40)


def test_what_is_written(small, tmp_path):
    out = tmp_path / "out"
    made = prepare(sources.class_folders(small), out, size_px=32, resize_px=36)
    assert made.made == 24
    index = json.loads((out / "dataset.json").read_text())
    assert [entry["name"] for entry in index["classes"]] == ["blue", "green", "red"]
    assert len(index["files"]) == 24
    for entry in index["files"]:
        data = (out / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        source = (small / entry["source"]).read_bytes()
        assert hashlib.sha256(source).hexdigest() == entry["source_sha256"]
        assert decode(data).shape == (32, 32, 3)
        assert data[:2] == b"BM"
    assert sorted(os.listdir(out)) == ["blue", "dataset.json", "green", "red"]
    assert sorted(os.listdir(out / "red")) == [f"{i}.bmp" for i in range(8)]
    assert Dataset.open(out).cropped


def test_a_second_call_does_only_what_is_missing(small, tmp_path):
    out = tmp_path / "out"
    prepare(sources.class_folders(small), out, size_px=32)
    before = tree_bytes(out)
    (out / "red" / "3.bmp").unlink()
    (out / "blue" / "5.bmp").write_bytes(b"damaged")
    assert prepare(sources.class_folders(small), out, size_px=32).made == 2
    assert tree_bytes(out) == before
    assert prepare(sources.class_folders(small), out, size_px=32).made == 0
    Image.new("RGB", (50, 50), "yellow").save(small / "red" / "new.png")
    assert prepare(sources.class_folders(small), out, size_px=32).made == 1
    assert (out / "red" / "8.bmp").is_file()


def test_same_input_same_bytes_in_any_order_and_format(small, tmp_path, monkeypatch):
    prepare(sources.class_folders(small), tmp_path / "one", size_px=32, seed=4)
    walk = os.walk
    with monkeypatch.context() as patch:  # a file system that lists everything the other way round
        patch.setattr(os, "walk", lambda *a, **b: ((f, d, n[::-1]) for f, d, n in walk(*a, **b)))
        prepare(sources.class_folders(small), tmp_path / "two", size_px=32, seed=4)
    assert tree_bytes(tmp_path / "one") == tree_bytes(tmp_path / "two")
    for kind in ("png", "jpeg"):
        prepare(sources.class_folders(small), tmp_path / kind, size_px=32, picture_format=kind)
    exact = decode((tmp_path / "png" / "red" / "0.png").read_bytes())
    assert np.array_equal(exact, decode((tmp_path / "one" / "red" / "0.bmp").read_bytes()))
    close = decode((tmp_path / "jpeg" / "red" / "0.jpg").read_bytes()).astype(int)
    assert np.abs(close - exact).mean() < 12


def test_interrupted_and_continued(small, tmp_path):
    prepare(sources.class_folders(small), tmp_path / "whole", size_px=32)
    out = tmp_path / "parts"
    for _ in range(2):
        answers = [False] * 5 + [True]
        with pytest.raises(Interrupted, match=r"stopped after 6 of 24") as caught:
            prepare(
                sources.class_folders(small), out, size_px=32, should_stop=partial(answers.pop, 0)
            )
        assert "same command again" in caught.value.hint
        with pytest.raises(DataError, match="was interrupted"):
            Dataset.open(out)
    with (out / "dataset.journal").open("ab") as journal:
        journal.write(b'{"file": "red/0.b')  # a line that the power cut tore
    prepare(sources.class_folders(small), out, size_px=32)
    assert tree_bytes(out) == tree_bytes(tmp_path / "whole")


def test_killed_and_continued(tmp_path):
    """SIGKILL at some moment of the real command: no half picture, and the end is the same."""
    source = make_pictures(tmp_path / "source", per_class=60, side_px=300)
    command = [Path(sys.executable).with_name("tod"), "prepare-dataset", source]
    prepare(sources.class_folders(source), tmp_path / "whole")
    out = tmp_path / "out"
    process = subprocess.Popen([*command, out], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while len(list(out.glob("*/*.bmp"))) < 20:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for picture in out.glob("*/*.bmp"):
        assert decode(picture.read_bytes()).shape == (224, 224, 3)
    done = run("tod", "prepare-dataset", source, out)
    assert done.returncode == 0, done.stderr
    assert tree_bytes(out) == tree_bytes(tmp_path / "whole")


def test_unreadable_pictures_are_listed_together(small, tmp_path):
    (small / "red" / "1.png").write_bytes(b"rotten")
    (small / "blue" / "2.png").write_bytes(b"")
    done = run("tod", "prepare-dataset", small, tmp_path / "out", "--size", 32)
    assert done.returncode == 0
    assert "2 pictures were passed over:" in done.stderr
    assert "red/1.png: not a picture (a text file)" in done.stderr
    assert "22 pictures of 3 classes" in done.stdout
    strict = run("tod", "prepare-dataset", small, tmp_path / "out", "--size", 32, "--strict")
    assert strict.returncode == 3
    assert "(--strict)" in strict.stderr


def test_a_class_that_becomes_too_small_tells_why(small, tmp_path):
    for index in range(4):
        (small / "red" / f"{index}.png").write_bytes(b"rotten")
    with pytest.raises(DataError, match=r"too small: red \(4\).*red/0.png: not a picture"):
        prepare(sources.class_folders(small), tmp_path / "out", size_px=32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size_px": 24}, "size_px is 32 there and 24 here"),
        ({"picture_format": "png"}, "picture_format is bmp there and png here"),
    ],
)
def test_out_with_another_dataset(small, tmp_path, change, message):
    prepare(sources.class_folders(small), tmp_path / "out", size_px=32)
    before = tree_bytes(tmp_path / "out")
    with pytest.raises(DataError, match=message):
        prepare(sources.class_folders(small), tmp_path / "out", **{"size_px": 32, **change})
    assert tree_bytes(tmp_path / "out") == before


def test_out_made_from_other_pictures(small, tmp_path):
    prepare(sources.class_folders(small), tmp_path / "out", size_px=32)
    other = tmp_path / "other"
    shutil.copytree(small, other)
    for file in [*(other / "red").iterdir(), *(other / "blue").iterdir()]:
        file.rename(file.with_name(f"other {file.name}"))
    with pytest.raises(DataError, match="16 of its 24 pictures are not in this source"):
        prepare(sources.class_folders(other), tmp_path / "out", size_px=32)


def test_out_made_from_other_pictures_of_the_same_names(small, tmp_path):
    prepare(sources.class_folders(small), tmp_path / "out", size_px=32)
    before = tree_bytes(tmp_path / "out")
    for index, file in enumerate(small.rglob("*.png")):
        Image.new("RGB", (30, 30), (index, index, 0)).save(file)
    with pytest.raises(DataError, match="the names, but not the content"):
        prepare(sources.class_folders(small), tmp_path / "out", size_px=32)
    assert tree_bytes(tmp_path / "out") == before


def test_labels_that_were_corrected(small, tmp_path):
    """The second call's labels hold; only what changed is made, and what is gone is removed."""
    out = tmp_path / "out"
    prepare(sources.class_folders(small), out, size_px=32)
    (small / "red" / "3.png").rename(small / "blue" / "moved.png")
    (small / "green" / "0.png").unlink()
    Image.new("RGB", (50, 50), "teal").save(small / "green" / "new.png")
    second = prepare(sources.class_folders(small), out, size_px=32)
    assert (second.made, second.removed) == (2, 2)
    names = [entry.name for entry in second.index.classes]
    labels = {file.source: names[file.label] for file in second.index.files}
    assert labels == {
        path.relative_to(small).as_posix(): path.parent.name for path in small.rglob("*.png")
    }
    assert {f.file for f in second.index.files} == {
        path.relative_to(out).as_posix() for path in out.rglob("*.bmp")
    }
    fresh = prepare(sources.class_folders(small), tmp_path / "fresh", size_px=32)
    assert {(f.source, f.label, f.split, f.sha256) for f in second.index.files} == {
        (f.source, f.label, f.split, f.sha256) for f in fresh.index.files
    }
    third = prepare(sources.class_folders(small), out, size_px=32)
    assert (third.made, third.removed, third.index) == (0, 0, second.index)


def test_classes_and_seed_of_the_second_call_hold(small, tmp_path):
    out = tmp_path / "out"
    prepare(sources.class_folders(small), out, size_px=32)
    shutil.rmtree(small / "red")
    make_pictures(tmp_path / "more", per_class=6, side_px=40)
    shutil.copytree(tmp_path / "more" / "red", small / "a new class")
    second = prepare(sources.class_folders(small), out, size_px=32, seed=7)
    assert [entry.name for entry in second.index.classes] == ["a new class", "blue", "green"]
    assert (second.made, second.removed, second.index.seed) == (6, 8, 7)
    assert not list((out / "red").iterdir())
    plain = {sample.path: sample.split for sample in Dataset.open(small, seed=7).samples}
    assert {file.source: file.split for file in second.index.files} == plain


def test_a_list_of_one_s_own(small, tmp_path):
    """With labels, splits and groups as columns; corrected in the second call."""
    files = sorted(path.relative_to(small).as_posix() for path in small.rglob("*.png"))
    rows = [(f, "warm" if f < "d" else "cold", ("train", "test", "val")[i % 3], "") for i, f in
            enumerate(files)]  # fmt: skip
    table = tmp_path / "list.csv"

    def write(rows):
        lines = ["file;label;split;group", *map(";".join, rows)]
        table.write_text("\n".join(lines), "utf-16")

    write(rows)
    done = run("tod", "prepare-dataset", small, tmp_path / "out", "--list", table, "--size", 32)
    assert done.returncode == 0, done.stderr
    dataset = Dataset.open(tmp_path / "out")
    assert dataset.classes == ("cold", "warm")
    assert dataset.counts() == {"train": 8, "test": 8, "validation": 8}
    rows[0] = (files[0], "cold", "train", "")
    write(rows)
    done = run("tod", "prepare-dataset", small, tmp_path / "out", "--list", table, "--size", 32)
    assert "1 made now, 1 removed" in done.stdout, done.stderr
    index = json.loads((tmp_path / "out" / "dataset.json").read_text())
    (first,) = (entry for entry in index["files"] if entry["source"] == files[0])
    assert first["file"].startswith("cold/")
    write([*rows, (files[0], "warm", "train", "")])
    done = run("tod", "prepare-dataset", small, tmp_path / "out", "--list", table, "--size", 32)
    assert done.returncode == 3
    assert f"{files[0]} is listed as warm and as cold" in done.stderr


def test_out_inside_the_source(small):
    done = run("tod", "prepare-dataset", small, small / "out")
    assert done.returncode == 2
    assert "lies in the source" in done.stderr
    assert not (small / "out").exists()


def test_split_is_that_of_the_plain_tree(small, tmp_path):
    made = prepare(sources.class_folders(small), tmp_path / "out", size_px=32, seed=6)
    plain = {sample.path: sample.split for sample in Dataset.open(small, seed=6).samples}
    assert {file.source: file.split for file in made.index.files} == plain


def test_a_name_that_is_no_text_is_passed_over(small, tmp_path):
    os.rename(small / "red" / "7.png", os.fsencode(small / "red") + b"/caf\xe9.png")
    done = run("tod", "prepare-dataset", small, tmp_path / "out", "--size", 32)
    assert done.returncode == 0, done.stderr
    assert "23 pictures" in done.stdout
    assert "was passed over: its name is not valid UTF-8" in done.stderr
    os.rename(small / "red", os.fsencode(small) + b"/r\xe9d")
    done = run("tod", "prepare-dataset", small, tmp_path / "other", "--size", 32)
    assert done.returncode == 3
    assert "its name is not valid UTF-8" in done.stderr


def test_out_that_holds_other_files(small, tmp_path):
    with pytest.raises(DataError, match="it holds files, but no dataset"):
        prepare(sources.class_folders(small), small, size_px=32)


def test_per_class_is_a_seeded_sample(small, tmp_path):
    found = {}
    for seed in (0, 1):
        made = prepare(
            sources.class_folders(small), tmp_path / str(seed), size_px=32, per_class=5, seed=seed
        )
        found[seed] = {file.source for file in made.index.files}
        assert len(made.index.files) == 15
    assert found[0] != found[1]


def test_a_prepared_dataset_as_a_source_is_not_cropped_twice(small, tmp_path):
    image = Image.new("RGB", (40, 40), "white")
    image.paste("black", (4, 4, 36, 36))
    for folder in small.iterdir():
        for index, file in enumerate(folder.iterdir()):
            image.paste((20 * index, 0, 10 * len(folder.name)), (15, 15, 25, 25))
            image.save(file)
    prepare(sources.class_folders(small), tmp_path / "one", size_px=32, resize_px=40)
    prepare(sources.class_folders(tmp_path / "one"), tmp_path / "two", size_px=16)
    once = decode((tmp_path / "one" / "red" / "0.bmp").read_bytes())
    twice = decode((tmp_path / "two" / "red" / "0.bmp").read_bytes())
    # the crop took 4 pixels off, exactly the white frame; a second one would have to cut black
    assert once[0, 0].tolist() == twice[0, 0].tolist() == [0, 0, 0]
    assert twice.shape == (16, 16, 3)


def test_digits(tmp_path):
    made = prepare(sources.digits(), tmp_path / "out", size_px=32, per_class=6)
    assert [entry.name for entry in made.index.classes] == [str(d) for d in range(10)]
    assert len(made.index.files) == 60
    zero = decode((tmp_path / "out" / made.index.files[0].file).read_bytes())
    assert zero[0, 0].tolist() == [255, 255, 255]
    assert zero.min() < 60


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DeviceError, match="'sklearn', which is not installed") as caught:
        sources.digits()
    assert "pip install -c constraints.txt '.[demo]'" in caught.value.hint


@pytest.fixture
def places(tmp_path, test_data) -> tuple[Path, Path, Path]:
    """The Places365 layout, with real categories and real pictures under listed names."""
    root = tmp_path / "places"
    (root / "val_256").mkdir(parents=True)
    categories = test_data / "labels" / "categories_places365.txt"
    ids = {line.split()[0]: int(line.split()[1]) for line in categories.read_text().splitlines()}
    lines = []
    for name in ("/a/aquarium", "/a/arena/hockey", "/b/badlands"):
        folder = test_data / "places" / {"/a/arena/hockey": "auditorium"}.get(name, name[3:])
        for picture in sorted(folder.iterdir())[:6]:
            file = f"Places365_val_{len(lines) + 1:08d}.jpg"
            shutil.copy(picture, root / "val_256" / file)
            lines.append(f"{file} {ids[name]}")
    lines.append("Places365_val_00099999.jpg 4")
    list_file = tmp_path / "places365_val.txt"
    list_file.write_text("\n".join(lines) + "\n")
    return root, list_file, categories


def test_places(places, tmp_path):
    wanted = ["arena/hockey", "30", "/a/aquarium"]
    source = sources.places(*places, wanted)
    assert source.classes == ("arena/hockey", "badlands", "aquarium")
    made = prepare(source, tmp_path / "out")
    assert [entry.folder for entry in made.index.classes] == [
        "arena_hockey",
        "badlands",
        "aquarium",
    ]
    assert (tmp_path / "out" / "arena_hockey" / "0.bmp").is_file()
    assert made.index.files[0].source.startswith("val_256/Places365_val_")
    flat = tmp_path / "flat"
    shutil.copytree(places[0] / "val_256", flat)
    assert len(sources.places(flat, *places[1:], wanted).pictures) == 18


def test_places_on_the_command_line(places, tmp_path):
    root, list_file, categories = places
    options = ["--list", list_file, "--categories", categories, "--size", 32]
    done = run(
        "tod",
        "prepare-dataset",
        root,
        tmp_path / "out",
        *options,
        "--classes",
        "aquarium, badlands",
    )
    assert done.returncode == 0, done.stderr
    assert "12 pictures of 2 classes" in done.stdout
    seed = run("tod", "prepare-dataset", root, tmp_path / "seed", *options)
    assert seed.returncode == 3  # of the seed's ten classes two have pictures here
    assert "too small: alley (0), cockpit (0)" in seed.stderr
    assert not (tmp_path / "seed").exists()


@pytest.mark.parametrize(
    ("wanted", "message", "hint"),
    [
        (["aquarum"], "no class 'aquarum'", "did you mean aquarium"),
        (["999"], "no class 999", "0 to 364"),
        (["badlands", "30"], "given twice", ""),
    ],
)
def test_unknown_classes(places, wanted, message, hint):
    with pytest.raises(UsageError) as caught:
        sources.places(*places, wanted)
    assert message in caught.value.problem
    assert hint in caught.value.hint


def test_bad_lists(places, tmp_path):
    root, list_file, categories = places
    bad = tmp_path / "bad.txt"
    bad.write_text("a.jpg 4\nno number here\n")
    with pytest.raises(DataError, match=r"bad\.txt, line 2: wanted a name and a number"):
        sources.places(root, bad, categories, ["4"])
    with pytest.raises(DataError, match="cannot be read"):
        sources.places(root, tmp_path / "none.txt", categories, ["4"])
    with pytest.raises(DataError, match="none of the 1 listed pictures is there"):
        sources.places(root, list_file, categories, ["alley"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", 300, "--resize", 200], "wanted 8 <= size <= resize"),
        (["--per-class", 3], "at least 5"),
        (["--categories", "x"], "--categories goes with the --list"),
        (["--classes", "a"], "--classes chooses from a --list"),
    ],
)
def test_usage(small, tmp_path, arguments, message):
    done = run("tod", "prepare-dataset", small, tmp_path / "out", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written(small, tmp_path):
    (tmp_path / "file").write_text("")
    done = run("tod", "prepare-dataset", small, tmp_path / "file" / "out")
    assert done.returncode == 3
    assert "cannot be written" in done.stderr


def test_folder_names_are_safe_and_different():
    from dataset_tools.prepare import _folders

    names = ("arena/hockey", "arena_hockey", "Arena Hockey", "con", "..", "日本", "a" * 300)
    folders = _folders(names)
    assert len({folder.lower() for folder in folders}) == len(names)
    assert all(folder.isascii() and len(folder) < 80 for folder in folders)
    assert not {"con", "..", ""} & set(folders)
