"""The arm64 package does the whole job where there is nothing but a shell, and agrees with here.

It runs under qemu-user in a folder that is all it sees (tests/support/jail.py). `make test` takes
the tiny model and trains only, `make test-real` EfficientNet-Lite0, real pictures and all scripts.
"""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import make_pictures, run
from tests.support import jail
from tod.data.dataset import Dataset
from tod.format import artifact
from tod.runtime.feature_cache import FeatureCache

QEMU = shutil.which("qemu-aarch64-static")
EMULATOR = "/system/bin/qemu-aarch64-static"
CLASSES = ("aquarium", "beach", "bridge")
PER_CLASS = 5  # 15 pictures in all: half a minute of emulation
SCRIPTS = ("eval_untrained.sh", "train.sh", "eval.sh")
FEATURES = {"tiny": 8, "lite0": 1280}
TRAINING = ("-c", "20", "-s", "10", "--seed", "0", "--target-accuracy", "1", "--log", "log.json")
# What two kinds of processor may differ by, relative to the largest value; seen was 1.2e-6.
BOUND = 1e-5


@pytest.fixture(scope="module", params=["tiny", pytest.param("lite0", marks=pytest.mark.long)])
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def model_file(request, kind) -> Path:
    return request.getfixturevalue(f"{kind}_file")


@pytest.fixture(scope="module")
def dataset(request, kind, tmp_path_factory) -> Path:
    """Pictures, real ones for the real model, prepared as for a device."""
    folder = tmp_path_factory.mktemp(kind)
    if kind == "tiny":
        make_pictures(folder / "some", PER_CLASS)
    else:
        scenes = request.getfixturevalue("test_data") / "scenes"
        for name in CLASSES:
            (folder / "some" / name).mkdir(parents=True)
            for file in sorted((scenes / name).iterdir())[:PER_CLASS]:
                shutil.copy(file, folder / "some" / name)
    run("tod", "prepare-dataset", folder / "some", folder / "dataset", check=True)
    return folder / "dataset"


@pytest.fixture(scope="module")
def device(tmp_path_factory, dataset, model_file, packages_kept):
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
    run("tod", "package", model_file, dataset, "-o", package, "--target", "arm64", check=True)
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
def trained(device, kind, dataset, model_file, tmp_path_factory):
    """The job there and here: (what was printed, the folder, the dataset) of both."""
    package, on_device = device
    folder = tmp_path_factory.mktemp("here")
    model = Path(shutil.copy(model_file, folder / "transfer_learning.tod"))
    models = {"eval.sh": model.with_name("transfer_learning_trained.tod")}
    there, here = [], []
    for script in SCRIPTS if kind == "lite0" else ("train.sh",):
        options = TRAINING if script == "train.sh" else ()
        there.append(on_device(f"sh {script} {' '.join(options)}").stdout)
        command = ("net_runner", "-f", models.get(script, model), "-d", dataset, *options)
        here.append(run(*command, check=True, cwd=folder).stdout)
    return (there, package, package / "dataset"), (here, folder, dataset)


def accuracies(outputs: list[str]) -> list[str]:
    return [output.splitlines()[-1] for output in outputs]


def features(dataset: Path, count: int) -> np.ndarray:
    """The backbone's output [N, count] for every picture, as it was kept while the job ran."""
    (file,) = (dataset / ".tod-cache").glob("features-*.rows")
    origin = json.loads(file.read_bytes()[:4096].split(b"\n", 1)[1])
    cache = FeatureCache((count,), folder=file.parent, origin=origin)
    hashes = sorted(sample.sha256 for sample in Dataset.open(dataset).samples)
    return cache.take(cache.places(hashes))


def difference(there: np.ndarray, here: np.ndarray) -> float:
    return float(np.abs(there - here).max() / np.abs(here).max())


def test_accuracy_before_and_after_is_the_same(trained):
    there, here = trained
    assert accuracies(there[0]) == accuracies(here[0])
    assert accuracies(there[0])[-1].startswith("accuracy on validation data = ")


def test_features_agree(trained, kind):
    (_, _, there), (_, _, here) = trained
    found = features(there, FEATURES[kind])
    assert found.shape == (len(CLASSES) * PER_CLASS, FEATURES[kind])
    largest = difference(found, features(here, FEATURES[kind]))
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
