"""Every file and folder below a data folder is a sample, or is left out with its reason."""

import os
import shutil
import subprocess
import sys
import unicodedata

import pytest
from PIL import Image

from dataset_tools.prepare import prepare
from dataset_tools.sources import class_folders
from tests.conftest import make_pictures
from tod.data.check import examine, gather, look_at
from tod.data.dataset import Dataset
from tod.data.walk import walk
from tod.errors import DataError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{:064x}\nsize 12345\n"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50)


@pytest.fixture
def tree(tmp_path):
    return make_pictures(tmp_path / "tree", per_class=10)


def opened(tree, **options):
    return Dataset.open(tree, cache=False, **options)


def reasons(dataset):
    return {one.path: one.reason for one in dataset.left_out}


def test_nothing_below_a_folder_is_lost(tree, tmp_path):
    """Whatever lies there: samples and the list hold each file once, or a folder it lies in."""
    red = tree / "red"
    (red / "a.pdf").write_bytes(b"%PDF-1.7 ...")
    (red / "film.mp4").write_bytes(b"\0\0\0\x20ftypisom\0\0\0\0isomiso2avc1mp41")
    (red / "pointer.jpg").write_text(POINTER.format(1))
    (red / "phone.HEIC").write_bytes(HEIC)
    (red / "empty.png").touch()
    (red / "web.jpg").write_text("<!DOCTYPE html><title>404</title>")
    (red / "raw.NEF").write_bytes(b"MM\0*" + bytes(100))
    (red / "notes.txt").write_text("taken in May")
    (red / ".hidden.png").write_bytes((red / "0.png").read_bytes())
    (red / "gone.png").symlink_to("nothing.png")
    (red / "round").symlink_to(tree)
    (red / "knot.png").symlink_to("knot.png")
    os.mkfifo(red / "pipe")
    (red / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(30))
    for name in ("@eaDir", ".ipynb_checkpoints", "__MACOSX", "#recycle"):
        shutil.copytree(tree / "blue", red / name)
    shutil.copytree(tree / "blue", tree / ".old")
    (tree / "loose.png").write_bytes((red / "0.png").read_bytes())
    (tree / "README.md").write_text("what this is")
    (tree / "splits.csv").write_text("file,split\n")
    (tree / "papers").mkdir()
    (tree / "papers" / "licence.pdf").write_bytes(b"%PDF-1.4")
    dataset = opened(tree)
    assert dataset.classes == ("blue", "green", "red")
    assert len(dataset.samples) == 30
    found = reasons(dataset)
    for path, words in {
        "red/a.pdf": "not a picture (a PDF document)",
        "red/film.mp4": "not a picture (a video)",
        "red/pointer.jpg": "git lfs pull",
        "red/phone.HEIC": "HEIC",
        "red/empty.png": "an empty file",
        "red/web.jpg": "not a picture (a web page: the download failed)",
        "red/raw.NEF": "raw picture",
        "red/notes.txt": "not a picture (a text file)",
        "red/.hidden.png": "a hidden file",
        "red/gone.png": "a link to nowhere",
        "red/round": "a link to a folder that is read already",
        "red/knot.png": "cannot be read: Too many levels of symbolic links",
        "red/pipe": "it is no regular file",
        "red/Thumbs.db": "made by another program",
        "red/@eaDir": "made by another program (@eaDir)",
        ".old": "a hidden folder",
        "loose.png": "outside the class folders",
        "README.md": "describes the data",
        "splits.csv": "describes the data",
    }.items():
        assert words in found[path]
    told = {sample.path for sample in dataset.samples} | set(found)
    assert len(told) == len(dataset.samples) + len(dataset.left_out)
    for folder, folders, files in os.walk(tree):
        for name in files:
            path = os.path.relpath(os.path.join(folder, name), tree)
            ways = ["/".join(path.split("/")[: i + 1]) for i in range(path.count("/") + 1)]
            assert sum(way in told for way in ways) == 1, path
        folders[:] = [f for f in folders if not os.path.islink(os.path.join(folder, f))]
    notices = "\n".join(dataset.notices)
    assert "README" not in notices
    assert notices.count("@eaDir") == 1
    made = prepare(class_folders(tree), tmp_path / "out", size_px=16)
    assert {one.path: one.reason for one in made.left_out} == found


