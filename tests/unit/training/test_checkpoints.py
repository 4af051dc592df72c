"""Which checkpoint a run goes on from, which ones stay, and what if none can be written."""

import errno
import fcntl
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tod
from tests.conftest import make_pictures, run
from tod.errors import ArtifactError, DataError, Interrupted, UsageError
from tod.format import artifact
from tod.format.artifact import read
from tod.training import checkpoints
from tod.training.loop import train
from tod.training.records import CycleDone, Notice, Saved

SETTINGS = {"cycles": 6, "save_every": 1, "eval_every": 2, "target_accuracy": 1, "seed": 5}


def finish(model, data, *, output=None, **settings):
    """A whole run; its records."""
    session = tod.TrainSession.load(model, threads=1, cache=False)
    output = output or model.with_name("tiny_trained.tod")
    dataset = tod.Dataset.open(data, seed=settings.get("seed", 0))
    return list(train(session, dataset, output=output, **settings))


def texts(records):
    return [record.text for record in records if isinstance(record, Notice)]


def generations(folder):
    return sorted(path.name for path in folder.glob("tiny_trained_*.tod"))


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_file, pictures) -> Path:
    """The folder of a run of six cycles that has ended; three generations of checkpoints."""
    folder = tmp_path_factory.mktemp("done")
    finish(Path(shutil.copy(tiny_file, folder / "tiny.tod")), pictures, **SETTINGS)
    assert generations(folder) == [f"tiny_trained_{cycle}.tod" for cycle in (4, 5, 6)]
    return folder


@pytest.fixture
def copy(done, tmp_path) -> Path:
    """A copy of it without the trained model: as if the power had gone at the end."""
    folder = Path(shutil.copytree(done, tmp_path / "copy"))
    (folder / "tiny_trained.tod").unlink()
    return folder


def resumes_to_the_same_bytes(folder, done, pictures) -> None:
    found, _ = checkpoints.newest(folder / "tiny.tod")
    finish(found or folder / "tiny.tod", pictures, **SETTINGS)
    assert (folder / "tiny_trained.tod").read_bytes() == (done / "tiny_trained.tod").read_bytes()


def test_the_newest_is_the_one_written_last(copy):
    """Not the one of the latest cycle: a run may have been started anew."""
    assert checkpoints.newest(copy / "tiny.tod") == (copy / "tiny_trained_6.tod", ())
    now = 2_000_000_000_000_000_000
    os.utime(copy / "tiny_trained_4.tod", ns=(now, now))
    assert checkpoints.newest(copy / "tiny.tod")[0] == copy / "tiny_trained_4.tod"
    os.utime(copy / "tiny_trained_5.tod", ns=(now, now))
    assert checkpoints.newest(copy / "tiny.tod")[0] == copy / "tiny_trained_5.tod"


def test_a_clock_that_was_set_back_hides_no_checkpoint(copy, pictures):
    """A board without a battery starts in the past."""
    for cycle in (4, 5, 6):
        os.utime(copy / f"tiny_trained_{cycle}.tod", (4e9, 4e9))
    finish(copy / "tiny_trained_6.tod", pictures, **{**SETTINGS, "cycles": 8})
    assert checkpoints.newest(copy / "tiny.tod")[0] == copy / "tiny_trained_8.tod"
    assert generations(copy) == [f"tiny_trained_{cycle}.tod" for cycle in (6, 7, 8)]


@pytest.mark.promise(
    "A damaged checkpoint is passed over for the one before it",
    "random truncation, bit flips, zeroed and random blocks; then --resume",
)
def test_a_damaged_checkpoint_is_passed_over(copy, done, pictures, trials):
    latest = copy / "tiny_trained_6.tod"
    good = latest.read_bytes()
    whole = read(latest)
    for seed in trials(25, soak=9000):
        generator = np.random.default_rng(seed)
        damaged = bytearray(good)
        start = int(generator.integers(len(good)))
        kind = ("cut", "flip", "zero", "noise")[seed % 4]
        if kind == "cut":
            del damaged[start:]
        elif kind == "flip":
            damaged[start] ^= 1 << int(generator.integers(8))
        else:
            end = min(len(good), start + 512)
            noise = generator.bytes(end - start)
            damaged[start:end] = bytes(end - start) if kind == "zero" else noise
        latest.write_bytes(damaged)
        found, notices = checkpoints.newest(copy / "tiny.tod")
        if found == latest:  # bytes that mean nothing: a time stamp, a mode
            again = read(latest)
            assert again.manifest == whole.manifest
            assert all(np.array_equal(again.state[k], v) for k, v in whole.state.items())
            assert kind in ("flip", "zero", "noise")
        else:
            assert found == copy / "tiny_trained_5.tod"
            assert notices[0].startswith(f"{latest} was passed over: ")
            assert len(notices) == 1
        if seed < 8:
            resumes_to_the_same_bytes(copy, done, pictures)


