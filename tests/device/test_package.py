"""`tod package`: a folder that runs with nothing around it, is reproducible, whole or not there."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from package_tools import runtime_cache, wheels
from package_tools.runtime import Recipe
from package_tools.sums import read as sums
from package_tools.target import TARGETS
from tests.conftest import MACHINES, ROOT, make_pictures, run
from tod.cli.frame import EPILOG
from tod.data.dataset import Dataset

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
RUNTIME = [
    "lib/system", "lib/python", "lib/site-packages/onnxruntime", "lib/site-packages/tod",
    "lib/site-packages", "lib/licences",
]  # fmt: skip


def on_device(package: Path, script: str, *arguments: object, path: str = "/usr/bin:/bin"):
    """Run one of a package's scripts with an empty environment."""
    return subprocess.run(
        ["sh", script, *map(str, arguments)],
        cwd=package, env={"PATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture
def copied(package, tmp_path) -> Path:
    """A package that a test may change: hard links, but the small files are its own."""
    folder = tmp_path / "pack age"
    shutil.copytree(package, folder, copy_function=os.link)
    for name in ("lib/TARGET", "model/transfer_learning.tod"):
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).write_bytes(data)
    return folder


def make(model, *arguments, **options):
    return run("tod", "package", model, *arguments, "--target", "x86_64", **options)


def refused(done, code: int) -> tuple[str, str]:
    """The two lines that an error is."""
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.endswith("...")]
    assert len(lines) == 2, done.stderr
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    return lines[0].removeprefix("error: "), lines[1].removeprefix("hint: ")


def test_it_explains_itself(package):
    assert sorted(path.name for path in package.iterdir()) == sorted(
        ["README.txt", "SHA256SUMS", "bin", "dataset", "eval.sh", "eval_untrained.sh", "lib",
         "model", "train.sh"]
    )  # fmt: skip
    assert "$" not in (package / "README.txt").read_text()
    target = dict(
        line.split("=", 1) for line in (package / "lib" / "TARGET").read_text().splitlines()
    )
    assert target["runtime"] == "bundled"
    assert target["machine"] == os.uname().machine
    assert (package / "lib" / "licences" / "libc6.txt").is_file()


def test_every_file_is_listed_and_right(package):
    done = subprocess.run(
        ["sha256sum", "--strict", "--check", "SHA256SUMS"], cwd=package, capture_output=True
    )
    assert done.returncode == 0, done.stdout
    there = {str(p.relative_to(package)) for p in package.rglob("*") if p.is_file()}
    assert there == {*sums(package), "SHA256SUMS"}
    assert list(sums(package)) == sorted(sums(package))


def test_the_runtime_stays_below_130_mb(package):
    files = [path for path in (package / "lib").rglob("*") if path.is_file()]
    assert sum(file.stat().st_size for file in files) < 130e6


