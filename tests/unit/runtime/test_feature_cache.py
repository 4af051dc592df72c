"""The cache of features: right rows or none, whatever happened to its file."""

import errno
import mmap
import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tod
from tests.conftest import COLOURS, make_pictures, run
from tod.data.dataset import Dataset
from tod.data.file_hashes import Contents
from tod.errors import Interrupted, UsageError
from tod.runtime.cache_folder import cache_files, choose_folder
from tod.runtime.feature_cache import FeatureCache
from tod.training.evaluation import evaluate
from tod.training.loop import train
from tod.training.records import CycleDone, Evaluated, FeaturesDone, Notice

ORIGIN = {"graph": "abc", "shape": (3,)}


def name_of(number: int) -> str:
    return f"{number:064x}"


def row_of(number: int) -> np.ndarray:
    return np.array([number, number / 7, -number], np.float32)


def filled(folder: Path, count: int = 5) -> Path:
    """A cache file with rows 1 to `count`."""
    cache = FeatureCache((3,), folder=folder, origin=ORIGIN)
    numbers = range(1, count + 1)
    cache.add([name_of(n) for n in numbers], np.stack([row_of(n) for n in numbers]))
    (path,) = folder.glob("*.rows")
    return path


def check(folder: Path, numbers) -> tuple[list[int], list[str]]:
    """Open the cache; every row that it has must be right.

    Returns:
        Which of `numbers` it has, and its notices.
    """
    cache = FeatureCache((3,), folder=folder, origin=ORIGIN)
    found = [n for n in numbers if name_of(n) in cache]
    rows = cache.take(cache.places([name_of(n) for n in found]))
    assert np.array_equal(rows, np.stack([row_of(n) for n in found]) if found else rows)
    assert rows.shape == (len(found), 3)
    return found, cache.notices


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=6), max_size=6),
    st.booleans(),
)
def test_what_was_added_is_found_again(tmp_path_factory, blocks, on_disk):
    folder = tmp_path_factory.mktemp("cache") if on_disk else None
    cache = FeatureCache((3,), folder=folder, origin=ORIGIN)
    for block in blocks:
        cache.add([name_of(n) for n in block], np.stack([row_of(n) for n in block]))
    numbers = [n for block in blocks for n in block]
    rows = cache.take(cache.places([name_of(n) for n in numbers]))
    assert [row.tolist() for row in rows] == [row_of(n).tolist() for n in numbers]
    assert name_of(51) not in cache
    if folder is not None:
        assert check(folder, range(1, 52)) == (sorted(set(numbers)), [])