def a_folder(path, _):
    path.unlink()
    path.mkdir()


def a_pipe(path, _):
    path.unlink()
    os.mkfifo(path)


def another_model(path, _):
    """Of the same name and tensors, with other graphs: here by an entry that nobody reads."""
    other = path.with_name("other")
    other.mkdir()
    model = read(path.with_name("tiny.tod"))
    entry = b"\x72\x05\x0a\x01k\x12\x00"
    graphs = {**model.graphs, "features.onnx": model.graphs["features.onnx"] + entry}
    artifact.write(replace(model, path=other / "tiny.tod", graphs=graphs))
    finish(other / "tiny.tod", make_pictures(other / "data"), cycles=1, save_every=1)
    shutil.copy(other / "tiny_trained_1.tod", path)
    shutil.copy(other / "tiny.tod", path.with_name("its_base.tod"))
    shutil.rmtree(other)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path, _: path.write_bytes(b""), "not a readable .tod file"),
        (lambda path, _: os.truncate(path, path.stat().st_size - 1), "not a readable .tod file"),
        (a_folder, "it is not a file"),
        (a_pipe, "it is not a file"),
        (lambda path, _: (path.unlink(), path.symlink_to("nowhere")), "it is not a file"),
        (lambda path, done: shutil.copy(done / "tiny_trained.tod", path), "it is a whole model"),
        (another_model, "it is of another model: its graphs are others"),
    ],
)
def test_what_is_no_good_checkpoint_is_passed_over(copy, done, pictures, change, reason):
    latest = copy / "tiny_trained_6.tod"
    change(latest, done)
    if not latest.is_symlink():
        os.utime(latest, (4e9, 4e9))
    found, (notice,) = checkpoints.newest(copy / "tiny.tod")
    assert found == copy / "tiny_trained_5.tod"
    assert notice.startswith(f"{latest} was passed over: {reason}")
    resumes_to_the_same_bytes(copy, done, pictures)


def test_in_another_folder_than_the_model(tiny, done, pictures, tmp_path):
    """There checkpoints are whole, and found by the output."""
    output = tmp_path / "elsewhere" / "mine.tod"
    output.parent.mkdir()
    finish(tiny, pictures, **SETTINGS, output=output)
    wanted = {path.name: path.read_bytes() for path in output.parent.iterdir()}
    assert wanted["mine.tod"] == (done / "tiny_trained.tod").read_bytes()
    assert set(wanted) == {"mine.tod", *(f"mine_trained_{cycle}.tod" for cycle in (4, 5, 6))}
    output.unlink()
    (output.parent / "mine_trained_6.tod").write_bytes(b"rotten")
    found, _ = checkpoints.newest(tiny, output)
    assert found == output.parent / "mine_trained_5.tod"
    finish(found, pictures, **SETTINGS, output=output)
    assert {path.name: path.read_bytes() for path in output.parent.iterdir()} == wanted
    assert checkpoints.newest(tiny)[0] is None


def test_runs_with_outputs_of_their_own_keep_out_of_each_others_way(tiny, pictures):
    first, second = tiny.with_name("first.tod"), tiny.with_name("second.tod")
    finish(tiny, pictures, **SETTINGS, output=first)
    wanted = {path: path.read_bytes() for path in tiny.parent.glob("first*")}
    finish(tiny, pictures, **SETTINGS | {"seed": 6}, keep=1, output=second)
    assert {path: path.read_bytes() for path in tiny.parent.glob("first*")} == wanted
    assert checkpoints.newest(tiny, second)[0] == tiny.with_name("second_trained_6.tod")
    found, _ = checkpoints.newest(tiny, first)
    assert found == tiny.with_name("first_trained_6.tod")
    assert checkpoints.default_output(found, read(found).manifest).name == "first_trained.tod"


