"""The loop: what it yields, when it stops, what it keeps, and how it continues."""

import io
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import tod
from dataset_tools.prepare import prepare
from dataset_tools.sources import class_folders
from tod.data.image import decode, encode
from tod.errors import DataError, Interrupted, PictureError, TrainingError, UsageError
from tod.format.artifact import read
from tod.training.evaluation import evaluate
from tod.training.loop import finished, train
from tod.training.records import CycleDone, Evaluated, FeaturesDone, Notice, Saved, Started, Stopped


def finish(model, data, **settings):
    """A whole run; its session and its records."""
    session = tod.TrainSession.load(model, cache=False)
    seed = settings.get("seed") or session.split_seed or 0
    records = list(train(session, tod.Dataset.open(data, seed=seed), **settings))
    return session, records


def of(records, kind):
    return [record for record in records if isinstance(record, kind)]


def bytes_of(state):
    return {name: array.tobytes() for name, array in state.tensors.items()}


def test_the_records_of_a_run(tiny, pictures):
    output = tiny.with_name("out.tod")
    _, records = finish(
        tiny, pictures, cycles=25, eval_every=10, target_accuracy=1, save_every=10, output=output
    )
    started = records[0]
    assert isinstance(started, Started)
    assert started.classes == ("blue", "green", "red")
    assert started.pictures == {"train": 36, "test": 12, "validation": 12}
    assert started.trainable_parameters == 3 * 8 + 3
    assert of(records, FeaturesDone)[-1] == FeaturesDone(60, 60)
    cycles = of(records, CycleDone)
    assert [r.cycle for r in cycles] == list(range(1, 26))
    assert [r.min_loss for r in cycles] == [min(r.loss for r in cycles[: i + 1]) for i in range(25)]
    assert cycles[-1].loss < cycles[0].loss
    tests = [r for r in of(records, Evaluated) if r.split == "test"]
    assert [(r.cycle, r.total) for r in tests] == [(10, 12), (20, 12)]
    saved = of(records, Saved)
    assert [(r.kind, r.cycle) for r in saved[:2]] == [("checkpoint", 10), ("checkpoint", 20)]
    assert records[-1] == Saved("model", str(output), of(records, Stopped)[0].kept_cycle)
    assert read(output).manifest.history[0].cycles == 25


def notices(records):
    return [record.text for record in of(records, Notice)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch_size": 37}, ("a batch of 37 (--batch-size) is more than the 36 pictures",)),
        ({"batch_size": 36}, ()),
        (
            {"save_every": 3},
            ("no checkpoint comes", "every 3 cycles (--save-every), and the run has 2"),
        ),
        ({"save_every": 2}, ()),
        ({"eval_every": 3}, ("no evaluation on the test split comes", "(--eval-every)")),
        ({}, ()),  # the default of 20 was not asked for
        ({"lr": 1e4, "cycles": 3}, ("the loss is ", "it began at 1.", "try a smaller one")),
    ],
)
def test_what_was_hardly_meant_is_said(tiny, pictures, settings, words):
    _, records = finish(tiny, pictures, **{"cycles": 2} | settings)
    told = notices(records)
    assert len(told) == bool(words)
    assert all(word in told[0] for word in words)


def test_accuracy_counts_every_picture(tiny, pictures):
    """12 validation pictures in batches of 8: the rest of 4 counts, and is right by hand."""
    session = tod.TrainSession.load(tiny)
    dataset = tod.Dataset.open(pictures)
    score = session.evaluate(dataset)
    validation = dataset.split("validation")
    files = [str(dataset.root / sample.path) for sample in validation]
    right = session.predict(files).argmax(1) == [sample.label for sample in validation]
    assert (score.correct, score.total) == (right.sum(), 12)
    labels = [sample.label for sample in validation]
    for label, name in enumerate(session.classes):
        of_class = [hit for hit, own in zip(right, labels, strict=True) if own == label]
        assert score.by_class[name] == sum(of_class) / len(of_class)
    assert list(evaluate(session, dataset))[-1].accuracy == score.accuracy


def test_reloaded_model_has_the_accuracy_of_the_run(tiny, pictures):
    output = tiny.with_name("out.tod")
    session, records = finish(tiny, pictures, cycles=40, seed=3, output=output)
    final = of(records, Evaluated)[-1]
    again = tod.TrainSession.load(output)
    assert again.split_seed == 3
    score = again.evaluate(tod.Dataset.open(pictures, seed=again.split_seed))
    assert score.accuracy == final.accuracy
    assert bytes_of(again.state) == bytes_of(session.state)


