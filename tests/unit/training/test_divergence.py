"""Training that runs off to numbers that are not finite: back, half the rate, go on or end.

The models learn two numbers from the features of small pictures by the mean squared error, which
really diverges where the learning rate is too large.
"""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import tod
from tests.conftest import COLOURS, FILES
from tod.errors import TrainingError
from tod.format.arrays import check_arrays
from tod.format.artifact import read
from tod.training import divergence as guard
from tod.training.loop import train
from tod.training.records import CycleDone, Evaluated, Notice, Saved
from tod.training.settings import Settings

# As they are called here, and the files.
MODELS = {"momentum": "numbers_momentum", "adam": "numbers_adam", "plain": "numbers"}
# Learning rates that fall back twice at least: SGD also after the first evaluation.
FALLS_BACK = {"momentum": 8.0, "adam": 1e19}


@pytest.fixture(scope="module")
def numbers(tmp_path_factory, pictures):
    """The small pictures, and how red and how blue each is."""
    root = shutil.copytree(pictures, tmp_path_factory.mktemp("numbers") / "pictures")
    lines = [
        f"{name}/{i}.png,{colour[0] / 100},{colour[2] / 100}\n"
        for name, colour in COLOURS.items()
        for i in range(20)
    ]
    (root / "targets.csv").write_text("file,red,blue\n" + "".join(lines))
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, file in MODELS.items():
        shutil.copy(FILES / f"{file}.tod", folder / f"{name}.tod")
    return folder


def records_of(model, data, **settings):
    session = tod.TrainSession.load(model)
    return session, list(train(session, tod.Dataset.open(data), **settings))


def until_the_error(session, dataset, **settings):
    """All records of a run that fails, and the error."""
    records = []
    run = train(session, dataset, **settings)
    with pytest.raises(TrainingError) as caught:
        records.extend(run)
    return records, caught.value


def of(records, kind):
    return [record for record in records if isinstance(record, kind)]


def fallings(records):
    return [n.text for n in of(records, Notice) if "not finite" in n.text]


def finite(arrays):
    return all(np.isfinite(array).all() for array in arrays.values())


@pytest.mark.parametrize(("lr", "times"), [(1.4, 1), (2.8, 2)])
def test_a_rate_that_is_too_large_is_rescued(models, numbers, tmp_path, lr, times):
    """And learns as well as with a good one. The saved model says what was done."""
    output = tmp_path / "out.tod"
    _, records = records_of(
        models / "plain.tod", numbers, cycles=200, lr=lr, eval_every=100, output=output
    )
    said = fallings(records)
    assert len(said) == times
    assert said[0].endswith(
        "the loss is not finite; back to the parameters of cycle 0, with half the learning rate: "
        f"{lr:g} -> {lr / 2:g} (1 of at most 3 times)"
    )
    assert of(records, Evaluated)[-1].accuracy > 0.98
    entry = read(output).manifest.history[-1]
    assert (entry.lr, entry.halvings) == (lr, times)
    # The cycles in which it fell back count, and give no loss.
    assert len(of(records, CycleDone)) == entry.cycles - times
    assert all(math.isfinite(record.loss) for record in of(records, CycleDone))


@pytest.mark.parametrize(("name", "lr"), [("plain", 16), ("momentum", 1e9), ("adam", 1e38)])
def test_a_rate_that_is_not_rescued_ends_the_run(models, numbers, tmp_path, name, lr):
    model = shutil.copy(models / f"{name}.tod", tmp_path)
    session = tod.TrainSession.load(model)
    dataset = tod.Dataset.open(numbers)
    before = session.match(dataset) and session.state
    settings = {"cycles": 200, "lr": lr, "eval_every": 0, "output": tmp_path / "out.tod"}
    records, error = until_the_error(session, dataset, **settings)
    assert len(fallings(records)) == 4
    assert "although the learning rate was halved 3 times" in error.problem
    assert "the parameters of cycle 0 are kept in " in error.problem
    assert error.hint == f"try a smaller learning rate than {lr / 8:g} with --lr"
    assert not (tmp_path / "out.tod").exists()
    kept = of(records, Saved)[-1].path
    assert kept in error.problem
    # What is kept is what the run began with, and another rate goes on from there.
    again = tod.TrainSession.load(kept)
    for tensor in again.manifest.model:
        assert np.array_equal(again.state.tensors[tensor.name], before.tensors[tensor.name])
    with pytest.raises(TrainingError, match="halved 3 times"):
        list(train(again, dataset, **settings))
    _, records = records_of(kept, numbers, **settings | {"lr": 0.1, "eval_every": 20})
    assert fallings(records) == []
    assert of(records, Evaluated)[-1].accuracy > 0.8


@pytest.mark.promise(
    "Training that diverges falls back the same way, cut or not",
    "diverging runs are continued from any of their checkpoints; the saved bytes are equal",
)
def test_a_cut_run_falls_back_to_the_same_bytes(models, numbers, tmp_path, trials):
    settings = {"cycles": 48, "eval_every": 20, "target_accuracy": 1.0}
    ends, checkpoints = {}, {}
    for name, lr in FALLS_BACK.items():
        model = shutil.copy(models / f"{name}.tod", tmp_path)
        session = tod.TrainSession.load(model)
        ends[name] = tmp_path / f"{name}_end.tod"
        found = checkpoints[name] = []
        said = []
        run = train(
            session, tod.Dataset.open(numbers), lr=lr, save_every=1, output=ends[name], **settings
        )
        for record in run:
            said.append(record)
            if isinstance(record, Saved) and record.kind == "checkpoint":
                found.append(shutil.copy(record.path, tmp_path / f"{name}_cut_{record.cycle}.tod"))
        assert len(fallings(said)) >= 2
        assert len(found) == settings["cycles"]
        assert finite(read(found[-1]).state)
    generator = np.random.default_rng(0)
    for seed in trials(16, soak=1800):
        name = list(FALLS_BACK)[seed % 2]
        cut = generator.choice(checkpoints[name])
        output = tmp_path / "again.tod"
        records_of(cut, numbers, **settings, lr=FALLS_BACK[name], output=output)
        assert output.read_bytes() == ends[name].read_bytes(), cut