def test_nothing_good_means_a_new_start(copy, done, pictures):
    for cycle in (4, 5, 6):
        (copy / f"tiny_trained_{cycle}.tod").write_bytes(b"rotten")
    found, notices = checkpoints.newest(copy / "tiny.tod")
    assert found is None
    assert len(notices) == 4
    assert notices[-1].endswith("training starts from its beginning")
    resumes_to_the_same_bytes(copy, done, pictures)


def test_a_model_trained_again_does_not_go_on_from_its_first_training(copy, pictures):
    """The same graphs and the same name, but another history."""
    finish(copy / "tiny_trained_6.tod", pictures, **SETTINGS)
    (copy / "tiny_trained.tod").replace(copy / "tiny.tod")
    found, notices = checkpoints.newest(copy / "tiny.tod")
    assert found is None
    assert "it has been trained before in another way" in notices[0]


def test_a_model_exported_anew_does_not_go_on_from_the_old_one(copy):
    """The same graphs, the same name and no history, but another learning rate."""
    model = read(copy / "tiny.tod")
    optimizer = replace(model.manifest.optimizer, lr=0.002)
    artifact.write(replace(model, manifest=replace(model.manifest, optimizer=optimizer)))
    found, notices = checkpoints.newest(copy / "tiny.tod")
    assert found is None
    assert notices[0].endswith("it was exported in another way")


def test_a_checkpoint_that_is_named_itself_is_no_beginning(copy, tmp_path):
    found, (notice,) = checkpoints.newest(copy / "tiny_trained_4.tod", tmp_path / "new.tod")
    assert found is None
    assert notice.endswith("training goes on from that file")


def test_pictures_that_can_be_read_again_are_said(tiny, tmp_path):
    """The checkpoint has seen others, so the end is another one than without the cut."""
    tree = make_pictures(tmp_path / "tree")
    run("tod", "prepare-dataset", tree, tmp_path / "data", check=True)
    dataset = tod.Dataset.open(tmp_path / "data")
    picture = dataset.root / dataset.split("train")[0].path
    whole = picture.read_bytes()
    picture.write_bytes(b"torn")
    finish(tiny, dataset.root, cycles=2, save_every=2)
    picture.write_bytes(whole)
    records = finish(tiny.with_name("tiny_trained_2.tod"), dataset.root, cycles=3)
    said, replaced = texts(records)
    assert said == (
        "other pictures can be read than when the checkpoint was written: "
        "train 35 -> 36, test 12 -> 12, validation 12 -> 12"
    )
    assert "the model that was there stays as generation 1" in replaced


def test_a_damaged_model_is_an_error(copy):
    (copy / "tiny.tod").write_bytes(b"rotten")
    with pytest.raises(ArtifactError, match="not a readable"):
        checkpoints.newest(copy / "tiny.tod")


@pytest.mark.parametrize("keep", [1, 2, 9])
def test_so_many_generations_stay(tiny, pictures, keep):
    finish(tiny, pictures, **SETTINGS, keep=keep)
    first = max(1, 7 - keep)
    assert generations(tiny.parent) == [f"tiny_trained_{c}.tod" for c in range(first, 7)]


def test_what_is_not_ours_is_neither_counted_nor_removed(copy, done, pictures):
    foreign = {
        "tiny_trained_91.tod": b"rotten", "tiny_trained_92.tod": b"",
        "tiny_trained_93.tod": (done / "tiny_trained.tod").read_bytes(),
        "tiny_trained_x.tod": b"", "other_trained_4.tod": b"", "tiny_trained_4.tod.txt": b"",
    }  # fmt: skip
    for name, data in foreign.items():
        (copy / name).write_bytes(data)
        os.utime(copy / name, (1e9, 1e9))
    finish(copy / "tiny.tod", pictures, **{**SETTINGS, "cycles": 9}, keep=2)
    assert all((copy / name).read_bytes() == data for name, data in foreign.items())
    left = set(generations(copy)) - set(foreign)
    assert left == {"tiny_trained_8.tod", "tiny_trained_9.tod"}


