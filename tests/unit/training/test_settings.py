"""What a run can be asked for beyond the defaults: schedules, accumulation, dropout, new classes,
closed-form heads, other answers than one class."""

import csv
import shutil

import numpy as np
import pytest

import tod
from tests.conftest import FILES, make_pictures, run
from tod.errors import DataError, Interrupted, UsageError
from tod.runtime.draws import uniform_noise
from tod.training.loop import train
from tod.training.records import CycleDone, Evaluated, Notice, OldClasses


def of(records, kind):
    return [record for record in records if isinstance(record, kind)]


@pytest.fixture(scope="module")
def deep_file(tmp_path_factory):
    """Dropout, BatchNorm in training, accumulation, Adam: whatever a state can hold."""
    return shutil.copy(FILES / "deep.tod", tmp_path_factory.mktemp("deep"))


def test_class_weights_make_classes_count_the_same(deep_file):
    session = tod.TrainSession.load(deep_file)
    session.bind(["a", "b", "c"])
    session.weigh_classes(np.array([0, 0, 0, 0, 1, 1, 2, 2]))
    assert session._class_weights == pytest.approx([8 / 12, 8 / 6, 8 / 6])


@pytest.mark.parametrize("cut", [1, 5])
def test_a_continued_run_is_bit_equal_with_everything_on(deep_file, pictures, tmp_path, cut):
    model = tmp_path / "deep.tod"
    shutil.copy(deep_file, model)
    settings = {
        "cycles": 8, "eval_every": 3, "target_accuracy": 1, "seed": 5,
        "schedule": "cosine:warmup=2",
    }  # fmt: skip
    data = tod.Dataset.open(pictures)
    whole = tod.TrainSession.load(model)
    lines = list(train(whole, data, **settings, output=tmp_path / "whole.tod"))
    calls = iter([False] * (30 + cut - 1) + [True])  # 60 pictures are 30 batches
    first = tod.TrainSession.load(model, cache=False)
    with pytest.raises(Interrupted):
        list(
            train(
                first, data, **settings, output=tmp_path / "first.tod",
                should_stop=lambda: next(calls),
            )
        )  # fmt: skip
    again = tod.TrainSession.load(tmp_path / f"first_trained_{cut}.tod")
    rest = list(train(again, data, cycles=8, output=tmp_path / "again.tod"))
    assert of(rest, CycleDone) == of(lines, CycleDone)[cut:]
    assert (tmp_path / "again.tod").read_bytes() == (tmp_path / "whole.tod").read_bytes()


def test_a_trained_deep_model_keeps_its_statistics(deep_file, pictures, tmp_path):
    session = tod.TrainSession.load(deep_file)
    data = tod.Dataset.open(pictures)
    before = tod.TrainSession.load(deep_file).artifact.state["backbone.1.running_mean"]
    records = list(train(session, data, cycles=30, target_accuracy=1, output=tmp_path / "out.tod"))
    trained = tod.TrainSession.load(tmp_path / "out.tod")
    assert not np.array_equal(trained.state.tensors["backbone.1.running_mean"], before)
    assert trained.evaluate(data).accuracy == of(records, Evaluated)[-1].accuracy
    assert of(records, Evaluated)[-1].accuracy > 0.6


def test_threads_do_not_change_a_bit(deep_file, pictures):
    data = tod.Dataset.open(pictures)
    states = []
    for threads in (1, 2):
        session = tod.TrainSession.load(deep_file, threads=threads)
        list(train(session, data, cycles=4, eval_every=0))
        states.append(session.state.tensors)
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_noise_is_uniform_and_depends_on_everything():
    whole = uniform_noise(seed=1, cycle=2, batch=0, index=0, shape=(1000, 8))
    assert whole.dtype == np.float32
    assert 0 <= whole.min() < 0.001 < 0.999 < whole.max() < 1
    assert whole.mean() == pytest.approx(0.5, abs=0.01)
    base = {"seed": 1, "cycle": 2, "batch": 0, "index": 0, "shape": (1000, 8)}
    assert np.array_equal(uniform_noise(**base), whole)
    for name in ("seed", "cycle", "batch", "index"):
        other = uniform_noise(**base | {name: 7})
        assert abs(np.corrcoef(other.ravel(), whole.ravel())[0, 1]) < 0.05, name


