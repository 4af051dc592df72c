"""Trees of anything: every picture, file and folder is a sample, or is told of with its reason."""

import os
import random
import shutil
import unicodedata
from pathlib import Path

import pytest

from tests.conftest import make_pictures
from tod.data.check import gather
from tod.data.dataset import Dataset
from tod.errors import DataError

FOLDERS = (
    "cat", "dog", "dog ", "a/b", "a/c", "caf\u00e9", unicodedata.normalize("NFD", "caf\u00e9"),
    "train", "test", "cat/100CANON", "@eaDir", ".hidden", "__MACOSX/x", "cat/.git", "2019", "",
    "x y", "DCIM/101APPLE", "dog/#recycle", "papers", "\u732b", "cat\\dog", "seg_train/seg_train",
)  # fmt: skip
NAMES = (
    "a.jpg", "b", "c.jpg?w=640", ".d.png", "e.HEIC", "f.pdf", "g.txt", "cat\\h.png", "i.nef",
    "Thumbs.db", "._j.jpg", "README", "k.dat", "\\l", "m.", "n .png", "splits.md", "o.PNG",
)  # fmt: skip
CONTENTS = (
    b"", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"%PDF-1.7", b"words",
    b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\xff\xd8\xff\xe0 cut", b"<!doctype html>", bytes(99),
    b"\x89PNG\r\n\x1a\n", b"\xfe\xff\0w\0o", bytes(range(256)),
)  # fmt: skip


def plant(rng: random.Random, root: Path, pictures: list[Path]) -> None:
    """Some folders with some files, links and pipes in them."""
    for folder in rng.sample(FOLDERS, rng.randint(1, 6)):
        place = root / folder
        place.mkdir(parents=True, exist_ok=True)
        for name in rng.sample(NAMES, rng.randint(0, 7)):
            path = place / name
            if path.exists() or path.is_symlink():
                continue
            kind = rng.random()
            if kind < 0.5:
                shutil.copy(rng.choice(pictures), path)
            elif kind < 0.9:
                path.write_bytes(rng.choice(CONTENTS))
            elif kind < 0.95:
                path.symlink_to(rng.choice([root, place, Path("nowhere"), pictures[0], path]))
            else:
                os.mkfifo(path)
        if rng.random() < 0.7:
            for index, picture in enumerate(rng.sample(pictures, 8)):
                shutil.copy(picture, place / f"good{index}.png")


def everything(root: Path) -> list[str]:
    """All files below a folder, and all folders that hold nothing else."""
    found = []
    for folder, folders, files in os.walk(root):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        found += [os.path.relpath(os.path.join(folder, n), root) for n in (*files, *links)]
    return found


@pytest.mark.promise(
    "No picture, class or label is lost without a word",
    "random trees of folders, pictures, other files, links and pipes with odd names",
)
def test_nothing_is_lost(tmp_path, trials):
    pictures = sorted(make_pictures(tmp_path / "pictures", per_class=8).rglob("*.png"))
    for seed in trials(60, soak=3_000):
        rng = random.Random(seed)
        root = tmp_path / f"tree{seed}"
        shutil.copytree(tmp_path / "pictures", root)
        plant(rng, root, pictures)
        try:
            dataset = Dataset.open(root, cache=False)
        except DataError:
            dataset, refused = gather(root, seed=0, cache=False)
            assert refused is not None
        told = [sample.path for sample in dataset.samples]
        told += [one.path for one in dataset.left_out]
        assert len(told) == len(set(told))
        assert all(one.reason for one in dataset.left_out)
        for path in everything(root):
            parts = path.split("/")
            ways = {"/".join(parts[: i + 1]) for i in range(len(parts))}
            # What is reached by a link to a folder elsewhere has another path.
            assert len(ways & set(told)) == 1, path
        # A label is the folder's name, as everyone sees it.
        for sample in dataset.samples:
            name = dataset.classes[sample.label]
            way = unicodedata.normalize("NFC", sample.path.replace("\\", "/"))
            assert all(part in way for part in name.split("/"))
        shutil.rmtree(root)
