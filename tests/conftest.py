"""What the tests share: a tiny real model, small real pictures, and the project's test data.

Nothing here loads torch: the models are files, which tests.support.tiny_models makes."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from PIL import Image

from tests.support import kept
from tod.cli import app as cli
from tod.cli import net_runner
from tod.cli.frame import guarded
from tod.data.file_hashes import pixels_hash
from tod.data.splits import place
from tod.format.manifest import InputSpec

pytest_plugins = ["tests.support.durations", "tests.support.promises"]
ROOT = Path(__file__).resolve().parent.parent
FILES = ROOT / "tests" / "files"
TEST_DATA = Path(os.environ.get("TOD_TEST_DATA", ROOT.parent / "shared" / "data"))
COLOURS = {"blue": (40, 40, 200), "green": (40, 180, 40), "red": (200, 40, 40)}
NO_TEST_DATA = f"{TEST_DATA} is not here (set TOD_TEST_DATA)"
MACHINES = {"x86_64": "x86_64", "aarch64": "arm64"}  # as `uname -m` says: as --target says
TINY_SPEC = InputSpec(16, 18, "bicubic", "center", "rgb", (0.5,) * 3, (0.25,) * 3)
# How long an example takes says more of what else the machine does than of TOD.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_configure():
    """A shell that starts the tests in the background ignores SIGINT for them and for what they
    start; what is ignored when a shell begins, it can never trap."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Where nothing may be missing (TOD_NO_SKIPS, set by .ci/run), a skip is a failure; but for
    pictures that are not part of the project, where there are none."""
    report = (yield).get_result()
    excused = not TEST_DATA.is_dir() and NO_TEST_DATA in str(report.longrepr)
    if report.skipped and os.environ.get("TOD_NO_SKIPS") and not excused:
        report.outcome = "failed"
        report.longrepr = f"skipped, but TOD_NO_SKIPS is set: {report.longrepr}"


@pytest.fixture(scope="session")
def test_data() -> Path:
    """Real pictures and odd files, which are not part of the project."""
    if not TEST_DATA.is_dir():
        pytest.skip(NO_TEST_DATA)
    return TEST_DATA


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory) -> Path:
    """8 features of 16 x 16 pixels, random weights: trains in milliseconds."""
    return Path(shutil.copy(FILES / "tiny.tod", tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def tiny(tiny_file, tmp_path) -> Path:
    """A fresh copy of the tiny model in a folder of its own."""
    folder = tmp_path / "model"
    folder.mkdir()
    copy = folder / "tiny.tod"
    copy.write_bytes(tiny_file.read_bytes())
    return copy


@pytest.fixture(scope="session")
def lite0_file(tmp_path_factory) -> Path:
    """EfficientNet-Lite0 with its real ImageNet weights, exported with the defaults."""
    path = tmp_path_factory.mktemp("lite0") / "transfer_learning.tod"
    kept.exported("lite0", into=path)
    return path


def make_pictures(root: Path, per_class: int = 20, side_px: int = 20, noise: int = 60) -> Path:
    """A tree of class folders: noisy pictures in three colours, PNG files. With seed 0 exactly
    three of five of a class train, one is for tests and one for validation."""
    turns = [(0.0, 0.6), (0.6, 0.8), (0.0, 0.6), (0.8, 1.0), (0.0, 0.6)]
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir(parents=True)
        for index in range(per_class):
            low, high = turns[index % 5]
            number = -1.0
            while not low <= number < high:
                shift = rng.integers(-noise, noise + 1, (side_px, side_px, 3))
                pixels = np.clip(np.array(colour) + shift, 0, 255).astype(np.uint8)
                number = place(0, pixels_hash(pixels))
            file = root / name / f"{index}.png"
            Image.fromarray(pixels).save(file)
            os.utime(file, (1e9, 1e9))  # what is seconds old may change again unnoticed
    return root


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("pictures") / "colours")


@pytest.fixture(scope="session")
def small_package(tmp_path_factory, tiny_file, pictures) -> Path:
    """A package without a runtime: its net_runner is that of this environment."""
    from tests.support.device_package import make_package  # which needs this module

    return make_package(tmp_path_factory.mktemp("small") / "package", tiny_file, pictures)


def run(
    *command: object, cwd: Path | None = None, through: tuple[str, ...] = (), **more
) -> subprocess.CompletedProcess[str]:
    """Run one of the project's commands as a user would; `through` starts it in another way."""
    program, *arguments = map(str, command)
    file = Path(sys.executable).with_name(program)
    return subprocess.run(
        [*through, str(file), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        **more,
    )


@pytest.fixture
def call(monkeypatch, capsys):
    """`run` in this process: a new one would mostly wait for torch.
    Takes the program, its arguments, and `cwd`."""

    def called(program: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
        code = 0
        try:
            guarded(net_runner.app if program == "net_runner" else cli.app)
        except SystemExit as ended:
            code = ended.code
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, code, printed.out, printed.err)

    return called


@pytest.fixture(scope="session")
def packages_kept() -> None:
    """What packages are made of is downloaded once for all processes of the tests, and stays."""
    os.environ["TOD_PACKAGE_CACHE"] = str(ROOT / "build" / "packages")


@pytest.fixture(scope="session")
def package(tmp_path_factory, tiny_file, pictures, packages_kept) -> Path:
    """A bundled package for this machine's kind of processor: tiny model, small pictures."""
    if platform.machine() not in MACHINES:
        pytest.skip(f"no package is made for {platform.machine()}")
    if shutil.which("apt-get") is None:
        pytest.skip("no apt-get: a bundled package takes its Python from Debian's packages")
    out = tmp_path_factory.mktemp("package") / "package"
    target = MACHINES[platform.machine()]
    run("tod", "package", tiny_file, pictures, "-o", out, "--target", target, check=True)
    return out