def test_stops_above_the_target_only(tiny, pictures):
    _, records = finish(tiny, pictures, cycles=200, eval_every=5, target_accuracy=0.8)
    stopped = of(records, Stopped)[0]
    tests = [r for r in of(records, Evaluated) if r.split == "test"]
    assert stopped.reason == "target"
    assert tests[-1].accuracy > 0.8
    assert all(r.accuracy <= 0.8 for r in tests[:-1])
    _, records = finish(tiny, pictures, cycles=20, eval_every=5, target_accuracy=1.0)
    assert of(records, Stopped)[0].reason == "cycles"


def test_patience(tiny, pictures):
    """With a learning rate of almost nothing the accuracy cannot rise."""
    _, records = finish(
        tiny, pictures, cycles=100, eval_every=2, patience=3, lr=1e-12, target_accuracy=1
    )
    assert of(records, Stopped)[0].reason == "patience"
    # the first evaluation is a rise from nothing, three more are not
    assert of(records, CycleDone)[-1].cycle == 8


def test_the_best_state_is_kept_and_of_equals_the_later(tiny, pictures, monkeypatch):
    accuracies = iter([0.5, 0.75, 0.75, 0.25])
    session = tod.TrainSession.load(tiny)
    honest = session.score
    states = []

    def score(features, labels, split):
        result = honest(features, labels, split)
        if split != "test":
            return result
        states.append(bytes_of(session.state))
        return replace(result, accuracy=next(accuracies))

    monkeypatch.setattr(session, "score", score)
    dataset = tod.Dataset.open(pictures)
    records = list(train(session, dataset, cycles=8, eval_every=2, target_accuracy=1))
    assert of(records, Stopped) == [Stopped("cycles", 8, 6)]
    kept = bytes_of(session.state)
    assert kept["head.weight"] == states[2]["head.weight"] != states[1]["head.weight"]


def test_without_an_evaluation_the_last_state_is_kept(tiny, pictures):
    _, records = finish(tiny, pictures, cycles=7, eval_every=20)
    assert of(records, Stopped) == [Stopped("cycles", 7, 7)]


@pytest.mark.parametrize("cut", [3, 10, 12])
def test_a_continued_run_is_bit_equal(tiny, pictures, cut):
    """Losses, accuracies, saved bytes: as if it had never stopped."""
    settings = {"cycles": 24, "eval_every": 5, "target_accuracy": 1, "seed": 5}
    _, whole = finish(tiny, pictures, **settings, output=tiny.with_name("whole.tod"))
    calls = iter([False] * 30 + [False] * (cut - 1) + [True])  # 60 pictures are 30 batches
    with pytest.raises(Interrupted):
        finish(
            tiny,
            pictures,
            **settings,
            output=tiny.with_name("x.tod"),
            should_stop=lambda: next(calls),
        )
    checkpoint = tiny.with_name(f"x_trained_{cut}.tod")
    _, rest = finish(checkpoint, pictures, output=tiny.with_name("parts.tod"))
    assert rest[0].first_cycle == cut + 1
    assert of(rest, CycleDone) == of(whole, CycleDone)[cut:]
    assert of(rest, Evaluated) == [
        r for r in of(whole, Evaluated) if r.cycle > cut or r.split != "test"
    ]
    assert tiny.with_name("parts.tod").read_bytes() == tiny.with_name("whole.tod").read_bytes()


def test_a_run_that_had_ended_stays_ended(tiny, pictures):
    output = tiny.with_name("out.tod")
    settings = {"cycles": 200, "eval_every": 5, "target_accuracy": 0.5, "save_every": 5}
    _, whole = finish(tiny, pictures, **settings, output=output)
    cycle = of(whole, Stopped)[0].cycle
    before = output.read_bytes()
    _, again = finish(tiny.with_name(f"out_trained_{cycle}.tod"), pictures, output=output)
    assert of(again, CycleDone) == []
    assert output.read_bytes() == before


def test_other_settings_for_a_checkpoint_are_said(tiny, pictures):
    finish(tiny, pictures, cycles=4, save_every=4, output=tiny.with_name("x.tod"))
    checkpoint = tiny.with_name("x_trained_4.tod")
    _, records = finish(checkpoint, pictures, cycles=8, lr=0.5)
    assert of(records, CycleDone)[0].cycle == 5
    assert any("lr 0.1 -> 0.5" in notice.text for notice in of(records, Notice))


