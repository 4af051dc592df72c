"""A device has the base dependencies only: everything it needs works, nothing else is imported."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv-device" / "bin"


@pytest.fixture(scope="module", autouse=True)
def _device():
    if not (BIN / "net_runner").is_file():
        pytest.skip("no .venv-device; `make test` makes it")


def device(program, *arguments, **options):
    return subprocess.run(
        [str(BIN / program), *map(str, arguments)], capture_output=True, text=True, **options
    )


def test_it_holds_nothing_but_the_device():
    listed = device("python", "-m", "pip", "list", "--format", "json").stdout
    names = {package["name"].lower() for package in json.loads(listed)}
    assert {"tod", "onnxruntime", "numpy", "pillow"} <= names
    assert not {"torch", "torchvision", "onnx", "onnxscript", "scikit-learn"} & names


def test_import_tod_imports_neither_torch_nor_the_workstation():
    code = (
        "import sys, tod; tod.Dataset, tod.TrainSession, tod.train\n"
        "print([m for m in ('torch', 'model', 'dataset_tools', 'onnxruntime') if m in sys.modules])"
    )
    assert device("python", "-c", code).stdout.strip() == "[]"


def test_the_whole_job(tiny, pictures):
    """Evaluate, train, predict."""
    for options in ([], ["-c", "30", "-s", "10", "-i", tiny.with_name("i.onnx")]):
        done = device("net_runner", "-f", tiny, "-d", pictures, *options)
        assert done.returncode == 0, done.stderr
    trained = tiny.with_name("tiny_trained.tod")
    picture = pictures / "red" / "0.png"
    done = device("tod", "predict", "-f", trained, picture)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(red|green|blue) .* %", done.stdout)


def test_nothing_is_left_in_the_home_folder(tiny, pictures, tmp_path):
    """onnxruntime would put a device id and a queue of events for its maker there."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = device("net_runner", "-f", tiny, "-d", pictures, "-c", "2", env=environment)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {tiny.parent.name}


@pytest.mark.parametrize("python", [str(BIN / "python"), sys.executable], ids=["device", "all"])
def test_no_module_of_the_workstation_is_loaded(tiny, pictures, python):
    """Also where torch is installed: a whole run imports none of it."""
    code = (
        "import sys; from tod.cli import app, net_runner; net_runner.main()\n"
        "print({'torch', 'model', 'dataset_tools', 'onnx', 'sklearn'} & set(sys.modules))"
    )
    job = "-f", tiny, "-d", pictures, "-c", 3, "-s", 1, "-i", tiny.with_name("i.onnx")
    done = subprocess.run([python, "-c", code, *map(str, job)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    "command", [["info"], ["verify"], ["benchmark", "--batch", "1", "--seconds", "0.02"]]
)
def test_looking_at_a_file(tiny, command):
    done = device("tod", *command, tiny)
    assert done.returncode == 0, done.stderr


def test_what_needs_the_workstation_says_so(tmp_path):
    done = device("tod", "export", cwd=tmp_path)
    assert done.returncode == 5
    assert done.stderr.splitlines() == [
        "error: this command needs the package 'torch', which is not installed here",
        "hint: in the folder with TOD's source: pip install -c constraints.txt '.[workstation]'",
    ]
    done = device("tod", "prepare-dataset", "digits", tmp_path / "out")
    assert done.returncode == 5
    assert "pip install -c constraints.txt '.[demo]'" in done.stderr


def test_pictures_can_be_prepared_on_a_device(pictures, tmp_path):
    done = device("tod", "prepare-dataset", pictures, tmp_path / "out", "--size", 16)
    assert done.returncode == 0, done.stderr
    assert "60 pictures of 3 classes" in done.stdout


@pytest.mark.parametrize(
    "command", [["tod"], ["tod", "train"], ["tod", "benchmark"], ["tod", "export"], ["net_runner"]]
)
def test_help_needs_nothing_heavy(command):
    """--help loads neither NumPy nor a runtime, so it answers at once."""
    heavy = ["onnxruntime", "torch", "PIL", "numpy"]
    code = (
        f"import sys; sys.argv = {[*command, '--help']!r}\n"
        f"from tod.cli import {'app' if command[0] == 'tod' else 'net_runner'} as c\n"
        "try:\n    c.main()\nexcept SystemExit: pass\n"
        f"print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    done = device("python", "-c", code)
    assert "Example" in done.stdout or command == ["tod"]
    assert done.stderr.strip() == "[]"
