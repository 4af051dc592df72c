"""scripts/prepare_and_run.sh from pictures to the trained accuracy, with the real package.

Here, over a real sshd, and over the real adb to a phone that holds a shell and nothing else.
"""

import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, make_pictures
from tests.support import jail
from tests.support.device_package import failed, script, succeeded
from tests.support.phone import Adb, Phone, missing
from tests.support.ssh_device import free_port, ssh_device

README = (ROOT / "README.md").read_text()
BIN = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
FOLDERS = ("scripts", "package_templates", "package_tools", "dataset_tools", "tod", "model")
TRAINED = Path("model", "transfer_learning_trained.tod")

pytestmark = pytest.mark.usefixtures("packages_kept")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A repository of one's own: the scripts write into its build folder."""
    if shutil.which("apt-get") is None:
        pytest.skip("no apt-get: a bundled package takes its Python from Debian's packages")
    root = tmp_path_factory.mktemp("repository") / "tod"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def whole_job(checkout, pictures, *arguments, **variables):
    variables = {**variables, "PYTHONPATH": ROOT, "PATH": BIN}
    return script("prepare_and_run.sh", "-D", pictures, *arguments, root=checkout, **variables)


def difference(output: str) -> float:
    """What training brought, from the line for people."""
    line = r"^untrained ([\d.]+)  trained ([\d.]+)  difference ([+-][\d.]+)$"
    untrained, trained, shown = map(float, re.search(line, output, re.M).groups())
    assert trained - untrained == pytest.approx(shown, abs=1e-4)
    return shown


def test_here_from_nothing(checkout, pictures):
    """The real network, exported by the script; a second time only the job itself is done."""
    done = whole_job(checkout, pictures, "-t", "x86")
    assert difference(succeeded(done)) > 0.3
    assert "Making the package" in done.stderr
    results = checkout / "build" / "package-x86_64-results" / "local"
    assert (results / TRAINED).is_file()
    assert (results / "job" / "log").is_file()
    assert (results / "model" / "transfer_learning.tod").is_file()  # what checkpoints refer to
    assert f"the trained model: {results / TRAINED}" in done.stdout
    again = whole_job(checkout, pictures, "-i", "local")
    assert difference(succeeded(again)) == difference(done.stdout)
    assert "is up to date" in again.stderr
    assert "Making the package" not in again.stderr


def test_other_pictures_do_not_overwrite_what_was_trained(checkout, tiny, pictures, tmp_path):
    out = tmp_path / "out"
    common = ("-t", "x86", "-m", tiny, "-o", out)
    succeeded(whole_job(checkout, pictures, *common))
    before = (out / TRAINED).read_bytes()
    other = make_pictures(tmp_path / "other", per_class=10)
    (other / "blue").rename(other / "cyan")
    done = whole_job(checkout, other, *common)
    assert f"what was here before is in {out}/earlier-1" in succeeded(done)
    assert (out / TRAINED).read_bytes() != before
    assert (out / "earlier-1" / TRAINED).read_bytes() == before


def test_a_damaged_package_is_made_anew(checkout, tiny, pictures):
    common = ("-t", "x86", "-m", tiny)
    succeeded(whole_job(checkout, pictures, *common))
    (checkout / "build" / "package-x86_64" / "train.sh").write_text("damaged")
    failed(whole_job(checkout, pictures, *common), 4, "is damaged: train.sh")
    succeeded(whole_job(checkout, pictures, *common))


def test_mistakes_are_named_before_any_work(checkout, pictures, tmp_path):
    for arguments, code, word in (
        (("-i", "usb"), 2, "usb is no device"),
        (("-o", "/proc/none"), 5, "/proc/none cannot be written"),
        (("-c", "5"), 2, "after --"),
        (("-D", tmp_path / "none"), 3, "is no folder"),
    ):
        done = whole_job(checkout, pictures, *arguments)
        failed(done, code, word)
        assert "==" not in done.stderr


def test_over_ssh(checkout, tiny, pictures, tmp_path):
    (tmp_path / "ssh").mkdir()
    with ssh_device(tmp_path / "ssh") as device:
        place = tmp_path / "on the device"
        common = ("-t", "x86", "-m", tiny, "-i", device.name, "-w", place)
        done = whole_job(checkout, pictures, *common, TOD_SSH=device.client)
        assert difference(succeeded(done)) > 0.3
        results = checkout / "build" / "package-x86_64-results"
        (here,) = results.glob(f"*{device.port}/{TRAINED}")
        assert here.read_bytes() == (place / TRAINED).read_bytes()
        package = checkout / "build" / "package-x86_64"
        pushed = script(
            "push.sh", package, *common[4:], root=checkout, TOD_SSH=device.client
        )  # fmt: skip
        assert succeeded(pushed).startswith("sent 0 of ")