def test_same_seed_same_bytes_other_seed_other_bytes(tiny, pictures):
    outputs = [tiny.with_name(f"{i}.tod") for i in range(3)]
    for output, seed in zip(outputs, (1, 1, 2), strict=True):
        finish(tiny, pictures, cycles=5, seed=seed, output=output)
    assert outputs[0].read_bytes() == outputs[1].read_bytes() != outputs[2].read_bytes()


def test_a_loss_that_is_not_finite_keeps_the_last_good_state(tiny, pictures):
    session = tod.TrainSession.load(tiny)
    records = []
    with pytest.raises(TrainingError, match="not finite") as caught:
        records.extend(
            train(
                session, tod.Dataset.open(pictures), cycles=60, lr=3e38,
                output=tiny.with_name("x.tod"),
            )
        )  # fmt: skip
    assert caught.value.exit_code == 6
    assert "--lr" in caught.value.hint
    assert all(np.isfinite(array).all() for array in session.state.tensors.values())
    kept = read(tiny.with_name(f"x_trained_{session.run.cycle}.tod"))
    assert all(np.isfinite(array).all() for array in kept.state.values())


def test_impossible_settings_are_named_together(tiny, pictures):
    with pytest.raises(UsageError) as caught:
        finish(tiny, pictures, cycles=-1, lr=0.0, batch_size=0, target_accuracy=2)
    for name in ("cycles is -1", "lr is 0,", "batch_size is 0", "target_accuracy is 2"):
        assert name in caught.value.problem


def test_unreadable_pictures_are_named_and_left_out(tiny, pictures, tmp_path):
    from tests.conftest import make_pictures

    tree = make_pictures(tmp_path / "damaged")
    (tree / "red" / "3.png").write_bytes(b"rotten")
    (tree / "red" / "notes.txt").write_text("not a picture")
    _, records = finish(tiny, tree, cycles=1)
    notices = [notice.text for notice in of(records, Notice)]
    assert any("3.png was passed over: not a picture (a text file)" in n for n in notices)
    assert any("notes.txt was passed over: not a picture (a text file)" in n for n in notices)


@pytest.mark.parametrize(("left", "message"), [
    (0, r"too small: red \(0\); left out were 20 of red, e.g. red/0.png: its content has changed"),
    (4, r"too small: red \(4\); left out were 16 of red"),
    ("train", r"no picture of red is left to train with; left out were 12 of red"),
])  # fmt: skip
def test_a_class_that_is_lost_after_opening(tiny, pictures, tmp_path, left, message):
    """Its pictures change between opening the folder and looking at them."""
    tree = shutil.copytree(pictures, tmp_path / "tree")
    dataset = tod.Dataset.open(tree, cache=False)
    red = [s for s in dataset.samples if dataset.classes[s.label] == "red"]
    gone = [s for s in red if s.split == "train"] if left == "train" else red[left:]
    for number, sample in enumerate(gone):
        (tree / sample.path).write_bytes(b"rotten %d" % number)
    with pytest.raises(DataError, match=message):
        list(train(tod.TrainSession.load(tiny, cache=False), dataset, cycles=1))


def test_a_prepared_class_that_is_damaged(tiny, pictures, tmp_path):
    """Pictures of a prepared dataset are looked at by the one pass alone."""
    prepare(class_folders(pictures), tmp_path / "out", size_px=16)
    for file in (tmp_path / "out" / "green").iterdir():
        file.write_bytes(b"version https://git-lfs.github.com/spec/v1" + file.name.encode())
    with pytest.raises(DataError, match=r"too small: green \(0\); left out were 20 of green"):
        finish(tiny, tmp_path / "out", cycles=1)


def test_a_split_without_a_readable_picture(tiny, tmp_path):
    from tests.conftest import make_pictures

    tree = make_pictures(tmp_path / "rotten", per_class=5)
    for index, file in enumerate(sorted(tree.rglob("*.png"))):
        file.write_bytes(b"rotten %d" % index)
    with pytest.raises(DataError, match=r"too small: blue \(0\), green \(0\), red \(0\)"):
        finish(tiny, tree, cycles=1)