def test_a_model_that_is_trained_every_night_leaves_no_more(tiny, pictures):
    """Each night goes on from what the last one made; what another run left stays."""
    night = {"output": tiny.with_name("tiny_trained.tod"), "eval_every": 0, "keep": 2}
    finish(tiny, pictures, cycles=10, save_every=5, **night)
    other = shutil.copy(tiny, tiny.with_name("other.tod"))
    finish(other, pictures, cycles=3, save_every=3, seed=9, output=tiny)  # names it likewise
    for cycles, left in ((11, (10, 6)), (13, (6, 7)), (15, (7, 8))):
        night["output"].replace(tiny)
        finish(tiny, pictures, cycles=cycles, save_every=left[1], **night)
        assert generations(tiny.parent) == sorted(f"tiny_trained_{n}.tod" for n in (3, *left))


def test_a_cycle_is_saved_once(tiny, pictures):
    session = tod.TrainSession.load(tiny)
    records = []
    run = train(
        session, tod.Dataset.open(pictures), cycles=9, save_every=2,
        output=tiny.with_name("out.tod"),
        should_stop=lambda: session.state.run is not None and session.state.run.cycle == 2,
    )  # fmt: skip
    with pytest.raises(Interrupted):
        records.extend(run)
    assert [r.cycle for r in records if isinstance(r, Saved)] == [2]


def test_keep_is_at_least_one(tiny, pictures):
    with pytest.raises(UsageError, match="keep is 0, at least 1 is wanted"):
        finish(tiny, pictures, cycles=1, keep=0)