def test_the_schedule_moves_the_rate(tiny, pictures):
    """With a floor of 0 the last steps of a line hardly move anything."""
    data = tod.Dataset.open(pictures)
    session = tod.TrainSession.load(tiny)
    rates = []
    honest = session.next_state

    def spy(batches, *, lr, **more):
        rates.append(lr)
        return honest(batches, lr=lr, **more)

    session.next_state = spy
    list(train(session, data, cycles=10, eval_every=0, lr=0.5, schedule="linear:warmup=4"))
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5 * 5 / 6, 0.5 * 4 / 6, 0.25, 0.5 / 3,
                                   0.5 / 6])  # fmt: skip
    assert session.manifest.history[-1].schedule == "linear:warmup=4"


def test_a_model_without_accumulators_says_so(tiny, pictures):
    session = tod.TrainSession.load(tiny)
    with pytest.raises(UsageError, match="cannot add up batches"):
        list(train(session, tod.Dataset.open(pictures), accumulate=2))


# New classes


def test_old_rows_and_slots_stay_and_new_ones_follow_the_rule(tiny, pictures, tmp_path):
    data = tod.Dataset.open(pictures)
    session = tod.TrainSession.load(tiny, cache=False)
    calls = iter([False] * 34 + [True])
    with pytest.raises(Interrupted):
        list(train(session, data, cycles=40, target_accuracy=1, output=tiny.with_name("t.tod"),
                   should_stop=lambda: next(calls)))  # fmt: skip
    (checkpoint,) = tiny.parent.glob("t_trained_*.tod")
    session = tod.TrainSession.load(checkpoint)
    before = dict(session.state.tensors)
    session.add_classes(["yellow", "pink"], seed=3)
    after = session.state.tensors
    assert session.classes == ("blue", "green", "red", "yellow", "pink")
    for name in ("head.weight", "head.bias", "velocity.head.weight", "velocity.head.bias"):
        assert np.array_equal(after[name][:3], before[name]), name
        assert len(after[name]) == 5
    assert after["optimizer.step"] == before["optimizer.step"] > 0
    assert not after["velocity.head.weight"][3:].any()
    assert not after["head.bias"][3:].any()
    assert after["head.weight"][3:].std() == pytest.approx(0.01, rel=0.8)
    with pytest.raises(UsageError, match="knows these classes already: red"):
        session.add_classes(["red"])
    session.save(tmp_path / "five.tod")
    assert tod.TrainSession.load(tmp_path / "five.tod").classes == session.classes


def test_new_folders_become_classes(tiny, pictures, tmp_path):
    trained = tmp_path / "three.tod"
    run("net_runner", "-f", tiny, "-d", pictures, "-c", "30", "-o", trained, check=True)
    more = tmp_path / "more"
    shutil.copytree(pictures, more)
    grey = make_pictures(tmp_path / "other", noise=20) / "red"
    shutil.copytree(grey, more / "crimson")
    refused = run("net_runner", "-f", trained, "-d", more, "-c", "10")
    assert refused.returncode == 3
    assert "unknown to the model: crimson" in refused.stderr
    done = run("net_runner", "-f", trained, "-d", more, "-c", "40", "--add-classes", "-o",
               tmp_path / "four.tod")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "new classes: crimson" in done.stderr
    assert "validation pictures of the old classes: " in done.stdout
    four = tod.TrainSession.load(tmp_path / "four.tod")
    assert four.classes == ("blue", "green", "red", "crimson")
    again = run("net_runner", "-f", tmp_path / "four.tod", "-d", more, "--add-classes", "-c", "1")
    assert "no class that the model does not know" in again.stderr
    shutil.rmtree(more / "blue")
    shutil.copytree(grey, more / "dark")
    missing = run("net_runner", "-f", trained, "-d", more, "-c", "1", "--add-classes")
    assert missing.returncode == 3
    assert "the model's own classes are missing: blue" in missing.stderr