def test_classes_are_matched_by_name(tiny, pictures, tmp_path):
    """A folder more or less shifts the numbers of the classes; the names decide."""
    output = tiny.with_name("out.tod")
    finish(tiny, pictures, cycles=30, output=output)
    from tests.conftest import make_pictures

    other = make_pictures(tmp_path / "other")
    (other / "red").rename(other / "a_new_class")
    with pytest.raises(DataError) as caught:
        tod.TrainSession.load(output).evaluate(tod.Dataset.open(other))
    assert "missing from the data: red; unknown to the model: a_new_class" in caught.value.problem


def test_a_picture_goes_through_the_backbone_once(tiny, pictures, monkeypatch):
    session = tod.TrainSession.load(tiny, cache=False)
    seen = []
    honest = session.engine.features
    monkeypatch.setattr(session.engine, "features", lambda x: seen.append(len(x)) or honest(x))
    dataset = tod.Dataset.open(pictures)
    session.evaluate(dataset)
    list(train(session, dataset, cycles=50))
    session.evaluate(dataset)
    assert sum(seen) == 60


def test_finished_is_a_function_of_the_run():
    from tests.unit.format.test_artifact import RUN

    assert finished(RUN) is None
    assert finished(replace(RUN, cycle=2)) == "cycles"
    assert finished(replace(RUN, target_accuracy=0.9, best_accuracy=0.9)) is None
    assert finished(replace(RUN, target_accuracy=0.9, best_accuracy=0.91)) == "target"
    assert finished(replace(RUN, patience=2, stale=2)) == "patience"


def test_other_file_names_make_no_other_batches(tiny, pictures, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(pictures, copy)
    for file in copy.rglob("1*.png"):
        file.rename(file.with_name(f"z{file.name}"))
    assert of(finish(tiny, copy, cycles=9)[1], CycleDone) == of(
        finish(tiny, pictures, cycles=9)[1], CycleDone
    )


def test_the_head_has_the_seed_of_the_run_even_after_an_evaluation(tiny, pictures):
    """As in the README: evaluate first, which makes a head, then train with a seed."""
    dataset = tod.Dataset.open(pictures)
    session = tod.TrainSession.load(tiny)
    session.evaluate(dataset)
    records = list(train(session, dataset, cycles=3, seed=7))
    fresh = list(train(tod.TrainSession.load(tiny), dataset, cycles=3, seed=7))
    assert of(records, CycleDone) == of(fresh, CycleDone)


def test_a_lost_copy_of_a_picture_does_not_take_its_twin_along(tiny, tmp_path):
    from tests.conftest import make_pictures

    tree = make_pictures(tmp_path / "tree")
    shutil.copy(tree / "red" / "0.png", tree / "red" / "a twin.png")
    dataset = tod.Dataset.open(tree)
    (tree / "red" / "0.png").unlink()
    session = tod.TrainSession.load(tiny)
    assert sum(session.evaluate(dataset, s).total for s in ("train", "test", "validation")) == 61
    (tree / "red" / "a twin.png").unlink()
    session = tod.TrainSession.load(tiny)
    assert sum(session.evaluate(dataset, s).total for s in ("train", "test", "validation")) == 59


@pytest.mark.parametrize(
    ("pictures_given", "message"),
    [
        (np.zeros((1, 16, 16, 3), np.float32), r"the picture is an array float32 \[16, 16, 3\]"),
        (np.zeros((2, 4, 8, 8), np.uint8), r"picture 0 is an array uint8 \[4, 8, 8\]"),
        (["a.png", 3], "picture 1 is of the type int"),
        (None, "the picture is of the type NoneType"),
        ([], "no picture was given"),
    ],
)
def test_what_predict_refuses(tiny, pictures_given, message):
    session = tod.TrainSession.load(tiny)
    session.bind(["a", "b"])
    with pytest.raises(UsageError, match=message):
        session.predict(pictures_given)


def test_predict_takes_whatever_a_program_has(tiny, pictures):
    """One picture in eleven forms, and lists of them: the same answer to the bit."""
    session = tod.TrainSession.load(tiny)
    session.bind(["a", "b"])
    path = pictures / "red" / "0.png"
    pixels = decode(path.read_bytes())
    wanted = session.predict([path])
    assert wanted.shape == (1, 2)
    with Image.open(path) as opened:
        forms = [
            path, str(path), path.read_bytes(), bytearray(path.read_bytes()),
            memoryview(path.read_bytes()), opened, Image.fromarray(pixels), pixels, pixels[None],
            pixels[:, ::-1][:, ::-1], (path,),
        ]  # fmt: skip
        for form in forms:
            assert np.array_equal(session.predict(form), wanted)
        several = session.predict([*forms[:-3], path])
    assert np.array_equal(several, np.repeat(wanted, len(several), axis=0))


@pytest.mark.parametrize("shape", [(3, 3), (40, 30), (16, 16), (5, 64)])
def test_an_array_of_any_size_is_brought_to_size_as_its_file_is(tiny, shape):
    session = tod.TrainSession.load(tiny)
    session.bind(["a", "b"])
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    file = encode(pixels, "png")
    assert np.array_equal(session.predict(pixels), session.predict(file))


def test_a_pillow_image_is_turned_and_converted_as_its_file_is(tiny, tmp_path):
    session = tod.TrainSession.load(tiny)
    session.bind(["a", "b"])
    grey = Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30), "L")
    exif = Image.Exif()
    exif[0x0112] = 6
    grey.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        before = image.size
        assert np.array_equal(session.predict(image), session.predict(tmp_path / "turned.png"))
        assert image.size == before


