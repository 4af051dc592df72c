"""What a run does when its disk fails, in a mount namespace of its own: started by
tests/promises/test_disk_trouble.py with model, pictures and an empty folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tod.data.dataset import Dataset
from tod.errors import ArtifactError, DataError
from tod.training import checkpoints
from tod.training.loop import train
from tod.training.records import CycleDone, Notice, Record, Saved
from tod.training.session import TrainSession

SETTINGS = {"cycles": 6, "save_every": 1, "eval_every": 2, "target_accuracy": 1.0, "keep": 9}


def records_of(model: Path, pictures: Path) -> Iterator[Record]:
    session = TrainSession.load(model, threads=1, cache=False)
    output = model.with_name("tiny_trained.tod")
    yield from train(session, Dataset.open(pictures), output=output, **SETTINGS)


def failure_of(records: Iterator[Record]) -> tuple[list[Record], ArtifactError]:
    """All records of a run whose model cannot be written, and the error at its end."""
    seen = []
    try:
        for record in records:
            seen.append(record)
    except ArtifactError as error:
        return seen, error
    raise AssertionError("the model was written")


def resumed(model: Path, pictures: Path) -> tuple[bytes, int]:
    """The trained model after the trouble is over, and how many cycles were left to do."""
    found, _ = checkpoints.newest(model)
    assert found is not None
    records = list(records_of(found, pictures))
    left = sum(isinstance(record, CycleDone) for record in records)
    return model.with_name("tiny_trained.tod").read_bytes(), left


def said(records: list[Record]) -> list[str]:
    texts = [record.text for record in records if isinstance(record, Notice)]
    return [text for text in texts if "cannot be written" in text]


def saved(records: list[Record]) -> list[int]:
    return [record.cycle for record in records if isinstance(record, Saved)]


def full(model: Path, pictures: Path, disk: Path, wanted: bytes) -> None:
    """A disk that is full from the third checkpoint on."""
    mount("-t", "tmpfs", "-o", "size=1m", "none", disk)
    mine = Path(shutil.copy(model, disk))
    with open(disk / "filler", "wb") as filler:
        # Room for two checkpoints, each of so many pages, and for less than a third.
        pages = checkpoint_pages(model)
        room = (1 << 20) - 4096 * used_pages(disk)
        filler.write(bytes(room - 4096 * (3 * pages - 1)))
    records, error = failure_of(records_of(mine, pictures))
    assert saved(records) == [1, 2, 6], records
    assert said(records) == [
        f"{disk}/tiny_trained_3.tod: the checkpoint cannot be written: No space left on device; "
        f"the last one stays: {disk}/tiny_trained_2.tod"
    ], records
    assert error.problem == (
        f"{disk}/tiny_trained.tod: cannot be written: No space left on device; the best state is "
        f"in {disk}/tiny_trained_6.tod"
    ), error
    left = {path.name for path in disk.iterdir()}
    assert left == {"filler", "tiny.tod", "tiny_trained_2.tod", "tiny_trained_6.tod"}, left
    (disk / "filler").unlink()
    assert resumed(mine, pictures) == (wanted, 0)


def checkpoint_pages(model: Path) -> int:
    largest = max(path.stat().st_size for path in model.parent.glob("tiny_trained_*.tod"))
    return -(-largest // 4096)


def used_pages(disk: Path) -> int:
    return sum(-(-path.stat().st_size // 4096) for path in disk.iterdir())


def read_only(model: Path, pictures: Path, disk: Path, wanted: bytes) -> None:
    """A disk that becomes read-only after the second checkpoint, as a damaged card does."""
    mount("-t", "tmpfs", "none", disk)
    mine = Path(shutil.copy(model, disk))
    records = records_of(mine, pictures)
    for record in records:
        if isinstance(record, Saved) and record.cycle == 2:
            mount("-o", "remount,ro", disk)
            break
    seen, error = failure_of(records)
    assert sum(isinstance(record, CycleDone) for record in seen) == 4, seen
    assert len(said(seen)) == 1, seen
    assert "Read-only file system; the last one stays" in said(seen)[0], seen
    assert error.problem.endswith(
        "Read-only file system; no checkpoint of it could be saved, the last one is "
        f"{disk}/tiny_trained_2.tod"
    ), error
    mount("-o", "remount,rw", disk)
    assert resumed(mine, pictures) == (wanted, 4)


def unmounted(model: Path, pictures: Path, disk: Path, wanted: bytes) -> None:
    """The disk with the pictures goes away while they are looked at."""
    mount("-t", "tmpfs", "none", disk)
    data = Path(shutil.copytree(pictures, disk, dirs_exist_ok=True))
    mine = model.with_name("tiny.tod")
    records = records_of(mine, data)
    for _ in range(6):
        next(records)
    subprocess.run(["umount", "-l", disk], check=True)
    try:
        list(records)
    except DataError as error:
        assert error.problem == (
            f"{disk}: the folder vanished while its pictures were looked at: it is empty now"
        ), error
        return
    raise AssertionError("nothing was said")


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)


def main() -> None:
    model, pictures, place = map(Path, sys.argv[1:])
    list(records_of(model, pictures))
    wanted = model.with_name("tiny_trained.tod").read_bytes()
    for trouble in (full, read_only, unmounted):
        disk = place / trouble.__name__
        disk.mkdir()
        trouble(model, pictures, disk, wanted)
        print(trouble.__name__)


if __name__ == "__main__":
    main()