def test_it_trains_to_the_same_bytes_as_here(package, copied, tiny, pictures):
    """Evaluate, train, evaluate; the trained model is the one that this environment makes."""
    for script in ("eval_untrained.sh", "train.sh", "eval.sh"):
        done = on_device(copied, script, "--seed", "0")
        assert done.returncode == 0, done.stderr
        assert re.search(r"accuracy on validation data = [\d.]+\n$", done.stdout)
    if f"python={HERE}\n" not in (package / "lib" / "TARGET").read_text():
        pytest.skip("the distribution's Python is another one, with another numpy")
    here = tiny.with_name("transfer_learning.tod")
    tiny.rename(here)
    run("net_runner", "-f", here, "-d", pictures, "-c", 60, "-s", 20, "--seed", 0, check=True)
    made, wanted = copied / "model", here.parent
    names = {path.name for path in wanted.glob("*.tod")}
    assert names == {path.name for path in made.glob("*.tod")}
    for name in names:
        assert (made / name).read_bytes() == (wanted / name).read_bytes(), name


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["--version"],
        ["info", "model/transfer_learning.tod"],
        ["verify", "model/transfer_learning.tod"],
        ["benchmark", "model/transfer_learning.tod", "--batch", "1", "--seconds", "0.02"],
        ["compare", *["model/transfer_learning.tod"] * 2, "-d", "dataset"],
        ["cache", "info", "dataset"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_of_a_device_runs(copied, command):
    """Nothing that was left out is missed."""
    done = on_device(copied, "bin/tod", *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_kind_of_picture_is_read(copied):
    kinds = ("avif", "bmp", "gif", "jpg", "png", "ppm", "tiff", "webp")
    for kind in kinds:
        Image.new("RGB", (40, 30), (200, 40, 40)).save(copied / f"red.{kind}")
    assert on_device(copied, "train.sh", "-q").returncode == 0
    done = on_device(
        copied, "bin/tod", "predict", "-f", "model/transfer_learning_trained.tod", "--json",
        *(f"red.{kind}" for kind in kinds),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"label":"red"') == len(kinds)


def test_further_arguments_and_other_pictures(copied, pictures, tmp_path):
    done = on_device(copied, "train.sh", "-d", pictures, "-c", "2", "--no-cache")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Loss is") == 2
    done = on_device(copied, "eval.sh", "-d", tmp_path / "none")
    assert done.returncode == 3


def test_names_are_meant_from_where_the_caller_stands(copied, pictures):
    where = pictures.parent
    command = ["sh", copied / "eval_untrained.sh", "-d", pictures.name, "--no-cache"]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "accuracy on validation data" in done.stdout


def test_a_job_on_other_pictures_evaluates_those(copied, tmp_path):
    """Also where the package has none."""
    other = make_pictures(tmp_path / "other pictures", per_class=10)
    shutil.rmtree(copied / "dataset")
    for action in (["start", "-d", other, "-c", "5"], ["follow"]):
        done = on_device(copied, "bin/job", *action)
        assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.count("accuracy on validation data") == 3


def test_it_runs_from_anywhere_by_any_way(copied):
    launcher = copied / "bin" / "net_runner"
    assert subprocess.run([launcher, "--help"], cwd="/", capture_output=True).returncode == 0
    path = f"{launcher.parent}:/usr/bin:/bin"
    done = subprocess.run(["sh", "-c", "net_runner --help"], env={"PATH": path}, cwd="/")
    assert done.returncode == 0
    done = subprocess.run(["sh", "net_runner", "--help"], cwd=launcher.parent, capture_output=True)
    assert b"Usage: net_runner" in done.stdout


def test_an_emulator_comes_before_the_loader(copied, tmp_path):
    emulator = tmp_path / "emulator"
    emulator.write_text('#!/bin/sh\necho "$1 $2"\n')
    emulator.chmod(0o755)
    done = subprocess.run(
        ["sh", "bin/net_runner"], cwd=copied, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "TOD_EMULATOR": f"{emulator} -L"},
    )  # fmt: skip
    assert re.fullmatch(r"-L /.*/lib/system/ld-linux-[^ ]*\n", done.stdout)


def test_half_pushed_it_does_not_run(copied):
    (copied / "INCOMPLETE").touch()
    for script in ("eval_untrained.sh", "train.sh", "eval.sh", "bin/net_runner", "bin/tod"):
        problem, hint = refused(on_device(copied, script), 4)
        assert problem == "this package was not pushed completely"
        assert "push it again" in hint


def test_another_machine_is_named(copied):
    target = copied / "lib" / "TARGET"
    target.write_text(target.read_text().replace(f"machine={os.uname().machine}", "machine=sparc"))
    problem, hint = refused(on_device(copied, "eval.sh"), 5)
    assert problem == f"this package is for sparc, this device is {os.uname().machine}"
    assert "--target" in hint
    done = on_device(copied, "-c", "sh eval.sh 2>&-")
    assert (done.returncode, done.stderr) == (5, "")


@pytest.mark.parametrize("redirections", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_without_streams_it_trains_as_with_them(copied, redirections):
    """As an init script may start it."""
    done = on_device(copied, "-c", f"sh train.sh -c 2 --log log.jsonl {redirections}")
    assert done.returncode == 0, done.stderr
    assert (copied / "model" / "transfer_learning_trained.tod").is_file()
    assert all(line.startswith('{"') for line in (copied / "log.jsonl").read_text().splitlines())


def test_made_again_it_is_the_same_and_keeps_what_was_trained(tiny_file, pictures, copied):
    before = sums(copied)
    products = {"model/transfer_learning_trained.tod": b"trained", "job/log": b"a log"}
    for name, data in products.items():
        (copied / name).parent.mkdir(exist_ok=True)
        (copied / name).write_bytes(data)
    (copied / "dataset" / "red" / "0.png").unlink()
    target = MACHINES[os.uname().machine]
    done = run("tod", "package", tiny_file, pictures, "-o", copied, "--target", target, "--json")
    assert done.returncode == 0, done.stderr
    assert sums(copied) == before
    assert all((copied / name).read_bytes() == data for name, data in products.items())
    assert sorted(copied.parent.iterdir()) == [copied]
    said = json.loads(done.stdout)
    assert said["files"] == len(before)
    assert said["bytes"] == sum((copied / name).stat().st_size for name in before)
    assert set(RUNTIME) <= set(said["parts"])


def test_without_a_network_what_is_kept_suffices(tiny_file, pictures, package, tmp_path):
    """The second package downloads nothing; --refresh has to, and says so."""
    nowhere = "http://127.0.0.1:9"
    offline = {
        **os.environ,
        "http_proxy": nowhere,
        "https_proxy": nowhere,
        "PIP_INDEX_URL": nowhere,
    }
    target = ["--target", MACHINES[os.uname().machine]]
    out = tmp_path / "package"
    done = run("tod", "package", tiny_file, pictures, "-o", out, *target, env=offline)
    assert done.returncode == 0, done.stderr
    assert sums(out) == sums(package)
    done = run("tod", "package", tiny_file, pictures, "-o", out, *target, "--refresh", env=offline)
    problem, hint = refused(done, 5)
    assert problem.startswith("apt-get ")
    assert "network" in hint
    assert sums(out) == sums(package)


def test_a_damaged_cache_is_noticed(tiny_file, pictures, package, tmp_path):
    """A bit that flipped on the workstation's disk reaches no device."""
    cache = Path(os.environ["TOD_PACKAGE_CACHE"])
    name = f"{MACHINES[os.uname().machine]}-bundled-*"
    newest = max(cache.glob(name), key=lambda place: place.stat().st_mtime)
    copy = tmp_path / "cache" / newest.name
    shutil.copytree(newest, copy, copy_function=os.link)
    victim = next(copy.glob("lib/site-packages/onnxruntime/capi/onnxruntime_pybind*"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.unlink()
    victim.write_bytes(data)
    done = run(
        "tod", "package", tiny_file, pictures, "-o", tmp_path / "out",
        "--target", MACHINES[os.uname().machine],
        env={**os.environ, "TOD_PACKAGE_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    problem, hint = refused(done, 3)
    assert victim.name in problem
    assert "again" in hint
    assert not (tmp_path / "out").exists()
    assert not copy.exists()


def test_nothing_but_runtimes_is_forgotten(tiny_file, pictures, tmp_path):
    """The cache may be a folder that holds other things, however old."""
    cache = tmp_path / "cache"
    old = {"Documents": False, "arm64-bundled-0123456789abcdef": True, "arm64-bundled-mine": True}
    for name, has_list in old.items():
        (cache / name).mkdir(parents=True)
        if has_list:
            (cache / name / "SHA256SUMS").touch()
        os.utime(cache / name, (1e9, 1e9))
    make = runtime_cache.prepare
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOD_PACKAGE_CACHE", str(cache))
        patch.setattr(runtime_cache.runtime, "make", lambda recipe, work, progress: lib(work))
        make(Recipe(TARGETS["arm64"], "system", python=HERE))
    left = {path.name for path in cache.iterdir() if path.stat().st_mtime < 2e9}
    assert left >= {"Documents", "arm64-bundled-mine"}
    assert "arm64-bundled-0123456789abcdef" not in left


def lib(work: Path) -> Path:
    (work / "lib").mkdir()
    (work / "lib" / "TARGET").write_text("a runtime")
    return work / "lib"


def test_a_folder_with_sums_of_something_else_is_no_package(tiny_file, pictures, tmp_path):
    image = tmp_path / "iso"
    image.mkdir()
    (image / "debian.iso").write_bytes(b"an image")
    (image / "SHA256SUMS").write_text(f"{'0' * 64} *debian.iso\n")
    problem, _ = refused(make(tiny_file, pictures, "-o", image), 2)
    assert "is no package" in problem
    assert (image / "debian.iso").read_bytes() == b"an image"


def test_a_link_stays_a_link(tiny_file, copied, pictures, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(copied)
    make(tiny_file, pictures, "-o", link, check=True)
    assert link.is_symlink()
    assert (copied / "SHA256SUMS").is_file()
    assert sorted(tmp_path.iterdir()) == [link, copied]


def test_pictures_keep_their_names(tiny_file, pictures, tmp_path, package):
    odd = tmp_path / "pictures"
    shutil.copytree(pictures, odd)
    (odd / "red").rename(odd / "rød 'og' \"$HOME\"")
    (odd / "green").rename(odd / "gr\u202feen")
    (odd / ".tod-cache").mkdir(exist_ok=True)
    (odd / ".tod-cache" / "x").touch()
    out = tmp_path / "out"
    make(tiny_file, odd, "-o", out, check=True)
    assert "dataset/rød 'og' \"$HOME\"/0.png" in sums(out)
    assert not (out / "dataset" / ".tod-cache").exists()
    classes = Dataset.open(out / "dataset", cache=False).classes
    assert classes == Dataset.open(odd, cache=False).classes
    (odd / "blue").rename(odd / "bl\nue")
    problem, _ = refused(make(tiny_file, odd, "-o", out), 3)
    assert r"the class name 'bl\nue' has 5 characters, of which some cannot be printed" in problem
    (odd / "bl\nue").rename(odd / "blue")
    (odd / "blue" / "0.png").rename(odd / "blue" / "0\n.png")
    problem, hint = refused(make(tiny_file, odd, "-o", out), 3)
    assert "a package cannot hold this name" in problem
    assert "rename it" in hint


def test_no_dataset(tiny_file, tmp_path, pictures, package):
    out = tmp_path / "out"
    make(tiny_file, "--no-dataset", "-o", out, check=True)
    assert not (out / "dataset").exists()
    assert "left out" in (out / "README.txt").read_text()
    done = on_device(out, "eval_untrained.sh", "-d", pictures, "--no-cache")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["{model}"], 2, "no dataset is given"),
        (["{model}", "{pictures}", "--no-dataset"], 2, "exclude each other"),
        (["{model}", "{pictures}", "-o", "{pictures}/out"], 2, "lies in the dataset"),
        (["{model}", "{pictures}", "-o", "{pictures}"], 2, "exists and is no package"),
        (["{model}", "nowhere"], 3, "nowhere: no such folder"),
        (["nowhere.tod", "{pictures}"], 4, "nowhere.tod"),
        (["{model}", "{pictures}", "--runtime", "system"], 2, "--python-version is missing"),
        (["{model}", "{pictures}", "--python-version", "3.11"], 2, "goes with --runtime system"),
        (["{model}", "{pictures}", "--python-archive", "none"], 2, "none: No such file"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tiny_file, pictures, tmp_path, arguments, code, problem):
    filled = [a.format(model=tiny_file, pictures=pictures) for a in arguments]
    done = run("tod", "package", "--target", "x86_64", *filled, cwd=tmp_path)
    assert done.returncode == code
    assert problem in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_is_no_model(tiny, pictures, tmp_path):
    run("net_runner", "-f", tiny, "-d", pictures, "-c", 2, "-s", 1, check=True)
    checkpoint = tiny.with_name("tiny_trained_1.tod")
    problem, hint = refused(make(checkpoint, pictures, "-o", tmp_path / "out"), 4)
    assert "a checkpoint" in problem
    assert "tod merge" in hint


def test_a_full_disk_leaves_nothing(tiny_file, pictures, package, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    space = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*space, f'mount -t tmpfs -o size=8k none "{full}"']).returncode:
        pytest.skip("a file system cannot be mounted here")
    program = Path(sys.executable).with_name("tod")
    script = (
        f'mount -t tmpfs -o size=20m none "{full}"; '
        f'"{program}" package "{tiny_file}" "{pictures}" -o "{full}/out" --target x86_64; '
        f'code=$?; ls -A "{full}"; exit $code'
    )
    done = subprocess.run([*space, script], capture_output=True, text=True)
    problem, hint = refused(done, 3)
    assert "No space left on device" in problem
    assert "room" in hint
    assert done.stdout == ""


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path, tiny_file, pictures):
    """The index offers another file under the right name."""
    wanted, _ = next(iter(wheels.requirements(TARGETS["x86_64"], HERE)))
    name = f"{wanted.name.replace('-', '_')}-{str(wanted.specifier)[2:]}"
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\n")
    environment = {
        **os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index),
        "PIP_CONFIG_FILE": os.devnull, "TOD_PACKAGE_CACHE": str(tmp_path / "cache"),
    }  # fmt: skip
    done = run(
        "tod", "package", tiny_file, pictures, "-o", tmp_path / "out", "--target", "x86_64",
        "--runtime", "system", "--python-version", HERE, env=environment,
    )  # fmt: skip
    problem, _ = refused(done, 5)
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in problem
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("version", wheels.VERSIONS)
def test_the_pinned_packages_are_the_tested_ones(version):
    """requirements.txt (with hashes, by `make lock`) names the versions of constraints.txt."""
    environment = {"python_version": version}
    pinned = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = wheels.Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate(environment):
                name = requirement.name.lower().replace("_", "-")
                pinned[name] = requirement.specifier
    for requirement, hashes in wheels.requirements(TARGETS["arm64"], version):
        assert hashes
        assert requirement.name in pinned or version == "3.10", requirement.name
        if requirement.name in pinned:
            assert requirement.specifier == pinned[requirement.name]


def test_help_has_an_example_and_the_exit_codes():
    shown = run("tod", "package", "--help").stdout
    assert "Example: tod package" in shown
    assert "".join(EPILOG.split())[:40] in "".join(shown.split())