def test_a_picture_that_cannot_be_read_is_named_by_its_place(tiny, pictures):
    session = tod.TrainSession.load(tiny)
    session.bind(["a", "b"])
    good = pictures / "red" / "0.png"
    half = Image.open(io.BytesIO(good.read_bytes()[:60]))
    for bad, words in (
        (b"hello", "picture 1: not a picture"),
        (half, "picture 1: it cannot be decoded"),
        (np.zeros((0, 5, 3), np.uint8), "picture 1: it has no pixels"),
        (good.with_name("none.png"), "none.png: cannot be read: No such file"),
    ):
        with pytest.raises(PictureError, match=words):
            session.predict([good, bad])


def test_evaluate_takes_a_folder_and_says_what_it_takes(tiny, pictures):
    session = tod.TrainSession.load(tiny)
    session.bind(["blue", "green", "red"])
    assert session.evaluate(str(pictures)) == session.evaluate(tod.Dataset.open(pictures))
    with pytest.raises(UsageError, match=r"the data are of the type list, wanted a tod.Dataset"):
        session.evaluate([pictures])
    with pytest.raises(UsageError, match="the data are of the type int"):
        tod.train(session, 3, cycles=1).run()
    with pytest.raises(UsageError, match="split is 'val', wanted one of train, test, validation"):
        session.evaluate(pictures, "val")


def test_a_checkpoint_needs_a_run(tiny):
    session = tod.TrainSession.load(tiny)
    session.bind(["a", "b"])
    with pytest.raises(UsageError, match="no training run is under way"):
        session.save_checkpoint(tiny.with_name("x.tod"))


def test_session_by_hand(tiny, pictures):
    """MindSpore Lite's way: step after step, then save."""
    session = tod.TrainSession.load(tiny)
    dataset = tod.Dataset.open(pictures)
    session.bind(dataset.classes)
    samples = dataset.split("train")[::4]
    files, labels = [dataset.root / s.path for s in samples], [s.label for s in samples]
    losses = [session.step(files, labels) for _ in range(30)]
    assert losses[-1] < losses[0]
    with pytest.raises(UsageError, match="class index below 3"):
        session.step(files, [9] * len(files))
    session.save(tiny.with_name("mine.tod"))
    probabilities = session.predict(files)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    again = tod.TrainSession.load(tiny.with_name("mine.tod"))
    assert np.array_equal(again.predict(files), probabilities)


def test_open_classes_are_an_error_that_helps(tiny):
    with pytest.raises(UsageError, match="it is not trained yet") as caught:
        tod.TrainSession.load(tiny).predict(np.zeros((1, 16, 16, 3), np.uint8))
    assert "session.bind" in caught.value.hint


def test_a_run_that_could_not_be_saved_does_not_begin(tiny, pictures):
    """A seed that is no number of JSON was noticed when the trained model was to be written."""
    session = tod.TrainSession.load(tiny, cache=False)
    dataset = tod.Dataset.open(pictures, cache=False)
    with pytest.raises(UsageError, match=r"could not be saved: run.seed is 9007199254740993"):
        next(tod.train(session, dataset, cycles=2, seed=(1 << 53) + 1))