@settings(max_examples=60)
@given(st.integers(0, 10_000))
def test_a_file_that_was_cut_off(tmp_path_factory, size_bytes):
    folder = tmp_path_factory.mktemp("cache")
    path = filled(folder)
    before = path.stat().st_size
    os.truncate(path, size_bytes)
    found, notices = check(folder, range(1, 6))
    whole = max(0, min(size_bytes, before) - 4096) // ((before - 4096) // 5)
    assert found == list(range(1, whole + 1))
    # A size that fits is that of a file with fewer rows, or with empty ones behind them.
    assert check(folder, range(1, 6)) == (found, [])  # it is said once
    assert bool(notices) == (size_bytes not in {0, *range(4096, 10_001, (before - 4096) // 5)})
    filled(folder)
    assert check(folder, range(1, 6))[0] == [1, 2, 3, 4, 5]


@settings(max_examples=60)
@given(st.data())
def test_a_flipped_bit(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cache")
    path = filled(folder)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    found, notices = check(folder, range(1, 6))
    assert len(found) >= 4 or (found, len(notices)) == ([], 1)
    assert bool(notices) == (len(found) < 5)
    assert check(folder, range(1, 6))[1] == []  # it is said once


def test_another_origin_is_another_file(tmp_path):
    filled(tmp_path)
    other = FeatureCache((3,), folder=tmp_path, origin={**ORIGIN, "graph": "def"})
    assert name_of(1) not in other
    assert len(list(tmp_path.glob("*.rows"))) == 2


def test_a_file_of_another_program_is_replaced(tmp_path):
    path = filled(tmp_path)
    path.write_bytes(b"something else, longer than a page" * 1000)
    found, (notice,) = check(tmp_path, range(1, 6))
    assert found == []
    assert notice == f"{path} is damaged or of another program; it is made again"


def test_removed_while_in_use(tmp_path):
    cache = FeatureCache((3,), folder=tmp_path, origin=ORIGIN)
    cache.add([name_of(1)], row_of(1)[None])
    shutil.rmtree(tmp_path)
    cache.add([name_of(2)], row_of(2)[None])
    rows = cache.take(cache.places([name_of(2), name_of(1)]))
    assert np.array_equal(rows, np.stack([row_of(2), row_of(1)]))


def test_a_file_system_that_maps_nothing(tmp_path, monkeypatch):
    cache = FeatureCache((3,), folder=tmp_path, origin=ORIGIN)
    cache.add([name_of(1)], row_of(1)[None])
    honest, calls = mmap.mmap, []

    def refuse_once(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError(errno.ENODEV, "No such device")
        return honest(*arguments, **options)

    monkeypatch.setattr(mmap, "mmap", refuse_once)
    assert np.array_equal(cache.take(cache.places([name_of(1)])), row_of(1)[None])
    cache.add([name_of(2)], row_of(2)[None])
    assert np.array_equal(cache.take(cache.places([name_of(2)])), row_of(2)[None])
    assert "kept on disk (No such device)" in cache.notices[0]


def add_many(folder: Path, first: int) -> None:
    cache = FeatureCache((3,), folder=folder, origin=ORIGIN)
    for number in range(first, first + 200):
        cache.add([name_of(number)], row_of(number)[None])


def test_processes_that_write_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=add_many, args=(tmp_path, n)) for n in (1, 101, 301)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert check(tmp_path, range(1, 502)) == (list(range(1, 501)), [])
    (file,) = tmp_path.glob("*.rows")
    assert (file.stat().st_size - 4096) / (64 + 12) == 500  # none twice


# In a run


@pytest.fixture
def tree(tmp_path) -> Path:
    return make_pictures(tmp_path / "tree")


def passes(model: Path, tree: Path, splits=("train", "test", "validation"), **options):
    """How many pictures go through the backbone, and what is said, when all splits are wanted."""
    session = tod.TrainSession.load(model, **options)
    seen = []
    honest = session.engine.features
    session.engine.features = lambda x: seen.append(len(x)) or honest(x)
    dataset = Dataset.open(tree, cache=options.get("cache", True))
    notices = []
    for split in splits:
        records = evaluate(session, dataset, split)
        notices += [r.text for r in records if isinstance(r, Notice)]
    return sum(seen), notices


def test_a_second_run_sees_no_picture(tiny, tree):
    assert passes(tiny, tree) == (60, [])
    assert passes(tiny, tree) == (0, [])
    assert passes(tiny, tree, cache=False) == (60, [])
    elsewhere = tree.parent / "kept"
    assert passes(tiny, tree, cache=elsewhere) == (60, [])
    assert passes(tiny, tree, cache=elsewhere) == (0, [])


def test_without_reading_a_file_again(tiny, tree, monkeypatch):
    passes(tiny, tree)
    monkeypatch.setattr(Contents, "read", None)
    assert passes(tiny, tree) == (0, [])


def test_new_pictures_cost_only_themselves(tiny, tree):
    passes(tiny, tree)
    more = make_pictures(tree.parent / "more", noise=99)
    for colour in COLOURS:
        shutil.copy(more / colour / "0.png", tree / colour / "new.png")
    assert passes(tiny, tree)[0] == 3
    assert passes(tiny, tree)[0] == 0


def test_moved_pictures_cost_nothing(tiny, tree):
    passes(tiny, tree)
    (tree / "red" / "3.png").rename(tree / "red" / "renamed.png")
    other = tree.with_name("moved")
    tree.rename(other)
    assert passes(tiny, other)[0] == 0


def test_changed_pictures_are_computed_again(tiny, tree):
    passes(tiny, tree)
    more = make_pictures(tree.parent / "more", noise=99)
    shutil.copy(more / "red" / "0.png", tree / "red" / "7.png")
    assert passes(tiny, tree) == (1, [])


def test_what_the_index_does_not_know_is_said_warm_as_cold(tiny, tree, tmp_path):
    """A prepared picture that was changed or removed behind dataset.json's back."""
    prepared = tmp_path / "prepared"
    run("tod", "prepare-dataset", tree, prepared, "--size", 16, check=True)
    for file in prepared.glob("*/*.bmp"):
        os.utime(file, (1e9, 1e9))
    passes(tiny, prepared)
    (prepared / "red" / "0.bmp").write_bytes((prepared / "red" / "1.bmp").read_bytes())
    count, warm = passes(tiny, prepared)
    assert count == 0
    assert passes(tiny, prepared, cache=False) == (59, warm)
    assert len(warm) == 1
    assert "red/0.bmp was passed over: its content has changed" in warm[0]


def trained(model: Path, tree: Path, output: Path, **options) -> bytes:
    session = tod.TrainSession.load(model, **options)
    dataset = Dataset.open(tree)
    list(train(session, dataset, cycles=30, eval_every=10, target_accuracy=1, output=output))
    return output.read_bytes()


def test_a_trained_model_is_bit_equal_cold_warm_and_without(tiny, tree):
    output = tiny.with_name("out.tod")
    cold = trained(tiny, tree, output)
    assert trained(tiny, tree, output) == cold
    assert trained(tiny, tree, output, cache=False) == cold
    assert trained(tiny, tree, output, threads=3, cache=tree.parent / "other") == cold


def test_two_runners_at_once(tiny, tree):
    """Started together on pictures that nobody has seen; both end as one alone does."""
    alone = trained(tiny, tree, tiny.with_name("alone.tod"), cache=False)
    command = [Path(sys.executable).with_name("net_runner"), "-f", tiny, "-d", tree, "-c", "30",
               "--eval-every", "10", "--target-accuracy", "1", "-q"]  # fmt: skip
    outputs = [tiny.with_name(f"{i}.tod") for i in range(3)]
    runners = [
        subprocess.Popen([*command, "-o", o], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for o in outputs
    ]
    for runner in runners:
        assert runner.communicate()[1] == b""
        assert runner.returncode == 0
    assert [o.read_bytes() for o in outputs] == [alone] * 3
    assert passes(tiny, tree) == (0, [])


def test_a_cache_folder_that_goes_away_ends_no_run(tiny, tree, tmp_path):
    place = tmp_path / "kept"
    records = train(tod.TrainSession.load(tiny, cache=place), Dataset.open(tree), cycles=30)
    accuracies = []
    for record in records:
        if isinstance(record, CycleDone) and record.cycle == 1:
            shutil.rmtree(place)
            place.write_text("a file in its place")
        if isinstance(record, Evaluated):
            accuracies.append(record.accuracy)
    honest = train(tod.TrainSession.load(tiny, cache=False), Dataset.open(tree), cycles=30)
    assert accuracies == [r.accuracy for r in honest if isinstance(r, Evaluated)]


def test_two_datasets_with_one_relative_name(tiny, tmp_path, monkeypatch):
    session = tod.TrainSession.load(tiny.resolve())
    for place in ("one", "two"):
        make_pictures(tmp_path / place / "data")
        monkeypatch.chdir(tmp_path / place)
        session.evaluate(Dataset.open("data"))
        assert len(cache_files(tmp_path / place / "data" / ".tod-cache")) == 1


def test_a_cache_folder_as_text(tiny, tree, tmp_path):
    place = str(tmp_path / "kept")
    session = tod.TrainSession.load(tiny, cache=place)
    session.evaluate(Dataset.open(tree, cache=place))
    assert len(cache_files(tmp_path / "kept")) == 1


def test_a_dataset_is_prepared_where_only_a_cache_was_left(tiny, tree, tmp_path):
    prepared, found = tmp_path / "prepared", []
    for _ in range(2):
        run("tod", "prepare-dataset", tree, prepared, "--size", 16, check=True)
        found.append(run("tod", "eval", "-f", tiny, "-d", prepared, check=True).stdout)
        for path in prepared.glob("*"):
            if path.name != ".tod-cache":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "accuracy on validation data" in found[0]
    assert found[0] == found[1]
    assert [path.name for path in prepared.iterdir()] == [".tod-cache"]


def test_an_interrupted_pass_keeps_what_it_has_seen(tiny, tree):
    session = tod.TrainSession.load(tiny)
    records = train(session, Dataset.open(tree), cycles=1, should_stop=lambda: True)
    seen = []
    with pytest.raises(Interrupted, match="no cycle was run") as caught:
        seen.extend(records)
    assert caught.value.problem.startswith("stopped after looking at 2 of 60 pictures")
    assert caught.value.hint == "the same command goes on from there"
    assert seen[-1] == FeaturesDone(2, 60)
    (file,) = cache_files(tree / ".tod-cache")
    assert 2 <= file.rows < 60
    assert passes(tiny, tree)[0] == 60 - file.rows


def test_a_damaged_cache_is_said_and_made_again(tiny, tree):
    passes(tiny, tree)
    (file,) = cache_files(tree / ".tod-cache")
    content = bytearray(file.path.read_bytes())
    content[4096 + 70] ^= 1
    file.path.write_bytes(content[:-10])
    count, (notice,) = passes(tiny, tree)
    assert count == 2
    assert notice == f"{file.path}: 2 rows are damaged or cut off; they are computed again"
    assert passes(tiny, tree) == (0, [])


def test_a_disk_that_is_full(tiny, tree, tmp_path):
    """A file system of two pages: one for the head of the file, the other for some rows."""
    full = tmp_path / "full"
    full.mkdir()
    command = f'"{Path(sys.executable).with_name("tod")}" eval -f "{tiny}" -d "{tree}"'
    mounted = f'mount -t tmpfs -o size=8k none "{full}" && '
    # A name space of its own, where anybody may mount.
    space = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*space, mounted + "true"], capture_output=True).returncode:
        pytest.skip("this system lets nobody mount")
    fill = f'head -c 4096 /dev/zero > "{full}/other"; '
    done = subprocess.run(
        [*space, f'{mounted}{fill}{command} --cache-dir "{full}"'], capture_output=True, text=True
    )
    assert done.stdout == run("tod", "eval", "-f", tiny, "-d", tree, "--no-cache").stdout
    assert done.returncode == 0
    assert "features cannot be kept on disk (No space left on device); this run" in done.stderr


def test_where_the_cache_lies(tiny, tree, tmp_path, monkeypatch):
    assert choose_folder(tree, tiny) == tree / ".tod-cache"
    assert choose_folder(tree, tiny, False) is None
    assert choose_folder(tree, tiny, tmp_path / "a" / "b") == tmp_path / "a" / "b"
    locked: set[Path] = {tree}
    honest = os.access
    # Root may write everywhere.
    monkeypatch.setattr(os, "access", lambda p, mode: p not in locked and honest(p, mode))
    assert choose_folder(tree, tiny) == tiny.parent / ".tod-cache"
    locked.add(tiny.parent)
    assert choose_folder(tree, tiny) is None
    locked.add(tmp_path / "locked")
    with pytest.raises(UsageError, match=r"cannot be used: it is read-only"):
        choose_folder(tree, tiny, tmp_path / "locked")


def test_a_cache_folder_that_cannot_be(tiny, tree):
    (tree / ".tod-cache").write_text("a file in the way")
    count, notices = passes(tiny, tree, splits=["test"])
    assert count == 12
    assert notices[-1].startswith("features cannot be kept on disk (File exists); this run")
    done = run("tod", "eval", "-f", tiny, "-d", tree, "--cache-dir", tree / ".tod-cache")
    assert done.returncode == 2
    assert ".tod-cache cannot be used: File exists" in done.stderr
    assert "hint: name another with --cache-dir, or use --no-cache" in done.stderr


def test_commands(tiny, tree, tmp_path):
    place = tmp_path / "place"
    first = run("tod", "eval", "-f", tiny, "-d", tree, "--cache-dir", place)
    assert "looked at 12 of 12 pictures" in first.stderr
    assert not (tree / ".tod-cache").exists()
    again = run("tod", "eval", "-f", tiny, "-d", tree, "--cache-dir", place)
    assert (again.stdout, again.stderr) == (first.stdout, "")
    shown = run("tod", "cache", "info", place)
    assert "1 file, " in shown.stdout
    (entry,) = msgspec.json.decode(run("tod", "cache", "info", place, "--json").stdout)
    assert entry["rows"] == 12
    assert entry["origin"]["shape"] == [8]
    size = sum(file.stat().st_size for file in place.iterdir())
    cleared = run("tod", "cache", "clear", place)
    assert cleared.stdout == f"{place}: {size:,} bytes removed\n"
    assert list(place.iterdir()) == []
    run("tod", "eval", "-f", tiny, "-d", tree, check=True)
    run("tod", "cache", "clear", tree, check=True)
    run("tod", "eval", "-f", tiny, "-d", tree, "--no-cache", check=True)
    assert not (tree / ".tod-cache").exists()
    both = run("tod", "eval", "-f", tiny, "-d", tree, "--no-cache", "--cache-dir", place)
    assert both.returncode == 2


def test_clear_leaves_what_is_not_its_own(tmp_path):
    filled(tmp_path)
    others = {".song.mp3.part", "features-2024.rows", "contents-en.json", f"features-{0:016}.rows"}
    for name in others:
        (tmp_path / name).write_text("half a song")
    run("tod", "cache", "clear", tmp_path, check=True)
    assert {path.name for path in tmp_path.iterdir()} == others
    (tmp_path / "empty").mkdir()
    assert run("tod", "cache", "clear", tmp_path / "empty").stdout.endswith(": 0 bytes removed\n")
    assert (tmp_path / "empty").is_dir()
    done = run("tod", "cache", "info", tmp_path / "nowhere")
    assert done.returncode == 3
    assert "nowhere: no such folder\nhint: give the folder of the pictures" in done.stderr


@pytest.mark.parametrize("kept", ["contents", "features"])
def test_a_pipe_or_a_link_in_the_place_of_a_kept_file(tiny, pictures, tmp_path, kept):
    """A data folder that came from someone brings its cache along."""
    tree, prey = tmp_path / "data", tmp_path / "prey"
    shutil.copytree(pictures, tree, ignore=shutil.ignore_patterns(".tod-cache"))
    cold = run("tod", "eval", "-q", "-f", tiny, "-d", tree)
    (path,) = (tree / ".tod-cache").glob(f"{kept}-*")
    for replace_by in (os.mkfifo, lambda place: place.symlink_to(prey)):
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        replace_by(path)
        found = run("tod", "eval", "-q", "-f", tiny, "-d", tree)
        assert (found.returncode, found.stdout) == (0, cold.stdout), found.stderr
        for command in ("info", "clear"):
            assert run("tod", "cache", command, tree).returncode == 0
        assert not prey.exists()