def test_what_killed_runs_left_is_removed(tiny, pictures):
    """Only of names that this run writes, and only what no living process works on."""
    folder = tiny.parent
    stale = [".tiny_trained.tod.0123abcd.part", ".tiny_trained_12.tod.0123abcd.part"]
    others = [
        ".tiny_trained.tod.txt", ".other.tod.0123abcd.part", ".tiny_trained_x.tod.0123abcd.part",
        ".tiny_trained.tod.0123.part", "tiny_trained.tod.0123abcd.part",
    ]  # fmt: skip
    alive = folder / ".tiny_trained_13.tod.0123abcd.part"
    for name in (*stale, *others, alive.name):
        (folder / name).write_bytes(b"half")
    (folder / ".tiny_trained_1.tod.0123abcd.part").symlink_to(others[0])
    with open(alive, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        finish(tiny, pictures, cycles=1)
        assert not any((folder / name).exists() for name in stale)
        assert alive.exists()
    assert all((folder / name).exists() for name in others)
    finish(tiny, pictures, cycles=1)
    assert not alive.exists()


def test_the_order_that_survives_a_power_cut(tiny, pictures, monkeypatch):
    """The bytes are on the disk before the name is, and the name before the old one goes."""
    calls = []
    honest = {name: getattr(os, name) for name in ("fsync", "replace", "unlink")}

    def watched(name):
        def call(first, *more):
            path = os.readlink(f"/proc/self/fd/{first}") if name == "fsync" else os.fspath(first)
            if name == "fsync" and os.path.isfile(path):
                assert os.path.getsize(path) > 1000
            calls.append((name, os.path.basename(path)))
            return honest[name](first, *more)

        return call

    for name in honest:
        monkeypatch.setattr(os, name, watched(name))
    finish(tiny, pictures, cycles=2, save_every=1, keep=1)
    calls = [call for call in calls if call != ("fsync", "tiny_trained_2.tod")]  # of its time
    found = [(name, path.rpartition(".tod")[0] or path) for name, path in calls]
    saves = [".tiny_trained_1", ".tiny_trained_2", ".tiny_trained"]
    folder = tiny.parent.name
    wanted = []
    for save in saves:
        wanted += [("fsync", save), ("replace", save), ("fsync", folder)]
    wanted.insert(6, ("unlink", "tiny_trained_1"))
    assert found == wanted


def refuse(monkeypatch, names, number=errno.ENOSPC):
    """Files of these names cannot be written. Stands for the disk only."""
    honest = os.replace

    def replace(source, target):
        if names(Path(target).name):
            raise OSError(number, os.strerror(number))
        honest(source, target)

    monkeypatch.setattr(os, "replace", replace)


def test_a_checkpoint_that_cannot_be_written_is_said_once(tiny, pictures, monkeypatch):
    bad = {f"tiny_trained_{cycle}.tod" for cycle in (3, 4, 6)}
    refuse(monkeypatch, bad.__contains__)
    records = finish(tiny, pictures, **SETTINGS)
    said = [text for text in texts(records) if "cannot be written" in text]
    assert said == [
        f"{tiny.with_name(f'tiny_trained_{cycle}.tod')}: the checkpoint cannot be written: "
        f"No space left on device; the last one stays: {tiny.with_name(f'tiny_trained_{last}.tod')}"
        for cycle, last in ((3, 2), (6, 5))
    ]
    assert sum(isinstance(record, CycleDone) for record in records) == 6
    assert isinstance(records[-1], Saved)
    assert generations(tiny.parent) == [f"tiny_trained_{cycle}.tod" for cycle in (1, 2, 5)]


def test_no_checkpoint_at_all_is_said_too(tiny, pictures, monkeypatch):
    refuse(monkeypatch, lambda name: name != "tiny_trained.tod", errno.EROFS)
    records = finish(tiny, pictures, **SETTINGS)
    (said,) = [text for text in texts(records) if "cannot be written" in text]
    assert said.endswith("Read-only file system; there is none yet")


def test_a_model_that_cannot_be_written_leaves_the_best_state(tiny, pictures, monkeypatch, done):
    """Here without a checkpoint before: the run's end becomes one, and only writing is left."""
    with monkeypatch.context() as patch:
        refuse(patch, "tiny_trained.tod".__eq__, errno.EDQUOT)
        with pytest.raises(ArtifactError) as caught:
            finish(tiny, pictures, **{**SETTINGS, "save_every": 100})
    last = tiny.with_name("tiny_trained_6.tod")
    assert caught.value.problem == (
        f"{tiny.with_name('tiny_trained.tod')}: cannot be written: Disk quota exceeded; "
        f"the best state is in {last}"
    )
    assert "--resume" in caught.value.hint
    assert caught.value.exit_code == 4
    records = finish(last, pictures, **SETTINGS)
    assert not any(isinstance(record, CycleDone) for record in records)
    assert (
        tiny.with_name("tiny_trained.tod").read_bytes() == (done / "tiny_trained.tod").read_bytes()
    )


def test_older_generations_make_room_for_the_last_state(tiny, pictures, monkeypatch):
    """A disk with room for two checkpoints: the oldest goes, the newest good one never."""
    honest = os.replace

    def replace(source, target):
        name = Path(target).name
        full = len(generations(tiny.parent)) > 1 and name not in generations(tiny.parent)
        if name == "tiny_trained.tod" or (full and "_6" in name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        honest(source, target)

    monkeypatch.setattr(os, "replace", replace)
    session = tod.TrainSession.load(tiny, threads=1, cache=False)
    output = tiny.with_name("tiny_trained.tod")
    records = []
    with pytest.raises(ArtifactError, match=r"the best state is in .*tiny_trained_6\.tod"):
        records.extend(train(session, tod.Dataset.open(pictures), output=output, **SETTINGS))
    assert generations(tiny.parent) == ["tiny_trained_5.tod", "tiny_trained_6.tod"]


def test_without_any_room_the_last_checkpoint_is_named(tiny, pictures, monkeypatch):
    honest = os.replace

    def replace(source, target):
        if generations(tiny.parent):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        honest(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(ArtifactError) as caught:
        finish(tiny, pictures, **SETTINGS)
    last = tiny.with_name("tiny_trained_1.tod")
    assert caught.value.problem.endswith(
        f"; no checkpoint of it could be saved, the last one is {last}"
    )
    assert generations(tiny.parent) == [last.name]


@pytest.mark.parametrize("saved_before", [True, False])
def test_an_interrupted_run_that_cannot_be_saved_says_so(tiny, pictures, monkeypatch, saved_before):
    refuse(monkeypatch, lambda name: not (saved_before and "_2" in name))
    calls = iter([False] * (30 + 2) + [True])  # 60 pictures are 30 batches
    with pytest.raises(Interrupted) as caught:
        finish(
            tiny, pictures, **{**SETTINGS, "save_every": 2}, should_stop=lambda: next(calls)
        )  # fmt: skip
    last = f", the last one is {tiny.with_name('tiny_trained_2.tod')}" if saved_before else ""
    assert caught.value.problem == (
        f"stopped after cycle 3 of 6; no checkpoint of it could be saved{last}"
    )
    assert bool(caught.value.hint) == saved_before


@pytest.mark.parametrize("how", ["deleted", "unmounted"])
def test_a_data_folder_that_vanishes_is_one_error(tiny, tmp_path, how):
    tree = make_pictures(tmp_path / "tree")
    session = tod.TrainSession.load(tiny, threads=1, cache=False)
    records = train(session, tod.Dataset.open(tree), cycles=1)
    for _ in range(5):
        next(records)
    tree.rename(tmp_path / "elsewhere")
    if how == "unmounted":
        (tree / ".tod-cache").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        list(records)
    reason = {"deleted": "No such file or directory", "unmounted": "it is empty now"}[how]
    assert caught.value.problem == (
        f"{tree}: the folder vanished while its pictures were looked at: {reason}"
    )
    assert "mount the disk" in caught.value.hint


def test_pictures_that_vanish_or_change_are_passed_over(tiny, tmp_path):
    tree = make_pictures(tmp_path / "tree")
    session = tod.TrainSession.load(tiny, threads=1, cache=False)
    dataset = tod.Dataset.open(tree)
    # The last ones to be looked at; the first batches have been taken already.
    names = [sample.path for split in ("test", "validation") for sample in dataset.split(split)]
    notices = []
    for index, record in enumerate(train(session, dataset, cycles=3)):
        if index == 1:
            (tree / names[-1]).unlink()
            (tree / names[-2]).write_bytes((tree / names[0]).read_bytes() + b"longer")
            (tree / names[-3]).write_bytes(b"")
        notices += [record.text] if isinstance(record, Notice) else []
    said = {text.split(" was passed over: ")[0]: text.split(": ", 1)[1] for text in notices}
    changed = "its content has changed since the dataset was opened or prepared"
    assert said[str(tree / names[-1])] == "cannot be read: No such file or directory"
    assert said[str(tree / names[-2])] == said[str(tree / names[-3])] == changed
    assert len(said) == 3
    (entry,) = session.manifest.history
    assert entry.pictures == {"train": 36, "test": 12, "validation": 9}


def test_resume_on_the_command_line(tiny, pictures):
    """The same command every time: begins, goes on, and writes the model again when it is over."""
    command = ["net_runner", "-f", tiny, "-d", pictures, "-c", 4, "-s", 2, "--resume"]
    first = run(*command)
    assert first.returncode == 0, first.stderr
    assert f"no good checkpoint of tiny.tod in {tiny.parent}" in first.stderr
    model = tiny.with_name("tiny_trained.tod")
    wanted = model.read_bytes()
    model.unlink()
    tiny.with_name("tiny_trained_4.tod").write_bytes(b"rotten")
    second = run(*command, "--keep", 1, "--init", "ridge")
    assert second.returncode == 0, second.stderr
    assert "tiny_trained_4.tod was passed over: not a readable .tod file" in second.stderr
    assert second.stdout.splitlines()[0].startswith("3: Loss is ")
    assert model.read_bytes() == wanted
    assert generations(tiny.parent) == ["tiny_trained_4.tod"]
    third = run(*command)
    assert third.returncode == 0, third.stderr
    assert third.stdout == second.stdout.splitlines(keepends=True)[-1]
    assert model.read_bytes() == wanted
    left = tiny.with_name(".model.onnx.0123abcd.part")
    left.write_bytes(b"half")
    assert run(*command, "-i", tiny.with_name("model.onnx")).returncode == 0
    assert not left.exists()
    only = run("net_runner", "-f", tiny, "-d", pictures, "--resume", "--keep", 2)
    assert "nothing is trained without -c: --keep, --resume not used" in only.stderr