def test_a_device_that_fails_keeps_no_other_from_its_job(checkout, tiny, pictures, tmp_path):
    (tmp_path / "ssh").mkdir()
    with ssh_device(tmp_path / "ssh") as device:
        away = device.at(free_port())
        done = whole_job(
            checkout, pictures, "-t", "x86", "-m", tiny, "-w", tmp_path / "on the device",
            "-i", away, "-i", device.name, "-o", tmp_path / "out", TOD_SSH=device.client,
        )  # fmt: skip
    assert done.returncode == 7
    lines = done.stdout.splitlines()[-2:]
    assert lines[0].startswith(f"{away}: exit code 7: error: {away} cannot be reached")
    assert lines[1].startswith(f"{device.name}: done: untrained 0.")
    (trained,) = (tmp_path / "out").glob(f"*/{TRAINED}")
    assert (trained.parents[1] / "job.log").read_text().count("difference +") == 1


@pytest.fixture
def phone(tmp_path):
    if reason := missing():
        pytest.skip(f"no phone can be made here: {reason}")
    (tmp_path / "adb").mkdir()
    with Adb(tmp_path / "adb") as adb, Phone(adb, jail.build(tmp_path / "root")) as phone:
        yield phone


def test_over_adb_where_there_is_only_a_shell(checkout, tiny, pictures, phone):
    """No Python, no C library, no root, no /tmp, no /bin/sh: the package brings what it needs."""
    common = ("-t", "x86", "-m", tiny, "-i", f"adb:{phone.serial}")
    done = whole_job(checkout, pictures, *common, **phone.adb.environment)
    assert difference(succeeded(done)) > 0.3
    there = phone.root / jail.DATA / "package-x86_64" / TRAINED
    results = checkout / "build" / "package-x86_64-results"
    here = results / phone.serial.replace(":", "-") / TRAINED
    assert here.read_bytes() == there.read_bytes()


def test_the_commands_of_the_readme(checkout, tiny, pictures, phone, tmp_path):
    """As they stand there, but to this machine's kind of processor and with a small model."""
    (tmp_path / "ssh").mkdir()
    (block,) = (b for b in re.findall(r"```sh\n(.*?)```", README, re.S) if "prepare_and_run" in b)
    shutil.copytree(pictures, checkout / "pictures", dirs_exist_ok=True)
    home = Path(pwd.getpwuid(os.getuid()).pw_dir) / "tod"
    before = {path: path.lstat().st_mtime_ns for path in home.rglob("*")}
    with ssh_device(tmp_path / "ssh") as device:
        with open(device.folder / "client", "a") as config:
            config.write(f"Host raspberrypi.local\n  HostName 127.0.0.1\n  Port {device.port}\n")
        environment = {**phone.adb.environment, "TOD_SSH": device.client, "PATH": BIN}
        environment["PYTHONPATH"] = str(ROOT)
        lines = [line.replace("SERIAL", phone.serial) for line in block.splitlines()]
        lines = [line.replace("package-arm64", "package-x86_64") for line in lines]
        for command in (shlex.split(line, comments=True) for line in lines):
            if command[0].endswith("prepare_and_run.sh"):
                command += ["-m", str(tiny), "-t", "x86"]
            done = subprocess.run(
                command, cwd=checkout, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, (command, done.stderr)
            assert difference(done.stdout) > 0.3
        assert (device.home / "tod" / "package-x86_64" / TRAINED).is_file()
    # The device has a home of its own: that of the login is nobody's to write in.
    assert {path: path.lstat().st_mtime_ns for path in home.rglob("*")} == before


def test_the_devices_own_python(checkout, tiny, pictures):
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    own = f"{Path(sys.base_prefix) / 'bin'}:{BIN}"
    common = ("-t", "x86", "-m", tiny, "-r", f"system:{version}")
    done = script(
        "prepare_and_run.sh", "-D", pictures, *common, root=checkout, PATH=own, PYTHONPATH=ROOT
    )
    assert difference(succeeded(done)) > 0.3
    failed(whole_job(checkout, pictures, *common[:4], "-r", "system"), 2, "system:3.11")