def test_the_content_decides_not_the_suffix(tree):
    red = tree / "red"
    for number, name in enumerate(["plain", "a.jpg?w=640", "b.dat", "c.png.1", "d.jpeg_large"]):
        (red / f"{number}.png").rename(red / name)
    for number, kind in enumerate(["JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"]):
        Image.open(tree / "blue" / "0.png").rotate(number).save(red / f"more {kind}", kind)
    (red / "poem").write_text("P3 was the best of all\nBM")
    dataset = opened(tree)
    assert len(dataset.samples) == 36
    assert reasons(dataset) == {"red/poem": "not a picture (a text file)"}


def test_a_class_that_lost_its_pictures_says_why(tree, tmp_path):
    for index in range(10):
        (tree / "red" / f"{index}.png").write_text(POINTER.format(index))
        (tree / "blue" / f"{index}.png").rename(tree / "blue" / f"{index}.heic")
        (tree / "blue" / f"{index}.heic").write_bytes(HEIC)
    with pytest.raises(DataError, match=r"blue \(0\), red \(0\)") as caught:
        opened(tree)
    assert "10 of red, e.g. red/0.png: a git-lfs pointer" in caught.value.problem
    assert "10 of blue, e.g. blue/0.heic: " in caught.value.problem
    with pytest.raises(DataError, match=r"too small: blue \(0\).*10 of blue.*HEIC"):
        prepare(class_folders(tree), tmp_path / "out", size_px=16)


def test_many_of_a_kind_are_one_line(tree):
    for name in ("blue", "green", "red"):
        for index in range(9):
            (tree / name / f"more{index}.jpg").write_text(POINTER.format(index))
    (tree / "red" / "a.pdf").write_bytes(b"%PDF-")
    dataset = opened(tree)
    assert len(dataset.left_out) == 28
    assert dataset.notices == (
        *(
            f"{tree}: 9 files of class {name} were passed over: a git-lfs pointer instead of the "
            f"picture; run 'git lfs pull'; e.g. {name}/more0.jpg, {name}/more1.jpg, "
            f"{name}/more2.jpg"
            for name in ("blue", "green", "red")
        ),
        f"{tree / 'red' / 'a.pdf'} was passed over: not a picture (a PDF document)",
    )


def test_names_of_a_windows_archive_are_folders(tree, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in tree.rglob("*.png"):
        file.rename(flat / f"photos\\{file.parent.name}\\{file.name}")
    (flat / "red\\..\\..\\x.png").touch()
    (flat / "\\y.png").touch()
    dataset = opened(flat)
    assert dataset.classes == ("photos/blue", "photos/green", "photos/red")
    assert dataset.samples[0].path == "photos\\blue\\0.png"
    assert any("backslash are read as folders" in n and "30 files" in n for n in dataset.notices)
    assert set(reasons(dataset)) == {"red\\..\\..\\x.png", "\\y.png"}
    made = prepare(class_folders(flat), tmp_path / "out", size_px=16)
    assert len(made.index.files) == 30


def test_names_that_look_the_same_are_one_class(tree, tmp_path):
    composed, apart = "caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9")
    (tree / "red").rename(tree / composed)
    (tree / apart).mkdir()
    (tree / "blue ").mkdir()
    for name, other in ((composed, apart), ("blue", "blue ")):
        for index in range(4):
            (tree / name / f"{index}.png").rename(tree / other / f"{index}.png")
    dataset = opened(tree)
    assert dataset.classes == ("blue", composed, "green")
    assert [sum(s.label == i for s in dataset.samples) for i in range(3)] == [10, 10, 10]
    notices = "\n".join(dataset.notices)
    assert "are one class, blue: 'blue', 'blue '" in notices
    assert "'cafe\\u0301', 'caf\\xe9'" in notices
    made = prepare(class_folders(tree), tmp_path / "out", size_px=16)
    assert [entry.name for entry in made.index.classes] == ["blue", composed, "green"]
    assert gather(tree, seed=0, cache=False)[0].classes == dataset.classes


def test_folders_of_a_camera_belong_to_the_class_above(tree):
    for name in ("100CANON", "101_0523", "DCIM/10210523"):
        (tree / "red" / name).mkdir(parents=True)
    for index, name in enumerate(["100CANON", "100CANON", "101_0523", "DCIM/10210523"]):
        (tree / "red" / f"{index}.png").rename(tree / "red" / name / f"{index}.png")
    shutil.copytree(tree / "blue", tree / "shoes" / "10012345")
    dataset = opened(tree)
    assert dataset.classes == ("blue", "green", "red", "shoes/10012345")
    assert sum(s.label == 2 for s in dataset.samples) == 10
    notices = "\n".join(dataset.notices)
    assert "belong to the class above it: red/100CANON, red/101_0523, red/DCIM/10210523" in notices
    assert "classes of their own, named by their path: shoes/10012345" in notices


