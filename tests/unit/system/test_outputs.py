"""Results are of the right kind, apart from what is read, and provably writable before any work."""

import os
from pathlib import Path

import pytest

from tests.support.unprivileged import unprivileged
from tod.errors import ArtifactError, DataError, UsageError
from tod.system import outputs
from tod.system.outputs import Output


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("m.tod").write_bytes(b"model")
    Path("note.txt").write_text("keep me")
    Path("sub").mkdir()
    Path("linked.tod").symlink_to("m.tod")
    Path("hard.tod").hardlink_to("m.tod")
    Path("in").symlink_to("sub")
    Path("old.jsonl").write_text('{"record":"notice","text":"x"}\n')
    return tmp_path


def everything(folder):
    return {p.relative_to(folder): p.lstat().st_mtime_ns for p in folder.rglob("*")}


SAME = ["m.tod", "./sub/../m.tod", "in/../m.tod", "linked.tod", "hard.tod"]


@pytest.mark.parametrize("name", SAME)
def test_an_output_is_no_input(here, name):
    with pytest.raises(UsageError, match=r"^-o .* is the same file as -f m\.tod"):
        outputs.check([Output("-o", Path(name))], {"-f": Path("m.tod")})
    assert Path("m.tod").read_bytes() == b"model"


@pytest.mark.parametrize(
    ("one", "other"),
    [("a.tod", "./a.tod"), ("sub/a.tod", "in/a.tod"), ("hard.tod", "linked.tod")],
)
def test_two_outputs_are_two_files(here, one, other):
    with pytest.raises(UsageError, match=f"^-b {other.removeprefix('./')} is the same file as -a"):
        outputs.check([Output("-a", Path(one)), Output("-b", Path(other))], {})


@pytest.mark.parametrize(
    ("output", "text"),
    [
        (Output("-i", Path("x.tod"), ".onnx"), "-i x.onnx"),
        (Output("-i", Path("x"), ".onnx"), "-i x.onnx"),
        (Output("-o", Path("sub/")), "-o sub/model.tod"),
        (Output("-o", Path("x.onnx")), "-o x.tod"),
        (Output("-o", Path("/dev/null")), "in .tod"),
        (Output("-o", Path(".")), "in .tod"),
        (outputs.log(Path("m.tod")), "a log is no .tod file"),
        (outputs.log(Path("M.ONNX")), "a log is no .onnx file"),
        (outputs.log(Path("note.txt")), "is no log of TOD"),
    ],
)
def test_a_name_of_the_wrong_kind(here, output, text):
    before = everything(here)
    with pytest.raises(UsageError) as refused:
        outputs.check([output], {})
    assert text in str(refused.value)
    assert everything(here) == before


def test_a_file_with_a_mark_is_replaced_only_if_it_has_it(here):
    Path("net.py").write_text("def build(classes): ...\n")
    output = Output("-o", Path("net.py"), ".py", mark=b"made by TOD")
    with pytest.raises(UsageError, match=r"^-o net\.py: .* TOD did not make it"):
        outputs.check([output], {})
    Path("net.py").write_text('"""A network, made by TOD."""\n')
    outputs.check([output], {})


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/proc/x.tod", "no file can be made in this folder"),
        ("/proc/self/x.tod", "no file can be made in this folder"),
        ("none/x.tod", "the folder does not exist"),
        ("note.txt/x.tod", "Not a directory"),
        ("x" * 252 + ".tod", "File name too long"),
        ("folder.tod", "it is a folder"),
        ("circle.tod", "symbolic links"),
        ("pipe.tod", "it is there, and no file"),
        ("lost.tod", "the folder does not exist"),
    ],
)
def test_a_place_that_cannot_be_written(here, name, why):
    Path("folder.tod").mkdir()
    Path("circle.tod").symlink_to("circle.tod")
    Path("lost.tod").symlink_to("none/at/all.tod")
    os.mkfifo("pipe.tod")
    with pytest.raises(ArtifactError, match="cannot be written: ") as refused:
        outputs.check([Output("-o", Path(name))], {})
    assert why in refused.value.problem


def test_too_little_room(here):
    with pytest.raises(ArtifactError, match=r"MB are free there, at least 1,000,000,000\.0 MB"):
        outputs.check([Output("-o", Path("x.tod"), least_bytes=10**15)], {})


def test_what_can_be_written_is_left_as_it_is(here):
    before = everything(here)
    good = [
        Output("-o", Path("new.tod")), Output("-i", Path("sub/x.ONNX"), ".onnx"),
        outputs.log(Path("old.jsonl")), outputs.log(Path("/dev/null")),
        Output("-p", Path("hard.tod")), outputs.log(None),
    ]  # fmt: skip
    outputs.check(good, {"-f": Path("note.txt"), "key": None})
    outputs.check_folder(Path("new"))
    outputs.check_folder(Path("sub"))
    assert everything(here) == before | {
        Path(name): Path(name).lstat().st_mtime_ns for name in ("sub",)
    }


@pytest.mark.parametrize("name", ["/proc/x/y", "note.txt/a", "a/b", "/proc/x"])
def test_a_folder_that_cannot_be_made(here, name):
    with pytest.raises(DataError, match=f"^{name}: cannot be written: "):
        outputs.check_folder(Path(name))


def test_permissions(tmp_path):
    """What a user may not write is found out; a read-only file in a folder of theirs may go."""
    code = f"""
from pathlib import Path
from tod.errors import ArtifactError
from tod.system import outputs
root = Path({str(tmp_path)!r})
for folder, mode in (("shut", 0o000), ("fixed", 0o555)):
    (root / folder).mkdir()
    (root / folder).chmod(mode)
(root / "kept.tod").write_bytes(b"x")
(root / "kept.tod").chmod(0o400)
for name in ("shut/a.tod", "shut/a/b.tod", "fixed/a.tod", "kept.tod"):
    for make in (lambda p: outputs.Output("-o", p), lambda p: outputs.log(p.with_suffix(".l"))):
        try:
            outputs.check([make(root / name)], {{}})
            print("can", name)
        except ArtifactError as error:
            print(error.problem.removeprefix(str(root)))
"""
    done = unprivileged("python", "-c", code)
    assert done.stderr == ""
    refused = "cannot be written: Permission denied"
    assert (
        done.stdout.splitlines()
        == [
            f"/{name}{suffix}: {refused}"
            for name in ("shut/a", "shut/a/b", "fixed/a")
            for suffix in (".tod", ".l")
        ]
        + ["can kept.tod"] * 2
    )
