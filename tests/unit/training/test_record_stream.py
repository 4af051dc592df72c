"""Work that nobody starts is impossible to miss; work that is run gives its score."""

import pytest

import tod
from tod.training.evaluation import evaluate
from tod.training.records import Evaluated


def test_training_that_was_never_started_is_a_warning(tiny, pictures):
    stream = tod.train(tod.TrainSession.load(tiny), tod.Dataset.open(pictures))
    with pytest.warns(RuntimeWarning, match=r"tod.train\(...\) was never started"):
        stream.__del__()
    stream.close()


def test_settings_are_checked_at_the_call(tiny, pictures):
    with pytest.raises(tod.TodError, match="cycles is -5"):
        tod.train(tod.TrainSession.load(tiny), tod.Dataset.open(pictures), cycles=-5)


def test_run_gives_the_final_score(tiny, pictures):
    dataset = tod.Dataset.open(pictures)
    session = tod.TrainSession.load(tiny)
    score = tod.train(session, dataset, cycles=20, target_accuracy=1).run()
    listed = list(tod.train(tod.TrainSession.load(tiny), dataset, cycles=20, target_accuracy=1))
    assert score == [r for r in listed if isinstance(r, Evaluated)][-1]
    assert score.split == "validation"
    assert evaluate(session, dataset).run().accuracy == score.accuracy


def test_run_after_the_last_record_says_so(tiny, pictures):
    stream = evaluate(tod.TrainSession.load(tiny), tod.Dataset.open(pictures))
    list(stream)
    with pytest.raises(RuntimeError, match="taken already"):
        stream.run()
