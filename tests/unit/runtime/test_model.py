"""A model is used without anything that trains."""

import subprocess
import sys

import numpy as np
import pytest

import tod
from tod.errors import UsageError
from tod.runtime.model import Model


def test_it_loads_nothing_that_trains():
    code = (
        "import sys, tod.runtime.model\n"
        "print([name for name in sys.modules if name.startswith('tod.training')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_says_what_a_session_says(tiny, pictures):
    dataset = tod.Dataset.open(pictures)
    output = tiny.with_name("mine.tod")
    score = tod.train(tod.TrainSession.load(tiny), dataset, cycles=30, output=output).run()
    model, session = Model.load(output), tod.TrainSession.load(output)
    files = [dataset.root / sample.path for sample in dataset.samples[::7]]
    assert np.array_equal(model.predict(files), session.predict(files))
    assert model.evaluate(dataset).accuracy == score.accuracy


def test_a_checkpoint_is_used_with_its_present_parameters(tiny, pictures):
    dataset = tod.Dataset.open(pictures)
    output = tiny.with_name("mine.tod")
    tod.train(
        tod.TrainSession.load(tiny), dataset, cycles=4, save_every=2, target_accuracy=1,
        output=output,
    ).run()  # fmt: skip
    checkpoint = tiny.with_name("mine_trained_2.tod")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    session = tod.TrainSession.load(checkpoint)
    assert np.array_equal(Model.load(checkpoint).predict(pixels), session.predict(pixels))


def test_open_classes_are_an_error_before_any_picture_is_read(tiny):
    with pytest.raises(UsageError, match="not trained yet"):
        Model.load(tiny).predict(["missing.jpg"])
    model = Model.load(tiny)
    model.bind(["a", "b"], seed=3)
    session = tod.TrainSession.load(tiny)
    session.bind(["a", "b"], seed=3)
    pixels = np.zeros((1, 16, 16, 3), np.uint8)
    assert np.array_equal(model.predict(pixels), session.predict(pixels))
