"""A served model is replaced only by a better one, whole, and every earlier one can come back."""

import json
import resource
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from PIL import Image

import tod
from tests.conftest import FILES, ROOT, make_pictures, run
from tod.cli.promote import describe_generations
from tod.cli.promote import promote as promote_command
from tod.errors import ArtifactError, DataError, NotPromoted, UsageError
from tod.format.generations import Event, Scores, look
from tod.promotion.promote import promote, rollback
from tod.training.records import Notice, Promoted, RolledBack


@pytest.fixture(scope="module")
def models(tiny_file, tmp_path_factory, pictures):
    """Three whole models of the tiny network, each better than the one before."""
    folder = tmp_path_factory.mktemp("models")
    dataset = tod.Dataset.open(pictures)
    paths = [folder / name for name in ("bad.tod", "fair.tod", "good.tod")]
    session = tod.TrainSession.load(tiny_file)
    settings = {"cycles": 2, "save_every": 1, "target_accuracy": 1}
    list(tod.train(session, dataset, init="ridge", output=paths[2], **settings))
    accuracies = [session.evaluate(dataset).accuracy]
    for path, silent in ((paths[1], [2]), (paths[0], [1, 2])):
        bias = session.state.tensors["head.bias"].copy()
        bias[silent] = -1e3  # these classes are never the answer
        tensors = {**session.state.tensors, "head.bias": bias}
        session.state = replace(session.state, tensors=tensors)
        session.save(path)
        accuracies.append(session.evaluate(dataset).accuracy)
    assert accuracies == [1, 2 / 3, 1 / 3]
    return paths


@pytest.fixture
def served(tmp_path):
    return tmp_path / "served.tod"


def of(records, kind):
    return [record for record in records if isinstance(record, kind)]


def generations(served):
    """Numbers of what is kept, and which of them serves."""
    shelf = look(served)
    return sorted(shelf.kept), shelf.generation


def test_only_a_better_model_takes_the_place(models, served, pictures):
    bad, fair, good = models
    (first,) = of(promote(fair, served, pictures), Promoted)
    assert (first.generation, first.served_accuracy, first.total) == (1, None, 12)
    assert served.read_bytes() == fair.read_bytes()
    for model in (bad, fair):
        with pytest.raises(NotPromoted) as refused:
            list(promote(model, served, pictures))
        assert str(model) in refused.value.problem
        assert "of 12)" in refused.value.problem
    assert served.read_bytes() == fair.read_bytes()
    assert generations(served) == ([1], 1)
    (second,) = of(promote(good, served, pictures), Promoted)
    assert (second.generation, second.served_accuracy) == (2, first.accuracy)
    assert served.read_bytes() == good.read_bytes()
    event = look(served).events[-1]
    assert event.source == str(good)
    assert event.scores.data_sha256 == tod.Dataset.open(pictures).digest()
    assert (event.scores.accuracy, event.scores.total) == (second.accuracy, 12)
    assert event.scores.correct / 12 == second.accuracy
    assert event.scores.served_correct / 12 == first.accuracy


def test_a_margin_has_to_be_passed(models, served, pictures):
    _, fair, good = models
    (first,) = of(promote(fair, served, pictures), Promoted)
    better = tod.TrainSession.load(good).evaluate(tod.Dataset.open(pictures)).accuracy
    gain = better - first.accuracy
    with pytest.raises(NotPromoted, match="more than that and"):
        list(promote(good, served, pictures, margin=gain + 0.01))
    assert of(promote(good, served, pictures, margin=gain - 0.01), Promoted)
    for wrong, said in (
        ({"margin": -0.1}, "margin is -0.1, wanted 0 to below 1"),
        ({"margin": float("nan")}, "margin is nan, wanted 0 to below 1"),
        ({"keep": 0}, "keep is 0, wanted at least 1"),
    ):
        with pytest.raises(UsageError) as caught:
            list(promote(good, served, pictures, **wrong))
        assert caught.value.problem == said


