"""The arm64 package does the whole job where there is nothing but a shell, and agrees with here.

It runs under qemu-user in a folder that is all it sees (tests/support/jail.py).
"""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import run
from tests.support import jail
from tod.data.dataset import Dataset
from tod.format import artifact
from tod.runtime.feature_cache import FeatureCache

QEMU = shutil.which("qemu-aarch64-static")
EMULATOR = "/system/bin/qemu-aarch64-static"
CLASSES = ("aquarium", "beach", "bridge")
PER_CLASS = 5  # 15 pictures in all: half a minute of emulation
TRAINING = ("-c", "20", "-s", "10", "--seed", "0", "--target-accuracy", "1", "--log", "log.json")
# What two kinds of processor may differ by, relative to the largest value; seen was 1.2e-6.
BOUND = 1e-5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, test_data) -> Path:
    """Real pictures, prepared as for a device."""
    folder = tmp_path_factory.mktemp("scenes")
    for name in CLASSES:
        (folder / "some" / name).mkdir(parents=True)
        for file in sorted((test_data / "scenes" / name).iterdir())[:PER_CLASS]:
            shutil.copy(file, folder / "some" / name)
    run("tod", "prepare-dataset", folder / "some", folder / "dataset", check=True)
    return folder / "dataset"


@pytest.fixture(scope="module")
def device(tmp_path_factory, dataset, lite0_file, packages_kept):
    """A jail that holds the package, and a function that runs a command in it."""
    reason = jail.missing()
    if reason is None and QEMU is None:
        reason = "qemu-aarch64-static is not installed (apt-get install qemu-user-static)"
    if reason is None and shutil.which("apt-get") is None:
        reason = "no apt-get: a bundled package takes its Python from Debian's packages"
    if reason:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("device")
    root = jail.build(folder / "root", Path(QEMU))
    package = root / jail.DATA / "package"
    run("tod", "package", lite0_file, dataset, "-o", package, "--target", "arm64", check=True)
    files = [path for path in (package / "lib").rglob("*") if path.is_file()]
    assert sum(file.stat().st_size for file in files) < 130e6
    for path in (package, *package.rglob("*")):  # Android's user "shell" owns what it was pushed
        shutil.chown(path, jail.SHELL_ID, jail.SHELL_ID)

    def on_device(command: str) -> subprocess.CompletedProcess[str]:
        script = f"cd /{jail.DATA}/package && export TOD_EMULATOR={EMULATOR} && {command}"
        done = subprocess.run(jail.shell(root, script), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    return package, on_device


@pytest.fixture(scope="module")
def trained(device, dataset, lite0_file, tmp_path_factory):
    """The job there and here: (what was printed, the folder, the dataset) of both."""
    package, on_device = device
    there = [
        on_device(f"sh {script}").stdout
        for script in ("eval_untrained.sh", f"train.sh {' '.join(TRAINING)}", "eval.sh")
    ]
    folder = tmp_path_factory.mktemp("here")
    model = folder / "transfer_learning.tod"
    shutil.copy(lite0_file, model)
    common = ("-d", dataset)
    here = [
        run("net_runner", "-f", model, *common, check=True, cwd=folder).stdout,
        run("net_runner", "-f", model, *common, *TRAINING, check=True, cwd=folder).stdout,
        run(
            "net_runner", "-f", folder / "transfer_learning_trained.tod", *common, check=True
        ).stdout,
    ]
    return (there, package, package / "dataset"), (here, folder, dataset)


def accuracies(outputs: list[str]) -> list[str]:
    return [output.splitlines()[-1] for output in outputs]


def features(dataset: Path) -> np.ndarray:
    """The backbone's output [N, 1280] for every picture, as it was kept while the job ran."""
    (file,) = (dataset / ".tod-cache").glob("features-*.rows")
    origin = json.loads(file.read_bytes()[:4096].split(b"\n", 1)[1])
    cache = FeatureCache((1280,), folder=file.parent, origin=origin)
    hashes = sorted(sample.sha256 for sample in Dataset.open(dataset).samples)
    return cache.take(cache.places(hashes))


def difference(there: np.ndarray, here: np.ndarray) -> float:
    return float(np.abs(there - here).max() / np.abs(here).max())


def test_accuracy_before_and_after_is_the_same(trained):
    there, here = trained
    assert accuracies(there[0]) == accuracies(here[0])
    assert accuracies(there[0])[2].startswith("accuracy on validation data = ")


def test_features_agree(trained):
    (_, _, there), (_, _, here) = trained
    found = features(there)
    assert found.shape == (len(CLASSES) * PER_CLASS, 1280)
    largest = difference(found, features(here))
    print("largest difference of features", largest)
    assert largest < BOUND


def test_losses_agree(trained):
    losses = []
    for _, folder, _ in trained:
        records = [json.loads(line) for line in (folder / "log.json").read_text().splitlines()]
        losses.append(np.array([r["loss"] for r in records if r["record"] == "cycle_done"]))
    assert losses[0].size == 20
    largest = difference(*losses)
    print("largest difference of losses", largest)
    assert largest < BOUND


def test_checkpoints_and_trained_parameters_agree(trained):
    (_, package, _), (_, folder, _) = trained
    for name in ("transfer_learning_trained_10.tod", "transfer_learning_trained.tod"):
        there = artifact.read(package / "model" / name).state
        here = artifact.read(folder / name).state
        assert there.keys() == here.keys()
        largest = max(difference(there[key], here[key]) for key in here if here[key].any())
        print(f"largest difference in {name}", largest)
        assert largest < BOUND


def test_predictions_are_the_same(trained, device):
    (_, _, dataset), (_, folder, _) = trained
    _, on_device = device
    chosen = [s.path for s in Dataset.open(dataset).split("validation")]
    command = ["tod", "predict", "--top", "3", "--json", "-f"]
    pictures = " ".join(f"dataset/{path}" for path in chosen)
    model = "transfer_learning_trained.tod"
    there = on_device(f"sh bin/{' '.join(command)} model/{model} {pictures}").stdout
    here = run(*command, folder / model, *(dataset / path for path in chosen), check=True).stdout
    for one, other in zip(there.splitlines(), here.splitlines(), strict=True):
        one, other = json.loads(one), json.loads(other)
        assert one["classes"] == other["classes"]
        assert np.allclose(one["probabilities"], other["probabilities"], atol=BOUND)


def test_the_file_proves_itself_there(device):
    """The test vectors in the file, made by torch on the workstation, on the other processor."""
    _, on_device = device
    shown = on_device("sh bin/tod verify model/transfer_learning.tod --json").stdout
    assert json.loads(shown.splitlines()[-1])
