"""Packages for the device's own Python, and with an interpreter from an archive."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from package_tools.sums import read as sums
from tests.conftest import MACHINES, run
from tests.device.test_package import HERE, on_device, refused

pytestmark = pytest.mark.usefixtures("packages_kept")
TARGET = MACHINES.get(os.uname().machine, "")
OWN_PYTHON = str(Path(sys.base_prefix) / "bin")


@pytest.fixture(scope="module")
def system(tmp_path_factory, tiny_file, pictures) -> Path:
    out = tmp_path_factory.mktemp("system") / "package"
    run(
        "tod", "package", tiny_file, pictures, "-o", out, "--target", TARGET,
        "--runtime", "system", "--python-version", HERE, check=True,
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """This machine's Python as python-build-standalone packs one."""
    path = tmp_path_factory.mktemp("archive") / "cpython-install_only.tar.gz"
    base = Path(sys.base_prefix)

    def wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        left_out = ("site-packages", "test", "__pycache__", "idlelib", "ensurepip")
        left_out += (f"config-{HERE}-x86_64-linux-gnu",)
        return None if Path(entry.name).name in left_out else entry

    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        tar.add(base / "bin" / f"python{HERE}", f"python/bin/python{HERE}")
        tar.add(base / "lib" / f"python{HERE}", f"python/lib/python{HERE}", filter=wanted)
        for library in base.glob("lib/libpython3*.so*"):
            tar.add(library.resolve(), f"python/lib/{library.name}")
    return path


def test_the_devices_own_python_trains(system):
    for script in ("eval_untrained.sh", "train.sh", "eval.sh"):
        done = on_device(system, script, path=f"{OWN_PYTHON}:/usr/bin:/bin")
        assert done.returncode == 0, done.stderr
    assert (system / "model" / "transfer_learning_trained.tod").is_file()


def test_a_device_without_python_is_told(system, tmp_path):
    for tool in ("sh", "dirname"):
        (tmp_path / tool).symlink_to(Path("/bin", tool))
    problem, hint = refused(on_device(system, "eval.sh", path=str(tmp_path)), 5)
    assert problem == "this device has no python3, and the package brings none"
    assert "--runtime bundled" in hint


@pytest.mark.parametrize(
    ("line", "problem", "hint"),
    [
        ("python=3.99", f"this package is for Python 3.99, this device has {HERE}", HERE),
        ("glibc=9.9", "this package needs glibc 9.9 or newer, this device has glibc 2.", "bundled"),
    ],
)
def test_what_the_device_lacks_is_named(system, tmp_path, line, problem, hint):
    package = tmp_path / "package"
    (package / "model").mkdir(parents=True)
    for name in ("bin", "eval.sh", "lib"):
        subprocess.run(["cp", "-r", system / name, package / name], check=True)
    target = package / "lib" / "TARGET"
    key = line.split("=")[0]
    lines = [x for x in target.read_text().splitlines() if not x.startswith(f"{key}=")]
    target.write_text("\n".join([*lines, line]) + "\n")
    done = on_device(package, "eval.sh", path=f"{OWN_PYTHON}:/usr/bin:/bin")
    said = refused(done, 5)
    assert said[0].startswith(problem)
    assert hint in said[1]


def test_another_python_than_the_workstations(tiny_file, pictures, tmp_path):
    """Which wheels are taken depends on the device's Python and processor, not on those here."""
    version = "3.12" if HERE != "3.12" else "3.13"
    other = next(name for name in MACHINES.values() if name != TARGET)
    out = tmp_path / "out"
    done = run(
        "tod", "package", tiny_file, pictures, "-o", out, "--target", other,
        "--runtime", "system", "--python-version", version,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tag = f"cpython-{version.replace('.', '')}"
    extensions = [path.name for path in out.rglob("_multiarray_umath*.so")]
    assert len(extensions) == 1
    assert tag in extensions[0]
    problem, hint = refused(on_device(out, "eval.sh", path=f"{OWN_PYTHON}:/usr/bin:/bin"), 5)
    assert problem == f"this package is for Python {version}, this device has {HERE}"
    assert f"--python-version {HERE}" in hint


def test_made_anew_it_is_the_same(system, tiny_file, pictures, tmp_path):
    out = tmp_path / "again"
    run(
        "tod", "package", tiny_file, pictures, "-o", out, "--target", TARGET, "--refresh",
        "--runtime", "system", "--python-version", HERE, check=True,
    )  # fmt: skip
    assert sums(out) == sums(system)


def test_an_interpreter_from_an_archive(archive, tiny_file, pictures, tmp_path):
    out = tmp_path / "out"
    done = run(
        "tod", "package", tiny_file, pictures, "-o", out, "--target", TARGET,
        "--python-archive", archive,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = on_device(out, "train.sh")
    assert done.returncode == 0, done.stderr
    assert "It needs glibc 2.28" in (out / "README.txt").read_text()


def test_an_archive_for_another_machine(archive, tiny_file, pictures, tmp_path):
    other = next(name for name in MACHINES.values() if name != TARGET)
    done = run(
        "tod", "package", tiny_file, pictures, "-o", tmp_path / "out", "--target", other,
        "--python-archive", archive,
    )  # fmt: skip
    problem, hint = refused(done, 2)
    assert "its Python is for EM_" in problem
    assert "python-build-standalone" in hint


def damaged(archive: Path, kind: str) -> bytes:
    whole = archive.read_bytes()
    middle = len(whole) // 2
    return {
        "empty": b"",
        "text": b"no archive",
        "cut": whole[:middle],
        "zeros": whole[:middle] + bytes(1000) + whole[middle + 1000 :],
        "ones": whole[:middle] + b"\xff" * 1000 + whole[middle + 1000 :],
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "zeros", "ones"])
def test_a_damaged_archive(archive, kind, tiny_file, pictures, tmp_path):
    file = tmp_path / "python.tar.gz"
    file.write_bytes(damaged(archive, kind))
    done = run(
        "tod", "package", tiny_file, pictures, "-o", tmp_path / "out", "--target", TARGET,
        "--python-archive", file,
    )  # fmt: skip
    problem, _ = refused(done, 2)
    assert str(file) in problem