def test_back_and_further_back_and_forth_again(models, served, pictures):
    for model in models:
        list(promote(model, served, pictures))
    assert list(rollback(served)) == [RolledBack(str(served), 2, 3)]
    assert served.read_bytes() == models[1].read_bytes()
    assert list(rollback(served)) == [RolledBack(str(served), 1, 2)]
    assert served.read_bytes() == models[0].read_bytes()
    with pytest.raises(ArtifactError, match="no earlier generation"):
        list(rollback(served))
    assert list(rollback(served, to=3)) == [RolledBack(str(served), 3, 1)]
    assert served.read_bytes() == models[2].read_bytes()
    assert list(rollback(served)) == [RolledBack(str(served), 2, 3)]
    with pytest.raises(UsageError, match="generation 2 is what is served already"):
        list(rollback(served, to=2))
    with pytest.raises(ArtifactError, match="generation 7 is not kept"):
        list(rollback(served, to=7))


def test_so_many_generations_stay_first_those_that_came_before(models, served, pictures):
    for model in models:
        list(promote(model, served, pictures, keep=1))
    assert generations(served) == ([2, 3], 3)
    list(rollback(served))
    list(promote(models[2], served, pictures, keep=1))
    # Generation 3 was rolled back; 2 is what generation 4 goes back to.
    assert generations(served) == ([2, 4], 4)
    (back,) = rollback(served)
    assert back.generation == 2
    assert sorted(look(served).introduced) == [1, 2, 3, 4]


def test_a_file_that_was_put_there_by_hand_is_kept_too(models, served, pictures):
    bad, fair, good = models
    shutil.copy(bad, served)
    list(promote(fair, served, pictures))
    assert [e.what for e in look(served).events] == ["found", "promoted"]
    shutil.copy(good, served)
    assert "overwritten by hand" in look(served).notices[0]
    records = list(rollback(served))
    assert "overwritten by hand" in of(records, Notice)[0].text
    assert of(records, RolledBack) == [RolledBack(str(served), 2, 3)]
    assert served.read_bytes() == fair.read_bytes()
    list(rollback(served, to=3))
    assert served.read_bytes() == good.read_bytes()
    served.unlink()
    assert "missing" in look(served).notices[0]
    assert of(rollback(served), RolledBack) == [RolledBack(str(served), 3, None)]
    assert served.read_bytes() == good.read_bytes()


def test_a_generation_that_was_damaged_is_not_served(models, served, pictures):
    for model in models:
        list(promote(model, served, pictures))
    kept = look(served).kept[2]
    data = bytearray(kept.read_bytes())
    data[-100] ^= 1
    kept.write_bytes(data)
    with pytest.raises(ArtifactError, match="not what was kept as generation 2"):
        list(rollback(served))
    assert served.read_bytes() == models[2].read_bytes()
    assert of(rollback(served, to=1), RolledBack)


def test_without_its_log_the_generations_are_found_again(models, served, pictures):
    for model in models:
        list(promote(model, served, pictures))
    log = served.with_name("served.tod.generations") / "log.json"
    log.write_text("{")
    with pytest.raises(ArtifactError, match="not a readable log"):
        look(served)
    log.unlink()
    assert generations(served) == ([1, 2, 3], 3)
    assert of(rollback(served), RolledBack) == [RolledBack(str(served), 2, 3)]


