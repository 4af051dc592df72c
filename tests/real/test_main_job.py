"""The main job on real pictures with the real backbone: what the project promises to reach.

`make test` takes the default model and the scenes; `make test-real` also other data, other weights,
the seed's recipe, and training of the last two blocks.
"""

import numpy as np
import pytest

import tod
from benchmarks.accuracy import SEEDS, runs
from benchmarks.data import subset
from benchmarks.seeds import scores
from model.export import export
from model.step.optimizers import SGD
from tests.conftest import run
from tod.data.dataset import Dataset
from tod.data.index import read_index
from tod.runtime.features import FeatureStore, picture_features
from tod.training.records import Evaluated


@pytest.fixture(scope="module")
def scenes(test_data):
    return subset("scenes", 100)


@pytest.fixture(scope="module")
def scenes_runs(scenes, lite0_file):
    """Five seeds of split and training; every picture goes through the backbone once in all."""
    return runs(lite0_file, scenes, {})


def test_untrained_is_chance(scenes_runs):
    assert 0.04 <= np.mean([run["untrained"] for run in scenes_runs]) <= 0.16


def test_scenes_stop_early_above_0_9(scenes_runs):
    assert all(run["test, target 0.9"] > 0.9 for run in scenes_runs)
    assert all(run["cycles, target 0.9"] < 60 for run in scenes_runs)


def test_scenes_validation(scenes_runs):
    found = [run["validation, target 1.0"] for run in scenes_runs]
    assert np.mean(found) >= 0.955
    assert min(found) >= 0.93


@pytest.mark.long
def test_places_validation(test_data, lite0_file):
    assert np.mean(scores(lite0_file, subset("places", 200), SEEDS, {})) >= 0.76


def trained(model, tree, **settings):
    """Validation accuracy with the defaults, split and training of seed 0."""
    session = tod.TrainSession.load(model)
    records = list(tod.train(session, tod.Dataset.open(tree), target_accuracy=1, **settings))
    return [record for record in records if isinstance(record, Evaluated)][-1].accuracy


@pytest.mark.long
def test_real_torchvision_weights(scenes, test_data, tmp_path):
    """MobileNetV2 with its ImageNet weights."""
    weights = test_data / "weights" / "mobilenet_v2-imagenet.pth"
    export(
        tmp_path / "m.tod", backbone="torchvision:mobilenet_v2", weights=str(weights),
        optimizer=SGD(0.02, dampening=0.01),
    )  # fmt: skip
    assert trained(tmp_path / "m.tod", scenes, cycles=60) >= 0.95


@pytest.mark.parametrize(("kind", "least"), [("imprint", 0.90), ("ridge", 0.95)])
def test_heads_without_a_single_cycle(scenes, lite0_file, kind, least):
    assert trained(lite0_file, scenes, cycles=0, init=kind) >= least


@pytest.mark.long
def test_the_last_two_blocks(scenes, tmp_path):
    """Not worse than the head alone by more than a point; three seeds: docs/performance.md."""
    export(tmp_path / "d.tod", optimizer=SGD(0.02, dampening=0.01), trainable="last:2")
    assert trained(tmp_path / "d.tod", scenes, cycles=60) >= 0.95


@pytest.mark.long
def test_mindspore_recipe(scenes, tmp_path):
    """The seed's settings on Lite0's logits."""
    export(
        tmp_path / "seed.tod",
        optimizer=SGD(0.0015, dampening=0.01),
        features="logits",
        head_std=0.1,
    )
    assert np.mean(scores(tmp_path / "seed.tod", scenes, SEEDS, {})) >= 0.87


def test_the_commands_a_user_types(scenes, lite0_file, tmp_path):
    """prepare, evaluate, train with checkpoints, evaluate the saved file: the same accuracy."""
    model = tmp_path / "transfer_learning.tod"
    model.write_bytes(lite0_file.read_bytes())
    prepared = run("tod", "prepare-dataset", scenes, tmp_path / "dataset")
    assert "1000 pictures of 10 classes (606 train, 211 test, 183 validation)" in prepared.stdout
    untrained = run("net_runner", "-f", model, "-d", tmp_path / "dataset", cwd=tmp_path)
    trained = run(
        "net_runner", "-f", model, "-d", "dataset", "-c", 60, "-s", 20, "-i", "i.onnx", cwd=tmp_path
    )
    assert trained.returncode == 0, trained.stderr
    again = run("net_runner", "-f", "transfer_learning_trained.tod", "-d", "dataset", cwd=tmp_path)
    accuracies = [
        float(done.stdout.splitlines()[-1].removeprefix("accuracy on validation data = "))
        for done in (untrained, trained, again)
    ]
    assert accuracies[0] < 0.2
    assert accuracies[1] == accuracies[2] > 0.93
    checkpoint = tmp_path / "transfer_learning_trained_20.tod"
    assert checkpoint.stat().st_size < 200_000

    picture = Dataset.open(tmp_path / "dataset").split("validation")[0]
    named = run(
        "tod", "predict", "-f", "transfer_learning_trained.tod", "--json",
        tmp_path / "dataset" / picture.path, cwd=tmp_path,
    )  # fmt: skip
    assert '"probabilities":' in named.stdout


def test_prepared_and_plain_pictures_give_the_same_features(scenes, lite0_file, tmp_path):
    """Resized on the fly by the artifact's own input spec, or beforehand: the same numbers."""
    run("tod", "prepare-dataset", scenes, tmp_path / "out", "--per-class", 5)
    index = Dataset.open(tmp_path / "out")
    session = tod.TrainSession.load(lite0_file)
    files = read_index(tmp_path / "out" / "dataset.json").files[:6]
    prepared = [tmp_path / "out" / file.file for file in files]
    plain = [scenes / file.source for file in files]
    assert index.cropped
    spec = session.manifest.input
    assert np.array_equal(
        picture_features(session.engine, spec, prepared),
        picture_features(session.engine, spec, plain),
    )


def test_features_are_bit_equal_for_any_batch_and_threads(scenes, lite0_file):
    dataset = Dataset.open(scenes)
    samples = dataset.samples[:20]
    session = tod.TrainSession.load(lite0_file, threads=1)
    rows = []
    for threads in (1, 2, 3):
        store = FeatureStore(session.engine, session.manifest, workers=threads)
        assert list(store.filling(dataset, samples))[-1] == (20, 20)
        rows.append(store.rows(dataset, samples)[0])
    single = [dataset.root / sample.path for sample in samples]
    one_by_one = [
        picture_features(session.engine, session.manifest.input, [path])[0] for path in single
    ]
    assert all(np.array_equal(rows[0], other) for other in (*rows[1:], np.stack(one_by_one)))