def test_the_accuracy_of_old_classes_is_that_of_the_old_model(tiny, pictures, tmp_path):
    data = tod.Dataset.open(pictures)
    session = tod.TrainSession.load(tiny)
    list(train(session, data, cycles=30, output=tmp_path / "three.tod"))
    wanted = session.evaluate(data).accuracy
    more = tmp_path / "more"
    shutil.copytree(pictures, more)
    shutil.copytree(make_pictures(tmp_path / "other", noise=20) / "red", more / "crimson")
    session = tod.TrainSession.load(tmp_path / "three.tod")
    records = list(train(session, tod.Dataset.open(more), cycles=5, add_classes=True))
    (old,) = of(records, OldClasses)
    assert (old.before, old.pictures) == (wanted, 12)


# Closed form


@pytest.mark.parametrize("kind", ["imprint", "ridge"])
def test_a_closed_form_head_is_the_floor(tiny, pictures, tmp_path, kind):
    data = tod.Dataset.open(pictures)
    session = tod.TrainSession.load(tiny)
    untrained = session.evaluate(data).accuracy
    records = list(train(session, data, cycles=20, eval_every=5, lr=5.0, init=kind))
    scores = of(records, Evaluated)
    assert (scores[0].split, scores[0].cycle) == ("test", 0)
    assert scores[0].accuracy > untrained
    # A rate that ruins the head: what is kept is at least as good as the start.
    assert max(score.accuracy for score in scores if score.split == "test") >= scores[0].accuracy


def test_the_command_sets_a_head_without_a_cycle(tiny, pictures):
    done = run("net_runner", "-f", tiny, "-d", pictures, "--init", "ridge")
    assert done.returncode == 0, done.stderr
    accuracy = float(done.stdout.splitlines()[-1].split("=")[1])
    assert accuracy > 0.8
    assert tod.TrainSession.load(tiny.with_name("tiny_trained.tod")).evaluate(
        tod.Dataset.open(pictures)
    ).accuracy == pytest.approx(accuracy)


def test_a_deep_head_has_no_closed_form(deep_file, pictures):
    session = tod.TrainSession.load(deep_file)
    with pytest.raises(UsageError, match="--init ridge needs a linear head on cached features"):
        list(train(session, tod.Dataset.open(pictures), init="ridge"))


# Numbers and several classes