def test_what_must_not_serve(models, served, pictures, tiny, tmp_path):
    good = models[2]
    list(promote(models[1], served, pictures))
    other = make_pictures(tmp_path / "other", per_class=6)
    (other / "red").rename(other / "pink")
    foreign = tiny.with_name("foreign.tod")
    list(tod.train(tod.TrainSession.load(tiny), tod.Dataset.open(other), cycles=1, output=foreign))
    cut = tmp_path / "cut.tod"
    cut.write_bytes(good.read_bytes()[:5000])
    checkpoint = next(good.parent.glob("*_trained_*.tod"))
    shutil.copy(checkpoint, tiny.with_name("checkpoint.tod"))
    for model, data, kind, message in (
        (tiny.with_name("checkpoint.tod"), pictures, ArtifactError, "is a checkpoint"),
        (tiny, pictures, ArtifactError, "its classes are open"),
        (foreign, other, ArtifactError, "knows the classes blue, green, pink"),
        (cut, pictures, ArtifactError, "not a readable .tod file"),
        (tmp_path / "none.tod", pictures, ArtifactError, "no such file"),
        (good, other, DataError, "its classes are not the model's"),
        (good, tmp_path / "none", DataError, "no such folder"),
    ):
        with pytest.raises(kind, match=message):
            list(promote(model, served, data))
        assert served.read_bytes() == models[1].read_bytes()
        assert generations(served) == ([1], 1)


def test_a_served_file_that_is_damaged_can_be_rolled_back(models, served, pictures):
    list(promote(models[1], served, pictures))
    served.write_bytes(b"torn")
    with pytest.raises(ArtifactError, match=r"not a readable \.tod file") as refused:
        list(promote(models[2], served, pictures))
    assert refused.value.hint == f"'tod rollback {served}' puts a whole one in its place"
    assert of(rollback(served), RolledBack) == [RolledBack(str(served), 1, 2)]
    assert served.read_bytes() == models[1].read_bytes()
    with pytest.raises(ArtifactError, match=r"not a readable \.tod file"):
        list(rollback(served, to=2))
    assert served.read_bytes() == models[1].read_bytes()


