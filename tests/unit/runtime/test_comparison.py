"""Models of every kind are scored on the same pixels."""

import numpy as np
import pytest

from tests.conftest import TINY_SPEC, run
from tod.data.dataset import Dataset
from tod.data.image import load
from tod.runtime.comparison import score_file
from tod.runtime.predictor import Predictor

CLASSES = ("blue", "green", "red")


@pytest.mark.parametrize("prepared", [False, True])
def test_a_file_gets_the_pixels_that_training_gets(pictures, tmp_path, prepared):
    """Pictures that were prepared for another size are cropped already."""
    folder = pictures
    if prepared:
        folder = tmp_path / "dataset"
        run("tod", "prepare-dataset", pictures, folder, "--size", 19, "-q", check=True)
    dataset = Dataset.open(folder)
    seen = []

    def answer(pixels):
        seen.extend(pixels)
        return np.eye(3, dtype=np.float32)[[2] * len(pixels)]

    predictor = Predictor(CLASSES, "single-label", TINY_SPEC, answer, workers=1)
    scored = score_file(predictor, dataset, lambda done, total: None)
    files = [dataset.root / sample.path for sample in dataset.split("validation")]
    wanted = [load(file.read_bytes(), TINY_SPEC, cropped=prepared) for file in files]
    np.testing.assert_array_equal(seen, wanted)
    assert set(scored.predicted.values()) == {"red"}
    assert scored.evaluation.by_class == {"blue": 0, "green": 0, "red": 1}
    assert scored.unreadable == {}