def with_targets(pictures, folder, columns, rule):
    """A folder with targets.csv: `rule` gives the numbers of a picture of a colour."""
    lines = []
    for colour in ("blue", "green", "red"):
        for file in sorted((pictures / colour).iterdir()):
            shutil.copy(file, folder / f"{colour}_{file.name}")
            lines.append([f"{colour}_{file.name}", *rule(colour)])
    with open(folder / "targets.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([["file", *columns], *lines])
    return folder


def test_numbers_are_learnt(pictures, tmp_path):
    redness = {"blue": 0.2, "green": 0.5, "red": 1.0}
    folder = tmp_path / "data"
    folder.mkdir()
    with_targets(pictures, folder, ["redness", "half"], lambda c: (redness[c], redness[c] / 2))
    model = shutil.copy(FILES / "numbers.tod", tmp_path / "n.tod")
    done = run("net_runner", "-f", model, "-d", folder, "-c", "200", "-b", "16")
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("R2 on validation data = ")
    assert float(last.split("=")[1]) > 0.5
    session = tod.TrainSession.load(tmp_path / "n_trained.tod")
    assert session.classes == ("redness", "half")
    values = session.predict([folder / "red_0.png", folder / "blue_0.png"])
    assert values[0, 0] > values[1, 0] + 0.2
    shown = run("tod", "predict", "-f", tmp_path / "n_trained.tod", folder / "red_0.png")
    assert "redness" in shown.stdout
    assert "%" not in shown.stdout
    inference = tmp_path / "n.onnx"
    run("tod", "eval", "-f", tmp_path / "n_trained.tod", "-d", folder, "-i", inference, check=True)
    import onnxruntime

    graph = onnxruntime.InferenceSession(inference)
    assert [output.name for output in graph.get_outputs()] == ["values"]


def test_several_classes_per_picture(pictures, tmp_path):
    """From targets.csv, and from class folders with the same picture in two of them."""
    folder = tmp_path / "data"
    folder.mkdir()
    with_targets(pictures, folder, ["warm", "cold"], lambda c: (c != "blue", c != "red"))
    model = shutil.copy(FILES / "several_classes.tod", tmp_path / "s.tod")
    folder_text = (folder / "targets.csv").read_text()
    (folder / "targets.csv").write_text(folder_text.replace("True", "1").replace("False", "0"))
    done = run("net_runner", "-f", model, "-d", folder, "-c", "100", "-b", "16")
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1].split("=")[1]) > 0.75
    tree = tmp_path / "tree"
    for name, colours in {"warm": ("red", "green"), "cold": ("blue", "green")}.items():
        (tree / name).mkdir(parents=True)
        for colour in colours:
            for file in (pictures / colour).iterdir():
                shutil.copy(file, tree / name / f"{colour}_{file.name}")
    data = tod.Dataset.open(tree).with_targets()
    assert len(data.samples) == 60
    assert sorted({sample.targets for sample in data.samples}) == [(0, 1), (1, 0), (1, 1)]
    session = tod.TrainSession.load(model)
    list(train(session, tod.Dataset.open(tree), cycles=100, batch_size=16))
    score = session.evaluate(tod.Dataset.open(tree))
    assert score.total == 2 * score.pictures
    assert score.accuracy > 0.75
    assert set(score.by_class) == {"warm", "cold"}


def test_answers_that_do_not_fit_the_loss(tiny, pictures, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    with_targets(pictures, folder, ["x"], lambda c: (1,))
    with pytest.raises(DataError, match=r"its labels are numbers \(targets.csv\)"):
        list(train(tod.TrainSession.load(tiny), tod.Dataset.open(folder)))
    with pytest.raises(DataError, match="its labels are classes"):
        list(train(tod.TrainSession.load(FILES / "numbers.tod"), tod.Dataset.open(pictures)))


def test_bad_lines_of_targets_are_named_and_the_rest_is_used(pictures, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    with_targets(pictures, folder, ["x"], lambda c: (1.5,))
    with open(folder / "targets.csv", "a") as stream:
        stream.write("nothere.png,1\nred_0.png,one\nred_1.png\n../x.png,2\nred_2.png,nan\n\n")
    data = tod.Dataset.open(folder)
    assert len(data.samples) == 60
    text = "\n".join(data.notices)
    for trace in ("nothere.png was passed over", "line 63", "line 64", "line 65", "line 66"):
        assert trace in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line is []"),
        ("picture,x\n", "wanted file and then a name"),
        ("file\n", "wanted file and then a name"),
        ("file,x,x\n", "wanted file and then a name"),
        ("file,x\na.png,1\n", "0 different pictures can be read"),
        ('file,x\n"a', "not a readable CSV"),
    ],
)
def test_targets_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "targets.csv").write_text(text)
    with pytest.raises(DataError) as error:
        tod.Dataset.open(tmp_path)
    assert message in str(error.value)


def test_notices_say_that_nothing_new_was_found(tiny, pictures):
    session = tod.TrainSession.load(tiny)
    data = tod.Dataset.open(pictures)
    session.match(data)
    records = list(train(session, data, cycles=1, add_classes=True))
    assert Notice("the data has no class that the model does not know") in records
