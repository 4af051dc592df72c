"""What the tests push and run: a small package with the real net_runner, and the scripts."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ROOT

TEMPLATES = ROOT / "package_templates"
LAUNCHER = f"""#!/bin/sh
cd "$(dirname "$0")/.."
if [ -e INCOMPLETE ]; then
  echo "error: this package was not pushed completely" >&2
  exit 4
fi
PYTHONPATH='{ROOT}' exec '{Path(sys.executable).with_name("net_runner")}' "$@"
"""
# For what is not about training.
QUICK = """#!/bin/sh
echo 'accuracy on validation data = 0.5'
echo trained >model/transfer_learning_trained.tod
"""
# Long enough to be met while it runs, whatever the machine.
LONG = ["--", "-c", "1000000", "-s", "1000000", "--eval-every", "1000000"]
SHORT = ["--", "-c", "3", "-s", "2", "--target-accuracy", "1"]


def make_package(folder: Path, model: Path, pictures: Path, net_runner: str = LAUNCHER) -> Path:
    """A package as `tod package` makes it, with another net_runner.

    Args:
        folder: the package to make.
        model: a .tod file.
        pictures: a folder of class folders.
        net_runner: a shell script; by default it starts the one of this environment.
    """
    shutil.copytree(TEMPLATES, folder)
    (folder / "bin" / "net_runner").write_text(net_runner)
    (folder / "lib" / "one of 'them'").mkdir(parents=True)
    (folder / "lib" / "one of 'them'" / "großes $HOME.txt").write_text("names may be odd\n")
    (folder / "lib" / "TARGET").write_text(f"machine={platform.machine()}\nruntime=system\n")
    (folder / "model").mkdir()
    shutil.copy(model, folder / "model" / "transfer_learning.tod")
    shutil.copytree(pictures, folder / "dataset", ignore=shutil.ignore_patterns(".*"))
    return seal(folder)


def seal(folder: Path) -> Path:
    """Write SHA256SUMS of what is there now."""
    names = sorted(
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and file.name != "SHA256SUMS"
    )
    sums = (f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


def script(name: str, *arguments: object, **more):
    """Run one of the scripts to its end; `more` is that of start_script."""
    with start_script(name, *arguments, **more) as process:
        out, error = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def start_script(
    name: str,
    *arguments: object,
    root: Path = ROOT,
    inside: Sequence[str] = (),
    **variables: object,
):
    """Start one of the scripts; its output comes through pipes.

    Args:
        name: of the script.
        arguments: for it.
        root: the repository.
        inside: the words of a command that runs a command.
        variables: are added to the environment.
    """
    # The developer's own phone is not for tests.
    own = ("ANDROID_SERIAL", "ADB_SERVER_SOCKET")
    environment = {key: value for key, value in os.environ.items() if key not in own}
    return subprocess.Popen(
        [*inside, "sh", str(root / "scripts" / name), *map(str, arguments)],
        env=environment | {key: str(value) for key, value in variables.items()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def job(package: Path, *arguments: str):
    """Ask the package's job itself, without any script."""
    command = ["sh", str(package / "bin" / "job"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def failed(done, code: int, *words: str) -> None:
    """It ended with this code and said why in one sentence and one hint, with these words."""
    assert done.returncode == code, done.stderr + done.stdout
    assert len(re.findall(r"^error: ", done.stderr, re.M)) == 1, done.stderr
    assert len(re.findall(r"^hint: ", done.stderr, re.M)) == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def succeeded(done) -> str:
    """It ended well; what it printed."""
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a package by name, without what is made on the device."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and not {".tod-cache", "job"} & set(file.relative_to(folder).parts[:-1])
    }