def test_without_room_the_served_model_stays(models, served, pictures):
    """A limit of the file size in the place of a full disk."""
    list(promote(models[1], served, pictures))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in (100, models[2].stat().st_size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
        try:
            with pytest.raises(ArtifactError, match="cannot be written: File too large") as full:
                list(promote(models[2], served, pictures))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert "what is served is as it was" in full.value.hint
        assert served.read_bytes() == models[1].read_bytes()
        assert generations(served) == ([1], 1)
    assert of(promote(models[2], served, pictures), Promoted)


def test_pictures_that_one_of_them_knows_are_said(models, served, pictures, tiny):
    list(promote(models[0], served, pictures))
    output = tiny.with_name("other_split.tod")
    dataset = tod.Dataset.open(pictures, seed=5)
    session = tod.TrainSession.load(tiny)
    list(tod.train(session, dataset, cycles=1, init="ridge", seed=5, output=output))
    records = list(promote(output, served, pictures))
    texts = [notice.text for notice in of(records, Notice)]
    assert any(f"not count in a score, as {served} was trained on" in text for text in texts), texts


def test_passing_over_pictures_makes_no_model_better(models, served, pictures, tmp_path):
    """The new model's features of a grey picture are not finite; the served one gets it wrong."""
    data = shutil.copytree(pictures, tmp_path / "data")
    for name in ("blue", "green", "red"):
        for side_px in range(20, 40):
            grey = Image.new("RGB", (side_px, side_px), (128, 128, 128))
            grey.save(data / name / f"grey{side_px}.png")
    session = tod.TrainSession.load(shutil.copy(FILES / "contrast.tod", tmp_path))
    contrast = tmp_path / "trained.tod"
    list(tod.train(session, tod.Dataset.open(data), init="ridge", cycles=0, output=contrast))
    list(promote(models[1], served, data))
    with pytest.raises(NotPromoted, match="did not answer for the same validation pictures") as no:
        list(promote(contrast, served, data))
    assert f"{contrast} " in no.value.problem
    assert served.read_bytes() == models[1].read_bytes()
    assert generations(served) == ([1], 1)


def test_a_link_stays_a_link(models, served, pictures, tmp_path):
    real = tmp_path / "real" / "model.tod"
    real.parent.mkdir()
    served.symlink_to(real)
    list(promote(models[0], served, pictures))
    list(promote(models[1], served, pictures))
    assert served.is_symlink()
    assert real.read_bytes() == models[1].read_bytes()
    assert of(rollback(served), RolledBack)
    assert real.read_bytes() == models[0].read_bytes()


def test_whoever_opens_it_meanwhile_finds_a_whole_file(models, served, pictures):
    """One reads all the time while the served file is replaced ten times."""
    list(promote(models[0], served, pictures))
    whole = {model.read_bytes() for model in models}
    found, done = [], threading.Event()

    def reader():
        while not done.is_set():
            found.append(served.read_bytes() in whole)

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        for _ in range(5):
            list(promote(models[2], served, pictures))
            list(rollback(served))
    finally:
        done.set()
        thread.join()
    assert len(found) > 10
    assert all(found)


def test_the_commands(models, served, pictures, capsys):
    """What scripts and people see: codes, figures, a table, JSON."""
    done = run("tod", "promote", models[1], served, "-d", pictures)
    assert done.returncode == 0, done.stderr
    assert "serves as generation 1" in done.stdout
    refused = run("tod", "promote", models[0], served, "-d", pictures, "--json")
    assert (refused.returncode, refused.stderr.count("\n")) == (9, 2), refused.stderr
    assert "error: not promoted: accuracy on validation data: " in refused.stderr
    assert f"hint: {served} stays as it is" in refused.stderr
    list(promote(models[2], served, pictures))
    done = run("tod", "rollback", served)
    assert "generation 1 again; --to 2 undoes it" in done.stdout
    assert run("tod", "history", served).stdout.count("promoted") == 2
    describe_generations(served, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["generation"] == 1
    assert [event["what"] for event in found["events"]] == ["promoted", "promoted", "rolled back"]
    assert found["events"][1]["scores"]["total"] == 12


def test_what_is_not_there_is_said_as_such(models, tmp_path, pictures):
    """A name that was typed wrongly has no history; a folder that is missing has to be made."""
    with pytest.raises(ArtifactError, match=r"typo\.tod: no such file") as caught:
        describe_generations(tmp_path / "typo.tod", as_json=True)
    assert "check the path" in caught.value.hint
    missing = tmp_path / "none" / "served.tod"
    with pytest.raises(ArtifactError, match="the folder does not exist") as caught:
        promote_command(models[0], missing, pictures)
    assert "make the folder" in caught.value.hint
    with pytest.raises(ArtifactError, match="No such file or directory") as caught:
        list(promote(models[0], missing, pictures))
    assert "its folder has to exist" in caught.value.hint


def test_a_history_fits_80_columns(models, served, pictures, capsys):
    for model in models:
        list(promote(model, served, pictures, keep=1))
    describe_generations(served, as_json=False)
    _, title, *lines = capsys.readouterr().out.splitlines()
    assert title == str(served)
    assert max(map(len, lines)) <= 80
    heads, _, *rows = (line.split() for line in lines)
    assert heads == ["no.", "since", "how", "accuracy", "before", "answers", "SHA-256", "state"]
    assert [row[-1] for row in rows] == ["removed", "kept", "serves"]
    event = look(served).events[-1]
    assert rows[-1][1:3] == event.when[:16].split("T")
    assert rows[-1][3:-1] == ["promoted", "1.0000", "0.6667", "12", event.sha256[:8]]


@pytest.mark.promise(
    "The served model is the old one or the new one, and no generation is lost",
    "promotions and rollbacks killed at a random write, fsync, rename or removal",
)
def test_killed_anywhere(trials, models, pictures):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.promotion_cuts", pictures, *models],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    with process:
        for seed in trials(8, soak=900):
            print(seed, file=process.stdin, flush=True)
            answer = process.stdout.readline()
            assert answer == "kept\n", (seed, process.communicate()[1])


@pytest.mark.parametrize("record", [Event, Scores], ids=lambda r: r.__name__)
def test_the_format_page_names_every_field(record):
    page = (ROOT / "docs" / "format.md").read_text()
    for name in record.__struct_fields__:
        assert f"`{name}`" in page, name
