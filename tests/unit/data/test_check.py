"""tod check: every kind of problem is found where it was put, and nothing where there is none."""

import io
import json
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

import tod
from tests.conftest import make_pictures, run
from tod.data.check import Look, doubtful, examine, gather, look_at
from tod.data.image import glance
from tod.data.near_duplicates import NEAR_BITS, alike, correlation, difference_hash, near_pairs
from tod.data.samples import Sample
from tod.errors import DataError
from tod.training.loop import train


@pytest.fixture
def data(pictures, tmp_path):
    return shutil.copytree(pictures, tmp_path / "data")


def findings(path, **more):
    dataset, refused = gather(path, seed=0, cache=False)
    found = examine(dataset, dict(look_at(dataset)), refused=refused, **more)
    return {finding.kind: finding for finding in found}


def photo(test_data, name="beach/0001.jpg"):
    return Image.open(test_data / "scenes" / name).convert("RGB")


def test_nothing_is_found_where_nothing_is_wrong(tmp_path):
    data = make_pictures(tmp_path / "many", per_class=40)
    assert findings(data, size_px=16) == {}
    done = run("tod", "check", data)
    assert done.returncode == 0
    assert "nothing is wrong with pictures and labels" in done.stdout
    assert "3 classes, 120 pictures" in done.stdout


def test_all_in_one_report_the_worst_first(data, tmp_path):
    (data / "red" / "rotten.png").write_bytes(b"rotten")
    shutil.copy(data / "red" / "0.png", data / "red" / "again.png")
    shutil.copy(data / "red" / "1.png", data / "blue" / "contradicts.png")
    Image.new("RGB", (20, 20), (9, 9, 200)).save(data / "blue" / "flat.png")
    found = findings(data, size_px=100)
    assert list(found) == [
        "unreadable", "contradiction", "few", "flat", "duplicate", "small",
    ]  # fmt: skip
    assert found["unreadable"].items == (("red/rotten.png", "not a picture (a text file)"),)
    assert found["contradiction"].items == (("blue/contradicts.png", "red/1.png"),)
    assert [set(group) for group in found["duplicate"].items] == [{"red/0.png", "red/again.png"}]
    assert found["flat"].items == ("blue/flat.png",)
    assert len(found["small"].items) == 63
    assert [item[1] for item in found["few"].items] == sorted(
        item[1] for item in found["few"].items
    )
    done = run("tod", "check", data, "--json", "--no-cache")
    assert done.returncode == 0
    said = json.loads(done.stdout)
    assert [f["kind"] for f in said["findings"]] == [k for k in found if k != "small"]


def test_folders_without_pictures_are_named(data):
    """Also below a class; one that links to a folder above is none of them."""
    for name in ("white/old", "red/later", ".hidden", "esc\x1b"):
        (data / name).mkdir(parents=True)
    (data / "white" / "notes.txt").write_text("to be taken")
    (data / "red" / "round").symlink_to(data)
    found = findings(data)
    assert found["empty_folder"].items == ("esc\\x1b", "white", "red/later")
    assert found["empty_folder"].severity == "warn"
    assert found["empty_folder"].text == "3 folders hold no pictures"


def test_one_is_not_several(data):
    for index in range(13):
        (data / "red" / f"{index}.png").unlink()
    Image.new("RGB", (20, 20), (200, 9, 9)).save(data / "red" / "13.png")
    assert findings(data)["flat"].text == "1 picture is of one colour"
    make_pictures(data.parent / "more", per_class=40)
    for name in ("blue", "green"):
        shutil.copytree(data.parent / "more" / name, data / name, dirs_exist_ok=True)
    assert findings(data)["few"].text.startswith("1 class has fewer than 20 readable pictures")


def test_ready_made_splits_that_share_pictures(tiny, pictures, tmp_path):
    """A prepared dataset with a picture in two splits, as somebody's own tool may make it."""
    out = tmp_path / "prepared"
    assert run("tod", "prepare-dataset", pictures, out, "--size", 16).returncode == 0
    index = json.loads((out / "dataset.json").read_text())
    first = next(f for f in index["files"] if f["split"] == "train")
    other = next(
        f for f in index["files"] if f["split"] == "validation" and f["label"] == first["label"]
    )
    shutil.copy(out / first["file"], out / other["file"])
    other["sha256"] = first["sha256"]
    (out / "dataset.json").write_text(json.dumps(index))
    leak = findings(out)["leak"]
    assert leak.items == (tuple(sorted([first["file"], other["file"]])),)
    assert leak.severity == "warn"