def test_no_score_is_taken_from_what_is_not_finite(models, numbers):
    """Adam's first step reaches 1.3e38: parameters and loss are finite, answers are not."""
    session = tod.TrainSession.load(models / "adam.tod")
    settings = {"cycles": 9, "lr": 1.3e38, "eval_every": 1}
    records, _ = until_the_error(session, tod.Dataset.open(numbers), **settings)
    assert fallings(records)[0].startswith("cycle 1: an answer on the test split is not finite")
    scores = {record.cycle: record.accuracy for record in of(records, Evaluated)}
    assert 1 not in scores
    assert all(map(math.isfinite, scores.values()))
    assert session.run.best_accuracy == max(scores.values())


def test_a_final_score_that_is_not_finite_saves_nothing(models, numbers, tmp_path):
    output = tmp_path / "out.tod"
    output.write_bytes(b"the model of yesterday")
    with pytest.raises(TrainingError, match="model on the validation split is not finite after 1"):
        records_of(models / "adam.tod", numbers, cycles=1, lr=1.3e38, eval_every=0, output=output)
    assert output.read_bytes() == b"the model of yesterday"


def test_a_score_of_huge_answers_is_a_number(models, numbers):
    """Squares of answers near the largest float32 overflow in float32; the score does not."""
    session = tod.TrainSession.load(models / "plain.tod")
    dataset = session.match(tod.Dataset.open(numbers))
    tensors = {
        n: np.full_like(a, 1e30) for n, a in session.state.parameters(session.manifest).items()
    }
    session.state = replace(session.state, tensors={**session.state.tensors, **tensors})
    assert -math.inf < session.evaluate(dataset).accuracy < -1e50


@pytest.mark.parametrize("name", ["velocity.head.weight", "head.bias", "optimizer.step"])
def test_whatever_a_step_changes_is_looked_at(models, numbers, name):
    session, _ = records_of(models / "momentum.tod", numbers, cycles=0)
    state, manifest = session.state, session.manifest
    assert guard.not_finite(manifest, state, 0.5) == ""
    assert guard.not_finite(manifest, state, math.nan) == "the loss"
    value = state.tensors[name]
    if value.dtype == np.float32:
        worse = value.copy()
        worse.flat[-1] = math.inf
        state = replace(state, tensors={**state.tensors, name: worse})
        assert guard.not_finite(manifest, state, 0.5).endswith(f" {name}")


def test_nothing_of_a_bad_step_stays(models, numbers):
    """Slots, the count of steps and half-filled accumulators are as in a new optimizer."""
    session = tod.TrainSession.load(models / "momentum.tod")
    session.match(tod.Dataset.open(numbers))
    run = tod.training.settings.settle(
        session.manifest, None, tod.Dataset.open(numbers), Settings()
    )[0]
    good = replace(session.state, run=run).keep_best(session.manifest)
    broken = {
        name: np.full_like(a, 7 if a.dtype == np.int64 else np.nan)
        for name, a in good.tensors.items()
    }
    back = guard.fall_back(session.manifest, replace(good, tensors=broken))
    assert {n: a.tolist() for n, a in back.tensors.items()} == {
        n: a.tolist() for n, a in good.tensors.items()
    }
    assert back.run.halvings == 1
    assert guard.rate(back.run) == guard.rate(run) / 2


def test_checkpoints_of_before_still_load(tiny, pictures):
    """They hold nothing to fall back on until something was evaluated."""
    records_of(tiny, pictures, cycles=2, save_every=2, output=tiny.with_name("x.tod"))
    checkpoint = read(tiny.with_name("x_trained_2.tod"))
    older = {n: a for n, a in checkpoint.state.items() if not n.startswith("best.")}
    assert len(older) < len(checkpoint.state)
    check_arrays(checkpoint.manifest, older, where="older")
    one = {**older, "best.head.bias": checkpoint.state["best.head.bias"]}
    with pytest.raises(tod.TodError, match=r"best\.head\.weight is missing"):
        check_arrays(checkpoint.manifest, one, where="half")


def test_a_picture_with_features_that_are_not_finite_is_named(tmp_path, pictures):
    """The model brings every picture to the same contrast, and forgot those that have none."""
    model = shutil.copy(FILES / "contrast.tod", tmp_path)
    data = shutil.copytree(pictures, tmp_path / "pictures")
    Image.new("RGB", (20, 20), (128, 128, 128)).save(data / "red" / "grey.png")
    session, records = records_of(model, data, cycles=3, eval_every=1)
    grey = data / "red" / "grey.png"
    assert session.store.unreadable == {grey: "its features are not finite numbers"}
    assert any(str(grey) in notice.text for notice in of(records, Notice))
    assert session.manifest.history[-1].halvings == 0
    assert sum(session.manifest.history[-1].pictures.values()) == 60
    # Nor does a later run find them in the cache.
    again, _ = records_of(model, data, cycles=1)
    assert list(again.store.unreadable) == [grey]
