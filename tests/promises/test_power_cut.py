"""Power cuts: a run that is killed anywhere and resumed ends in the bytes of one that was not."""

import re
import shutil
import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import FILES
from tests.support.forked_runner import PowerCut, run, started
from tod.format.artifact import read
from tod.training.checkpoints import newest

RESUMED = "A run that was cut off and is resumed ends in the same bytes as one that was not"
CYCLES = 24


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def as_if_nothing_was(folder: Path, whole: Path, keep: int) -> None:
    """Trained model and the newest checkpoints have the bytes of the uninterrupted run; beside them
    lies at most one more generation, which was about to be removed."""
    found, wanted = contents(folder), contents(whole)
    assert {name: found.get(name) for name in wanted} == wanted
    more = sorted(set(found) - set(wanted))
    assert len(more) <= 1
    assert all(re.fullmatch(r"tiny_trained_\d+\.tod", name) for name in more)
    assert len(wanted) == 2 + keep


@pytest.mark.promise(RESUMED, "SIGKILL at each write, fsync, rename and remove, also half-way")
def test_cut_at_every_call_of_every_save(tiny, pictures, tmp_path, trials):
    settings = ["-d", pictures, "-c", 3, "-s", 1, "--keep", 2, "--eval-every", 1, "--no-cache"]
    settings += ["--target-accuracy", 1, "--resume"]
    whole = tmp_path / "whole"
    folder = tmp_path / "cut"
    for place in (whole, folder):
        place.mkdir()
        shutil.copy(tiny, place)
    code, text = run("-f", whole / "tiny.tod", *settings)
    assert code == 0, text
    cuts = 0
    for _ in trials(1, soak=9):
        for half in (False, True):
            for at in count():
                shutil.rmtree(folder)
                folder.mkdir()
                model = Path(shutil.copy(tiny, folder))
                code, text = run("-f", model, *settings, cut=PowerCut(at, half))
                if code == 0:
                    break
                assert code == -9, text
                cuts += 1
                for file in folder.glob("*.tod"):
                    read(file)
                code, text = run("-f", model, *settings)
                assert code == 0, text
                as_if_nothing_was(folder, whole, keep=2)
            # The place of the model is tried out with a write of its own; 3 checkpoints and a model
            # of 4 calls each, one of them a write; one file is removed.
            # Checkpoints of the same moment get another time, which is synced as well.
            assert at == 5 if half else 17 <= at <= 23, at
    assert cuts >= 21


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_file, pictures) -> list[tuple[Path, list[object]]]:
    """Momentum and cosine; Adam, dropout, accumulation and patience on a model with a history."""
    folder = tmp_path_factory.mktemp("models")
    plain, fresh, deep = (folder / name / "tiny.tod" for name in ("plain", "fresh", "deep"))
    for path in (plain, fresh, deep):
        path.parent.mkdir()
    shutil.copy(tiny_file, plain)
    shutil.copy(FILES / "dropout.tod", fresh)
    code, text = run("-f", fresh, "-d", pictures, "-c", 1, "-o", deep)
    assert code == 0, text
    assert len(read(deep).manifest.history) == 1
    common = ["-c", CYCLES, "-s", 1, "--eval-every", 3, "--target-accuracy", 1, "--seed", 5]
    return [
        (plain, [*common, "--schedule", "cosine:warmup=2"]),
        (deep, [*common, "--schedule", "step:period=4,gamma=0.5", "--patience", 7]),
    ]


@pytest.fixture(scope="module")
def wholes(models, pictures) -> list[Path]:
    """The folders of the runs that nobody interrupts."""
    for model, settings in models:
        code, text = run("-f", model, "-d", pictures, *settings)
        assert code == 0, text
        assert f"saved checkpoint of cycle {CYCLES}" in text
    return [model.parent for model, _ in models]


@pytest.mark.promise(RESUMED, "SIGKILL at random moments, again and again until it is done")
def test_killed_at_random_moments(models, wholes, pictures, tmp_path, trials):
    kills = runs = 0
    for seed in trials(20, soak=1200):
        whole = wholes[seed % 2]
        settings = models[seed % 2][1]
        folder = tmp_path / str(seed)
        folder.mkdir()
        model = Path(shutil.copy(whole / "tiny.tod", folder))
        generator = np.random.default_rng(seed)
        reached, done = 0, False
        while not done:
            command = ("-f", model, "-d", pictures, *settings, "--resume")
            reached, done = run_and_kill(command, reached, generator)
            kills += not done
            if not done:
                nothing_is_lost(model, reached)
        runs += 1
        as_if_nothing_was(folder, whole, keep=3)
        shutil.rmtree(folder)
    assert runs >= 20
    assert kills >= runs


def run_and_kill(command, reached: int, generator) -> tuple[int, bool]:
    """Run until a random cycle is saved, and kill a random moment later.

    Returns:
        The last cycle that was said to be saved; whether the run came to its end.
    """
    target = generator.integers(reached, min(reached + 14, CYCLES + 2))
    with started(*command) as runner:
        while reached < target:
            line = next(runner.lines, None)
            if line is None:
                break
            if saved := re.search(r"saved checkpoint of cycle (\d+)", line):
                reached = int(saved[1])
        else:
            # A cycle takes some 2 ms, the way to the first one some 50.
            time.sleep(generator.uniform(0, 0.06 if target == reached else 0.004))
        runner.kill()
        code, text = runner.end()
    said = [int(number) for number in re.findall(r"saved checkpoint of cycle (\d+)", text)]
    assert code in (0, -9), text
    return max([reached, *said]), code == 0


def nothing_is_lost(model: Path, reached: int) -> None:
    """What was said to be saved is found again, and it is whole."""
    found, notices = newest(model)
    if reached:
        assert notices == ()
        assert read(found).manifest.run.cycle >= reached