def test_uneven_classes(data):
    for index in range(6, 20):
        (data / "green" / f"{index}.png").unlink()
    found = findings(data)
    assert found["few"].items[0] == ("green", 4)
    assert "imbalance" not in found  # 12 is not more than 5 times 4
    make_pictures(data.parent / "more", per_class=30)
    for index in range(30):
        source = data.parent / "more" / "red" / f"{index}.png"
        picture = np.asarray(Image.open(source))
        Image.fromarray(255 - picture).save(data / "red" / f"more{index}.png")
    text = findings(data)["imbalance"].text
    assert re.fullmatch(r"class red has \d\d pictures to train with, green has 4: .*", text)


def test_what_training_refuses_is_looked_at_all_the_same(data):
    """A class of three, one that is unreadable, or a single one: exit 3, with the whole report."""
    for index in range(3, 20):
        (data / "green" / f"{index}.png").unlink()
    (data / "red" / "0.png").write_bytes(b"rotten")
    done = run("tod", "check", data)
    assert done.returncode == 3
    assert "too small: green (3)" in done.stdout
    assert "red/0.png: not a picture (a text file)" in done.stdout
    assert done.stderr.splitlines()[-1].startswith(f"error: {data}: training refuses it")
    shutil.rmtree(data / "green")
    shutil.rmtree(data / "blue")
    assert "only the class red was found" in findings(data)["refused"].text
    with pytest.raises(DataError, match="no class folder"):
        gather(data / "red", seed=0, cache=False)


def test_a_split_that_cannot_be_read_is_an_error(data, tmp_path):
    """Of a prepared dataset, whose index gives the splits."""
    out = tmp_path / "prepared"
    assert run("tod", "prepare-dataset", data, out, "--size", 16).returncode == 0
    dataset, _ = gather(out, seed=0, cache=False)
    broken = {s.path for s in dataset.split("validation")}
    for number, path in enumerate(sorted(broken)):
        (out / path).write_bytes(b"rotten %d" % number)
    found = examine(dataset, dict(look_at(dataset)))
    assert (found[0].kind, found[0].severity) == ("empty_split", "wrong")
    assert found[0].text == "no picture of the validation split can be read"
    assert {path for path, _ in found[1].items} == broken


