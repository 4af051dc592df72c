"""A disk that is full, read-only or gone, and a permission that is taken away, during a run."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import tod
from tests.conftest import ROOT
from tests.support.forked_runner import run
from tod.errors import ArtifactError
from tod.training.loop import train
from tod.training.records import CycleDone, Notice, Saved


def test_a_disk_that_is_full_read_only_or_gone(tiny, pictures, tmp_path):
    """Real mounts, in a namespace of their own; what is seen there is asserted there."""
    space = ["unshare", "--map-root-user", "--mount"]
    if subprocess.run([*space, "mount", "-t", "tmpfs", "none", "/mnt"], check=False).returncode:
        pytest.skip("this system lets nobody mount")
    place = tmp_path / "disks"
    place.mkdir()
    command = [*space, sys.executable, "-m", "tests.support.disk_trouble", tiny, pictures, place]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["full", "read_only", "unmounted"]


@pytest.mark.parametrize("room", ["for a checkpoint", "for nothing"])
def test_a_limit_on_file_sizes(tiny, pictures, tmp_path, room):
    """Of the process: a checkpoint is small, the model is not."""
    # The features come from the first run: they are larger than the limit.
    data = shutil.copytree(pictures, tmp_path / "data")
    settings = ["-d", data, "-c", 3, "-s", 1, "--target-accuracy", 1, "--resume"]
    whole = tmp_path / "whole"
    whole.mkdir()
    code, text = run("-f", shutil.copy(tiny, whole), *settings)
    assert code == 0, text
    sizes = [path.stat().st_size for path in whole.glob("tiny_trained_*.tod")]
    limit_bytes = max(sizes) if room == "for a checkpoint" else min(sizes) // 2
    code, text = run("-f", tiny, *settings, limit_bytes=limit_bytes)
    output = tiny.with_name("tiny_trained.tod")
    assert code == 4, text
    problem = f"error: {output}: cannot be written: File too large"
    assert "Traceback" not in text
    assert not output.exists()
    if room == "for a checkpoint":
        assert f"{problem}; the best state is in {tiny.with_name('tiny_trained_3.tod')}\n" in text
        assert "hint: make room, then the same command with --resume goes on" in text
    else:
        # Found out before the work.
        hint = "give another place for -o, or make room or get permission there"
        assert text == f"{problem}\nhint: {hint}\n"
        assert [path.name for path in tiny.parent.iterdir()] == ["tiny.tod"]
    code, text = run("-f", tiny, *settings)
    assert code == 0, text
    assert output.read_bytes() == (whole / "tiny_trained.tod").read_bytes()


def test_a_log_on_a_full_disk(tiny, pictures):
    """What could not be written is written no second time when the log is closed."""
    code, text = run("-f", tiny, "-d", pictures, "-c", 3, "--log", "/dev/full")
    assert code == 4, text
    assert "error: the output cannot be written: No space left on device" in text


def test_a_limit_that_leaves_no_room_for_features(tiny, pictures):
    """In memory they are a file too."""
    code, text = run("-f", tiny, "-d", pictures, "-c", 1, "--no-cache", limit_bytes=6000)
    assert code == 5, text
    assert "error: the pictures' features find no room on disk, and none in memory: File" in text
    assert "hint: free some memory, or raise the limit" in text
    assert [path.name for path in tiny.parent.iterdir()] == ["tiny.tod"]


def test_a_permission_that_is_taken_away(tiny, pictures):
    """In the middle of the run; root, who may write everywhere, is nobody for that time."""
    # Outside of pytest's own folders, which nobody else may enter.
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.chmod(folder, 0o755)
        session = tod.TrainSession.load(shutil.copy(tiny, folder), threads=1, cache=False)
        records = train(
            session, tod.Dataset.open(pictures), cycles=5, save_every=1,
            output=folder / "tiny_trained.tod",
        )  # fmt: skip
        seen = [next(records)]
        while seen[-1] != Saved("checkpoint", str(folder / "tiny_trained_2.tod"), 2):
            seen.append(next(records))
        own = os.geteuid()
        os.chmod(folder, 0o555)
        try:
            if own == 0:
                os.seteuid(65534)
            with pytest.raises(ArtifactError) as caught:
                seen.extend(records)
        finally:
            os.seteuid(own)
            os.chmod(folder, 0o755)
        assert sum(isinstance(record, CycleDone) for record in seen) == 5
        texts = [record.text for record in seen if isinstance(record, Notice)]
        assert texts == [
            f"{folder}/tiny_trained_3.tod: the checkpoint cannot be written: Permission denied; "
            f"the last one stays: {folder}/tiny_trained_2.tod"
        ]
        assert caught.value.problem == (
            f"{folder}/tiny_trained.tod: cannot be written: Permission denied; no checkpoint of it "
            f"could be saved, the last one is {folder}/tiny_trained_2.tod"
        )
