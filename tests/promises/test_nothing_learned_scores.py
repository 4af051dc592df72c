"""Whatever happens to a data folder between two trainings: what was learned never counts again."""

import random

import numpy as np
import pytest
from PIL import Image

import tod
from dataset_tools.prepare import prepare
from dataset_tools.sources import class_folders
from tod.training.records import Evaluated
from tod.training.session import TrainSession

CLASSES = ("a", "b", "c")
FORMATS = (".png", ".bmp", ".tif", ".gif")


class Life:
    """A data folder whose pictures come, go, and are renamed, sorted anew and stored otherwise.

    A picture is 16 x 16 px of 8 greys, which every format here and preparing keep as they are; by
    these alone it is known here.
    """

    def __init__(self, folder, seed):
        self.random, self.noise = random.Random(seed), np.random.default_rng(seed)
        self.data, self.prepared = folder / "data", folder / "prepared"
        self.count = 0
        for name in CLASSES:
            (self.data / name).mkdir(parents=True)
            self.add(name, self.random.randint(6, 14))

    def add(self, name, number):
        for _ in range(number):
            grey = (self.noise.integers(0, 8, (16, 16)) * 36).astype(np.uint8)
            self.count += 1
            Image.fromarray(grey).save(self.data / name / f"{self.count}.png")

    def files(self, name):
        return sorted((self.data / name).iterdir())

    def night(self):
        """Something happens."""
        name = self.random.choice(CLASSES)
        files = self.files(name)
        file = self.random.choice(files)
        match self.random.randint(0, 5):
            case 0 | 1:
                self.add(name, self.random.randint(1, 6))
            case 2 if len(files) > 7:
                file.unlink()
            case 3 if len(files) > 7:
                file.rename(self.data / self.random.choice(CLASSES) / f"again {file.name}")
            case 4:
                self.count += 1
                suffix = self.random.choice(FORMATS)
                opened(file).save(file.with_name(f"copy {self.count}{suffix}"))
            case 5:
                self.count += 1
                target = file.with_name(f"new name {self.count}{self.random.choice(FORMATS)}")
                opened(file).save(target)
                file.unlink()

    def dataset(self, seed):
        if self.random.random() < 0.3:
            prepare(class_folders(self.data), self.prepared, size_px=16, resize_px=16, seed=seed)
            return tod.Dataset.open(self.prepared, cache=False)
        return tod.Dataset.open(self.data, seed=seed, cache=False)


def looks(dataset, samples):
    """What the samples show, decoded by Pillow alone."""
    return {opened(dataset.root / sample.path).tobytes() for sample in samples}


def opened(file):
    with Image.open(file) as image:
        return image.convert("RGB")


@pytest.mark.promise(
    "No picture that was trained on counts in a score",
    "pictures come, go, change names, labels and formats between trainings, plain and prepared",
)
def test_no_picture_that_was_trained_on_counts(tiny, tmp_path, trials):
    for seed in trials(5, soak=300):
        life = Life(tmp_path / str(seed), seed)
        model, learned = tiny, set()
        for night in range(6):
            life.night()
            dataset = life.dataset(life.random.choice([0, 0, 0, 1]))
            session = TrainSession.load(model, cache=False)
            counted = session.match(dataset)
            scoring = [s for s in counted.samples if s.split != "train"]
            assert not looks(counted, scoring) & learned
            if not all(counted.counts().values()):
                continue  # that nothing is left is an error, tried elsewhere
            model = tmp_path / str(seed) / f"{night}.tod"
            records = list(tod.train(session, dataset, output=model, cycles=3, target_accuracy=1))
            learned |= looks(dataset, dataset.split("train"))
            final = next(r for r in reversed(records) if isinstance(r, Evaluated))
            assert final.total == len(counted.split("validation"))
            assert not looks(counted, counted.split("validation")) & learned