def test_a_link_does_not_take_the_place_of_a_class(tree):
    (tree / "a link").symlink_to(tree / "red")
    dataset = opened(tree)
    assert dataset.classes == ("blue", "green", "red")
    assert reasons(dataset) == {"a link": "a link to a folder that is read already"}


def as_nobody(*command):
    """A command as a user who owns nothing."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user, with setpriv")
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    return subprocess.run(
        [*user, sys.executable, "-m", *map(str, command)], capture_output=True, text=True,
        timeout=120, env={**os.environ, "HOME": "/"},
    )  # fmt: skip


@pytest.fixture
def reachable(tree):
    """The tree, with the way to it open for everyone."""
    for folder in tree.parents:
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o055)
        if folder.name.startswith("pytest-of-"):
            break
    return tree


def test_a_folder_that_may_not_be_read_is_an_error(reachable):
    tree = reachable
    (tree / "red").chmod(0o700)
    done = as_nobody("tod", "check", tree, "--no-cache")
    if "No module named" in done.stderr or "Permission denied: '/" in done.stderr:
        pytest.skip("the project itself may not be read by another user")
    said = f"{tree / 'red'} (class red) cannot be read: Permission denied"
    assert done.returncode == 3
    assert said in done.stderr
    assert "remove what is empty" not in done.stdout
    (tree / "red").chmod(0o744)  # its names may be read, its files not
    done = as_nobody("tod", "check", tree, "--no-cache")
    assert done.returncode == 3
    assert "too small: red (0); left out were 10 of red" in done.stdout
    assert "cannot be read: Permission denied" in done.stdout


def test_one_file_that_may_not_be_read_is_left_out(reachable):
    (reachable / "red" / "0.png").chmod(0o600)
    done = as_nobody("tod", "check", reachable, "--no-cache")
    if "No module named" in done.stderr:
        pytest.skip("the project itself may not be read by another user")
    assert done.returncode == 0
    assert "0.png was passed over: cannot be read: Permission denied" in done.stderr


def test_check_lists_what_is_left_out(tree):
    shutil.copytree(tree / "blue", tree / "red" / "@eaDir")
    (tree / "red" / "pointer.jpg").write_text(POINTER.format(1))
    dataset, refused = gather(tree, seed=0, cache=False)
    found = {f.kind: f for f in examine(dataset, dict(look_at(dataset)), refused=refused)}
    assert found["left_out"].items == (("red/@eaDir", "made by another program (@eaDir)"),)
    assert [path for path, _ in found["unreadable"].items] == ["red/pointer.jpg"]
    assert "empty_folder" not in found


def test_the_walk_gives_each_entry_once(tree):
    (tree / "red" / "linked").symlink_to(tree / "blue")
    paths = [entry.path for entry in walk(tree)]
    assert len(paths) == len(set(paths)) == 31


FIELD = ["some-lfs-pointers", "half-heic/d", "nas-folders/d", "nas-folders/recycle"]


@pytest.mark.parametrize("name", FIELD)
def test_cases_from_the_field(test_data, name):
    dataset = opened(test_data / "field_cases" / name)
    assert dataset.classes == ("aquarium", "beach", "conference_room")
    counts = {"some-lfs-pointers": 33, "half-heic/d": 60}
    assert len(dataset.samples) in (counts.get(name, 36), 72)
    found = reasons(dataset)
    if name == "some-lfs-pointers":
        assert sum("git lfs pull" in reason for reason in found.values()) == 3
        assert {one.class_name for one in dataset.left_out} == {"beach"}
    if name == "half-heic/d":
        assert all("HEIC" in reason for reason in found.values())
    if name.startswith("nas"):
        assert all("made by another program" in reason for reason in found.values())


def test_pictures_without_a_class_are_counted_not_listed(tree):
    for file in [*tree.glob("*/*.png")]:
        file.rename(tree / f"{file.parent.name}{file.name}")
    with pytest.raises(DataError, match=r"no class folder in it; 30 pictures lie in") as found:
        opened(tree)
    assert found.value.hint.startswith(f"move them into class folders, such as {tree}/cat/")