@pytest.mark.parametrize("change", ["quality 40", "half", "third", "lighter", "png"])
def test_the_same_photograph_is_known_again(test_data, change):
    picture = photo(test_data)
    buffer = io.BytesIO()
    size = {"half": 2, "third": 3}.get(change, 1)
    other = picture.resize(
        (picture.width // size, picture.height // size), Image.Resampling.LANCZOS
    )
    if change == "lighter":
        other = other.point(lambda value: min(255, int(20 + 0.9 * value)))
    kind = "PNG" if change == "png" else "JPEG"
    other.save(buffer, kind, **({} if kind == "PNG" else {"quality": 40}))
    looks = [glance(data, 17, 16)[1] for data in (encoded(picture), buffer.getvalue())]
    assert alike(looks) == [(0, 1)]
    assert alike([]) == []


def encoded(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def test_near_duplicates_of_real_photographs(test_data, tmp_path):
    """The known pairs, and no other of 240 photographs."""
    for name in ("aquarium", "conference_room"):
        shutil.copytree(test_data / "scenes" / name, tmp_path / "two" / name)
    found = findings(tmp_path / "two")
    pairs = [set(group) for kind in found if kind.startswith("near") for group in found[kind].items]
    assert sorted(map(sorted, pairs)) == [
        ["aquarium/0002.jpg", "aquarium/0029.jpg"],
        ["aquarium/0005.jpg", "aquarium/0102.jpg"],
        ["conference_room/0006.jpg", "conference_room/0041.jpg"],
        ["conference_room/0083.jpg", "conference_room/0084.jpg"],
    ]


def test_dark_pictures_are_not_the_same(test_data, tmp_path):
    """A dark church and a jellyfish: hardly anything gets lighter, so their hashes are near."""
    for name, file in (("abbey", "0061.jpg"), ("aquarium", "0042.jpg")):
        folder = tmp_path / "two" / name
        folder.mkdir(parents=True)
        found = list((test_data / "places" / name).rglob(file))
        shutil.copy(found[0], folder / file)
    dataset, _ = gather(tmp_path / "two", seed=0, cache=False)
    first, second = (look.thumbnail for _, look in look_at(dataset))
    hashes = np.stack([difference_hash(first), difference_hash(second)])
    assert near_pairs(hashes, NEAR_BITS) == [(0, 1)]
    assert correlation(first, second) < 0.2
    assert not any(kind.startswith("near") for kind in findings(tmp_path / "two"))


def test_pairs_are_those_that_counting_bits_one_by_one_finds():
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 1 << 63, (300, 4), np.uint64)
    hashes[290] = hashes[3]
    hashes[290, 2] ^= np.uint64(0b1011)
    hashes[299] = hashes[270]
    bits = np.unpackbits(hashes.view(np.uint8), axis=1).astype(int)
    differing = (bits[:, None] != bits[None]).sum(axis=2)
    for most in (0, 2, 3, 100):
        wanted = {(i, j) for i, j in np.argwhere(differing <= most) if i < j}
        assert set(near_pairs(hashes, most)) == wanted
    assert (3, 290) in near_pairs(hashes, 3)


def test_doubtful_labels_come_in_order():
    samples = [
        Sample(f"{i}.png", label, "train", str(i), str(i)) for i, label in enumerate([0, 0, 1, 1])
    ]
    given = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.99, 0.01]], np.float32)
    doubts = doubtful(samples, ("cat", "dog"), given)
    assert [(d.path, d.label, d.says) for d in doubts] == [
        ("3.png", "dog", "cat"), ("1.png", "cat", "dog"),
    ]  # fmt: skip
    assert doubts[0].label_probability == pytest.approx(0.01)
    assert doubts[0].says_probability == pytest.approx(0.99)


def test_changed_labels_come_out_on_top(tiny, pictures, data):
    """Six pictures in wrong folders, doubted by a model that was trained on the right ones."""
    session = tod.TrainSession.load(tiny)
    list(train(session, tod.Dataset.open(pictures), cycles=150, lr=0.5, eval_every=0))
    model = tiny.with_name("trained.tod")
    session.save(model)
    for source, target in (("red", "blue"), ("blue", "green"), ("green", "red")):
        for index in (4, 7):
            shutil.move(data / source / f"{index}.png", data / target / f"{source}{index}.png")
    done = run("tod", "check", data, "-f", model, "--json", "--no-cache")
    assert done.returncode == 0, done.stderr
    assert "features: " in done.stderr
    assert json.loads(done.stdout)["labels_compared"] is True
    items = {f["kind"]: f for f in json.loads(done.stdout)["findings"]}["doubtful"]["items"]
    assert {item["path"] for item in items[:6]} == {
        f"{target}/{source}{index}.png"
        for source, target in (("red", "blue"), ("blue", "green"), ("green", "red"))
        for index in (4, 7)
    }
    assert items[0]["path"].split("/")[1].startswith(items[0]["says"])
    untrained = run("tod", "check", data, "-f", tiny)
    assert "was never trained" in untrained.stderr
    (data / "red").rename(data / "pink")
    foreign = run("tod", "check", data, "-f", model)
    assert foreign.returncode == 0, foreign.stderr
    assert "3 classes, 60 pictures" in foreign.stdout
    notice = "notice: labels were not compared with the model"
    assert f"{notice}: {data}: its classes are not the" in foreign.stderr
    told = run("tod", "check", data, "-f", model, "--json")
    assert json.loads(told.stdout)["labels_compared"] is False


def test_a_look_says_why_there_is_none(tmp_path, data):
    dataset, _ = gather(data, seed=0, cache=False)
    (data / dataset.samples[0].path).unlink()
    look = dict(look_at(dataset))[dataset.samples[0].sha256]
    assert look == Look(problem="cannot be read: No such file or directory")


def test_a_picture_file_without_end_is_not_read_whole(data):
    dataset, _ = gather(data, seed=0, cache=False)
    sample = dataset.samples[0]
    os.truncate(data / sample.path, (1 << 28) + 1)
    assert dict(look_at(dataset))[sample.sha256].problem == "cannot be read: it is over 256 MiB"
